//! Elastic Common Schema, one object a line: what is in which field is told in
//! `st-format/SCHEMAS.md`.

use crate::fields::Fields;
use crate::rows::{Format, Row, Told};
use crate::schema::{self, Host};
use crate::time::Instants;
use st_pathtree::event::{Actor, Attrib, EventRecord};
use st_pathtree::record::Header;
use st_pathtree::vocabulary::{Class, Event};

/// The version of the schema.
pub const VERSION: &str = "9.4.0";

/// The columns that have no field of their own. They are strings in `labels`.
const LABELS: &[&str] = &[
    "cpu",
    "loginuid",
    "session",
    "exe_status",
    "exe_mnt_ns",
    "argv_cut",
    "cgroup",
    "path_status",
    "old_path",
    "old_path_status",
    "mnt_ns",
    "rdev",
    "exchange",
    "whiteout",
    "layer_of",
    "fd",
    "backlog",
    "fastopen",
    "signal",
    "count",
    "lost_event",
];

/// Writes rows of ECS.
#[derive(Debug, Default)]
pub struct Ecs {
    host: Host,
    instants: Instants,
}

impl Format for Ecs {
    fn begin(&mut self, header: &Header, _: &mut Vec<u8>) {
        self.host = Host::of(header);
    }

    fn row(&mut self, row: &Row, out: &mut Vec<u8>) {
        let Self { host, instants } = self;
        Fields::line(out, |fields| {
            fields.instant("@timestamp", Some(row.ts), instants);
            fields.object("ecs", |fields| fields.text("version", VERSION));
            fields.object("event", |fields| kind(row, instants, fields));
            match &row.told {
                Told::Event(event) => told(row, event, instants, fields),
                Told::Lost { .. } => fields.object("error", |fields| {
                    fields.text("message", schema::gap(row));
                    fields.some_text("type", row.cause());
                }),
            }
            fields.object("host", |fields| machine(host, fields));
            fields.object("labels", |fields| {
                schema::rest(row, LABELS, true, instants, fields);
            });
        });
    }
}

/// The fields of `event`.
fn kind(row: &Row, instants: &mut Instants, fields: &mut Fields) {
    let (kind, category, types): (_, &[&str], &[&str]) = match &row.told {
        Told::Event(event) => ("event", category(event.event), types(event.event)),
        Told::Lost { .. } => ("pipeline_error", &[], &["error"]),
    };
    fields.text("kind", kind);
    if !category.is_empty() {
        fields.texts("category", category);
    }
    if !types.is_empty() {
        fields.texts("type", types);
    }
    fields.text("action", row.name());
    fields.text("provider", "systracer");
    match &row.told {
        Told::Event(event) => {
            fields.some_text("outcome", outcome(event));
            fields.number("sequence", event.seq);
        }
        Told::Lost { since, until, .. } => {
            fields.instant("start", Some(*since), instants);
            fields.instant("end", Some(until.unwrap_or(row.ts)), instants);
        }
    }
}

fn category(event: Event) -> &'static [&'static str] {
    match event.class() {
        Class::File => &["file"],
        Class::Socket => &["network"],
        Class::Process => &["process"],
        Class::Other => &[],
    }
}

fn types(event: Event) -> &'static [&'static str] {
    match event {
        Event::Create | Event::Mkdir | Event::Mknod | Event::Symlink | Event::Link => &["creation"],
        Event::Delete | Event::Rmdir => &["deletion"],
        Event::Rename | Event::Attrib => &["change"],
        Event::Connect => &["connection", "start"],
        Event::Listen | Event::Exec => &["start"],
        Event::Unlisten | Event::Exit => &["end"],
        Event::Other => &[],
    }
}

/// What came of it, where that can be told.
fn outcome(event: &EventRecord) -> Option<&'static str> {
    match (event.event, event.ret) {
        (Event::Exit | Event::Other, _) => None,
        (Event::Connect, None) => Some("unknown"),
        (Event::Connect, _) => match schema::error(event).as_deref() {
            None => Some("success"),
            Some(schema::IN_PROGRESS) => Some("unknown"),
            Some(_) => Some("failure"),
        },
        _ => Some("success"),
    }
}

