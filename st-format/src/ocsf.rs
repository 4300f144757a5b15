//! Open Cybersecurity Schema Framework, one object a line: what is in which field is told in
//! `st-format/SCHEMAS.md`.

use crate::fields::Fields;
use crate::rows::{Format, Row, Told};
use crate::schema::{self, Host};
use crate::time::Instants;
use st_pathtree::event::{Actor, EventRecord, Status};
use st_pathtree::record::Header;
use st_pathtree::time::Unix;
use st_pathtree::vocabulary::{Class, Event};

/// The version of the schema.
pub const VERSION: &str = "1.8.0";

/// The columns that have no attribute of their own. They are in `unmapped`. Only of a rename, the
/// first is in `file`.
const UNMAPPED: &[&str] = &[
    "old_path",
    "event",
    "seq",
    "cpu",
    "gid",
    "egid",
    "loginuid",
    "exe_status",
    "exe_mnt_ns",
    "argv_cut",
    "cgroup",
    "path_status",
    "old_path_status",
    "mnt_ns",
    "mode",
    "rdev",
    "target",
    "attrib_mode",
    "attrib_gid",
    "exchange",
    "whiteout",
    "layer_of",
    "fd",
    "backlog",
    "ret",
    "fastopen",
    "signal",
    "cause",
    "count",
    "lost_event",
    "since",
    "until",
];

/// Writes rows of OCSF.
#[derive(Debug, Default)]
pub struct Ocsf {
    host: Host,
    instants: Instants,
}

/// The class of a row, and what happened in its terms.
struct Activity {
    category: u32,
    class: u32,
    id: u32,
    name: &'static str,
}

impl Format for Ocsf {
    fn begin(&mut self, header: &Header, _: &mut Vec<u8>) {
        self.host = Host::of(header);
    }

    fn row(&mut self, row: &Row, out: &mut Vec<u8>) {
        let Self { host, instants } = self;
        let activity = activity(row);
        Fields::line(out, |fields| {
            fields.number("class_uid", activity.class);
            fields.number("category_uid", activity.category);
            fields.number("activity_id", activity.id);
            if activity.id == OTHER {
                fields.text("activity_name", row.name());
            } else {
                fields.text("activity_name", activity.name);
            }
            fields.number("type_uid", activity.class * 100 + activity.id);
            fields.number("severity_id", 1);
            fields.number("time", millis(row.ts));
            fields.object("metadata", |fields| {
                metadata(row, activity.class, instants, fields)
            });
            fields.object("device", |fields| {
                fields.text("hostname", &host.name);
                fields.number("type_id", 0);
            });
            match &row.told {
                Told::Event(event) => told(row, event, host, fields),
                Told::Lost { .. } => fields.text("message", schema::gap(row)),
            }
            fields.object("unmapped", |fields| {
                let is_rename = row
                    .event()
                    .is_some_and(|event| event.event == Event::Rename);
                let columns = &UNMAPPED[usize::from(is_rename)..];
                schema::rest(row, columns, false, instants, fields);
            });
        });
    }
}

/// What is of no activity that the schema names.
const OTHER: u32 = 99;

fn activity(row: &Row) -> Activity {
    let event = row.event();
    let (category, class) = match event.map(|event| event.event.class()) {
        Some(Class::File) => (1, 1001),
        Some(Class::Process) => (1, 1007),
        Some(Class::Socket) => (4, 4001),
        Some(Class::Other) | None => (0, 0),
    };
    let (id, name) = event.map_or((OTHER, ""), |event| match event.event {
        Event::Create | Event::Mkdir | Event::Mknod | Event::Symlink | Event::Link => (1, "Create"),
        Event::Delete | Event::Rmdir => (4, "Delete"),
        Event::Rename => (5, "Rename"),
        // Of all attributes, those that say who may do what.
        Event::Attrib => (7, "Set Security"),
        Event::Connect => match schema::error(event).as_deref() {
            None | Some(schema::IN_PROGRESS) => (1, "Open"),
            Some("ECONNREFUSED") => (5, "Refuse"),
            Some(_) => (4, "Fail"),
        },
        Event::Listen => (7, "Listen"),
        Event::Exec => (1, "Launch"),
        Event::Exit => (2, "Terminate"),
        Event::Unlisten | Event::Other => (OTHER, ""),
    });
    Activity {
        category,
        class,
        id,
        name,
    }
}

/// Milliseconds since the Unix epoch: `timestamp_t`.
fn millis(ts: Unix) -> u64 {
    ts.0 / 1_000_000
}

fn metadata(row: &Row, class: u32, instants: &mut Instants, fields: &mut Fields) {
    fields.text("version", VERSION);
    fields.object("product", |fields| fields.text("name", "SysTracer"));
    let mut profiles = Vec::new();
    // The classes of the system category have these attributes without it.
    if class != 1001 && class != 1007 {
        profiles.push("host");
    }
    if row
        .event()
        .is_some_and(|event| event.process.container.is_some())
    {
        profiles.push("container");
    }
    if !profiles.is_empty() {
        fields.texts("profiles", profiles);
    }
    fields.instant("original_time", Some(row.ts), instants);
}

/// The attributes of an event beside those of each row.
fn told(row: &Row, event: &EventRecord, host: &Host, fields: &mut Fields) {
    status(event, fields);
    let actor = &event.process;
    fields.object("actor", |fields| {
        fields.object("process", |fields| process(row, event, fields));
        fields.object("user", |fields| fields.id("uid", actor.uid));
    });
    match event.event.class() {
        Class::File => files(event, fields),
        Class::Socket => connection(event, host, fields),
        // It acts upon itself.
        Class::Process => {
            fields.object("process", |fields| process(row, event, fields));
            if event.event == Event::Exec {
                fields.number("launch_type_id", 3);
            }
            fields.some_number("exit_code", event.status);
        }
        Class::Other => {}
    }
}

