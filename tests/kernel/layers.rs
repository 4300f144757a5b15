//! What overlayfs does on its layers to carry out an operation is reported as part of that
//! operation, and nothing else is. No kernel takes an overlay as the upper layer of another one: how
//! such ones nest is st-decode's to test.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::sys::stat::{SFlag, mknod};
use nix::unistd::{Uid, chown, mkdir, symlinkat, unlink};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::attributes::{MODE, chmod};
use crate::compare::{self, Got};
use crate::files::{errno, mode, open_with, rename};
use crate::fs::{self as file_systems, Kind, Layers, Place, device_of};
use crate::log::{Expected, Log, Set, directories};
use crate::mounts::create;
use crate::trace::{Trace, below, finish, four, one, watch, worked};
use crate::{Case, Report, sys};

/// The kernel's overlayfs: scripts/vm.d/init puts it there.
const MODULE: &str = "/vm/overlay.ko";

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("layers/upper", upper),
        Case::new("layers/lower", lower),
        Case::new("layers/others", others),
        Case::new("layers/failed", failed),
        Case::new("layers/text", text),
        Case::new("layers/module", module),
    ]
}

/// A directory, and the one in which an overlay has its content.
struct Layer {
    merged: PathBuf,
    dir: PathBuf,
    dev: String,
}

impl Layer {
    fn new(merged: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        Ok(Self {
            merged: merged.into(),
            dev: device_of(&dir)?,
            dir,
        })
    }

    /// What is expected in the layer where `outer` is expected.
    fn part_of(&self, outer: &Expected) -> Result<Expected> {
        let mut part = outer.clone();
        for name in ["path", "old_path"] {
            if let Some(path) = part.fields.get_mut(name) {
                let rest =
                    Path::new(path.as_str().context("a path")?).strip_prefix(&self.merged)?;
                *path = self.dir.join(rest).to_string_lossy().into();
            }
        }
        part.fields.insert("dev".into(), self.dev.as_str().into());
        compare::is_layer_of(&mut part, Some(outer));
        Ok(part)
    }

    /// Expects it behind each event that is expected.
    fn expect_parts(&self, log: &mut Log) -> Result<()> {
        for outer in std::mem::take(&mut log.expected) {
            let part = self.part_of(&outer)?;
            log.expected.extend([outer, part]);
        }
        Ok(())
    }
}

/// The overlay of [`Kind::Overlay`]: a directory of a case, and its upper layer.
fn place(case: &str) -> Result<(Place, Layer)> {
    let place = Kind::Overlay.place(case)?;
    let dir = Layers::new("/overlay")?.upper.join(case);
    let layer = Layer::new(&place.dir, dir)?;
    Ok((place, layer))
}

/// Operations on what only the upper layer has: the overlay does there what it is asked for.
fn operations(log: &mut Log) -> Result<()> {
    let file = log.path("file");
    log.made("create", &file, || sys::creat(&file, 0o644))?;
    // This announces a file, and makes none.
    log.silent("open", || open_with(&file, OFlag::O_CREAT))?;
    let path = log.path("by-mknod");
    log.made("create", &path, || {
        mknod(&path, SFlag::S_IFREG, mode(0o600), 0)
    })?;
    let path = log.path("pipe");
    log.made("mknod", &path, || {
        mknod(&path, SFlag::S_IFIFO, mode(0o600), 0)
    })?;
    let dir = log.path("dir");
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    let path = dir.join("symlink");
    log.made("symlink", &path, || symlinkat("x", AT_FDCWD, &path))?;
    log.fails(&[Errno::ENOTEMPTY], "rmdir", || errno(fs::remove_dir(&dir)))?;
    log.attrib(&file, MODE, || chmod(&file, 0o600))?;
    let owner = Set {
        uid: true,
        ..Set::default()
    };
    log.attrib(&dir, owner, || chown(&dir, Some(Uid::from_raw(7)), None))?;
    let link = log.path("link");
    log.named("link", &file, &link, || errno(fs::hard_link(&file, &link)))?;
    for (old, new) in [(&file, log.path("file2")), (&dir, log.path("dir2"))] {
        log.named("rename", old, &new, || {
            rename(old, &new, RenameFlags::empty())
        })?;
    }
    for name in ["file2", "link", "by-mknod", "pipe", "dir2/symlink"] {
        let path = log.path(name);
        log.removed("delete", &path, || unlink(&path))?;
    }
    let dir = log.path("dir2");
    log.removed("rmdir", &dir, || errno(fs::remove_dir(&dir)))
}

