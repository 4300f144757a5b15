//! What an event or a gap has to show, as columns with a name each: those of CSV, and the fields of
//! templates.
//!
//! A column has the name of JSON's field. The fields of `process` stand beside the others, those
//! of `attrib` have that word before them. `event` is `lost` where records are missing; what is
//! told of that, only such a row has. Values are those of JSON, but for these:
//!
//! | column | value |
//! |---|---|
//! | `argv` | `[make -j2]`, each word as in text; `...` at the end if there were more |
//! | `ancestors` | `[sh[117] make[116]]`, the nearest first |
//! | `until`, `since` | of a gap, as `time` |
//! | `lost_event` | of a gap: the event that all missing records are of; JSON names it `event` |

use crate::rows::{Row, Told};
use crate::{escape, line};
use st_pathtree::event::{Actor, Attrib, EventRecord, Status};
use st_pathtree::record::Lost;
use st_pathtree::time::Unix;
use std::borrow::Cow;

/// A column.
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What a row has there; None: nothing, or it is not known.
    pub cell: for<'a> fn(&'a Row<'a>) -> Option<Cell<'a>>,
}

/// What is in a column.
#[derive(Debug)]
pub enum Cell<'a> {
    /// A number.
    Number(i128),
    /// A flag that is set.
    Set,
    /// An instant.
    Instant(Unix),
    /// A name from outside, which may be any bytes.
    Name(Cow<'a, [u8]>),
    /// Words from outside that are escaped already, with spaces between them.
    Words(Vec<u8>),
    /// A path, and how far it is known.
    Path(&'a [u8], Option<Status>),
}

/// The column of a name.
pub fn named(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.name == name)
}

macro_rules! columns {
    ($($name:literal: $cell:expr,)+) => {
        /// All columns, in the order of CSV.
        pub static COLUMNS: &[Column] = &[$(Column { name: $name, cell: $cell }),+];
    };
}

columns! {
    "time": |row| Some(Cell::Instant(row.ts)),
    "ts": |row| number(Some(row.ts.0)),
    "seq": |row| number(Some(row.event()?.seq)),
    "cpu": |row| match &row.told {
        Told::Event(event) => number(Some(event.cpu)),
        Told::Lost { lost, .. } => number(lost.cpu),
    },
    "event": |row| Some(Cell::Name(row.name().into())),
    "pid": |row| number(actor(row)?.pid),
    "tid": |row| number(Some(actor(row)?.tid)),
    "ppid": |row| number(actor(row)?.ppid),
    "uid": |row| number(actor(row)?.uid),
    "gid": |row| number(actor(row)?.gid),
    "euid": |row| number(actor(row)?.euid),
    "egid": |row| number(actor(row)?.egid),
    "loginuid": |row| number(actor(row)?.loginuid),
    "session": |row| number(actor(row)?.session),
    "comm": |row| name(actor(row)?.comm.as_deref()),
    "exe": |row| path(actor(row)?.exe.as_deref(), actor(row)?.exe_status),
    "exe_status": |row| status(actor(row)?.exe_status),
    "exe_mnt_ns": |row| number(actor(row)?.exe_mnt_ns),
    "argv": |row| arguments(actor(row)?),
    "argv_cut": |row| flag(actor(row)?.argv_cut),
    "start": |row| number(actor(row)?.start.map(|start| start.0)),
    "cgroup": |row| name(actor(row)?.cgroup.as_deref()),
    "container": |row| name(actor(row)?.container.as_deref()),
    "ancestors": ancestors,
    "path": |row| path(row.event()?.path.as_deref(), row.event()?.path_status),
    "path_status": |row| status(row.event()?.path_status),
    "old_path": |row| path(row.event()?.old_path.as_deref(), row.event()?.old_path_status),
    "old_path_status": |row| status(row.event()?.old_path_status),
    "mnt_ns": |row| number(row.event()?.mnt_ns),
    "dev": |row| text(row.event()?.dev),
    "ino": |row| number(row.event()?.ino),
    "mode": |row| number(row.event()?.mode),
    "rdev": |row| text(row.event()?.rdev),
    "target": |row| name(row.event()?.target.as_deref()),
    "attrib_mode": |row| number(attrib(row)?.mode),
    "attrib_uid": |row| number(attrib(row)?.uid),
    "attrib_gid": |row| number(attrib(row)?.gid),
    "exchange": |row| flag(row.event()?.exchange),
    "whiteout": |row| flag(row.event()?.whiteout),
    "layer_of": |row| number(row.event()?.layer_of),
    "fd": |row| number(row.event()?.fd),
    "proto": |row| text(row.event()?.proto),
    "family": |row| text(row.event()?.family),
    "addr": |row| text(row.event()?.addr),
    "port": |row| number(row.event()?.port),
    "backlog": |row| number(row.event()?.backlog),
    "ret": |row| number(row.event()?.ret),
    "fastopen": |row| flag(row.event()?.fastopen),
    "status": |row| number(row.event()?.status),
    "signal": |row| number(row.event()?.signal),
    "cause": |row| name(row.cause()),
    "count": |row| number(lost(row)?.count),
    "lost_event": |row| name(row.lost_event()),
    "since": |row| match row.told {
        Told::Lost { since, .. } => Some(Cell::Instant(since)),
        Told::Event(_) => None,
    },
    "until": |row| match row.told {
        Told::Lost { until, .. } => until.map(Cell::Instant),
        Told::Event(_) => None,
    },
}

fn actor<'a>(row: &'a Row<'a>) -> Option<&'a Actor<'a>> {
    row.event().map(|event| &event.process)
}

fn attrib(row: &Row) -> Option<Attrib> {
    row.event().and_then(|event: &EventRecord| event.attrib)
}

fn lost<'a>(row: &'a Row<'a>) -> Option<&'a Lost> {
    match &row.told {
        Told::Lost { lost, .. } => Some(lost),
        Told::Event(_) => None,
    }
}

fn number(number: Option<impl Into<i128>>) -> Option<Cell<'static>> {
    number.map(|number| Cell::Number(number.into()))
}

fn flag(is_set: bool) -> Option<Cell<'static>> {
    is_set.then_some(Cell::Set)
}

fn name(name: Option<&[u8]>) -> Option<Cell<'_>> {
    name.map(|name| Cell::Name(name.into()))
}

fn text(text: Option<&str>) -> Option<Cell<'_>> {
    name(text.map(str::as_bytes))
}

fn path(path: Option<&[u8]>, status: Option<Status>) -> Option<Cell<'_>> {
    path.map(|path| Cell::Path(path, status))
}

fn status(status: Option<Status>) -> Option<Cell<'static>> {
    status.map(|status| Cell::Name(status.name().as_bytes().into()))
}

fn arguments(actor: &Actor) -> Option<Cell<'static>> {
    let mut out = b"[".to_vec();
    for (place, word) in actor.argv.as_ref()?.iter().enumerate() {
        if place > 0 {
            out.push(b' ');
        }
        escape::word(word, &mut out);
    }
    out.extend_from_slice(if actor.argv_cut { b"...]" } else { b"]" });
    Some(Cell::Words(out))
}

fn ancestors<'a>(row: &'a Row<'a>) -> Option<Cell<'a>> {
    let mut out = b"[".to_vec();
    for (place, ancestor) in row.ancestors()?.iter().enumerate() {
        if place > 0 {
            out.push(b' ');
        }
        line::process(ancestor.comm.as_deref(), ancestor.pid, &mut out);
    }
    out.push(b']');
    Some(Cell::Words(out))
}
