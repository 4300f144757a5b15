//! Paths on mounts that the stream tells of one by one, as the kernel makes them.

use st_decode::event::{Attach, Detach, EventRecord, FsPath, Namespace, Unresolved};
use st_decode::record::{Bytes, Header, Hook, Lost, MAGIC, Mounts, VERSION};
use st_decode::stage::Stage;
use st_decode::time::Monotonic;
use st_decode::vocabulary::{Event, Role, Service, Subject};
use st_decode::wire::{self, Record};
use st_pathtree::event::Status::{self, Ambiguous, Complete, Unmounted};
use st_pathtree::pathtree::PathTree;
use st_pathtree::watch::Watch;

const HOST: u64 = 1;
const TABLE: &[u8] =
    b"21 1 8:1 / / rw - ext4 x rw\n22 21 8:2 / /w rw - ext4 x rw\n23 22 0:9 / /w/t rw - tmpfs x rw\n";

const ALL: [(Service, Role); 4] = [
    (Service::Attach, Role::Entry),
    (Service::Attach, Role::Old),
    (Service::Detach, Role::Instant),
    (Service::Namespace, Role::Return),
];

/// A stage, and the time.
struct Stream {
    tree: PathTree,
    now: u64,
}

impl Stream {
    /// Of a header with such hooks, and the host's table.
    fn new(hooks: &[(Service, Role)], watches: &[&str]) -> Self {
        let watches = watches
            .iter()
            .map(|text| Watch::parse(text.as_bytes()).unwrap());
        let hooks = hooks.iter().map(|(service, role)| Hook {
            id: 0,
            name: String::new(),
            subject: Subject::Service(*service),
            role: *role,
            point: String::new(),
            names: 0,
            fields: Vec::new(),
        });
        let header = Header {
            magic: MAGIC.into(),
            version: VERSION,
            hooks: hooks.collect(),
            ..Header::default()
        };
        let mut tree = PathTree::new(watches.collect(), None);
        let mut record = Vec::new();
        wire::write(&header, &mut record);
        let record = Record::new(&record).unwrap();
        tree.begin(&header, record, &mut Vec::new());
        let mut stream = Self {
            tree,
            now: 10_000_000_000,
        };
        stream.table(HOST, TABLE);
        stream
    }

    /// Some time passes; returns the time.
    fn tick(&mut self) -> Monotonic {
        self.now += 1_000;
        Monotonic(self.now)
    }

    fn push(&mut self, record: &impl serde::Serialize) -> Vec<u8> {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        wire::write(record, &mut bytes);
        let record = Record::new(&bytes).unwrap();
        self.tree.push(record, &mut out).unwrap();
        out
    }

    /// A table that confirms what is known.
    fn table(&mut self, ns: u64, mountinfo: &[u8]) {
        let ts = self.tick();
        let mounts = Mounts {
            ts,
            since: ts,
            attempts: 0,
            ns,
            mountinfo: Bytes::from(mountinfo),
        };
        self.push(&mounts);
    }

    /// The mount `id` of a whole file system gets its place on another one.
    fn attach(&mut self, id: u64, dev: &str, parent: u64, parent_dev: &str, place: &str) {
        self.attach_at(id, dev, parent, parent_dev, path(place));
    }

    fn attach_at(&mut self, id: u64, dev: &str, parent: u64, parent_dev: &str, point: FsPath) {
        let attach = Attach {
            at: self.tick(),
            mount: id,
            parent,
            parent_dev,
            point,
            dev,
            root: path("/"),
            fstype: Some(Bytes::from(&b"tmpfs"[..])),
        };
        assert!(self.push(&attach).is_empty());
    }

    fn detach(&mut self, id: u64) {
        let at = self.tick();
        assert!(self.push(&Detach { at, mount: id }).is_empty());
    }

    /// A namespace with copies of the host's mounts, whose ids are higher by 100.
    fn copy(&mut self, ns: u64) {
        self.attach(121, "8:1", 101, "0:2", "/");
        self.attach(122, "8:2", 121, "8:1", "/w");
        self.attach(123, "0:9", 122, "8:2", "/t");
        let namespace = Namespace {
            at: self.tick(),
            ns,
            mount: 101,
            dev: "0:2",
            root: path("/"),
            fstype: None,
        };
        assert!(self.push(&namespace).is_empty());
    }