fn upper(report: &mut Report) -> Result<()> {
    let (place, layer) = place("layers-upper")?;
    let watched = below([&place.dir, &layer.dir]);
    four(
        report,
        &place,
        watched,
        |_| Ok(()),
        |log| {
            operations(log)?;
            layer.expect_parts(log)
        },
    )
}

/// Takes away what is on a device: each event there must be part of the last one elsewhere.
fn take_parts(got: &mut Vec<Got>, dev: &str, report: &mut Report) {
    let mut outer: Option<Got> = None;
    let before = got.len();
    got.retain(|event| {
        if event.get("dev") != dev {
            outer = Some(event.clone());
            return true;
        }
        let is_part = outer.as_ref().is_some_and(|outer| {
            event.get("layer_of") == outer.get("seq") && event.tid() == outer.tid()
        });
        if !is_part {
            report
                .problems
                .push(format!("is part of nothing: {:?}", event.fields));
        }
        false
    });
    let parts = before - got.len();
    report.notes.push(format!("{parts} parts"));
    if parts == 0 {
        (report.problems).push("there are no parts: this tests nothing".to_owned());
    }
}

/// What the lower layer has is copied up, covered and uncovered: in how many operations differs
/// between kernels, but all of them are parts of what is asked for.
fn lower(report: &mut Report) -> Result<()> {
    let place = Kind::Overlay.place("layers-lower")?;
    let place = place.at(place.dir.with_file_name("layers-lower-files"));
    let layers = Layers::new("/overlay")?;
    // What the lower layer has must be there before the overlay looks.
    for dir in directories(&layers.lower.join("layers-lower-files")) {
        fs::create_dir_all(dir.join("full/sub"))?;
        fs::create_dir_all(dir.join("deep/er"))?;
        fs::create_dir(dir.join("empty"))?;
        for name in ["mode", "link", "delete", "rename", "full/f", "full/g"] {
            fs::write(dir.join(name), "content")?;
        }
    }
    let trace = Trace::start(below([&place.dir, &layers.upper, &layers.work]))?;
    let logs = crate::log::threads(&place, |log| {
        let path = log.path("deep/er/file");
        log.made("create", &path, || sys::creat(&path, 0o644))?;
        let path = log.path("mode");
        log.attrib(&path, MODE, || chmod(&path, 0o600))?;
        let (old, new) = (log.path("link"), log.path("linked"));
        log.named("link", &old, &new, || errno(fs::hard_link(&old, &new)))?;
        let (old, new) = (log.path("rename"), log.path("full/renamed"));
        log.named("rename", &old, &new, || {
            rename(&old, &new, RenameFlags::empty())
        })?;
        let dir = log.path("full");
        log.fails(&[Errno::ENOTEMPTY], "rmdir", || errno(fs::remove_dir(&dir)))?;
        for name in ["delete", "full/f", "full/g", "full/renamed"] {
            let path = log.path(name);
            log.removed("delete", &path, || unlink(&path))?;
        }
        // Over a whiteout.
        let path = log.path("delete");
        log.made("create", &path, || sys::creat(&path, 0o644))?;
        // With whiteouts in them.
        for name in ["empty", "full/sub", "full"] {
            let path = log.path(name);
            log.removed("rmdir", &path, || errno(fs::remove_dir(&path)))?;
        }
        for name in ["empty", "full"] {
            let path = log.path(name);
            log.made("mkdir", &path, || mkdir(&path, mode(0o755)))?;
        }
        Ok(())
    });
    let expected = worked(report, logs);
    let mut got = trace.events(&mut report.problems)?;
    take_parts(&mut got, &device_of(&layers.upper)?, report);
    report.notes.push(compare::count(&got));
    compare::compare(&expected, &got, &mut report.problems);
    Ok(())
}

