use super::*;
use crate::testing::Folder;

const OWN: u64 = 4_026_531_841;
const OTHER: u64 = 4_026_532_500;
const MOUNT: u16 = 10;
const NAMESPACE: u16 = 11;
const ATTACH: u16 = 20;
const DETACH: u16 = 22;

const TABLE: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";

fn hook(id: u16, service: Service) -> record::Hook {
    record::Hook {
        id,
        name: String::new(),
        subject: Subject::Service(service),
        role: Role::Instant,
        point: String::new(),
        names: 0,
        fields: Vec::new(),
    }
}

/// Of a machine with one mount namespace.
fn folder() -> Folder {
    let folder = Folder::new();
    process(&folder, "self", OWN, TABLE);
    process(&folder, "1", OWN, TABLE);
    folder
}

fn process(folder: &Folder, pid: &str, ns: u64, table: &str) {
    folder.link(format!("{pid}/ns/mnt"), format!("mnt:[{ns}]"));
    folder.write(format!("{pid}/mountinfo"), table);
}

fn reader(folder: &Folder) -> MountReader {
    let hooks = [
        hook(MOUNT, Service::Mount),
        hook(NAMESPACE, Service::Namespace),
        hook(12, Service::Process),
    ];
    MountReader::open(Proc::at(folder.path("")), &hooks).unwrap()
}

/// A table of our own namespace, between two instants in milliseconds.
fn own(previous: u64, checked: u64, ts: u64) -> Table {
    Table {
        reading: reading(at(ts)),
        previous: at(previous),
        checked: at(checked),
        ns: OWN,
        mountinfo: TABLE.into(),
    }
}

/// A table of another namespace, read at an instant.
fn other(table: &str, read: Monotonic) -> OtherTable {
    OtherTable {
        mountinfo: table.into(),
        began: read,
        read,
        is_whole: true,
    }
}

fn reading(ts: Monotonic) -> Reading {
    Reading {
        began: ts,
        ended: ts,
        doubt: false,
    }
}

/// So many milliseconds after an instant that is some time after the boot.
fn at(millis: u64) -> Monotonic {
    Monotonic(0).after(Duration::from_secs(100) + Duration::from_millis(millis))
}

/// When a table's change is said to have begun, and how many attempts there were.
fn told(reader: &mut MountReader, table: Table) -> (Monotonic, u64) {
    let records = reader.records(vec![table]);
    let [(since, record)] = &records[..] else {
        panic!("{} records", records.len());
    };
    let mounts: record::Mounts = wire::read(record).unwrap();
    assert_eq!(mounts.since, *since);
    (mounts.since, mounts.attempts)
}

/// The namespaces of tables, with what is mounted there.
fn contents(tables: &[Table]) -> Vec<(u64, &str)> {
    let contents = tables.iter();
    let mut contents: Vec<_> = contents
        .map(|table| (table.ns, std::str::from_utf8(&table.mountinfo).unwrap()))
        .collect();
    contents.sort();
    contents
}

#[test]
fn the_first_records_are_all_tables() {
    let folder = folder();
    process(&folder, "7", OTHER, "other");
    process(&folder, "8", OTHER, "other");
    // This one is just ending: its namespace is gone already.
    folder.write("9/mountinfo", "");
    let mut out = Vec::new();
    let mut reader = reader(&folder);
    reader.all(&mut out).unwrap();
    let mut read = Vec::new();
    let mut records = wire::Reader::default();
    records.fill(&mut &out[..]).unwrap();
    while let Some(record) = records.take().unwrap() {
        let mounts: record::Mounts = record.read().unwrap();
        assert_eq!((mounts.since, mounts.attempts), (mounts.ts, 0));
        read.push((mounts.ns, mounts.mountinfo.to_vec()));
    }
    let expected = [(OWN, TABLE), (OTHER, "other")];
    assert_eq!(read, expected.map(|(ns, table)| (ns, table.into())));
    // Nothing has changed since, and it is not the time for the others.
    reader.others.next = Monotonic::MAX;
    assert!(reader.look().unwrap().is_empty());
}

#[test]
fn our_own_table_is_read_again_once_a_poll_tells_of_a_change() {
    let folder = folder();
    let mut reader = reader(&folder);
    reader.all(&mut Vec::new()).unwrap();
    reader.others.next = Monotonic::MAX;
    reader.told(true);
    reader.told(false);
    folder.write("self/mountinfo", "changed");
    let tables = reader.look().unwrap();
    assert_eq!(contents(&tables), [(OWN, "changed")]);
    assert!(tables[0].previous <= tables[0].checked && tables[0].checked <= tables[0].ts());
    assert!(reader.look().unwrap().is_empty());
}

#[test]
fn a_gap_lets_every_table_be_read_again() {
    let folder = folder();
    process(&folder, "7", OTHER, "other");
    let mut reader = reader(&folder);
    reader.all(&mut Vec::new()).unwrap();
    let since = now().unwrap();
    reader.lost(since);
    process(&folder, "8", OTHER + 1, "new");
    let tables = reader.look().unwrap();
    assert_eq!(contents(&tables), [(OWN, TABLE), (OTHER + 1, "new")]);
    for (table, record) in tables.iter().zip(1..) {
        assert_eq!(reader.mounts_attempted(table), 2, "record {record}");
    }
}