    /// The path of a file that is created now.
    fn create(&mut self, dev: &str, name: &str) -> Option<(String, Status, Option<u64>)> {
        let at = self.tick();
        self.create_at(at, dev, name)
    }

    fn create_at(
        &mut self,
        at: Monotonic,
        dev: &str,
        name: &str,
    ) -> Option<(String, Status, Option<u64>)> {
        let event = EventRecord {
            event: Event::Create,
            dev: Some(dev),
            unresolved: Unresolved {
                at,
                fs_path: Some(path(name)),
                ..Unresolved::default()
            },
            ..EventRecord::default()
        };
        let out = self.push(&event);
        let event: st_pathtree::event::EventRecord =
            (!out.is_empty()).then(|| wire::read(&out).unwrap())?;
        let path = String::from_utf8(event.path?.to_vec()).unwrap();
        Some((path, event.path_status?, event.mnt_ns))
    }
}

fn path(path: &str) -> FsPath<'static> {
    FsPath {
        path: Bytes::from(path.as_bytes().to_vec()),
        ..FsPath::default()
    }
}

fn host(path: &str, status: Status) -> Option<(String, Status, Option<u64>)> {
    Some((path.to_owned(), status, None))
}

#[test]
fn a_mount_is_there_from_its_record_on_until_it_is_gone() {
    let mut stream = Stream::new(&ALL, &["all=/w"]);
    for round in 0..5 {
        let dev = format!("0:{}", 50 + round);
        stream.attach(30, &dev, 22, "8:2", "/m");
        assert_eq!(stream.create(&dev, "/f"), host("/w/m/f", Complete));
        // A mount on it.
        stream.attach(31, "0:60", 30, &dev, "/in");
        assert_eq!(stream.create("0:60", "/f"), host("/w/m/in/f", Complete));
        // What it covers.
        assert_eq!(stream.create("8:2", "/m/f"), host("/m/f", Unmounted));
        // What is on it goes with it.
        stream.detach(30);
        stream.detach(31);
        assert_eq!(stream.create("8:2", "/m/f"), host("/w/m/f", Complete));
        assert_eq!(stream.create(&dev, "/f"), None);
    }
}

#[test]
fn a_mount_moves_with_what_is_on_it() {
    let mut stream = Stream::new(&ALL, &["all=/w"]);
    stream.attach(30, "0:50", 22, "8:2", "/a");
    stream.attach(31, "0:51", 30, "0:50", "/in");
    stream.attach(30, "0:50", 23, "0:9", "/b");
    assert_eq!(stream.create("0:51", "/f"), host("/w/t/b/in/f", Complete));
    stream.attach(30, "0:50", 21, "8:1", "/elsewhere");
    assert_eq!(stream.create("0:51", "/f"), None);
}

#[test]
fn mounts_of_a_namespace_that_lives_for_a_moment_are_known() {
    let mut stream = Stream::new(&ALL, &["all=/w"]);
    for ns in 7..12 {
        stream.copy(ns);
        stream.attach(130, "0:50", 122, "8:2", "/q");
        let told = stream.create("0:50", "/f");
        assert_eq!(told, Some(("/w/q/f".into(), Complete, Some(ns))));
        // What both namespaces show has its path in the host's.
        assert_eq!(stream.create("0:9", "/f"), host("/w/t/f", Complete));
        for id in [101, 121, 122, 123, 130] {
            stream.detach(id);
        }
        assert_eq!(stream.create("0:50", "/f"), None);
    }
}

