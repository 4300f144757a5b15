use super::*;
use st_decode::event::{Dir, Event};
use st_decode::record::{End, Hook, MAGIC, VERSION};
use std::io::{self, Write};

/// What was written, a write at a time.
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
    let hook = |event: &str| Hook {
        id: 0,
        name: event.into(),
        event: event.into(),
        role: "entry".into(),
        point: event.into(),
        names: 0,
        fields: Vec::new(),
    };
    let mut input = Vec::new();
    let header = Header {
        magic: MAGIC.into(),
        version: VERSION,
        stages: PathTree::AFTER.iter().map(|&stage| stage.into()).collect(),
        hooks: FOLLOWED.map(hook).into(),
        snapshot: true,
        ..Header::default()
    };
    wire::write(&header, &mut input);
    let name = vec![b'n'; 200];
    for ino in 1..=DEPTH {
        let dir = Dir {
            ts: 1,
            dev: "8:1",
            dir: Inode {
                subvolume: None,
                ino,
            },
            fs_path: Bytes::from(if ino == 1 { b"/" } else { &name[..] }),
            parent: inode(ino - 1).filter(|_| ino > 1),
            top: None,
        };
        wire::write(&dir, &mut input);
    }
    // The first one is in a directory that nobody tells of: the others wait for it.
    for seq in 0..EVENTS {
        let parent = inode(if seq == 0 { DEPTH + 1 } else { DEPTH });
        let event = Event {
            event: Kind::Create,
            ts: 2,
            seq,
            dev: Some("8:1"),
            fs_path: Some(Bytes::from([&name, &b"/f"[..]].concat())),
            parent,
            top: parent,
            ..Event::default()
        };
        wire::write(&event, &mut input);
    }
    let end = End {
        ts: 3,
        records: 0,
        lost: 0,
        why: String::new(),
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
        let event = wire::kind(record) == Some("event");
        told.push(event.then(|| wire::read::<Event>(record).unwrap().seq));
        rest = after;
    }
    let expected: Vec<_> = (0..EVENTS).map(Some).collect();
    assert_eq!(told, [&[None], &expected[..], &[None]].concat());
}