#[test]
fn the_other_tables_are_read_as_soon_as_a_call_begins_and_ever_more_rarely_after() {
    let mut others = reader(&folder()).others;
    others.hurry(at(1000));
    assert_eq!(others.next, at(1000));
    others.hurry(at(2000));
    assert_eq!(others.next, at(1000));
    let mut ts = at(1000);
    for pause in [20, 40, 80, 160, 320, 640, 1280, 2560] {
        others.schedule(ts, ts);
        let next = ts.after(Duration::from_millis(pause));
        assert_eq!(others.next, next);
        ts = next;
    }
    others.schedule(ts, ts);
    assert_eq!(others.next, Monotonic::MAX);
    // A call begins the same again.
    others.hurry(ts);
    others.schedule(ts, ts);
    assert_eq!(others.next, ts.after(SOON));
}

#[test]
fn to_read_the_other_tables_takes_a_tenth_of_the_time() {
    let mut others = reader(&folder()).others;
    others.next = at(0);
    others.schedule(at(0), at(30));
    assert_eq!(others.next, at(30 + 300));
    others.schedule(at(330), at(331));
    assert_eq!(others.next, at(331 + 600));
    // It would be too late to tell of the call that has begun.
    others.schedule(at(1000), at(1300));
    assert_eq!(others.next, Monotonic::MAX);
}

#[test]
fn tells_other_tables_that_are_new_changed_or_gone() {
    let folder = folder();
    let mut others = reader(&folder).others;
    let found = |tables: &[(u64, &str)], ts| {
        let tables = tables.iter();
        tables
            .map(|(ns, table)| (*ns, other(table, at(ts))))
            .collect()
    };
    let new = others.changes(found(&[(1, "a"), (2, "b")], 5000), at(5000));
    assert_eq!(contents(&new), [(1, "a"), (2, "b")]);
    assert_eq!(new[0].previous, at(2000));
    assert!(
        others
            .changes(found(&[(1, "a"), (2, "b")], 6000), at(6000))
            .is_empty()
    );
    let changed = others.changes(found(&[(1, "a"), (2, "c")], 7000), at(7000));
    assert_eq!(contents(&changed), [(2, "c")]);
    assert_eq!(
        (changed[0].previous, changed[0].checked),
        (at(5000), at(5000))
    );
    let gone = others.changes(found(&[(2, "c"), (3, "d")], 8000), at(8000));
    assert_eq!(contents(&gone), [(1, ""), (3, "d")]);
    assert!(
        others
            .changes(found(&[(2, "c"), (3, "d")], 9000), at(9000))
            .is_empty()
    );
}

#[test]
fn a_change_began_with_the_first_call_since_the_table_was_read() {
    let mut reader = reader(&folder());
    for ts in [400, 500, 600, 700, 800, 801] {
        reader.note(MOUNT, at(ts));
    }
    // That of another hook is no attempt.
    reader.note(12, at(550));
    assert_eq!(told(&mut reader, own(500, 500, 800)), (at(600), 3));
}

#[test]
fn a_change_began_after_the_table_was_last_known_to_hold() {
    let mut reader = reader(&folder());
    reader.note(MOUNT, at(600));
    // The call had begun by then, and the mount was not there yet.
    assert_eq!(told(&mut reader, own(500, 650, 800)), (at(650), 1));
    // Nobody has told of a call: the hook may be missing.
    assert_eq!(told(&mut reader, own(800, 950, 990)), (at(950), 0));
}

#[test]
fn to_make_a_namespace_changes_no_table_that_is_there() {
    let mut reader = reader(&folder());
    reader.note(NAMESPACE, at(600));
    reader.note(MOUNT, at(700));
    assert_eq!(told(&mut reader, own(500, 500, 800)), (at(600), 1));
}

#[test]
fn after_a_gap_a_change_may_have_begun_with_the_gap() {
    let mut reader = reader(&folder());
    reader.own.read = at(500);
    reader.own.checked = at(900);
    reader.lost(at(700));
    let table = reader.own.table(TABLE.into(), reading(at(1000)));
    assert_eq!(told(&mut reader, table), (at(700), 2));
    assert_eq!(reader.own.checked, at(1000));
}

#[test]
fn records_stand_in_the_order_of_their_changes() {
    let mut reader = reader(&folder());
    let records = reader.records(vec![own(500, 900, 1000), own(400, 700, 1000)]);
    let times: Vec<_> = records.iter().map(|(since, _)| *since).collect();
    assert_eq!(times, [at(700), at(900)]);
}

#[test]
fn forgets_calls_that_no_later_table_can_come_of() {
    let mut reader = reader(&folder());
    let late = LATE.as_millis() as u64;
    for ts in [1000, 1001, 2000] {
        reader.note(MOUNT, at(ts));
    }
    reader.own.checked = at(1000 + late);
    reader.records(Vec::new());
    let left: Vec<_> = reader.attempts.iter().map(|attempt| attempt.ts).collect();
    assert_eq!(left, [at(1001), at(2000)]);
}