#[test]
fn a_table_confirms_a_namespace_and_later_changes_go_on() {
    let mut stream = Stream::new(&ALL, &[]);
    stream.copy(7);
    // The uppermost mount is covered, and mountinfo does not show it.
    stream.table(
        7,
        b"121 101 8:1 / / rw - ext4 x rw\n122 121 8:2 / /w rw - ext4 x rw\n",
    );
    stream.attach(130, "0:50", 122, "8:2", "/q");
    let inside = |path: &str| Some((path.to_owned(), Complete, Some(7)));
    assert_eq!(stream.create("0:50", "/f"), inside("/w/q/f"));
    // pivot_root(2): the new root comes where the old one was, which is on the new one then.
    stream.attach(121, "8:1", 130, "0:50", "/old");
    stream.attach(130, "0:50", 101, "0:2", "/");
    assert_eq!(stream.create("0:50", "/f"), inside("/f"));
    stream.attach(131, "0:51", 122, "8:2", "/x");
    assert_eq!(stream.create("0:51", "/f"), inside("/old/w/x/f"));
    stream.detach(101);
    assert_eq!(stream.create("0:50", "/f"), host("/f", Unmounted));
}

#[test]
fn a_tree_that_is_in_no_namespace_yet_gets_its_place_as_a_whole() {
    let mut stream = Stream::new(&ALL, &["all=/w"]);
    stream.attach(41, "0:51", 40, "8:2", "/sub/in");
    stream.attach(42, "0:52", 41, "0:51", "/deep");
    // Nobody can tell yet where this will be.
    assert_eq!(stream.create("0:52", "/f"), host("/f", Unmounted));
    stream.attach(40, "8:2", 23, "0:9", "/c");
    assert_eq!(
        stream.create("0:52", "/f"),
        host("/w/t/c/sub/in/deep/f", Complete)
    );
    stream.detach(40);
    assert_eq!(stream.create("0:52", "/f"), None);
}

/// Propagation puts a mount below another one at the same place: from Linux 6.17 on it comes first,
/// before that the other one makes way first.
#[test]
fn a_mount_that_another_one_is_put_below_keeps_what_is_on_it() {
    for before in [false, true] {
        let mut stream = Stream::new(&ALL, &["all=/w"]);
        stream.attach(30, "0:50", 22, "8:2", "/m");
        stream.attach(31, "0:51", 30, "0:50", "/in");
        if before {
            stream.attach(30, "0:50", 32, "0:52", "/");
            assert_eq!(stream.create("0:51", "/f"), host("/f", Unmounted));
            stream.attach(32, "0:52", 22, "8:2", "/m");
        } else {
            stream.attach(32, "0:52", 22, "8:2", "/m");
            stream.attach(30, "0:50", 32, "0:52", "/");
        }
        assert_eq!(stream.create("0:51", "/f"), host("/w/m/in/f", Complete));
        assert_eq!(stream.create("0:50", "/f"), host("/w/m/f", Complete));
        assert_eq!(stream.create("0:52", "/f"), host("/f", Unmounted));
    }
}

#[test]
fn the_id_of_a_mount_whose_removal_is_not_told_is_that_of_another_one() {
    let mut stream = Stream::new(&ALL, &["all=/w"]);
    stream.attach(30, "0:50", 22, "8:2", "/m");
    stream.attach(31, "0:51", 30, "0:50", "/in");
    stream.attach(30, "0:52", 22, "8:2", "/n");
    assert_eq!(stream.create("0:52", "/f"), host("/w/n/f", Complete));
    assert_eq!(stream.create("8:2", "/m/f"), host("/w/m/f", Complete));
    assert_eq!(stream.create("0:51", "/f"), None);
}

/// The new root comes first from Linux 6.17 on.
#[test]
fn a_new_root_keeps_what_is_on_it() {
    let inside = |path: &str| Some((path.to_owned(), Complete, Some(7)));
    for before in [false, true] {
        let mut stream = Stream::new(&ALL, &[]);
        stream.copy(7);
        stream.attach(130, "0:50", 122, "8:2", "/root");
        stream.attach(131, "0:51", 130, "0:50", "/volume");
        if before {
            stream.attach(121, "8:1", 130, "0:50", "/old");
            stream.attach(130, "0:50", 101, "0:2", "/");
        } else {
            stream.attach(130, "0:50", 101, "0:2", "/");
            stream.attach(121, "8:1", 130, "0:50", "/old");
        }
        assert_eq!(stream.create("0:51", "/f"), inside("/volume/f"));
        stream.detach(121);
        assert_eq!(stream.create("0:51", "/f"), inside("/volume/f"));
        assert_eq!(stream.create("0:50", "/old/f"), inside("/old/f"));
    }
}

