//! Overlays: what is done to the merged directory is reported there, and what the overlay
//! does to its upper layer only to who watches that layer.

use anyhow::Result;
use nix::fcntl::{AT_FDCWD, RenameFlags};
use nix::unistd::{Uid, chown, mkdir, symlinkat, unlink};
use std::fs;
use std::path::Path;

use crate::attributes::{MODE, chmod};
use crate::files::{errno, mode, rename};
use crate::fs::{Kind, Layers, Place};
use crate::log::{Log, Set, directories};
use crate::trace::{Trace, below, four};
use crate::{Case, Report, compare, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("overlay/lower", lower),
        Case::new("overlay/upper", upper),
        Case::new("overlay/copy-up", copy_up),
    ]
}

/// Files of the lower layer are copied up, covered and uncovered: seen from above, that is
/// as if there were no layers.
fn lower(report: &mut Report) -> Result<()> {
    let place = Kind::Overlay.place("lower")?;
    let layers = Layers::new("/overlay")?;
    // What the lower layer has must be there before the overlay looks.
    for dir in directories(&layers.lower.join("lower-files")) {
        fs::create_dir_all(dir.join("full/sub"))?;
        fs::create_dir(dir.join("empty"))?;
        for name in [
            "mode", "owner", "set-id", "delete", "rename", "write", "full/f",
        ] {
            fs::write(dir.join(name), "content")?;
        }
    }
    let place = Place {
        dir: place.dir.with_file_name("lower-files"),
        ..place
    };
    let trace = Trace::start(below([&place.dir]))?;
    let logs = crate::log::threads(&place, |log| {
        let path = log.path("mode");
        log.attrib(&path, MODE, || chmod(&path, 0o600))?;
        let uid = Set {
            uid: true,
            ..Set::default()
        };
        let path = log.path("owner");
        log.attrib(&path, uid, || chown(&path, Some(Uid::from_raw(1000)), None))?;
        let path = log.path("set-id");
        log.attrib(&path, MODE, || chmod(&path, 0o4755))?;
        log.attrib(&path, uid, || chown(&path, Some(Uid::from_raw(1000)), None))?;
        let path = log.path("write");
        log.silent("write", || errno(fs::write(&path, "else")))?;
        let (old, new) = (log.path("rename"), log.path("full/renamed"));
        log.named("rename", &old, &new, || {
            rename(&old, &new, RenameFlags::empty())
        })?;
        // A whiteout is made, and then replaced.
        for name in ["delete", "full/f"] {
            let path = log.path(name);
            log.removed("delete", &path, || unlink(&path))?;
            log.made("create", &path, || sys::creat(&path, 0o644))?;
            log.removed("delete", &path, || unlink(&path))?;
            log.made("mkdir", &path, || mkdir(&path, mode(0o755)))?;
        }
        for name in ["empty", "full/sub"] {
            let path = log.path(name);
            log.removed("rmdir", &path, || errno(fs::remove_dir(&path)))?;
            log.made("symlink", &path, || symlinkat("x", AT_FDCWD, &path))?;
        }
        Ok(())
    });
    let expected = crate::trace::worked(report, logs);
    crate::trace::finish(report, trace, &expected)
}

/// For files that the upper layer alone has, the overlay does there what is asked of it.
fn upper(report: &mut Report) -> Result<()> {
    let place = Kind::Overlay.place("upper")?;
    let layer = Layers::new("/overlay")?.upper.join("upper");
    let inner = Place {
        dev: Some(crate::fs::device_of(&layer)?),
        inos: true,
        ..place.clone()
    };
    let merged = place.dir.clone();
    let on_layer = move |path: &Path| layer.join(path.strip_prefix(&merged).unwrap_or(path));
    let watched = on_layer(&place.dir);
    four(
        report,
        &inner,
        below([&watched]),
        |_| Ok(()),
        |log| {
            let at = |log: &Log, name: &str| (log.path(name), on_layer(&log.path(name)));
            let (path, layer) = at(log, "file");
            log.made("create", &layer, || sys::creat(&path, 0o644))?;
            log.attrib(&layer, MODE, || chmod(&path, 0o600))?;
            let (new, new_layer) = at(log, "renamed");
            log.named("rename", &layer, &new_layer, || {
                rename(&path, &new, RenameFlags::empty())
            })?;
            let (dir, dir_layer) = at(log, "dir");
            log.made("mkdir", &dir_layer, || mkdir(&dir, mode(0o755)))?;
            let (link, link_layer) = at(log, "dir/link");
            log.named("link", &new_layer, &link_layer, || {
                errno(fs::hard_link(&new, &link))
            })?;
            log.removed("delete", &new_layer, || unlink(&new))?;
            let (path, layer) = at(log, "symlink");
            log.made("symlink", &layer, || symlinkat("x", AT_FDCWD, &path))?;
            log.removed("delete", &link_layer, || unlink(&link))?;
            log.removed("rmdir", &dir_layer, || errno(fs::remove_dir(&dir)))?;
            for event in &mut log.expected {
                compare::is_layer_of(event, None);
            }
            Ok(())
        },
    )
}

/// How a file is copied up differs between kernels, but its path in the upper layer
/// appears, and no other than paths in that layer do.
fn copy_up(report: &mut Report) -> Result<()> {
    let place = Kind::Overlay.place("copy-up")?;
    let layers = Layers::new("/overlay")?;
    fs::create_dir(layers.lower.join("copied"))?;
    fs::write(layers.lower.join("copied/file"), "content")?;
    let trace = Trace::start(below([&layers.upper]))?;
    chmod(&place.dir.with_file_name("copied").join("file"), 0o600)?;
    let got = trace.events(&mut report.problems)?;
    report.notes.push(compare::count(&got));
    let copied = layers.upper.join("copied/file");
    let paths: Vec<_> = got
        .iter()
        .filter_map(|event| event.get("path").as_str().map(Path::new))
        .collect();
    if !paths.contains(&copied.as_path()) {
        report
            .problems
            .push(format!("no event on {}: {paths:?}", copied.display()));
    }
    // A rename or link shows the work directory's name as its old path only.
    for path in paths {
        if !path.starts_with(&layers.upper) {
            report.problems.push(format!("extra: {}", path.display()));
        }
    }
    Ok(())
}
