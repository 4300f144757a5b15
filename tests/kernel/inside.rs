//! The program in the containers of [`crate::container`]: works there, and prints the events
//! that are expected of it, with the paths as it sees them.

use anyhow::{Context, Result};
use nix::fcntl::{AT_FDCWD, RenameFlags};
use nix::unistd::{mkdir, mkfifo, symlinkat, unlink};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::attributes::{MODE, chmod};
use crate::files::{errno, mode, rename};
use crate::fs::Place;
use crate::log::{Expected, Log, Span};
use crate::sys;

/// The option that makes this program the one in the container; directories follow.
pub const OPTION: &str = "--inside";

/// The volume's mount point in the container.
pub const VOLUME: &str = "/volume";
/// A pipe in the volume: it waits for a byte before it works, and for another before it ends.
pub const GATE: &str = "gate";
/// What it says when it has come up ...
pub const READY: &str = "ready";
/// ... and when it has worked.
pub const DONE: &str = "done";

/// Every name that it makes begins so; no other does.
pub const MARK: &str = "inside-";
/// How deep its directories go.
const DEPTH: usize = 12;

/// Works in each of `dirs` when it is let.
pub fn run(dirs: &[std::ffi::OsString]) -> Result<()> {
    println!("{READY}");
    let mut gate = File::open(Path::new(VOLUME).join(GATE))?;
    let mut byte = [0];
    gate.read_exact(&mut byte)?;
    for dir in dirs {
        let mut log = Log::new(&Place::new(dir));
        work(&mut log)?;
        for event in &log.expected {
            println!("{}", serialize(event));
        }
    }
    println!("{DONE}");
    Ok(gate.read_exact(&mut byte)?)
}

fn work(log: &mut Log) -> Result<()> {
    let marked = |dir: &Path, name: &str| dir.join(format!("{MARK}{name}"));
    let top = log.dir.clone();
    let mut dir = top.clone();
    for level in 1..=DEPTH {
        dir = marked(&dir, &level.to_string());
        log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
        let file = marked(&dir, "file");
        log.made("create", &file, || sys::creat(&file, 0o644))?;
    }
    let (file, new) = (marked(&dir, "file"), marked(&dir, "new"));
    log.attrib(&file, MODE, || chmod(&file, 0o600))?;
    log.named("rename", &file, &new, || {
        rename(&file, &new, RenameFlags::empty())
    })?;
    let (link, symlink, pipe) = (
        marked(&top, "link"),
        marked(&dir, "symlink"),
        marked(&dir, "pipe"),
    );
    log.named("link", &new, &link, || errno(fs::hard_link(&new, &link)))?;
    log.made("symlink", &symlink, || symlinkat("x", AT_FDCWD, &symlink))?;
    log.made("mknod", &pipe, || mkfifo(&pipe, mode(0o644)))?;
    // The uppermost directory gets another name, and with it all that is below.
    let (old, moved) = (marked(&top, "1"), marked(&top, "moved"));
    log.named("rename", &old, &moved, || {
        rename(&old, &moved, RenameFlags::empty())
    })?;
    let dir = moved.join(dir.strip_prefix(&old)?);
    let late = marked(&dir, "late");
    log.made("create", &late, || sys::creat(&late, 0o644))?;
    for name in ["late", "new", "symlink", "pipe"] {
        let path = marked(&dir, name);
        log.removed("delete", &path, || unlink(&path))?;
    }
    log.removed("rmdir", &dir, || errno(fs::remove_dir(&dir)))
}

/// An expected event as a line, for [`deserialize`].
pub fn serialize(event: &Expected) -> Value {
    json!({
        "fields": event.fields,
        "ino_optional": event.optional.contains(&"ino"),
        "comm": event.comm,
        "before": event.span.before,
        "after": event.span.after,
    })
}

/// An expected event from a line that such a program printed; process and thread are not known.
pub fn deserialize(line: &str) -> Result<Expected> {
    let what = || format!("the program printed: {line}");
    let value: Value = serde_json::from_str(line).with_context(what)?;
    let time = |name: &str| value[name].as_u64().with_context(what);
    Ok(Expected {
        fields: value["fields"].as_object().with_context(what)?.clone(),
        optional: value["ino_optional"]
            .as_bool()
            .with_context(what)?
            .then_some("ino")
            .into_iter()
            .collect(),
        pid: None,
        tid: 0,
        comm: value["comm"].as_str().map(str::to_owned),
        who: serde_json::Map::new(),
        span: Span {
            before: time("before")?,
            after: time("after")?,
        },
    })
}