#[test]
fn what_is_mounted_nobody_knows_where_is_told() {
    let mut stream = Stream::new(&ALL, &["all=/w"]);
    stream.attach_at(30, "0:50", 22, "8:2", path("x/y/z"));
    assert_eq!(stream.create("0:50", "/f"), host("/f", Unmounted));
    assert_eq!(stream.create("0:77", "/f"), None);
    // A directory that has another path, too, which no watch wants.
    let attach = Attach {
        at: stream.tick(),
        mount: 31,
        parent: 22,
        parent_dev: "8:2",
        point: path("x/y/z"),
        dev: "8:1",
        root: path("/data"),
        fstype: None,
    };
    stream.push(&attach);
    assert_eq!(stream.create("8:1", "/data/f"), host("/data/f", Ambiguous));
    assert_eq!(stream.create("8:1", "/other/f"), None);
    // Until a table tells.
    stream.table(
        HOST,
        b"21 1 8:1 / / rw - ext4 x rw\n31 21 8:1 /data /w/x/y/z rw - ext4 x rw\n",
    );
    assert_eq!(
        stream.create("8:1", "/data/f"),
        host("/w/x/y/z/f", Complete)
    );
}

#[test]
fn a_table_that_confirms_does_not_hide_where_a_file_was() {
    let mut stream = Stream::new(&ALL, &[]);
    stream.attach(30, "0:50", 22, "8:2", "/a");
    let then = stream.tick();
    stream.attach(30, "0:50", 22, "8:2", "/b");
    let table = [TABLE, b"30 22 0:50 / /w/b rw - tmpfs x rw\n"].concat();
    stream.table(HOST, &table);
    let told = stream.create_at(then, "0:50", "/f").unwrap();
    assert_eq!(told.1, Ambiguous);
    // So long ago that the table of that time is not kept.
    stream.now += 3_000_000_000;
    stream.attach(40, "0:60", 22, "8:2", "/c");
    let told = stream.create_at(then, "0:50", "/f").unwrap();
    assert_eq!(told.1, Ambiguous);
    assert_eq!(stream.create("0:50", "/f"), host("/w/b/f", Complete));
}

/// What is renamed right after a mount is gone is looked for before anybody asks for a path.
#[test]
fn a_rename_may_follow_at_once() {
    let mut stream = Stream::new(&ALL, &["all=/w"]);
    for id in 30..40 {
        stream.attach(id, "0:50", 22, "8:2", "/m");
    }
    for id in 22..40 {
        stream.detach(id);
    }
    assert_eq!(stream.create("8:1", "/w/f"), host("/w/f", Complete));
}

#[test]
fn an_event_that_is_told_later_than_it_happened_is_where_it_was() {
    let mut stream = Stream::new(&ALL, &[]);
    let before = stream.tick();
    stream.attach(30, "0:50", 22, "8:2", "/m");
    // The mount covers the file now.
    assert_eq!(
        stream.create_at(before, "8:2", "/m/f"),
        host("/w/m/f", Complete)
    );
    stream.attach(30, "0:50", 22, "8:2", "/n");
    stream.attach(31, "0:51", 22, "8:2", "/m");
    let told = stream.create_at(before, "8:2", "/m/f").unwrap();
    assert_eq!(told.1, Ambiguous);
}

#[test]
fn after_a_gap_only_tables_count() {
    let mut stream = Stream::new(&ALL, &["all=/w"]);
    stream.copy(7);
    stream.attach(130, "0:50", 122, "8:2", "/q");
    let since = stream.tick();
    let lost = Lost {
        since,
        ts: since,
        ..Lost::default()
    };
    stream.push(&lost);
    assert_eq!(stream.create("0:50", "/f"), None);
}

#[test]
fn changes_are_of_no_use_if_some_are_not_told() {
    for missing in 0..ALL.len() {
        let mut hooks = ALL.to_vec();
        hooks.remove(missing);
        let mut stream = Stream::new(&hooks, &[]);
        stream.attach(30, "0:50", 22, "8:2", "/m");
        assert_eq!(stream.create("0:50", "/f"), host("/f", Unmounted));
    }
}