/// Of a kernel whose hooks tell each change.
fn following(folder: &Folder) -> MountReader {
    let with_role = |id, service, role| record::Hook {
        role,
        ..hook(id, service)
    };
    let hooks = [
        hook(MOUNT, Service::Mount),
        hook(NAMESPACE, Service::Namespace),
        with_role(ATTACH, Service::Attach, Role::Entry),
        with_role(ATTACH + 1, Service::Attach, Role::Old),
        hook(DETACH, Service::Detach),
        with_role(23, Service::Namespace, Role::Return),
    ];
    MountReader::open(Proc::at(folder.path("")), &hooks).unwrap()
}

/// A table of another namespace, read in the 100 ms before an instant.
fn read_by(ts: u64, mountinfo: &str) -> Table {
    Table {
        reading: Reading {
            began: at(ts - 100),
            ..reading(at(ts))
        },
        previous: at(0),
        checked: at(0),
        ns: OTHER,
        mountinfo: mountinfo.into(),
    }
}

#[test]
fn a_table_confirms_changes_that_are_told() {
    let mut reader = following(&folder());
    reader.note(MOUNT, at(300));
    reader.note(ATTACH, at(400));
    assert_eq!(told(&mut reader, read_by(600, TABLE)).0, at(600));
    // The kernel tells when a namespace is gone.
    assert!(reader.records(vec![read_by(700, "")]).is_empty());
}

#[test]
fn a_table_that_changed_while_it_was_read_is_read_again() {
    let folder = folder();
    process(&folder, "7", OTHER, "other");
    for change in [ATTACH, ATTACH + 1, DETACH] {
        let mut reader = following(&folder);
        reader.all(&mut Vec::new()).unwrap();
        let tables = reader.look().unwrap();
        assert_eq!(reader.records(tables).len(), 2);
        reader.own.checked = at(0);
        reader.note(change, at(550));
        for (ts, told) in [(549, 1), (550, 0), (649, 0), (650, 1), (600, 0)] {
            let records = reader.records(vec![read_by(ts, TABLE)]);
            assert_eq!(records.len(), told, "{ts}");
        }
        let tables = reader.look().unwrap();
        assert_eq!(contents(&tables), [(OTHER, "other")]);
    }
}

#[test]
fn after_a_gap_all_tables_are_told_and_may_have_changed_within_it() {
    let folder = folder();
    process(&folder, "7", OTHER, "other");
    let mut reader = following(&folder);
    reader.all(&mut Vec::new()).unwrap();
    let since = now().unwrap();
    reader.lost(since);
    let tables = reader.look().unwrap();
    assert_eq!(contents(&tables), [(OWN, TABLE), (OTHER, "other")]);
    for (told, _) in reader.records(tables) {
        assert_eq!(told, since);
    }
    // A gap that is found only after the reading counts as well.
    reader.lost(at(300));
    let (told, _) = told(&mut reader, read_by(600, TABLE));
    assert!(told < at(600));
}

#[test]
fn tables_that_changes_may_have_been_told_after_are_told_once_more() {
    let folder = folder();
    process(&folder, "7", OTHER, "other");
    let mut reader = following(&folder);
    reader.all(&mut Vec::new()).unwrap();
    for gap in [false, true] {
        if gap {
            reader.lost(now().unwrap());
            let tables = reader.look().unwrap();
            reader.records(tables);
        }
        let tables = reader.look().unwrap();
        assert_eq!(contents(&tables), [(OWN, TABLE), (OTHER, "other")]);
        let ts: Vec<_> = tables.iter().map(Table::ts).collect();
        let mut records = reader.records(tables).into_iter();
        assert!(records.all(|(since, _)| ts.contains(&since)));
        reader.others.next = Monotonic::MAX;
        assert!(reader.look().unwrap().is_empty());
    }
}

#[test]
fn after_a_gap_the_namespaces_are_told_that_are_gone() {
    let folder = folder();
    process(&folder, "7", OTHER, "other");
    let mut reader = following(&folder);
    reader.all(&mut Vec::new()).unwrap();
    let tables = reader.look().unwrap();
    reader.records(tables);
    folder.remove("7");
    reader.others.next = at(0);
    let tables = reader.look().unwrap();
    assert_eq!(contents(&tables), [(OTHER, "")]);
    assert!(reader.records(tables).is_empty());
    reader.lost(now().unwrap());
    assert_eq!(
        contents(&reader.look().unwrap()),
        [(OWN, TABLE), (OTHER, "")]
    );
}

#[test]
fn a_process_with_another_root_does_not_see_all_mounts() {
    let folder = folder();
    process(&folder, "7", OTHER, "below its root");
    folder.link("7/root", "/srv");
    process(&folder, "8", OTHER, "whole");
    folder.link("8/root", "/");
    process(&folder, "9", OTHER, "below another root");
    folder.link("9/root", "/srv/other");
    let mut reader = reader(&folder);
    let tables = reader.read_others().unwrap();
    assert_eq!(contents(&tables), [(OTHER, "whole")]);
}
