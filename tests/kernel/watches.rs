//! Which of several watches decides.

use anyhow::{Result, bail};
use nix::fcntl::RenameFlags;
use nix::unistd::{mkdir, unlink};
use std::fs;
use std::path::Path;

use crate::attributes::{MODE, chmod};
use crate::files::{errno, mode, rename};
use crate::fs::{self as file_systems, Kind, Place};
use crate::log::{Expected, Log};
use crate::mounts::create;
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
        name: "single-file",
        watches: &[("all", "f")],
        reported: &["create f", "link f a/l"],
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
    let rows = ROWS.iter().map(|row| {
        Case::new(
            format!("watches/{}", row.name),
            move |report: &mut Report| watched(report, row),
        )
    });
    let others = [
        Case::new("watches/root", |report: &mut Report| {
            let place = Kind::Ext4.place("watches-root")?;
            other(report, &place, Path::new("/"), deep)
        }),
        Case::new("watches/symlink", |report: &mut Report| {
            let place = Kind::Ext4.place("watches-symlink")?;
            let link = place.dir.with_extension("link");
            std::os::unix::fs::symlink(&place.dir, &link)?;
            other(report, &place, &link, deep)
        }),
        Case::new("watches/mount-point", |report: &mut Report| {
            let place = Kind::Tmpfs.place("watches-mount-point")?;
            file_systems::tmpfs(&place.dir, None)?;
            let place = Place::new(place.dir);
            let result = other(report, &place, &place.dir, deep);
            file_systems::unmount(&place.dir)?;
            result
        }),
        Case::new("watches/comes-and-goes", comes_and_goes),
    ];
    rows.chain(others).collect()
}

/// Traces all below `watched` while something is done in `place`.
fn other(
    report: &mut Report,
    place: &Place,
    watched: &Path,
    work: fn(&mut Log, &Trace) -> Result<()>,
) -> Result<()> {
    fs::create_dir_all(place.dir.join(BEFORE))?;
    let mut arguments = vec!["--json".into()];
    arguments.extend(watch("all", watched));
    let trace = Trace::start(arguments)?;
    let mut log = Log::new(place);
    let result = work(&mut log, &trace);
    let expected = worked(report, vec![(log, result)]);
    finish(report, trace, &expected)
}

/// Deeper than any record holds.
const BEFORE: &str = "before/1/2/3/4/5/6/7/8/9/10/11/12";

fn deep(log: &mut Log, trace: &Trace) -> Result<()> {
    let path = log.path(BEFORE).join("file");
    // Whoever ends before the snapshot is taken gets what is known by then.
    create(log, trace, &path)?;
    log.removed("delete", &path, || unlink(&path))
}

/// A watched directory is not there, is made, removed, made again by a rename, and then by
/// a mount.
fn comes_and_goes(report: &mut Report) -> Result<()> {
    let mut place = Kind::Ext4.place("watches-comes")?;
    place.dev = None;
    other(report, &place, &place.dir.join("watched"), |log, trace| {
        let watched = log.path("watched");
        for _ in 0..2 {
            log.made("mkdir", &watched, || mkdir(&watched, mode(0o755)))?;
            let path = watched.join("file");
            log.made("create", &path, || sys::creat(&path, 0o644))?;
            log.removed("delete", &path, || unlink(&path))?;
            log.removed("rmdir", &watched, || errno(fs::remove_dir(&watched)))?;
        }
        let before = log.path("before");
        let no_flags = RenameFlags::empty();
        log.named("rename", &before, &watched, || {
            rename(&before, &watched, no_flags)
        })?;
        let bottom = watched.join(Path::new(BEFORE).strip_prefix("before")?);
        create(log, trace, &bottom.join("file"))?;
        log.named("rename", &watched, &before, || {
            rename(&watched, &before, no_flags)
        })?;
        // It is no longer where it was watched.
        log.silent("create", || sys::creat(&before.join("unseen"), 0o644))?;
        log.made("mkdir", &watched, || mkdir(&watched, mode(0o755)))?;
        file_systems::tmpfs(&watched, None)?;
        create(log, trace, &watched.join("in-memory"))?;
        file_systems::unmount(&watched)
    })
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