/// What a thread does on the file system of a layer, after calls on the overlay that announced
/// something and did nothing, is part of nothing, and told at once.
fn others(report: &mut Report) -> Result<()> {
    let (merged, _) = place("layers-others")?;
    let (file, dir) = (merged.dir.join("file"), merged.dir.join("dir"));
    fs::write(&file, "")?;
    fs::create_dir_all(dir.join("sub"))?;
    let place = Kind::Ext4.place("layers-others")?;
    one(report, &place, below([&place.dir]), |log, trace| {
        let told = |log: &mut Log, operation: &dyn Fn(&mut Log) -> Result<()>| -> Result<()> {
            log.silent("open", || open_with(&file, OFlag::O_CREAT))?;
            log.fails(&[Errno::ENOTEMPTY], "rmdir", || errno(fs::remove_dir(&dir)))?;
            let seen = trace.program.seen();
            operation(log)?;
            trace.program.wait_out_after(seen, b"\n")
        };
        let (path, new) = (log.path("file"), log.path("new"));
        told(log, &|log| {
            log.made("create", &path, || sys::creat(&path, 0o644))?;
            Ok(())
        })?;
        told(log, &|log| log.attrib(&path, MODE, || chmod(&path, 0o600)))?;
        told(log, &|log| {
            log.named("rename", &path, &new, || {
                rename(&path, &new, RenameFlags::empty())
            })?;
            Ok(())
        })?;
        told(log, &|log| log.removed("delete", &new, || unlink(&new)))?;
        let made = log.path("dir");
        told(log, &|log| {
            log.made("mkdir", &made, || mkdir(&made, mode(0o755)))
        })?;
        told(log, &|log| {
            log.removed("rmdir", &made, || errno(fs::remove_dir(&made)))
        })
    })
}

/// What was done for an operation that failed is part of nothing.
fn failed(report: &mut Report) -> Result<()> {
    let (tiny, merged) = (Path::new("/mnt/tiny-layers"), Path::new("/mnt/tiny-merged"));
    file_systems::tmpfs(tiny, Some("nr_inodes=64"))?;
    let layers = Layers::new("/mnt/tiny-layers/layer")?;
    let attempts = 1..=5;
    for attempt in attempts.clone() {
        let dir = layers.lower.join(attempt.to_string());
        fs::create_dir(&dir)?;
        fs::write(dir.join("file"), "")?;
    }
    fs::create_dir_all(merged)?;
    layers.mount(merged)?;
    let devs = [device_of(&layers.upper)?, device_of(merged)?];
    let trace = Trace::start(below([merged, &layers.upper, &layers.work]))?;
    let mut room = Vec::new();
    let mut failures = Vec::new();
    for attempt in attempts {
        // There is room for so many inodes: for none, or for some that are made on the way.
        loop {
            let path = tiny.join(format!("{attempt}-{}", room.len()));
            match File::create(&path) {
                Ok(_) => room.push(path),
                Err(_) => break,
            }
        }
        for path in room.drain(..attempt) {
            fs::remove_file(path)?;
        }
        let before = crate::log::now();
        let result = chmod(&merged.join(attempt.to_string()).join("file"), 0o600);
        match result {
            Ok(()) => {}
            Err(Errno::ENOSPC) => failures.push((before, crate::log::now())),
            Err(error) => return Err(error).context("chmod"),
        }
    }
    let mut got = trace.events(&mut report.problems)?;
    file_systems::unmount(merged)?;
    file_systems::unmount(tiny)?;
    let before = got.len();
    got.retain(|event| {
        let ts = event.get("ts").as_u64().unwrap_or(0);
        let is_of_failure = failures.iter().any(|(from, to)| (*from..*to).contains(&ts));
        if is_of_failure
            && (event.get("dev") != devs[0].as_str() || !event.get("layer_of").is_null())
        {
            let problem = format!("is part of what failed: {:?}", event.fields);
            report.problems.push(problem);
        }
        !is_of_failure
    });
    let left = before - got.len();
    report
        .notes
        .push(format!("{} failures left {left} events", failures.len()));
    if left == 0 {
        report.problems.push("nothing was done for them".to_owned());
    }
    take_parts(&mut got, &devs[0], report);
    report.notes.push(compare::count(&got));
    if got.is_empty() || got.iter().any(|event| event.get("dev") != devs[1].as_str()) {
        report.problems.push(format!("{got:?}"));
    }
    Ok(())
}

