//! Names that the kernel leaves out since st-pathtree knows the directories, and what must bring
//! them back: each step begins with them left out.

use anyhow::{Context, Result, bail};
use nix::fcntl::RenameFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{fchmod, fstat};
use nix::unistd::{mkdir, unlink};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::files::{Can, errno, mode, operations, rename};
use crate::fs::{Kind, Place, bind, tmpfs, unmount};
use crate::log::Log;
use crate::program::stop;
use crate::trace::{Trace, below, finish, worked};
use crate::tracefs::{TRACEFS, instances};
use crate::{Case, Report, sys};

/// How deep directories go: deeper than the names of a record.
const DEPTH: usize = 12;
/// How long it may take until names are left out, in pauses.
const PAUSES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(200);
/// How many problems are shown.
const SHOWN: usize = 5;

/// The directories.
struct Ground {
    watched: PathBuf,
    outside: PathBuf,
    can: Can,
}

type Step = fn(&mut Log, &Ground) -> Result<()>;

const STEPS: [(&str, Step); 9] = [
    ("inside", inside),
    ("while", while_tracing),
    ("leaves", leaves),
    ("file-from-outside", file_from_outside),
    ("moved-in", moved_in),
    ("moved-in-and-out", moved_in_and_out),
    ("watch-replaced", watch_replaced),
    ("removed", removed),
    ("mounted", mounted),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let cases = STEPS.into_iter().map(|(name, step)| {
        Case::new(format!("known/{name}"), move |report: &mut Report| {
            known(report, name, step)
        })
    });
    let lost = ["st-probe", "st-format"].into_iter().map(|stage| {
        Case::new(format!("known/stopped-{stage}"), move |report| {
            stopped(report, stage)
        })
    });
    cases.chain(lost).collect()
}

/// Directories one in another, from `dir` down.
fn levels(dir: &Path) -> PathBuf {
    (0..DEPTH).fold(dir.to_owned(), |dir, level| {
        dir.join(format!("level{level}"))
    })
}

fn known(report: &mut Report, name: &str, step: Step) -> Result<()> {
    let place = Kind::Ext4.place(&format!("known-{name}"))?;
    let ground = Ground {
        watched: place.dir.join("watched"),
        outside: place.dir.join("outside"),
        can: Can::probe(&place)?,
    };
    for tree in [&ground.watched, &ground.outside] {
        fs::create_dir_all(levels(tree))?;
    }
    let trace = Trace::start(below([&ground.watched]))?;
    let mut log = Log::new(&Place::new(&ground.watched));
    let result = left_out(&mut log).and_then(|()| step(&mut log, &ground));
    let expected = worked(report, vec![(log, result)]);
    finish(report, trace, &expected)
}

/// Makes files until the kernel leaves names out.
fn left_out(log: &mut Log) -> Result<()> {
    for number in 0..PAUSES {
        let path = log.path(format!("file{number}"));
        create(log, &path)?;
        sleep(PAUSE);
        if all_left_out()? {
            return Ok(());
        }
    }
    bail!("all names are recorded all the time")
}

fn all_left_out() -> Result<bool> {
    let mut any = false;
    for instance in instances()? {
        let events = Path::new(TRACEFS).join("instances").join(&instance);
        let events = events.join("events").join(&instance);
        for entry in fs::read_dir(&events).with_context(|| events.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().contains("_names_") {
                any = true;
                if !fs::read_to_string(entry.path().join("enable"))?.starts_with('0') {
                    return Ok(false);
                }
            }
        }
    }
    Ok(any)
}

fn create(log: &mut Log, path: &Path) -> Result<()> {
    log.made("create", path, || sys::creat(path, 0o644))
        .map(drop)
}

fn moved(log: &mut Log, from: &Path, to: &Path) -> Result<()> {
    log.named("rename", from, to, || {
        rename(from, to, RenameFlags::empty())
    })?;
    Ok(())
}

/// All operations, in directories that were there, and nothing of those outside.
fn inside(log: &mut Log, ground: &Ground) -> Result<()> {
    let unseen = levels(&ground.outside).join("unseen");
    log.silent("create", || sys::creat(&unseen, 0o644))?;
    log.dir = levels(&ground.watched).join("r");
    operations(log, &ground.can)
}

