//! On which of several mounts a file has its path, before and after a change of the mounts.

use st_decode::event::{EventRecord, FsPath, Unresolved};
use st_decode::record::{Bytes, Mounts};
use st_decode::stage::Stage;
use st_decode::time::Monotonic;
use st_decode::vocabulary::Event;
use st_decode::wire::{self, Record};
use st_pathtree::event::Status;
use st_pathtree::pathtree::PathTree;
use st_pathtree::watch::Watch;

const BEFORE: &[u8] = b"1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / /w/a rw - tmpfs x rw\n";
const AFTER: &[u8] = b"1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / /w/b rw - tmpfs x rw\n";

/// A stage that has taken these tables: each replaced the one before it by the time 100.
fn tree(tables: &[&[u8]], attempts: u64, watches: &[&str]) -> PathTree {
    let watches = watches
        .iter()
        .map(|text| Watch::parse(text.as_bytes()).unwrap());
    let mut tree = PathTree::new(watches.collect(), None);
    for table in tables {
        let mountinfo = Bytes::from(*table);
        let mounts = Mounts {
            ts: Monotonic(100),
            since: Monotonic(50),
            attempts,
            ns: 1,
            mountinfo,
        };
        let mut record = Vec::new();
        wire::write(&mounts, &mut record);
        let record = Record::new(&record).unwrap();
        tree.push(record, &mut Vec::new()).unwrap();
    }
    tree
}

fn event(event: Event, at: u64, dev: &'static str, path: &str, old: Option<&str>) -> Vec<u8> {
    let fs_path = |path: &str| FsPath {
        path: Bytes::from(path.as_bytes().to_vec()),
        ..FsPath::default()
    };
    let mut record = Vec::new();
    let event = EventRecord {
        event,
        dev: Some(dev),
        unresolved: Unresolved {
            at: Monotonic(at),
            fs_path: Some(fs_path(path)),
            old_fs_path: old.map(fs_path),
            ..Unresolved::default()
        },
        ..EventRecord::default()
    };
    wire::write(&event, &mut record);
    record
}

/// The path and status that an event gets; `None` if it does not pass.
fn resolved(tree: &mut PathTree, record: &[u8]) -> Option<(String, Status)> {
    let mut out = Vec::new();
    tree.push(Record::new(record).unwrap(), &mut out).unwrap();
    let event: st_pathtree::event::EventRecord =
        (!out.is_empty()).then(|| wire::read(&out).unwrap())?;
    Some((
        String::from_utf8(event.path?.to_vec()).unwrap(),
        event.path_status?,
    ))
}

fn create(tree: &mut PathTree, at: u64, dev: &'static str, path: &str) -> Option<(String, Status)> {
    resolved(tree, &event(Event::Create, at, dev, path, None))
}

fn some(path: &str, status: Status) -> Option<(String, Status)> {
    Some((path.to_owned(), status))
}

#[test]
fn a_mount_is_known_as_soon_as_it_is_made() {
    let mut tree = tree(&[b"1 0 8:1 / / rw - ext4 x rw\n", AFTER], 1, &[]);
    assert_eq!(
        create(&mut tree, 60, "0:9", "/f"),
        some("/w/b/f", Status::Complete)
    );
    // The mount covers this path, but before the mount was made it led to the file.
    assert_eq!(
        create(&mut tree, 60, "8:1", "/w/b/f"),
        some("/w/b/f", Status::Complete)
    );
    assert_eq!(
        create(&mut tree, 200, "8:1", "/w/b/f"),
        some("/w/b/f", Status::Unmounted)
    );
}

#[test]
fn a_path_that_may_be_another_says_so() {
    let mut moved = tree(&[BEFORE, AFTER], 2, &[]);
    assert_eq!(
        create(&mut moved, 60, "0:9", "/f"),
        some("/w/b/f", Status::Ambiguous)
    );
    assert_eq!(
        create(&mut moved, 200, "0:9", "/f"),
        some("/w/b/f", Status::Complete)
    );
    let mut unseen = tree(&[b"1 0 8:1 / / rw - ext4 x rw\n", AFTER], 3, &[]);
    assert_eq!(
        create(&mut unseen, 60, "0:9", "/f"),
        some("/w/b/f", Status::Ambiguous)
    );
    let mut back = tree(&[BEFORE, BEFORE], 4, &[]);
    assert_eq!(
        create(&mut back, 60, "0:9", "/f"),
        some("/w/a/f", Status::Ambiguous)
    );
    assert_eq!(
        create(&mut back, 60, "8:1", "/f"),
        some("/f", Status::Complete)
    );
}

#[test]
fn a_mount_that_nobody_saw_has_no_path_but_is_told() {
    let mut tree = tree(&[BEFORE, BEFORE], 2, &["all=/w"]);
    assert_eq!(
        create(&mut tree, 60, "0:10", "/f"),
        some("/f", Status::Unmounted)
    );
    assert_eq!(create(&mut tree, 200, "0:10", "/f"), None);
}

#[test]
fn the_watched_alias_is_shown() {
    let bound: &[u8] = b"1 0 8:1 / / rw - ext4 x rw\n2 1 8:1 /data/src /w rw - ext4 x rw\n";
    let mut all = tree(&[bound], 0, &[]);
    assert_eq!(
        create(&mut all, 200, "8:1", "/data/src/f"),
        some("/data/src/f", Status::Complete)
    );
    let mut watched = tree(&[bound], 0, &["all=/w"]);
    assert_eq!(
        create(&mut watched, 200, "8:1", "/data/src/f"),
        some("/w/f", Status::Complete)
    );
    let out = event(
        Event::Rename,
        200,
        "8:1",
        "/data/other/f",
        Some("/data/src/f"),
    );
    assert_eq!(
        resolved(&mut watched, &out),
        some("/data/other/f", Status::Complete)
    );
    // A path where nothing is wanted does not hide the path where the event is wanted.
    let mut both = tree(&[bound], 0, &["all=/data", "none=/w"]);
    assert_eq!(
        create(&mut both, 200, "8:1", "/data/src/f"),
        some("/data/src/f", Status::Complete)
    );
}
