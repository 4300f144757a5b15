//! What the outputs for published schemas share.

use crate::column::{self, Cell};
use crate::fields::Fields;
use crate::rows::{Row, Told};
use crate::time::Instants;
use crate::{errno, put};
use st_pathtree::event::{Actor, Ancestor, EventRecord};
use st_pathtree::record::Header;
use st_pathtree::vocabulary::Event;
use std::net::IpAddr;

/// The machine that was traced.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Its host name.
    pub name: String,
    /// `uname -m`.
    pub machine: String,
    /// `uname -r`.
    pub kernel: String,
    /// It differs after each boot.
    pub boot_id: String,
}

impl Host {
    /// The machine of a stream.
    pub fn of(header: &Header) -> Self {
        Self {
            name: header.host.clone(),
            machine: header.machine.clone(),
            kernel: header.kernel.clone(),
            boot_id: header.boot_id.clone(),
        }
    }
}

/// The type of a file in st_mode, inode(7), if the event tells it: of a file that is removed,
/// renamed or linked, it does not.
pub fn file_type(event: &EventRecord) -> Option<u32> {
    match event.event {
        Event::Create => Some(0o10),
        Event::Mkdir | Event::Rmdir => Some(0o04),
        Event::Symlink => Some(0o12),
        Event::Mknod => event.mode.map(|mode| mode >> 12),
        Event::Attrib => event.attrib?.mode.map(|mode| mode >> 12),
        _ => None,
    }
    .filter(|kind| *kind != 0)
}

/// A path up to its last name, and that name. The root has no other name than its path.
pub fn split(path: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) if path.len() == 1 => (None, path),
        Some(0) => (Some(b"/"), &path[1..]),
        Some(place) => (Some(&path[..place]), &path[place + 1..]),
        None => (None, path),
    }
}

/// What stands behind the last dot of a name, unless nothing stands before that.
pub fn extension(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    (dot > 0 && dot + 1 < name.len()).then(|| &name[dot + 1..])
}

/// The arguments with spaces between them.
pub fn command_line(actor: &Actor) -> Option<Vec<u8>> {
    let words: Vec<&[u8]> = actor.argv.as_ref()?.iter().map(|word| &**word).collect();
    Some(words.join(&b' '))
}

/// The path of the program that the event's process executes: of an exec, the new one.
pub fn program<'a>(event: &'a EventRecord) -> Option<&'a [u8]> {
    let executed = event.path.as_deref().filter(|_| event.event == Event::Exec);
    executed.or(event.process.exe.as_deref())
}

/// The address of an event, if it is one.
pub fn ip(event: &EventRecord) -> Option<IpAddr> {
    event.addr?.parse().ok()
}

/// The error that a connect ended with: its name, or its number where it has none. None: it
/// succeeded, or it is not known how it ended.
pub fn error(event: &EventRecord) -> Option<String> {
    let ret = event.ret.filter(|ret| *ret != 0)?;
    let name = if ret < 0 {
        errno::name(ret.unsigned_abs())
    } else {
        None
    };
    Some(name.map_or_else(|| ret.to_string(), str::to_owned))
}

/// The error of a connection that goes on to be opened.
pub const IN_PROGRESS: &str = "EINPROGRESS";

/// The parent's name among the ancestors.
pub fn parent_name<'a>(actor: &Actor, ancestors: &'a [Ancestor]) -> Option<&'a [u8]> {
    let parent = ancestors.first()?;
    let is_parent = actor.ppid == Some(parent.pid);
    parent.comm.as_deref().filter(|_| is_parent)
}

/// A gap in words.
pub fn gap(row: &Row) -> Vec<u8> {
    let mut text = Vec::new();
    if let Told::Lost { lost, .. } = &row.told {
        match lost.count {
            Some(count) => put(&mut text, format_args!("{count} ")),
            None => text.extend_from_slice(b"some "),
        }
        text.extend_from_slice(row.lost_event().unwrap_or(b"records"));
        if let Some(cpu) = lost.cpu {
            put(&mut text, format_args!(" on CPU {cpu}"));
        }
        text.extend_from_slice(b" missing: ");
        text.extend_from_slice(row.cause().unwrap_or_default());
    }
    text
}

/// Appends these columns of a row, where they have something: what the schema has no field for.
/// A name that is not UTF-8 has its bytes beside it, as in JSON. `as_text`: all values are strings.
pub fn rest(
    row: &Row,
    columns: &[&str],
    as_text: bool,
    instants: &mut Instants,
    fields: &mut Fields,
) {
    for name in columns {
        let cell = column::named(name).and_then(|column| (column.cell)(row));
        match cell {
            None => {}
            Some(Cell::Number(number)) if as_text => fields.id(name, Some(number)),
            Some(Cell::Number(number)) => fields.number(name, number),
            Some(Cell::Set) if as_text => fields.text(name, "true"),
            Some(Cell::Set) => fields.set(name),
            Some(Cell::Instant(ts)) => fields.instant(name, Some(ts), instants),
            Some(Cell::Words(words)) => fields.text(name, words),
            Some(Cell::Name(text)) => bytes(name, &text, fields),
            Some(Cell::Path(path, _)) => bytes(name, path, fields),
        }
    }
    for (name, bytes) in row.event().into_iter().flat_map(shown) {
        if !columns.contains(&name) && std::str::from_utf8(bytes).is_err() {
            fields.base64(&format!("{name}_bytes"), bytes);
        }
    }
}

fn bytes(name: &str, bytes: &[u8], fields: &mut Fields) {
    fields.text(name, bytes);
    if std::str::from_utf8(bytes).is_err() {
        fields.base64(&format!("{name}_bytes"), bytes);
    }
}

/// The names that may be in fields of the schema.
fn shown<'a>(event: &'a EventRecord) -> impl Iterator<Item = (&'static str, &'a [u8])> {
    let actor = &event.process;
    let names = [
        ("path", &event.path),
        ("old_path", &event.old_path),
        ("target", &event.target),
        ("comm", &actor.comm),
        ("exe", &actor.exe),
        ("container", &actor.container),
    ];
    let names = names.into_iter();
    names.filter_map(|(name, bytes)| bytes.as_deref().map(|bytes| (name, bytes)))
}
