//! Mounts: a watched directory seen through a second mount, and file systems that are
//! mounted inside a watched directory while it is traced.

use anyhow::{Context, Result};
use nix::fcntl::RenameFlags;
use nix::unistd::{mkdir, unlink};
use serde_json::json;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::attributes::{MODE, chmod};
use crate::files::{errno, mode, rename};
use crate::fs::{self as file_systems, Kind, Place};
use crate::log::Log;
use crate::trace::{Trace, below, four, one};
use crate::{Case, Report, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = [
        ("bind", Kind::Ext4, Watched::Original, When::Before),
        ("bind-btrfs", Kind::Btrfs, Watched::Original, When::Before),
        (
            "bind-overlay",
            Kind::Overlay,
            Watched::Original,
            When::Before,
        ),
        ("bind-later", Kind::Ext4, Watched::Original, When::While),
        ("bind-watched", Kind::Ext4, Watched::Alias, When::Before),
    ]
    .into_iter()
    .map(|(name, kind, watched, when)| {
        Case::new(format!("mounts/{name}"), move |report: &mut Report| {
            bound(report, name, kind, watched, when)
        })
    })
    .collect();
    cases.push(Case::new("mounts/inside", inside));
    cases.push(Case::new("mounts/inside-before", inside_before));
    cases.push(Case::new("mounts/brief", brief));
    cases.push(Case::new("mounts/stacked", stacked));
    cases.push(Case::new("mounts/overlay-on-overlay", overlay_on_overlay));
    cases.push(Case::new("mounts/carried", carried));
    cases
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Original,
    Alias,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    While,
}

/// A directory has two paths. Whichever is used, the one that is watched is reported.
fn bound(report: &mut Report, name: &str, kind: Kind, watched: Watched, when: When) -> Result<()> {
    let place = kind.place(name)?;
    let alias = Path::new("/mnt/alias").join(name);
    if when == When::Before {
        file_systems::bind(&place.dir, &alias)?;
    }
    let seen = match watched {
        Watched::Original => place.clone(),
        Watched::Alias => place.at(&alias),
    };
    let original = &place.dir;
    let bound = std::sync::Once::new();
    let result = four(
        report,
        &seen,
        below([&seen.dir]),
        |_| Ok(()),
        |log| {
            if when == When::While {
                bound.call_once(|| drop(file_systems::bind(original, &alias)));
            }
            let thread = log.dir.file_name().context("a thread's directory")?;
            for dir in [original.join(thread), alias.join(thread)] {
                through(log, &dir)?;
            }
            Ok(())
        },
    );
    file_systems::unmount(&alias)?;
    result
}

/// Does things through the path `dir`, which shows the log's directory.
fn through(log: &mut Log, dir: &Path) -> Result<()> {
    let (file, new, sub) = (log.path("file"), log.path("new"), log.path("dir"));
    log.made("create", &file, || sys::creat(&dir.join("file"), 0o644))?;
    log.attrib(&file, MODE, || chmod(&dir.join("file"), 0o600))?;
    log.made("mkdir", &sub, || mkdir(&dir.join("dir"), mode(0o755)))?;
    log.named("rename", &file, &new, || {
        rename(&dir.join("file"), &dir.join("new"), RenameFlags::empty())
    })?;
    log.removed("delete", &new, || unlink(&dir.join("new")))?;
    log.removed("rmdir", &sub, || errno(fs::remove_dir(dir.join("dir"))))
}

/// A file system that is mounted inside the watched directory before tracing begins, with
/// another one in it.
fn inside_before(report: &mut Report) -> Result<()> {
    let mut place = Kind::Ext4.place("mounts-before")?;
    place.dev = None;
    let mounts = ["m", "m/n"].map(|name| place.dir.join(name));
    for at in &mounts {
        file_systems::tmpfs(at, None)?;
    }
    let result = one(report, &place, below([&place.dir]), |log, _| {
        for name in ["m/n/file", "m/file", "file"] {
            let path = log.path(name);
            log.made("create", &path, || sys::creat(&path, 0o644))?;
        }
        Ok(())
    });
    for at in mounts.iter().rev() {
        file_systems::unmount(at)?;
    }
    result
}

/// Mounts a tmpfs in the watched directory, and another in that, and unmounts both; again
/// and again, at different places: the kernel gives the same device numbers out again.
fn inside(report: &mut Report) -> Result<()> {
    let mut place = Kind::Ext4.place("mounts-inside")?;
    place.dev = None;
    one(report, &place, below([&place.dir]), |log, trace| {
        for (round, name) in ["a", "b", "a", "c"].into_iter().enumerate() {
            let at = log.path(name);
            if !at.exists() {
                log.made("mkdir", &at, || mkdir(&at, mode(0o755)))?;
            }
            // Right after each mount, and right before each goes.
            file_systems::tmpfs(&at, None)?;
            create(log, trace, &at.join(format!("first{round}")))?;
            let nested = at.join("nested");
            log.made("mkdir", &nested, || mkdir(&nested, mode(0o755)))?;
            file_systems::tmpfs(&nested, None)?;
            create(log, trace, &nested.join(format!("first{round}")))?;
            create(log, trace, &at.join(format!("second{round}")))?;
            let last = nested.join("last");
            log.made("create", &last, || sys::creat(&last, 0o644))?;
            file_systems::unmount(&nested)?;
            create(log, trace, &at.join(format!("last{round}")))?;
            file_systems::unmount(&at)?;
            // What the mount had covered. Once that is printed, it is known to be gone.
            let below = at.join(format!("below{round}"));
            create(log, trace, &below)?;
            log.removed("delete", &below, || unlink(&below))?;
        }
        Ok(())
    })
}