/// Text leaves out the parts of what it shows, unless they are asked for.
fn text(report: &mut Report) -> Result<()> {
    let (place, layer) = place("layers-text")?;
    let recording = Path::new("/var/tmp/layers-text");
    let both = [watch("all", &place.dir), watch("all", &layer.dir)].concat();
    let mut arguments = both.clone();
    arguments.extend(["--record".into(), recording.into()]);
    let trace = Trace::start(arguments)?;
    let path = place.dir.join("file");
    sys::creat(&path, 0o644)?;
    unlink(&path)?;
    let output = trace.stop()?;
    crate::trace::check_end(&output, &mut report.problems);
    let replay = |arguments: &[std::ffi::OsString]| -> Result<Vec<u8>> {
        let mut command = Command::new("systracer");
        command.arg("--replay").arg(recording).args(arguments);
        Ok(command.output()?.stdout)
    };
    let inner = watch("all", &layer.dir);
    let all = [both.clone(), vec!["--layers".into()]].concat();
    let inner_path = layer.dir.join("file");
    for (text, expected) in [
        (output.out, vec![("create", &path), ("delete", &path)]),
        (replay(&both)?, vec![("create", &path), ("delete", &path)]),
        (
            replay(&all)?,
            vec![
                ("create", &path),
                ("create", &inner_path),
                ("delete", &path),
                ("delete", &inner_path),
            ],
        ),
        (
            replay(&inner)?,
            vec![("create", &inner_path), ("delete", &inner_path)],
        ),
    ] {
        let text = String::from_utf8(text)?;
        let shown = text.lines().map(|line| {
            let mut words = line.split_ascii_whitespace();
            (
                words.nth(1).unwrap_or_default(),
                words.nth(1).unwrap_or_default(),
            )
        });
        let expected: Vec<_> = (expected.iter())
            .map(|(event, path)| (*event, path.to_str().unwrap_or_default()))
            .collect();
        if shown.collect::<Vec<_>>() != expected {
            report
                .problems
                .push(format!("expected {expected:?}, got:\n{text}"));
        }
    }
    fs::remove_file(recording)?;
    Ok(())
}

/// overlayfs is loaded and unloaded while it is traced.
fn module(report: &mut Report) -> Result<()> {
    let overlay = Path::new("/mnt/overlay");
    if file_systems::mounts()?
        .iter()
        .any(|mount| mount.at == overlay)
    {
        file_systems::unmount(overlay)?;
    }
    unload()?;
    let result = loaded_late(report);
    // Other cases need it.
    if unload().is_ok() || !is_loaded() {
        load()?;
    }
    result?;
    // It goes while it is traced.
    let trace = Trace::start(below(["/mnt"]))?;
    let unloaded = unload();
    let events = trace.events(&mut report.problems);
    unloaded?;
    load()?;
    report
        .problems
        .extend(events?.iter().map(|event| format!("{event:?}")));
    Ok(())
}

fn loaded_late(report: &mut Report) -> Result<()> {
    let at = Path::new("/mnt/late");
    fs::create_dir_all(at)?;
    let base = Kind::Ext4.place("layers-module")?.dir;
    let layers = Layers::new(&format!("{}/layer", base.display()))?;
    let trace = Trace::start(below([at, &layers.upper]))?;
    let mut place = Place::new(at);
    place.inos = false;
    let mut log = Log::new(&place);
    let mut result = Ok(());
    // The second time, its functions may be elsewhere.
    for round in ["first", "second"] {
        load()?;
        layers.mount(at)?;
        let layer = Layer::new(at, &layers.upper)?;
        let earlier = std::mem::take(&mut log.expected);
        result = result
            .and(create(&mut log, &trace, &at.join(round)))
            .and_then(|()| operations(&mut log))
            .and(layer.expect_parts(&mut log));
        log.expected.splice(0..0, earlier);
        file_systems::unmount(at)?;
        unload()?;
    }
    let expected = worked(report, vec![(log, result)]);
    finish(report, trace, &expected)
}

fn is_loaded() -> bool {
    Path::new("/sys/module/overlay").exists()
}

fn load() -> Result<()> {
    let file = File::open(MODULE).with_context(|| format!("cannot open {MODULE}"))?;
    finit_module(&file, c"", ModuleInitFlags::empty()).context("cannot load overlay")
}

fn unload() -> Result<()> {
    delete_module(c"overlay", DeleteModuleFlags::O_NONBLOCK).context("cannot unload overlay")
}
