//! Whether what st-format writes for published schemas is valid by them: each kind of event, with
//! all that is known of it and with next to nothing, and the recordings.

mod schema;

use schema::{ecs, ocsf};
use serde_json::{Value, json};
use st_decode::decode::Decoder;
use st_format::ecs::Ecs;
use st_format::ocsf::Ocsf;
use st_format::rows::{Format, Rows};
use st_pathtree::pathtree::PathTree;
use st_probe::record::Header;
use st_probe::stage::{self, Stage};
use st_probe::vocabulary::{Class, Event};
use st_probe::wire::{self, Reader};

const RECORDINGS: [(&str, &[u8]); 4] = [
    ("6.12", include_bytes!("recordings/6.12.raw")),
    ("7.3", include_bytes!("recordings/7.3.raw")),
    ("overlay", include_bytes!("recordings/overlay.raw")),
    (
        "no-processes",
        include_bytes!("recordings/no-processes.raw"),
    ),
];

fn run(mut stage: impl Stage, stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    stage::run(&mut stage, stream, &mut out, &mut |said| panic!("{said}")).expect("memory");
    out
}

/// The objects that a format writes for a stream.
fn objects(format: impl Format, paths: &[u8]) -> Vec<Value> {
    let output = run(Rows::new(format, false), paths);
    let text = String::from_utf8(output).expect("UTF-8");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// A record of a kind.
fn record(kind: &str, fields: &Value, stream: &mut Vec<u8>) {
    let (mut start, mut more) = (Vec::new(), Vec::new());
    wire::write(&json!({ "t": kind }), &mut start);
    wire::write(fields, &mut more);
    wire::append(&start, &more, stream);
}

/// A stream after st-pathtree, with these records.
fn stream(records: &[(&str, Value)]) -> Vec<u8> {
    let mut reader = Reader::default();
    let mut recording = RECORDINGS[0].1;
    reader.fill(&mut recording).expect("memory");
    let first = reader.take().expect("a record").expect("a header");
    let mut header: Header = first.read().expect("a header");
    header
        .stages
        .extend(["st-decode", "st-pathtree"].map(String::from));
    let mut stream = Vec::new();
    wire::write(&header, &mut stream);
    for (kind, fields) in records {
        record(kind, fields, &mut stream);
    }
    let end = json!({"ts": 1, "records": 0, "lost": 0, "why": "signal"});
    record("end", &end, &mut stream);
    stream
}

/// An event of this kind, with all fields that it may have.
fn full(event: Event) -> Value {
    let mut fields = json!({
        "event": event.name(), "ts": 1_795_362_564_123_456_789_u64, "seq": 7, "cpu": 1,
        "process": {
            "pid": 40, "tid": 41, "ppid": 30, "uid": 1000, "gid": 1000, "euid": 0, "egid": 0,
            "loginuid": 1000, "session": 3, "comm": "make", "argv": ["make", "-j2"],
            "argv_cut": true, "start": 1_795_362_564_000_000_000_u64, "cgroup": "/x",
            "container": "3fa8", "exe": "/usr/bin/make", "exe_status": "partial", "exe_mnt_ns": 9,
        },
        "ancestors": [{"pid": 30, "comm": "sh"}, {"pid": 1}],
    });
    let more = match event.class() {
        Class::File => json!({
            "path": "/srv/a.tar.gz", "path_status": "deleted", "old_path": "/srv/b",
            "old_path_status": "complete", "mnt_ns": 5, "dev": "8:1", "ino": 12, "mode": 0o20640,
            "rdev": "1:3", "target": "../x", "attrib": {"mode": 0o100_640, "uid": 1, "gid": 2},
            "exchange": true, "whiteout": true, "layer_of": 3,
        }),
        Class::Socket => json!({
            "fd": 3, "proto": "tcp", "family": "inet6", "addr": "2001:db8::1", "port": 443,
            "backlog": 128, "ret": -115, "fastopen": true,
        }),
        Class::Process | Class::Other => json!({
            "path": "/usr/bin/make", "path_status": "complete", "status": 2, "signal": 9,
        }),
    };
    let more = more.as_object().expect("an object").clone();
    fields.as_object_mut().expect("an object").extend(more);
    fields
}

/// The same with nothing but what every event has.
fn bare(event: Event) -> Value {
    let mut fields = json!({
        "event": event.name(), "ts": 1, "seq": 0, "cpu": 0, "process": {"tid": 41},
    });
    if event.class() == Class::File {
        fields["path"] = json!("/");
        fields["path_status"] = json!("complete");
    }
    fields
}

/// Every kind of row.
fn every_kind() -> Vec<(&'static str, Value)> {
    let mut records = Vec::new();
    for &event in Event::ALL {
        records.push(("event", full(event)));
        records.push(("event", bare(event)));
    }
    let mut later = full(Event::Create);
    later["event"] = json!("of-later");
    records.push(("event", later));
    for file_type in [0o01, 0o06, 0o14, 0] {
        let mut node = full(Event::Mknod);
        node["mode"] = json!(file_type << 12 | 0o644);
        records.push(("event", node));
    }
    for (addr, proto, ret) in [
        ("127.0.0.1", "udp", 0),
        ("192.0.2.1", "253", -111),
        ("no address", "tcp", -113),
        ("::ffff:192.0.2.1", "mptcp", -4095),
        ("fe80::1", "raw", 5),
    ] {
        let mut connect = full(Event::Connect);
        connect["addr"] = json!(addr);
        connect["proto"] = json!(proto);
        connect["ret"] = json!(ret);
        records.push(("event", connect));
    }
    records.push((
        "lost",
        json!({
            "since": 1, "ts": 2, "until": 3, "cpu": 1, "count": 12, "event": "connect",
            "cause": "missed return",
        }),
    ));
    records.push(("lost", json!({"since": 1, "ts": 2, "cause": "of later"})));
    records
}

/// The recordings as st-pathtree writes them.
fn recordings() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    RECORDINGS.into_iter().map(|(name, recording)| {
        let events = run(Decoder::new(vec![Event::Exec, Event::Exit]), recording);
        (name, run(PathTree::new(Vec::new(), None), &events))
    })
}