/// The fields of an event beside `event`.
fn told(row: &Row, event: &EventRecord, instants: &mut Instants, fields: &mut Fields) {
    if event.event.class() != Class::Process {
        fields.object("file", |fields| file(event, fields));
    }
    if event.event == Event::Connect {
        fields.object("error", |fields| {
            fields.some_text("code", schema::error(event));
        });
    }
    if event.event.class() == Class::Socket {
        fields.object("network", |fields| network(event, fields));
        // Also of a listening socket: that is what a connection to it has there.
        fields.object("destination", |fields| {
            fields.some_text("address", event.addr);
            fields.some_text("ip", schema::ip(event).map(|ip| ip.to_string()));
            fields.some_number("port", event.port);
        });
        fields.object("related", |fields| {
            if let Some(ip) = schema::ip(event) {
                fields.texts("ip", [ip.to_string()]);
            }
        });
    }
    fields.object("process", |fields| process(row, event, instants, fields));
    let actor = &event.process;
    fields.object("user", |fields| {
        fields.id("id", actor.uid);
        fields.object("group", |fields| fields.id("id", actor.gid));
        fields.object("effective", |fields| {
            fields.id("id", actor.euid);
            fields.object("group", |fields| fields.id("id", actor.egid));
        });
    });
    fields.object("container", |fields| {
        fields.some_text("id", actor.container.as_deref());
    });
}

fn file(event: &EventRecord, fields: &mut Fields) {
    let Some(path) = event.path.as_deref() else {
        return;
    };
    let (directory, name) = schema::split(path);
    let kind = schema::file_type(event);
    fields.text("path", path);
    fields.some_text("directory", directory);
    fields.text("name", name);
    if kind != Some(0o04) {
        fields.some_text("extension", schema::extension(name));
    }
    fields.some_text("type", kind.and_then(type_name));
    fields.id("inode", event.ino);
    fields.some_text("device", event.dev);
    let Attrib { mode, uid, gid } = event.attrib.unwrap_or_default();
    if let Some(mode) = event.mode.or(mode) {
        fields.text("mode", format!("{:04o}", mode & 0o7777));
    }
    fields.id("uid", uid);
    fields.id("gid", gid);
    fields.some_text("target_path", event.target.as_deref());
}

/// The types of files that ECS names, and those that Elastic's Auditbeat does.
fn type_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0o01 => "fifo",
        0o02 => "char_device",
        0o04 => "dir",
        0o06 => "block_device",
        0o10 => "file",
        0o12 => "symlink",
        0o14 => "socket",
        _ => return None,
    })
}

fn network(event: &EventRecord, fields: &mut Fields) {
    match event.proto {
        Some(number) if number.parse::<u32>().is_ok() => fields.text("iana_number", number),
        name => fields.some_text("transport", name),
    }
    let family = match event.family {
        Some("inet") => Some("ipv4"),
        Some("inet6") => Some("ipv6"),
        _ => None,
    };
    fields.some_text("type", family);
    if event.event == Event::Connect {
        fields.text("direction", "egress");
    }
}

fn process(row: &Row, event: &EventRecord, instants: &mut Instants, fields: &mut Fields) {
    let actor = &event.process;
    fields.some_number("pid", actor.pid);
    fields.some_text("name", actor.comm.as_deref());
    fields.object("thread", |fields| {
        fields.number("id", actor.tid);
        fields.some_text("name", actor.comm.as_deref());
    });
    fields.some_text("executable", schema::program(event));
    if let Some(argv) = &actor.argv {
        fields.texts("args", argv.iter().map(|word| &**word));
        fields.some_number("args_count", (!actor.argv_cut).then_some(argv.len()));
    }
    fields.some_text("command_line", schema::command_line(actor));
    fields.instant("start", actor.start, instants);
    if event.event == Event::Exit {
        fields.instant("end", Some(event.ts), instants);
        fields.some_number("exit_code", event.status);
    }
    users(actor, fields);
    let ancestors = row.ancestors().unwrap_or_default();
    fields.object("parent", |fields| {
        fields.some_number("pid", actor.ppid.filter(|ppid| *ppid > 0));
        fields.some_text("name", schema::parent_name(actor, &ancestors));
    });
}

/// The users and groups of a process: of the schema, `user` is the effective one.
fn users(actor: &Actor, fields: &mut Fields) {
    for (name, id) in [
        ("user", actor.euid.or(actor.uid)),
        ("real_user", actor.uid),
        ("group", actor.egid.or(actor.gid)),
        ("real_group", actor.gid),
    ] {
        fields.object(name, |fields| fields.id("id", id));
    }
}

fn machine(host: &Host, fields: &mut Fields) {
    for (name, value) in [
        ("name", &host.name),
        ("hostname", &host.name),
        ("architecture", &host.machine),
    ] {
        fields.some_text(name, known(value));
    }
    fields.object("boot", |fields| {
        fields.some_text("id", known(&host.boot_id))
    });
    fields.object("os", |fields| {
        fields.text("type", "linux");
        fields.some_text("kernel", known(&host.kernel));
    });
}

fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}