/// File systems one on the other at one mount point.
fn stacked(report: &mut Report) -> Result<()> {
    let mut place = Kind::Ext4.place("mounts-stacked")?;
    place.dev = None;
    let at = place.dir.join("at");
    file_systems::tmpfs(&at, None)?;
    one(report, &place, below([&place.dir]), |log, trace| {
        create(log, trace, &at.join("lower"))?;
        file_systems::tmpfs(&at, None)?;
        create(log, trace, &at.join("upper"))?;
        file_systems::unmount(&at)?;
        create(log, trace, &at.join("lower-again"))?;
        file_systems::unmount(&at)?;
        create(log, trace, &at.join("lowest"))
    })
}

/// An overlay whose lower layer is a directory of another one, deep.
fn overlay_on_overlay(report: &mut Report) -> Result<()> {
    let lower = Kind::Overlay.place("mounts-lower")?;
    let deep = "1/2/3/4/5/6/7/8/9/10/11/12";
    fs::create_dir_all(lower.dir.join(deep))?;
    let base = Kind::Ext4.place("mounts-over")?;
    let [upper, work, at] = ["upper", "work", "at"].map(|name| base.dir.join(name));
    for dir in [&upper, &work, &at] {
        fs::create_dir(dir)?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.dir.display(),
        upper.display(),
        work.display()
    );
    file_systems::run(
        std::process::Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&at),
    )?;
    let mut place = Place::new(&at);
    place.inos = false;
    let result = one(report, &place, below([&at]), |log, _| {
        let bottom = log.path(deep);
        let (file, new) = (bottom.join("file"), bottom.join("new"));
        log.made("create", &file, || sys::creat(&file, 0o644))?;
        log.named("rename", &file, &new, || {
            rename(&file, &new, RenameFlags::empty())
        })?;
        let dir = bottom.join("dir");
        log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))
    });
    file_systems::unmount(&at)?;
    result
}

/// A directory is renamed with a file system mounted below it, out of the watch and back.
fn carried(report: &mut Report) -> Result<()> {
    let mut place = Kind::Ext4.place("mounts-carried")?;
    place.dev = None;
    let outside = place.dir.with_extension("outside");
    let dir = place.dir.join("dir");
    file_systems::tmpfs(&dir.join("a/b"), None)?;
    let renamed = place.dir.join("renamed");
    let result = one(report, &place, below([&place.dir]), |log, _| {
        let move_to = |log: &mut Log, from: &Path, to: &Path| -> Result<()> {
            log.named("rename", from, to, || {
                rename(from, to, RenameFlags::empty())
            })?;
            Ok(())
        };
        move_to(log, &dir, &renamed)?;
        let file = renamed.join("a/b/here");
        log.made("create", &file, || sys::creat(&file, 0o644))?;
        move_to(log, &renamed, &outside)?;
        log.silent("create", || sys::creat(&outside.join("a/b/unseen"), 0o644))?;
        move_to(log, &outside, &dir)?;
        let file = dir.join("a/b/back");
        log.made("create", &file, || sys::creat(&file, 0o644))
            .map(drop)
    });
    file_systems::unmount(&dir.join("a/b"))?;
    result
}

/// A mount that comes and goes faster than anybody can look, on a device number that was
/// somewhere else a moment ago.
fn brief(report: &mut Report) -> Result<()> {
    let place = Kind::Ext4.place("mounts-brief")?;
    let mounts = ["a", "b", "c"].map(|name| place.dir.join(name));
    for at in &mounts {
        fs::create_dir(at)?;
    }
    // Without a watch: what is mounted nowhere is not below any.
    let trace = Trace::start(["--json", "--all"])?;
    let mut files = Vec::new();
    for number in 0..20 {
        let at = &mounts[number % mounts.len()];
        file_systems::tmpfs(at, None)?;
        let file = at.join(format!("file{number}"));
        sys::creat(&file, 0o644)?;
        file_systems::unmount(at)?;
        files.push(file);
    }
    let got = trace.events(&mut report.problems)?;
    for file in &files {
        let name = file.file_name().context("a file has a name")?;
        let mut events = got.iter().filter(|event| {
            let path = Path::new(event.get("path").as_str().unwrap_or_default());
            *event.get("event") == json!("create") && path.file_name() == Some(name)
        });
        let (Some(event), None) = (events.next(), events.next()) else {
            report
                .problems
                .push(format!("not exactly one event for {}", file.display()));
            continue;
        };
        let (path, status) = (event.get("path"), event.get("path_status"));
        if *path != *file.to_string_lossy() || *status != json!("complete") {
            report
                .problems
                .push(format!("expected {}, got {path}, {status}", file.display()));
        }
    }
    Ok(())
}

/// Creates a file, and waits until that is printed: the mount has then been noticed.
pub fn create(log: &mut Log, trace: &Trace, path: &Path) -> Result<()> {
    log.made("create", path, || sys::creat(path, 0o644))?;
    trace.program.wait_out(path.as_os_str().as_bytes())
}