fn check(what: &str, object: &Value, problems: Vec<String>) {
    assert!(
        problems.is_empty(),
        "{what}: {object:#}\n{}",
        problems.join("\n")
    );
}

#[test]
fn every_kind_of_event_is_valid() {
    let (ecs, ocsf) = (ecs::Schema::read(), ocsf::Schema::read());
    let records = every_kind();
    let paths = stream(&records);
    let objects = (
        objects(Ecs::default(), &paths),
        objects(Ocsf::default(), &paths),
    );
    assert_eq!(
        (objects.0.len(), objects.1.len()),
        (records.len(), records.len())
    );
    for object in &objects.0 {
        check("ECS", object, ecs.problems(object));
    }
    for object in &objects.1 {
        check("OCSF", object, ocsf.problems(object));
    }
}

#[test]
fn recordings_are_valid() {
    let (ecs, ocsf) = (ecs::Schema::read(), ocsf::Schema::read());
    for (name, paths) in recordings() {
        let objects_ecs = objects(Ecs::default(), &paths);
        assert!(objects_ecs.len() > 10, "{name}");
        for object in &objects_ecs {
            check(name, object, ecs.problems(object));
        }
        for object in &objects(Ocsf::default(), &paths) {
            check(name, object, ocsf.problems(object));
        }
    }
}

/// A validator that finds nothing wrong is of no use.
#[test]
fn what_is_not_valid_is_found() {
    let paths = stream(&[("event", full(Event::Connect))]);
    let good = objects(Ecs::default(), &paths).remove(0);
    for (pointer, bad) in [
        ("/@timestamp", json!(5)),
        ("/event/kind", json!("happening")),
        ("/event/category", json!("network")),
        ("/event/type", json!(["deletion"])),
        ("/process/pid", json!("40")),
        ("/process/args", json!([1])),
        ("/destination/ip", json!("here")),
        ("/network", json!({"tube": "tcp"})),
        ("/labels/fd", json!({"a": "b"})),
    ] {
        let mut object = good.clone();
        *object.pointer_mut(pointer).expect(pointer) = bad;
        assert_ne!(ecs::Schema::read().problems(&object), [""; 0], "{pointer}");
    }
    let good = objects(Ocsf::default(), &paths).remove(0);
    for (pointer, bad) in [
        ("/class_uid", json!(4002)),
        ("/category_uid", json!(1)),
        ("/type_uid", json!(400_102)),
        ("/activity_name", json!("Close")),
        ("/severity_id", json!(7)),
        ("/time", json!("now")),
        ("/metadata", json!({"version": "1.8.0"})),
        ("/metadata/profiles", json!([])),
        ("/metadata/version", json!("1.7.0")),
        ("/actor", json!({})),
        ("/actor/process", json!({"name": "a"})),
        ("/dst_endpoint", json!({"port": 443})),
        ("/dst_endpoint/ip", json!("here")),
        ("/dst_endpoint/port", json!(65_536)),
        (
            "/connection_info",
            json!({"protocol_ver_id": 5, "direction_id": 2}),
        ),
        ("/device", json!({"hostname": "a"})),
        ("/unmapped", json!(1)),
        ("/src_endpoint", json!({"hostname": "a", "color": "red"})),
    ] {
        let mut object = good.clone();
        *object.pointer_mut(pointer).expect(pointer) = bad;
        assert_ne!(ocsf::Schema::read().problems(&object), [""; 0], "{pointer}");
    }
}
