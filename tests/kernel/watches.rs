//! Which of several watches decides.

use anyhow::{Result, bail};
use nix::fcntl::RenameFlags;
use nix::unistd::{mkdir, unlink};
use std::fs;
use std::path::Path;

use crate::attributes::{MODE, chmod};
use crate::files::{errno, mode, rename};
use crate::fs::{Kind, Place};
use crate::log::{Expected, Log};
use crate::trace::{Trace, finish, watch, worked};
use crate::{Case, Report, sys};

/// A set of watches, `EVENTS=PATH` with paths below the case's directory, and what is to
/// be reported of [`script`]. `*`: all of it.
struct Row {
    name: &'static str,
    watches: &'static [(&'static str, &'static str)],
    reported: &'static [&'static str],
}

const ROWS: &[Row] = &[
    Row {
        name: "recursive",
        watches: &[("all", "")],
        reported: &["*"],
    },
    Row {
        name: "below-only",
        watches: &[("all", "a")],
        reported: &[
            "create a/f",
            "create a/b/f",
            "attrib a",
            "attrib a/f",
            "rename a/f c/g",
            "rename c/g a/h",
            "link f a/l",
            "delete a/h",
        ],
    },
    Row {
        // The child's set replaces its parent's, further down too.
        name: "child-overrides",
        watches: &[("all", ""), ("delete", "a")],
        reported: &[
            "create f",
            "create ab/f",
            // One of its two names is elsewhere, where all is wanted.
            "rename a/f c/g",
            "rename c/g a/h",
            "link f a/l",
            "delete a/h",
            "mkdir later",
            "create later/f",
            "delete later/f",
            "rmdir later",
        ],
    },
    Row {
        name: "none-and-back",
        watches: &[("create", ""), ("none", "a"), ("create,attrib", "a/b")],
        reported: &["create f", "create ab/f", "create a/b/f", "create later/f"],
    },
    Row {
        name: "either-side",
        watches: &[("rename", "a"), ("link", "f")],
        reported: &["rename a/f c/g", "rename c/g a/h", "link f a/l"],
    },
    Row {
        name: "same-path-adds-up",
        watches: &[("delete", "a"), ("attrib", "a")],
        reported: &["attrib a", "attrib a/f", "delete a/h"],
    },
    Row {
        name: "not-there-yet",
        watches: &[("all", "later")],
        reported: &[
            "mkdir later",
            "create later/f",
            "delete later/f",
            "rmdir later",
        ],
    },
    Row {
        name: "names-that-begin-alike",
        watches: &[("create", "ab")],
        reported: &["create ab/f"],
    },
    Row {
        name: "order-does-not-matter",
        watches: &[("none", "a/b"), ("create", "a"), ("none", "")],
        reported: &["create a/f"],
    },
];

/// The cases.
pub fn cases() -> Vec<Case> {
    ROWS.iter()
        .map(|row| {
            Case::new(
                format!("watches/{}", row.name),
                move |report: &mut Report| watched(report, row),
            )
        })
        .collect()
}

fn watched(report: &mut Report, row: &Row) -> Result<()> {
    let place = Kind::Tmpfs.place(&format!("watches-{}", row.name))?;
    for name in ["a", "a/b", "ab", "c"] {
        fs::create_dir(place.dir.join(name))?;
    }
    let mut arguments = vec!["--json".into()];
    for (events, name) in row.watches {
        arguments.extend(watch(events, &place.dir.join(name)));
    }
    let trace = Trace::start(arguments)?;
    let mut log = Log::new(&place);
    let result = script(&mut log);
    let all = worked(report, vec![(log, result)]);
    let expected = select(&place, &all, row.reported)?;
    finish(report, trace, &expected)
}

/// The same operations for each set of watches.
fn script(log: &mut Log) -> Result<()> {
    for name in ["f", "a/f", "a/b/f", "ab/f"] {
        let path = log.path(name);
        log.made("create", &path, || sys::creat(&path, 0o644))?;
    }
    for name in ["a", "a/f"] {
        let path = log.path(name);
        log.attrib(&path, MODE, || chmod(&path, 0o700))?;
    }
    for (old, new) in [("a/f", "c/g"), ("c/g", "a/h")] {
        let (old, new) = (log.path(old), log.path(new));
        log.named("rename", &old, &new, || {
            rename(&old, &new, RenameFlags::empty())
        })?;
    }
    let (old, new) = (log.path("f"), log.path("a/l"));
    log.named("link", &old, &new, || errno(fs::hard_link(&old, &new)))?;
    let path = log.path("a/h");
    log.removed("delete", &path, || unlink(&path))?;
    let dir = log.path("later");
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    let path = log.path("later/f");
    log.made("create", &path, || sys::creat(&path, 0o644))?;
    log.removed("delete", &path, || unlink(&path))?;
    log.removed("rmdir", &dir, || errno(fs::remove_dir(&dir)))
}

/// `EVENT [OLD] PATH`, with the paths below the place.
fn label(place: &Place, event: &Expected) -> String {
    let mut label = event.fields["event"].as_str().unwrap_or("?").to_owned();
    for name in ["old_path", "path"] {
        if let Some(path) = event.fields.get(name).and_then(|path| path.as_str()) {
            let path = Path::new(path).strip_prefix(&place.dir);
            label.push(' ');
            label.push_str(&path.unwrap_or(Path::new("?")).to_string_lossy());
        }
    }
    label
}

fn select(place: &Place, all: &[Expected], labels: &[&str]) -> Result<Vec<Expected>> {
    if labels == ["*"] {
        return Ok(all.to_vec());
    }
    for wanted in labels {
        if !all.iter().any(|event| label(place, event) == *wanted) {
            bail!("the script has no {wanted}");
        }
    }
    let selected = all
        .iter()
        .filter(|event| labels.contains(&label(place, event).as_str()));
    Ok(selected.cloned().collect())
}
