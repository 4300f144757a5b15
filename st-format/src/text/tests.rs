mod hostile;
mod layers;

use super::*;
use crate::testing::{self, Pack, Random, bare, event, no_record, of, pack};
use st_pathtree::event::Bytes;
use st_pathtree::event::{Actor, Attrib, Status};

/// Appends the line of an event whose process has been read.
fn render(text: &mut Text, event: &EventRecord, name: &[u8], out: &mut Vec<u8>) {
    let columns = text.columns(event.event, &event.process);
    text.line(event, name, Some(&event.process), &columns, out);
}

fn line(event: &EventRecord) -> String {
    let mut out = Vec::new();
    render(
        &mut Text::new(false, Vec::new()),
        event,
        event.event.name().as_bytes(),
        &mut out,
    );
    String::from_utf8(out).unwrap()
}

/// What stands behind the fixed columns.
fn shown(event: &EventRecord) -> String {
    let line = line(event);
    line[27 + 1 + EVENT_WIDTH + 1 + WHO_WIDTH + 1..]
        .trim_end_matches('\n')
        .into()
}

fn at(kind: Event, path: &'static str) -> EventRecord<'static> {
    EventRecord {
        path: Some(path.as_bytes().into()),
        path_status: Some(Status::Complete),
        ..event(kind)
    }
}

fn from_to(kind: Event, old: &'static str, new: &'static str) -> EventRecord<'static> {
    EventRecord {
        old_path: Some(old.as_bytes().into()),
        old_path_status: Some(Status::Complete),
        ..at(kind, new)
    }
}

fn by(pid: Option<i32>, comm: Option<&'static [u8]>) -> String {
    let line = line(&EventRecord {
        process: Actor {
            pid,
            tid: 41,
            comm: comm.map(Bytes::from),
            ..Actor::default()
        },
        ..at(Event::Delete, "/x")
    });
    line[37..].into()
}

