//! Attacks the reader of mount tables, up to four with a NUL between them: two of the host, two
//! of another namespace. Then each line is also a mount that gets its place, and is removed, and a
//! namespace. Every question about what is mounted there is answered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_pathtree::event::Status;
use st_pathtree::mount::{Attached, DirRename};
use st_pathtree::record::{Bytes, Mounts};
use st_pathtree::resolve::{Question, Resolver};
use st_pathtree::time::Monotonic;
use st_pathtree::tree::Found;
use st_pathtree::vocabulary::Event;
use st_pathtree::watch::{Watch, Watches};

fuzz_target!(|input: &[u8]| {
    let watches = ["all=/srv", "none=/", "attrib=/proc"];
    let watches = watches.map(|watch| Watch::parse(watch.as_bytes()).expect("a watch"));
    let mut resolver = Resolver::new(Watches::new(watches.to_vec()));
    resolver.begin();
    for (ts, table) in (1..).zip(input.splitn(4, |&byte| byte == 0)) {
        resolver.mounted(&Mounts {
            ts: Monotonic(ts),
            since: Monotonic(0),
            attempts: ts,
            ns: ts / 3,
            mountinfo: Bytes::from(table),
        });
    }
    for line in input.split(|&byte| byte == b'\n').take(20) {
        let fields: Vec<_> = line.split(|&byte| byte == b' ').take(5).collect();
        let [id, parent, dev, root, point] = fields[..] else {
            continue;
        };
        let Ok(dev) = std::str::from_utf8(dev) else {
            continue;
        };
        let ask = |resolver: &mut Resolver| {
            let paths = [root.to_vec(), [root, b"/file"].concat()];
            // During the changes, and after them.
            for (at, path) in paths.iter().flat_map(|path| [(1, path), (9, path)]) {
                let question = Question {
                    event: Event::Create,
                    at: Monotonic(at),
                    dev,
                    named: true,
                    outside: false,
                };
                let resolved = resolver.resolve(question, &Found::Whole(path.clone()), None);
                assert!(resolved.status != Status::Partial);
                assert!(resolved.status != Status::Complete || !resolved.path.is_empty());
            }
        };
        ask(&mut resolver);
        let number = |field: &[u8]| {
            field
                .iter()
                .fold(0, |sum, byte| sum % 1000 * 10 + u64::from(byte & 15))
        };
        let attached = Attached {
            id: number(id),
            parent: number(parent),
            root: Some(root.to_vec()),
            place: Some(point.to_vec()).filter(|point| point.first() == Some(&b'/')),
            device: dev.into(),
            kind: None,
        };
        if root.len() == 2 {
            resolver.made(Monotonic(9), number(parent), attached);
        } else {
            resolver.attach(Monotonic(9), attached);
        }
        ask(&mut resolver);
        resolver.take_new();
        let renames = [(root, Some(point)), (point, None)];
        resolver.renamed(
            Monotonic(9),
            dev,
            &renames.map(|(from, to)| DirRename { from, to }),
        );
        ask(&mut resolver);
        if point.len() == 2 {
            resolver.detach(Monotonic(9), number(id));
            ask(&mut resolver);
        }
    }
});
