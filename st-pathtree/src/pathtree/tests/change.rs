//! What is told of directories ahead of its event: see `st_decode::event`, "Order".

use super::*;
use st_decode::event::Change;
use st_decode::time::Unix;

const DEV: &str = "8:1";
const ROOT: u64 = 1;
const DIR: u64 = 2;

fn inode(ino: u64) -> Inode {
    Inode {
        subvolume: None,
        ino,
    }
}

/// A name in the root.
fn in_root(name: &'static str) -> Option<FsPath<'static>> {
    Some(FsPath {
        path: Bytes::from(name.as_bytes()),
        parent: Some(inode(ROOT)),
        top: None,
    })
}

/// What a rename of the directory tells.
fn renamed(began: u64, old: &'static str, new: &'static str, learned: bool) -> Unresolved<'static> {
    Unresolved {
        entered: Some(Monotonic(began)),
        fs_path: in_root(new),
        old_fs_path: in_root(old),
        dir: Some(inode(DIR)),
        learned,
        ..Unresolved::default()
    }
}

fn event(event: Event, ts: u64, unresolved: Unresolved<'static>) -> EventRecord<'static> {
    EventRecord {
        event,
        ts: Unix(ts),
        dev: Some(DEV),
        unresolved: Unresolved {
            at: Monotonic(ts),
            ..unresolved
        },
        ..EventRecord::default()
    }
}

/// A file is created in the directory, of whose path the record has the last name only.
fn create(ts: u64, fs_path: &'static str) -> EventRecord<'static> {
    let fs_path = FsPath {
        path: Bytes::from(fs_path.as_bytes()),
        parent: Some(inode(DIR)),
        top: Some(inode(DIR)),
    };
    let unresolved = Unresolved {
        entered: Some(Monotonic(ts)),
        fs_path: Some(fs_path),
        ..Unresolved::default()
    };
    event(Event::Create, ts, unresolved)
}

/// A file is created in the root of the mounted file system.
fn in_mount() -> Unresolved<'static> {
    Unresolved {
        fs_path: in_root("/f"),
        ..Unresolved::default()
    }
}

/// What the stage writes for a record.
fn push(tree: &mut PathTree, value: &impl serde::Serialize) -> Vec<u8> {
    let (mut record, mut out) = (Vec::new(), Vec::new());
    wire::write(value, &mut record);
    let record = Record::new(&record).unwrap();
    tree.push(record, &mut out).unwrap();
    while tree.drain(&mut out) {}
    out
}

/// The path that the stage gives to an event.
fn path(tree: &mut PathTree, event: &EventRecord) -> (String, Status) {
    let out = push(tree, event);
    let paths: Paths = wire::read(&out).unwrap();
    assert!(Record::new(&out).unwrap().entry(b"unresolved").is_none());
    (
        String::from_utf8_lossy(&paths.path).into_owned(),
        paths.path_status,
    )
}

#[test]
fn a_rename_is_known_at_once_and_followed_once() {
    let mut tree = PathTree::default();
    let header = Header {
        snapshot: false,
        ..header()
    };
    tree.begin(&header, no_record(), &mut Vec::new());
    push(
        &mut tree,
        &Mounts {
            ts: Monotonic(1),
            since: Monotonic(1),
            attempts: 0,
            ns: 1,
            mountinfo: Bytes::from(
                &b"1 0 8:1 / / rw - ext4 /dev/vda rw\n2 1 0:9 / /a/m rw - tmpfs ram rw\n"[..],
            ),
        },
    );
    for (ino, fs_path) in [(ROOT, in_root("/")), (DIR, in_root("/a"))] {
        let dir = Dir {
            at: Monotonic(2),
            dev: DEV,
            dir: inode(ino),
            fs_path: fs_path.unwrap(),
        };
        push(&mut tree, &dir);
    }
    let complete = |path: &str| (path.to_owned(), Status::Complete);
    let change = Change {
        event: Event::Rename,
        dev: Some(DEV),
        exchange: false,
        unresolved: Unresolved {
            at: Monotonic(10),
            ..renamed(9, "/a", "/b", false)
        },
    };
    assert!(push(&mut tree, &change).is_empty());
    assert_eq!(path(&mut tree, &create(11, "b/f")), complete("/b/f"));
    let mounted = EventRecord {
        dev: Some("0:9"),
        ..event(Event::Create, 12, in_mount())
    };
    assert_eq!(path(&mut tree, &mounted), complete("/b/m/f"));
    // Somebody else renames it again before the event of the first rename is told.
    let next = event(Event::Rename, 15, renamed(14, "/b", "/c", false));
    assert_eq!(path(&mut tree, &next), complete("/c"));
    let told = event(Event::Rename, 10, renamed(9, "/a", "/b", true));
    assert_eq!(path(&mut tree, &told), complete("/b"));
    assert_eq!(path(&mut tree, &create(20, "c/f")), complete("/c/f"));
    let mounted = EventRecord {
        dev: Some("0:9"),
        ..event(Event::Create, 21, in_mount())
    };
    assert_eq!(path(&mut tree, &mounted), complete("/c/m/f"));
}