/// Directories that are made, and one that has the inode of a removed one.
fn while_tracing(log: &mut Log, ground: &Ground) -> Result<()> {
    let mut dir = ground.watched.clone();
    for level in 0..DEPTH {
        dir.push(format!("new{level}"));
        log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    }
    create(log, &dir.join("file"))?;
    let old = dir.join("old");
    for round in 0..20 {
        log.made("mkdir", &old, || mkdir(&old, mode(0o755)))?;
        log.removed("rmdir", &old, || errno(fs::remove_dir(&old)))?;
        let new = ground.watched.join(format!("again{round}"));
        log.made("mkdir", &new, || mkdir(&new, mode(0o755)))?;
        create(log, &new.join("file"))?;
    }
    log.dir = dir.join("r");
    operations(log, &ground.can)
}

/// Directories without any in them are renamed: within, from outside and to there.
fn leaves(log: &mut Log, ground: &Ground) -> Result<()> {
    let deep = levels(&ground.watched);
    let (one, two) = (deep.join("one"), deep.join("two"));
    log.made("mkdir", &one, || mkdir(&one, mode(0o755)))?;
    moved(log, &one, &two)?;
    create(log, &two.join("file"))?;
    let high = ground.watched.join("high");
    moved(log, &two, &high)?;
    create(log, &high.join("other"))?;
    let inner = high.join("inner");
    log.made("mkdir", &inner, || mkdir(&inner, mode(0o755)))?;
    create(log, &inner.join("file"))?;

    // Nobody has looked at it, and nothing tells of it before it comes.
    let unseen = ground.outside.join("leaf");
    let guest = ground.watched.join("level0/guest");
    log.silent("mkdir", || mkdir(&unseen, mode(0o755)))?;
    log.silent("create", || sys::creat(&unseen.join("file"), 0o644))?;
    moved(log, &unseen, &guest)?;
    create(log, &guest.join("other"))?;
    log.removed("delete", &guest.join("file"), || {
        unlink(&guest.join("file"))
    })?;
    let renamed = guest.with_file_name("renamed");
    moved(log, &guest, &renamed)?;
    create(log, &renamed.join("third"))?;
    moved(log, &renamed, &unseen)?;
    log.silent("create", || sys::creat(&unseen.join("fourth"), 0o644))?;
    Ok(())
}

/// A small ring buffer, in KiB, and so many files that they and a pipe are full.
const SMALL: &str = "256";
const MANY: usize = 12_000;

/// Records are lost since a stage is stopped, among them that of a new directory. If it is not
/// st-probe itself, that has all names recorded before any are lost. Else what was recorded after
/// the gap and before it noticed has the file's own name alone; but no path is wrong.
fn stopped(report: &mut Report, stage: &str) -> Result<()> {
    let place = Kind::Ext4.place(&format!("known-{stage}"))?;
    let watched = place.dir.join("watched");
    let new = watched.join("new");
    fs::create_dir(&watched)?;
    let mut arguments = below([&watched]);
    arguments.extend(["--buffer-size", SMALL].map(Into::into));
    let trace = Trace::start(arguments)?;
    left_out(&mut Log::new(&Place::new(&watched)))?;

    let pid = trace.program.member(stage)?;
    stop(pid)?;
    mkdir(&new, mode(0o755))?;
    let paths = ["new/file", "after", "later"].map(|name| watched.join(name));
    for _ in 0..MANY {
        sys::creat(&paths[0], 0o644)?;
        unlink(&paths[0])?;
    }
    // Nobody can look at it any more.
    fs::remove_dir(&new)?;
    kill(pid, Signal::SIGCONT)?;
    for (path, line) in paths[1..].iter().zip(["after\"", "/watched/later\""]) {
        sys::creat(path, 0o644)?;
        let told = trace.program.wait_out(line.as_bytes());
        told.with_context(|| format!("{line} is not told"))?;
    }
    let output = trace.stop()?;

    let lines = output.out.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let events = lines.map(serde_json::from_slice::<Value>);
    let mut counts = [0; 2];
    for event in events {
        let event = event?;
        let Some(path) = event["path"].as_str().map(Path::new) else {
            continue;
        };
        let is_partial = event["path_status"] == "partial";
        counts[usize::from(is_partial)] += 1;
        let is_right = match is_partial {
            true => {
                let mut made = paths.iter().chain([&new]);
                stage == "st-probe" && made.any(|made| made.ends_with(path))
            }
            false => {
                path == new
                    || path.parent() == Some(&watched)
                    || paths.iter().any(|made| made == path)
            }
        };
        if !is_right {
            report.problems.push(format!("a wrong path: {event}"));
        }
    }
    report.problems.truncate(SHOWN);
    let [complete, partial] = counts;
    report
        .notes
        .push(format!("{complete} complete, {partial} partial"));
    if !output.err.contains("lost (") || complete + partial > 2 * MANY {
        report
            .problems
            .push(format!("nothing was lost: {}", output.err));
    }
    Ok(())
}

