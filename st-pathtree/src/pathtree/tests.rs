mod change;

use super::*;
use crate::event::{Bytes, Paths, Status};
use st_decode::event::{Dir, EventRecord, FsPath, Inode, Unresolved};
use st_decode::record::{End, Hook, Lost, MAGIC, Mounts, VERSION, Walked};
use st_decode::time::Monotonic;
use st_decode::vocabulary::{Role, Why};
use st_decode::wire;
use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

/// The bytes of each write.
struct Writes(Vec<Vec<u8>>);

impl Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The header of a stream that has walks.
fn header() -> Header {
    let hook = |subject: Subject| Hook {
        id: 0,
        name: subject.name().into(),
        subject,
        role: Role::Entry,
        point: subject.name().into(),
        names: 0,
        fields: Vec::new(),
    };
    Header {
        magic: MAGIC.into(),
        version: VERSION,
        stages: PathTree::AFTER.iter().map(|&stage| stage.into()).collect(),
        hooks: followed().map(hook).collect(),
        snapshot: true,
        ..Header::default()
    }
}

/// What an event on one file tells.
fn within(at: u64, fs_path: FsPath) -> Unresolved {
    Unresolved {
        at: Monotonic(at),
        fs_path: Some(fs_path),
        ..Unresolved::default()
    }
}

#[test]
fn what_waited_for_a_deep_directory_is_written_piece_by_piece() {
    const DEPTH: u64 = 100;
    const EVENTS: u64 = 100;
    let inode = |ino| {
        Some(Inode {
            subvolume: None,
            ino,
        })
    };
    let mut input = Vec::new();
    wire::write(&header(), &mut input);
    let name = vec![b'n'; 200];
    for ino in 1..=DEPTH {
        let dir = Dir {
            at: Monotonic(1),
            dev: "8:1",
            dir: Inode {
                subvolume: None,
                ino,
            },
            fs_path: FsPath {
                path: Bytes::from(if ino == 1 { b"/" } else { &name[..] }),
                parent: if ino == 1 { None } else { inode(ino - 1) },
                top: None,
            },
        };
        wire::write(&dir, &mut input);
    }
    // The directory of the first event is unknown to the end: the other events wait for it.
    for seq in 0..EVENTS {
        let parent = inode(if seq == 0 { DEPTH + 1 } else { DEPTH });
        let event = EventRecord {
            event: Event::Create,
            seq,
            dev: Some("8:1"),
            unresolved: within(
                2,
                FsPath {
                    path: Bytes::from([&name, &b"/f"[..]].concat()),
                    parent,
                    top: parent,
                },
            ),
            ..EventRecord::default()
        };
        wire::write(&event, &mut input);
    }
    let end = End {
        ts: Monotonic(3),
        records: 0,
        lost: 0,
        why: Why::default(),
    };
    wire::write(&end, &mut input);
    let mut writes = Writes(Vec::new());
    assert!(
        stage::run(
            &mut PathTree::default(),
            &input[..],
            &mut writes,
            &mut |_| {}
        )
        .unwrap()
    );

    let record = 2 * DEPTH as usize * name.len();
    let longest = writes.0.iter().map(Vec::len).max().unwrap();
    assert!(longest < stage::LARGE + record, "{longest} bytes at once");
    let output = writes.0.concat();
    assert!(output.len() > 4 * stage::LARGE);
    let mut rest = &output[..];
    let mut told = Vec::new();
    while let Some(length) = wire::value_len(rest).unwrap() {
        let (record, after) = rest.split_at(length);
        let record = Record::new(record).unwrap();
        let event = record.kind() == "event";
        told.push(event.then(|| record.read::<crate::event::EventRecord>().unwrap().seq));
        rest = after;
    }
    let expected: Vec<_> = (0..EVENTS).map(Some).collect();
    assert_eq!(told, [&[None], &expected[..], &[None]].concat());
}

/// A record for a callee that does not look at it.
fn no_record() -> Record<'static> {
    Record::new(b"\x81\xa1t\xa6header").unwrap()
}

fn record(value: &impl serde::Serialize) -> Vec<u8> {
    let mut record = Vec::new();
    wire::write(value, &mut record);
    record
}

/// What the stage writes for a record.
fn push(tree: &mut PathTree, record: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    tree.push(Record::new(record).unwrap(), &mut out).unwrap();
    while tree.drain(&mut out) {}
    out
}