fn pushed(record: &[u8]) -> String {
    let mut text = Text::new(false, Vec::new());
    let mut out = Vec::new();
    text.begin(
        &testing::header(1_000, 1_795_362_564_000_000_000),
        no_record(),
        &mut out,
    );
    text.push(of(record), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn columns_stay_put() {
    let expected = "2026-11-22T15:49:24.123456Z create   cat[40]                  /a";
    assert_eq!(line(&at(Event::Create, "/a")), format!("{expected}\n"));
    let expected = "2026-11-22T15:49:24.123456Z unlisten cat[40]                  ? ?";
    assert_eq!(line(&event(Event::Unlisten)), format!("{expected}\n"));
}

#[test]
fn who_it_was() {
    assert_eq!(by(Some(7), Some(b"sh")), "sh[7]                    /x\n");
    assert_eq!(by(None, Some(b"sh")), "sh[41]                   /x\n");
    assert_eq!(by(Some(7), None), "?[7]                     /x\n");
    let long = by(Some(4_194_303), Some(b"fifteen \"bytes\""));
    assert_eq!(long, "\"fifteen \\\"bytes\\\"\"[4194303] /x\n");
    assert_eq!(
        by(Some(7), Some("grün".as_bytes())),
        "grün[7]                  /x\n"
    );
}

#[test]
fn a_comm_cannot_forge_a_pid() {
    assert_eq!(
        by(Some(7), Some(b"sh[1]")),
        "\"sh[1]\"[7]               /x\n"
    );
    assert_eq!(
        by(Some(7), Some(b"sh[1] /y")),
        "\"sh[1] /y\"[7]            /x\n"
    );
}

#[test]
fn a_comm_cannot_pass_for_unknown_or_empty() {
    assert_eq!(by(Some(7), Some(b"?")), "\"?\"[7]                   /x\n");
    assert_eq!(by(Some(7), Some(b"")), "\"\"[7]                    /x\n");
}

#[test]
fn created_things_show_their_mode() {
    let created = |kind, mode, rdev| {
        shown(&EventRecord {
            mode: Some(mode),
            rdev,
            ..at(kind, "/a")
        })
    };
    assert_eq!(
        created(Event::Create, 0o10_0644, None),
        "/a rw-r--r-- (0644)"
    );
    assert_eq!(
        created(Event::Create, 0o10_4755, None),
        "/a rwsr-xr-x (4755)"
    );
    assert_eq!(
        created(Event::Create, 0o10_0000, None),
        "/a --------- (0000)"
    );
    assert_eq!(
        created(Event::Mkdir, 0o04_1777, None),
        "/a rwxrwxrwt (1777)"
    );
    assert_eq!(
        created(Event::Mknod, 0o01_0644, None),
        "/a prw-r--r-- (0644)"
    );
    assert_eq!(
        created(Event::Mknod, 0o14_0755, None),
        "/a srwxr-xr-x (0755)"
    );
    assert_eq!(
        created(Event::Mknod, 0o02_0660, Some("1:3")),
        "/a crw-rw---- (0660) 1:3"
    );
    assert_eq!(
        created(Event::Mknod, 0o06_0660, Some("7:0")),
        "/a brw-rw---- (0660) 7:0"
    );
}

#[test]
fn removed_things_show_their_path() {
    assert_eq!(shown(&at(Event::Delete, "/a")), "/a");
    assert_eq!(shown(&at(Event::Rmdir, "/a")), "/a");
    assert_eq!(shown(&event(Event::Rmdir)), "?");
}

#[test]
fn pairs() {
    assert_eq!(shown(&from_to(Event::Rename, "/a", "/b")), "/a -> /b");
    assert_eq!(shown(&from_to(Event::Link, "/a", "/b")), "/a -> /b");
    let exchanged = EventRecord {
        exchange: true,
        ..from_to(Event::Rename, "/a", "/b")
    };
    assert_eq!(shown(&exchanged), "/a <-> /b");
    let covered = EventRecord {
        whiteout: true,
        ..from_to(Event::Rename, "/a", "/b")
    };
    assert_eq!(shown(&covered), "/a -> /b whiteout");
}

#[test]
fn a_symlink_shows_its_content() {
    let to = |target: Option<&'static [u8]>| {
        shown(&EventRecord {
            target: target.map(Bytes::from),
            ..at(Event::Symlink, "/a")
        })
    };
    assert_eq!(to(Some(b"../b")), "/a -> ../b");
    assert_eq!(to(None), "/a -> ?");
    assert_eq!(to(Some(b"?")), "/a -> \"?\"");
    assert_eq!(to(Some(b"->")), "/a -> \"->\"");
}

#[test]
fn attrib_shows_what_was_set() {
    let set = |mode, uid, gid| {
        shown(&EventRecord {
            attrib: Some(Attrib { mode, uid, gid }),
            ..at(Event::Attrib, "/a")
        })
    };
    assert_eq!(
        set(Some(0o10_0755), Some(0), Some(1000)),
        "/a rwxr-xr-x (0755) uid=0 gid=1000"
    );
    assert_eq!(set(None, None, Some(4_294_967_294)), "/a gid=4294967294");
    assert_eq!(shown(&at(Event::Attrib, "/a")), "/a");
}

fn socket(kind: Event, addr: &'static str, port: u16) -> EventRecord<'static> {
    EventRecord {
        proto: Some("tcp"),
        addr: Some(addr),
        port: Some(port),
        ..event(kind)
    }
}

#[test]
fn connect_shows_where_and_what_came_of_it() {
    let result = |ret| {
        shown(&EventRecord {
            ret,
            ..socket(Event::Connect, "192.0.2.1", 443)
        })
    };
    assert_eq!(result(None), "tcp 192.0.2.1:443");
    assert_eq!(result(Some(0)), "tcp 192.0.2.1:443");
    assert_eq!(result(Some(-115)), "tcp 192.0.2.1:443 EINPROGRESS");
    assert_eq!(result(Some(-111)), "tcp 192.0.2.1:443 ECONNREFUSED");
    assert_eq!(result(Some(-999)), "tcp 192.0.2.1:443 -999");
    assert_eq!(result(Some(5)), "tcp 192.0.2.1:443 5");
    assert_eq!(result(Some(i32::MIN)), "tcp 192.0.2.1:443 -2147483648");
    let fastopen = |ret| {
        shown(&EventRecord {
            ret: Some(ret),
            fastopen: true,
            ..socket(Event::Connect, "192.0.2.1", 443)
        })
    };
    assert_eq!(fastopen(0), "tcp 192.0.2.1:443 fastopen");
    assert_eq!(fastopen(-115), "tcp 192.0.2.1:443 fastopen EINPROGRESS");
    assert_eq!(
        shown(&socket(Event::Connect, "2001:db8::1", 443)),
        "tcp [2001:db8::1]:443"
    );
    assert_eq!(
        shown(&socket(Event::Connect, "::ffff:192.0.2.1", 443)),
        "tcp [::ffff:192.0.2.1]:443"
    );
}

#[test]
fn who_logged_in_is_shown_on_request() {
    let event = EventRecord {
        process: Actor {
            loginuid: Some(1000),
            session: Some(3),
            ..Actor::default()
        },
        ..at(Event::Delete, "/a")
    };
    let mut out = Vec::new();
    render(
        &mut Text::new(false, vec![Show::Loginuid]),
        &event,
        b"delete",
        &mut out,
    );
    let line = String::from_utf8(out).unwrap();
    assert!(line.ends_with(" /a loginuid=1000 session=3\n"), "{line}");
    assert_eq!(shown(&event), "/a");
}

#[test]
fn listeners() {
    let listen = EventRecord {
        backlog: Some(128),
        ..socket(Event::Listen, "0.0.0.0", 80)
    };
    assert_eq!(shown(&listen), "tcp 0.0.0.0:80 backlog 128");
    assert_eq!(shown(&socket(Event::Unlisten, "::", 80)), "tcp [::]:80");
}

#[test]
fn a_path_that_is_not_complete_says_so() {
    let with = |status, path| {
        shown(&EventRecord {
            path_status: Some(status),
            mode: Some(0o644),
            ..at(Event::Create, path)
        })
    };
    let mode = "rw-r--r-- (0644)";
    assert_eq!(with(Status::Complete, "/a"), format!("/a {mode}"));
    assert_eq!(
        with(Status::Partial, "a/b"),
        format!(".../a/b [partial] {mode}")
    );
    assert_eq!(
        with(Status::Partial, "a b"),
        format!("\".../a b\" [partial] {mode}")
    );
    assert_eq!(
        with(Status::Unmounted, "/a"),
        format!("/a [unmounted] {mode}")
    );
    assert_eq!(
        with(Status::Ambiguous, "/a"),
        format!("/a [ambiguous] {mode}")
    );
    assert_eq!(with(Status::Deleted, "/a"), format!("/a [deleted] {mode}"));
    let renamed = EventRecord {
        old_path_status: Some(Status::Partial),
        path_status: Some(Status::Ambiguous),
        ..from_to(Event::Rename, "a", "/b")
    };
    assert_eq!(shown(&renamed), ".../a [partial] -> /b [ambiguous]");
}

#[test]
fn a_name_cannot_forge_an_arrow_or_a_mark() {
    let renamed = from_to(Event::Rename, "/a -> /etc/passwd", "/b [deleted]");
    assert_eq!(shown(&renamed), "\"/a -> /etc/passwd\" -> \"/b [deleted]\"");
}

#[test]
fn a_gap_has_a_line() {
    let lost_until = |until: Option<u64>, cpu, count| {
        let mut fields = vec![
            ("t", Pack::Str(b"lost")),
            ("since", Pack::Int(0)),
            ("ts", Pack::Int(2_000)),
            ("cpu", cpu),
            ("count", count),
            ("cause", Pack::Str(b"ring buffer\n\x1b[2J")),
        ];
        fields.extend(until.map(|until| ("until", Pack::Int(until))));
        pushed(&testing::pack(&fields))
    };
    let lost = |cpu, count| lost_until(None, cpu, count);
    let start = format!("2026-11-22T15:49:24.000001Z lost     -{}", " ".repeat(24));
    assert_eq!(
        lost(Pack::Int(3), Pack::Int(12)),
        format!("{start}12 records on CPU 3 missing: ring buffer\\n\\x1b[2J\n")
    );
    assert_eq!(
        lost(Pack::Nil, Pack::Int(1)),
        format!("{start}1 record missing: ring buffer\\n\\x1b[2J\n")
    );
    assert_eq!(
        lost(Pack::Nil, Pack::Nil),
        format!("{start}some records missing: ring buffer\\n\\x1b[2J\n")
    );
    assert_eq!(
        lost_until(Some(1_002_000), Pack::Int(0), Pack::Int(2)),
        format!(
            "{start}2 records on CPU 0 missing until 2026-11-22T15:49:24.001001Z: \
             ring buffer\\n\\x1b[2J\n"
        )
    );
}

#[test]
fn a_gap_has_the_time_of_the_clock_that_was_set_before() {
    let mut text = Text::default();
    let mut out = Vec::new();
    text.begin(&testing::header(1_000, 50_000), no_record(), &mut out);
    let lost = testing::pack(&[
        ("t", Pack::Str(b"lost")),
        ("since", Pack::Int(0)),
        ("ts", Pack::Int(2_000)),
        ("cpu", Pack::Nil),
        ("count", Pack::Nil),
        ("cause", Pack::Str(b"ring buffer")),
    ]);
    text.push(of(&lost), &mut out).unwrap();
    let clock = testing::pack(&[
        ("t", Pack::Str(b"clock")),
        ("ts", Pack::Int(1_000)),
        ("realtime", Pack::Int(3_600_000_000_000)),
    ]);
    text.push(of(&clock), &mut out).unwrap();
    text.push(of(&lost), &mut out).unwrap();
    let lines = String::from_utf8(out).unwrap();
    let times: Vec<_> = lines.lines().map(|line| &line[..27]).collect();
    assert_eq!(
        times,
        ["1970-01-01T00:00:00.000051Z", "1970-01-01T01:00:00.000001Z"]
    );
}

fn later(name: &[u8], path: Pack) -> Vec<u8> {
    testing::pack(&[
        ("t", Pack::Str(b"event")),
        ("event", Pack::Str(name)),
        ("ts", Pack::Int(0)),
        ("seq", Pack::Int(0)),
        ("cpu", Pack::Int(0)),
        ("process", Pack::Map(&[("tid", Pack::Int(7))])),
        ("path", path),
    ])
}

#[test]
fn an_event_of_a_later_version_has_a_line() {
    let start = "1970-01-01T00:00:00.000000Z truncate ?[7]";
    assert_eq!(pushed(&later(b"truncate", Pack::Nil)), format!("{start}\n"));
    assert_eq!(
        pushed(&later(b"truncate", Pack::Bin(b"/a"))),
        format!("{start}{}/a\n", " ".repeat(21))
    );
}

#[test]
fn the_name_of_a_later_event_cannot_command_the_terminal() {
    assert!(pushed(&later(b"x\x1b[2J\n", Pack::Nil)).contains(r#" "x\x1b[2J\n" ?[7]"#));
}

#[test]
fn other_records_have_no_line() {
    for kind in ["end", "mounts", "process", "walked", "dir", "not known yet"] {
        assert_eq!(pushed(&bare(kind)), "");
    }
}

#[test]
fn an_unreadable_event_is_an_error() {
    let mut out = Vec::new();
    let record = b"\x82\xa1t\xa5event\xa2ts\xa3now";
    assert!(
        Text::new(false, Vec::new())
            .push(of(record), &mut out)
            .is_err()
    );
    assert_eq!(out, b"");
}

#[test]
fn colours_tell_classes_apart_and_leave_columns_alone() {
    let colored = |event: &EventRecord| {
        let mut out = Vec::new();
        render(
            &mut Text::new(true, Vec::new()),
            event,
            event.event.name().as_bytes(),
            &mut out,
        );
        String::from_utf8(out).unwrap()
    };
    let time = "\x1b[2m2026-11-22T15:49:24.123456Z\x1b[0m";
    let pad = " ".repeat(18);
    for (kind, style) in [
        (Event::Create, "\x1b[32m"),
        (Event::Delete, "\x1b[31m"),
        (Event::Attrib, "\x1b[33m"),
    ] {
        let name = kind.name();
        assert_eq!(
            colored(&at(kind, "/a")),
            format!("{time} {style}{name}\x1b[0m   cat[40]{pad}/a\n")
        );
    }
    let refused = EventRecord {
        ret: Some(-111),
        ..socket(Event::Connect, "192.0.2.1", 1)
    };
    assert_eq!(
        colored(&refused),
        format!(
            "{time} \x1b[36mconnect\x1b[0m  cat[40]{pad}tcp 192.0.2.1:1 \
             \x1b[1;31mECONNREFUSED\x1b[0m\n"
        )
    );
    let deleted = EventRecord {
        path_status: Some(Status::Deleted),
        ..at(Event::Rmdir, "/a")
    };
    assert!(colored(&deleted).ends_with("/a \x1b[1;31m[deleted]\x1b[0m\n"));
    let pending = EventRecord {
        ret: Some(-115),
        ..socket(Event::Connect, "192.0.2.1", 1)
    };
    assert!(colored(&pending).ends_with(" EINPROGRESS\n"), "no failure");
}