/// One of the two paths is in a directory that is not known.
fn file_from_outside(log: &mut Log, ground: &Ground) -> Result<()> {
    let unseen = levels(&ground.outside);
    // Renames carry fewer names on 7.x, so not at the bottom.
    let near = ground.outside.join("level0");
    log.silent("create", || sys::creat(&near.join("file"), 0o644))?;
    log.silent("create", || sys::creat(&unseen.join("file"), 0o644))?;
    let inner = ground.watched.join("level0/file");
    moved(log, &near.join("file"), &inner)?;
    let same = ground.watched.join("level0/other");
    moved(log, &inner, &same)?;
    let linked = near.join("link");
    log.named("link", &same, &linked, || {
        errno(fs::hard_link(&same, &linked))
    })?;
    moved(log, &same, &near.join("back"))
}

/// The first level of the directories outside, and what is near in it: as deep as every kernel
/// records names.
fn guest(ground: &Ground) -> (PathBuf, PathBuf) {
    let from = ground.outside.join("level0");
    (from, ground.watched.join("in"))
}

/// A directory comes from outside, and is used at once.
fn moved_in(log: &mut Log, ground: &Ground) -> Result<()> {
    let (from, to) = guest(ground);
    moved(log, &from, &to)?;
    create(log, &to.join("level1/file"))?;
    let inner = to.join("level1/level2/level3/level4/level5/level6");
    create(log, &inner.join("file"))?;
    log.dir = levels(&ground.outside)
        .strip_prefix(&from)
        .map(|rest| to.join(rest))?
        .join("r");
    operations(log, &ground.can)
}

/// It is gone before anybody can look at it: the kernel's own names tell the path.
fn moved_in_and_out(log: &mut Log, ground: &Ground) -> Result<()> {
    let (from, to) = guest(ground);
    moved(log, &from, &to)?;
    create(log, &to.join("level1/file"))?;
    moved(log, &to, &from)
}

/// Another directory gets the name of the watched one.
fn watch_replaced(log: &mut Log, ground: &Ground) -> Result<()> {
    let old = ground.watched.with_file_name("old");
    moved(log, &ground.watched, &old)?;
    moved(log, &ground.outside, &ground.watched)?;
    create(log, &ground.watched.join("level0/file"))?;
    log.silent("create", || sys::creat(&old.join("level0/unseen"), 0o644))?;
    create(log, &levels(&ground.watched).join("file"))
}

/// The file's directory is removed before its mode is set.
fn removed(log: &mut Log, ground: &Ground) -> Result<()> {
    let dir = ground.watched.join("gone");
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    let path = dir.join("file");
    let file = log.made("create", &path, || sys::creat(&path, 0o644))?;
    log.removed("delete", &path, || unlink(&path))?;
    log.removed("rmdir", &dir, || errno(fs::remove_dir(&dir)))?;
    let span = log.run(|| fchmod(&file, mode(0o604)))?.1;
    let fields = &mut log
        .expect_file(span, "attrib", &path, &fstat(&file)?)?
        .fields;
    fields.insert("path_status".into(), "deleted".into());
    fields.insert("attrib".into(), json!({"mode": libc::S_IFREG | 0o604}));
    Ok(())
}

/// Mounts below the watched directory, of another file system and of a directory that nobody has
/// looked at.
fn mounted(log: &mut Log, ground: &Ground) -> Result<()> {
    let at = ground.watched.join("level0/level1");
    tmpfs(&at, None)?;
    let dir = at.join("dir");
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    create(log, &dir.join("file"))?;
    unmount(&at)?;
    bind(&ground.outside, &at)?;
    create(log, &at.join("level0/level1/file"))?;
    unmount(&at)?;
    create(log, &at.join("file"))
}