#[test]
fn a_subvolume_that_the_snapshot_did_not_meet_is_looked_for() {
    const MET: u64 = 256;
    const UNMET: u64 = 257;
    let asked = Rc::new(RefCell::new(Vec::new()));
    let ask = {
        let asked = asked.clone();
        move |path: &[u8]| asked.borrow_mut().push(path.to_vec())
    };
    let mut tree = PathTree::new(Vec::new(), Some(Box::new(ask)));
    let header = Header {
        answers: true,
        ..header()
    };
    let mut out = Vec::new();
    tree.begin(&header, no_record(), &mut out);
    let mut push = |record: &[u8]| push(&mut tree, record);
    let inode = |subvolume, ino| Inode {
        subvolume: Some(subvolume),
        ino,
    };
    let event = |subvolume| {
        record(&EventRecord {
            event: Event::Create,
            dev: Some("0:28"),
            unresolved: within(
                2,
                FsPath {
                    path: Bytes::from(&b"deep/file"[..]),
                    parent: Some(inode(subvolume, 300)),
                    top: Some(inode(subvolume, 300)),
                },
            ),
            ..EventRecord::default()
        })
    };
    let walked = |since, answer| {
        record(&Walked {
            ts: Monotonic(since + 1),
            since: Monotonic(since),
            answer,
            roots: vec![Bytes::from(&b"/w"[..])],
            complete: true,
            ..Walked::default()
        })
    };
    // An event comes from both subvolumes before the walk meets either of them.
    assert!(push(&event(MET)).is_empty());
    assert!(push(&event(UNMET)).is_empty());
    for (ino, fs_path) in [(256, "/"), (300, "/deep")] {
        let dir = Dir {
            at: Monotonic(3),
            dev: "0:28",
            dir: inode(MET, ino),
            fs_path: FsPath {
                path: Bytes::from(fs_path.as_bytes()),
                parent: (ino == 300).then(|| inode(MET, 256)),
                top: None,
            },
        };
        push(&record(&dir));
    }
    assert!(asked.borrow().is_empty());
    // The walk meets one of them. The event in the other one waits on.
    let told = push(&walked(1, false));
    assert_eq!(*asked.borrow(), [b"/w"]);
    assert_eq!(Record::new(&told).unwrap().kind(), "event");
    let told = push(&walked(5, true));
    let length = wire::value_len(&told).unwrap().unwrap();
    assert_eq!(Record::new(&told[..length]).unwrap().kind(), "event");
    // A walk for a subvolume is requested once.
    push(&event(UNMET));
    assert_eq!(asked.borrow().len(), 1);
}

#[test]
fn what_is_told_within_a_gap_is_not_trusted() {
    const ROOT: u64 = 1;
    const DEV: &str = "8:1";
    let watch = Watch::parse(b"all=/w").unwrap();
    let mut tree = PathTree::new(vec![watch], None);
    tree.begin(&header(), no_record(), &mut Vec::new());
    let inode = |ino| Inode {
        subvolume: None,
        ino,
    };
    let dir = |ts, ino, fs_path: &str| {
        record(&Dir {
            at: Monotonic(ts),
            dev: DEV,
            dir: inode(ino),
            fs_path: FsPath {
                path: Bytes::from(fs_path.as_bytes()),
                parent: (ino != ROOT).then(|| inode(ROOT)),
                top: None,
            },
        })
    };
    let walked = |since| {
        record(&Walked {
            ts: Monotonic(since + 1),
            since: Monotonic(since),
            roots: vec![Bytes::from(&b"/"[..])],
            complete: true,
            ..Walked::default()
        })
    };
    let event = |event, ts, top, fs_path: &str| {
        record(&EventRecord {
            event,
            dev: Some(DEV),
            unresolved: Unresolved {
                dir: (event == Event::Mkdir).then(|| inode(4)),
                ..within(
                    ts,
                    FsPath {
                        path: Bytes::from(fs_path.as_bytes()),
                        parent: Some(inode(top)),
                        top: (!fs_path.starts_with('/')).then(|| inode(top)),
                    },
                )
            },
            ..EventRecord::default()
        })
    };
    let create = |ts, top, name: &str| event(Event::Create, ts, top, &format!("{name}/f"));
    // The paths of the events in a stream, with their statuses.
    fn paths(mut stream: &[u8]) -> Vec<(String, Status)> {
        let mut paths = Vec::new();
        while let Some(length) = wire::value_len(stream).unwrap() {
            let (record, after) = stream.split_at(length);
            let record = Record::new(record).unwrap();
            if record.kind() == "event" {
                let Paths {
                    path, path_status, ..
                } = record.read().unwrap();
                paths.push((String::from_utf8_lossy(&path).into(), path_status));
            }
            stream = after;
        }
        paths
    }
    let whole = |path: &str| (path.to_owned(), Status::Complete);
    let partial = |path: &str| (path.to_owned(), Status::Partial);

    let mounts = Mounts {
        ts: Monotonic(1),
        since: Monotonic(1),
        attempts: 0,
        ns: 1,
        mountinfo: Bytes::from(&b"1 0 8:1 / / rw - ext4 /dev/vda rw\n"[..]),
    };
    push(&mut tree, &record(&mounts));
    for record in [dir(2, ROOT, "/"), dir(2, 2, "/w"), walked(2)] {
        push(&mut tree, &record);
    }
    assert_eq!(paths(&push(&mut tree, &create(4, 2, "w"))), [whole("/w/f")]);

    let lost = |ts, until| {
        record(&Lost {
            since: Monotonic(ts),
            ts: Monotonic(ts),
            until: Some(Monotonic(until)),
            ..Lost::default()
        })
    };
    push(&mut tree, &lost(10, 20));
    // A gap of another CPU.
    push(&mut tree, &lost(11, 12));
    let within = [
        dir(14, 3, "/w"),
        event(Event::Mkdir, 14, ROOT, "/w"),
        create(15, 2, "w"),
        // A walk that began before the end of the gap.
        walked(14),
    ];
    let within: Vec<_> = (within.iter())
        .flat_map(|record| push(&mut tree, record))
        .collect();
    assert_eq!(paths(&within), [whole("/w")]);
    let after = [
        create(21, 2, "w"),
        create(21, 3, "w"),
        create(21, 4, "w"),
        dir(25, ROOT, "/"),
        dir(25, 2, "/w"),
        walked(20),
    ];
    let after: Vec<_> = (after.iter())
        .flat_map(|record| push(&mut tree, record))
        .collect();
    // An event that is not below the watch does not pass. Of the event within the gap that is
    // not known.
    assert_eq!(paths(&after), [partial("w/f"), whole("/w/f")]);
}