fn status(event: &EventRecord, fields: &mut Fields) {
    let (id, name) = match (event.event, schema::error(event)) {
        (Event::Other, _) => return,
        (Event::Connect, None) if event.ret.is_none() => (0, None),
        (_, None) => (1, None),
        (_, Some(name)) if name == schema::IN_PROGRESS => (0, Some(name)),
        (_, Some(name)) => (2, Some(name)),
    };
    fields.number("status_id", id);
    fields.some_text("status_code", name);
}

fn process(row: &Row, event: &EventRecord, fields: &mut Fields) {
    let actor = &event.process;
    fields.some_number("pid", actor.pid);
    if actor.pid.is_none() {
        // The schema wants an id of the process: that of a thread tells which one it is.
        fields.text("uid", format!("tid:{}", actor.tid));
    }
    fields.number("tid", actor.tid);
    fields.some_text("name", actor.comm.as_deref());
    if let Some(path) = schema::program(event) {
        fields.object("file", |fields| file(path, Some(0o10), fields));
    }
    fields.some_text("cmd_line", schema::command_line(actor));
    fields.some_number("created_time", actor.start.map(millis));
    fields.object("user", |fields| {
        fields.id("uid", actor.euid.or(actor.uid));
    });
    fields.object("session", |fields| fields.id("uid", actor.session));
    fields.object("container", |fields| {
        fields.some_text("uid", actor.container.as_deref());
    });
    parents(row, actor, fields);
}

fn parents(row: &Row, actor: &Actor, fields: &mut Fields) {
    let ancestors = row.ancestors().unwrap_or_default();
    if let Some(ppid) = actor.ppid.filter(|ppid| *ppid > 0) {
        fields.object("parent_process", |fields| {
            fields.number("pid", ppid);
            fields.some_text("name", schema::parent_name(actor, &ancestors));
        });
    }
    if !ancestors.is_empty() {
        fields.objects("ancestry", ancestors, |fields, ancestor| {
            fields.number("pid", ancestor.pid);
            fields.some_text("name", ancestor.comm.as_deref());
        });
    }
}

/// The attributes of a path: `kind` is the type of the file, as in st_mode.
fn file(path: &[u8], kind: Option<u32>, fields: &mut Fields) {
    let (folder, name) = schema::split(path);
    fields.text("name", name);
    fields.text("path", path);
    fields.some_text("parent_folder", folder);
    if kind != Some(0o04) {
        fields.some_text("ext", schema::extension(name));
    }
    let id = match kind {
        Some(0o10) => 1,
        Some(0o04) => 2,
        Some(0o02) => 3,
        Some(0o06) => 4,
        Some(0o14) => 5,
        Some(0o01) => 6,
        Some(0o12) => 7,
        _ => 0,
    };
    fields.number("type_id", id);
}

/// The attributes of an event on files.
fn files(event: &EventRecord, fields: &mut Fields) {
    let path = event.path.as_deref().unwrap_or_default();
    let new = |fields: &mut Fields| {
        file(path, schema::file_type(event), fields);
        what(event, event.path_status, fields);
        if let Some(uid) = event.attrib.and_then(|attrib| attrib.uid) {
            fields.object("owner", |fields| fields.id("uid", Some(uid)));
        }
    };
    match &event.old_path {
        Some(old) if event.event == Event::Rename => {
            fields.object("file", |fields| {
                file(old, None, fields);
                what(event, event.old_path_status, fields);
            });
            fields.object("file_result", new);
        }
        _ => fields.object("file", new),
    }
}

/// What is known of the file itself.
fn what(event: &EventRecord, status: Option<Status>, fields: &mut Fields) {
    fields.id("uid", event.ino);
    fields.some_text("volume", event.dev);
    if status == Some(Status::Deleted) {
        fields.set("is_deleted");
    }
}

/// The attributes of an event on a socket. Of a connection, this machine is the source; of a
/// listening socket, it is what connections to it have as their destination.
fn connection(event: &EventRecord, host: &Host, fields: &mut Fields) {
    let ip = schema::ip(event);
    let is_connect = event.event == Event::Connect;
    fields.object("connection_info", |fields| {
        let (inbound, outbound, local) = (1, 2, 4);
        let direction = match is_connect {
            _ if ip.is_some_and(|ip| ip.is_loopback()) => local,
            true => outbound,
            false => inbound,
        };
        fields.number("direction_id", direction);
        match event.proto.map(|proto| (proto, proto.parse::<i32>())) {
            Some((_, Ok(number))) => fields.number("protocol_num", number),
            Some((name, Err(_))) => fields.text("protocol_name", name),
            None => {}
        }
        match event.family {
            Some("inet") => fields.number("protocol_ver_id", 4),
            Some("inet6") => fields.number("protocol_ver_id", 6),
            _ => {}
        }
    });
    let here = |fields: &mut Fields| fields.text("hostname", &host.name);
    if is_connect {
        fields.object("src_endpoint", here);
    }
    if event.addr.is_some() || !is_connect {
        fields.object("dst_endpoint", |fields| {
            match ip {
                Some(ip) => fields.text("ip", ip.to_string()),
                None => fields.some_text("name", event.addr),
            }
            fields.some_number("port", event.port);
            if !is_connect {
                here(fields);
            }
        });
    }
}
