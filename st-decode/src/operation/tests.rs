use super::*;

fn connect(socket: Option<Socket>) -> Operation {
    Operation::Connect {
        call: SocketCall {
            socket,
            ..SocketCall::default()
        },
        ret: None,
    }
}

#[test]
fn a_connect_has_its_result() {
    for (value, result) in [(0, 0), (-111, -111), (-512, -EINTR), (-516, -EINTR)] {
        let connect = connect(Some(Socket::default()));
        match connect.returned(value) {
            Some(Operation::Connect { ret, .. }) => assert_eq!(ret, Some(result)),
            other => panic!("{value}: {other:?}"),
        }
    }
    assert!(connect(None).returned(0).is_none());
}

#[test]
fn other_operations_make_an_event_if_they_succeed() {
    let delete = || Operation::begin(Event::Delete).unwrap();
    assert!(delete().returned(-2).is_none());
    assert!(delete().returned(0).is_some());
    // A pointer to a struct dentry, as vfs_mkdir() returns one in 7.3.
    let mkdir = Operation::begin(Event::Mkdir).unwrap();
    assert!(mkdir.returned(-0x1234_5678_9abc).is_some());
}

#[test]
fn a_rename_of_two_names_of_one_file_makes_no_event() {
    for (new_inode, expected) in [(Some(7), false), (Some(8), true), (Some(0), true)] {
        let rename = Operation::Rename(Rename {
            old_inode: Some(7),
            new_inode,
            ..Rename::default()
        });
        assert_eq!(rename.returned(0).is_some(), expected);
    }
}

#[test]
fn an_acl_makes_an_event_if_the_mode_changes() {
    let attrib = |old_mode| Operation::Attrib {
        file: NamedFile::default(),
        deleted: false,
        set: Some(Attrib {
            mode: Some(0o100640),
            ..Attrib::default()
        }),
        old_mode,
    };
    assert!(attrib(Some(0o100640)).returned(0).is_none());
    assert!(attrib(Some(0o100600)).returned(0).is_some());
    assert!(attrib(Some(0o100600)).returned(-1).is_none());
    // What chmod(2) sets is told even if it was so before.
    assert!(attrib(None).returned(0).is_some());
}

#[test]
fn a_removed_acl_leaves_the_mode_of_the_layer() {
    let attrib = |mode: Option<u32>, old_mode| Operation::Attrib {
        file: NamedFile::default(),
        deleted: false,
        set: mode.map(|mode| Attrib {
            mode: Some(mode),
            ..Attrib::default()
        }),
        old_mode,
    };
    for (layer, told) in [(0o100755, true), (0o102755, false)] {
        let mut removal = attrib(None, Some(0o102755));
        removal.learn_layer(&attrib(Some(layer), None));
        assert_eq!(removal.returned(0).is_some(), told);
    }
    // chmod(2) tells itself what it sets.
    let mut chmod = attrib(None, None);
    chmod.learn_layer(&attrib(Some(0o100755), None));
    assert!(!chmod.makes_event());
}

#[test]
fn a_first_name_creates_a_file() {
    for (names, event) in [(0, Event::Create), (1, Event::Link)] {
        let link = Operation::Link(Link {
            names: Some(names),
            mode: Some(0o100600),
            ..Link::default()
        });
        let told = link.returned(0).unwrap();
        assert_eq!(told.event(), event);
        if let Operation::Create(new) = told {
            assert_eq!(new.mode, Some(0o100600));
        }
    }
}

#[test]
fn each_event_of_a_call_begins_as_itself() {
    for &event in Event::ALL {
        if let Some(operation) = Operation::begin(event) {
            assert_eq!(operation.event(), event);
        }
    }
}
