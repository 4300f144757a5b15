//! Paths that no record of the kernel holds: deep directories, before and while tracing,
//! moved, removed, forgotten, and reached in other ways than from the root.

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, RenameFlags};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{mkdir, unlink};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files::{Can, directory, errno, mode, open_with, operations, rename};
use crate::fs::Kind;
use crate::log::Log;
use crate::spaces::{finish_unsure, tells_subvolumes};
use crate::trace::{Trace, below, finish, worked};
use crate::{Case, Report, sys};

/// How deep the directories go.
const DEPTH: usize = 60;

/// What there is before tracing.
struct Ground {
    /// The watched directory, with a deep one in it: its bottom is the log's directory.
    watched: PathBuf,
    /// Another one, with another deep one, on the same file system.
    outside: PathBuf,
    can: Can,
    /// Whether what was not met before is known to be elsewhere: not so on overlayfs, and
    /// where inode numbers repeat.
    steady: bool,
}

type Work = fn(&mut Log, &Ground) -> Result<()>;

const WORKS: [(&str, Work); 9] = [
    ("inside", inside),
    ("while", while_tracing),
    ("moved-within", moved_within),
    ("exchanged", exchanged),
    ("moved-out-and-back", moved_out_and_back),
    ("moved-in", moved_in),
    ("inode-again", inode_again),
    ("forgotten", forgotten),
    ("from-elsewhere", from_elsewhere),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, work) in WORKS {
        // The rest does not hang on the file system.
        let varies = ["inside", "moved-in", "forgotten"].contains(&name);
        let kinds = if varies {
            &Kind::ALL[..]
        } else {
            &[Kind::Ext4]
        };
        let (sure, unsure): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| is_sure(**kind));
        for (kinds, end) in [(sure, ""), (unsure, "/btrfs")] {
            if !kinds.is_empty() {
                let name = format!("paths/{name}{end}");
                cases.push(Case::new(name.clone(), move |report: &mut Report| {
                    at_the_bottom(report, &kinds, &name.replace('/', "-"), 3, work)
                }));
            }
        }
    }
    cases.push(Case::new("paths/longest", |report: &mut Report| {
        at_the_bottom(report, &[Kind::Ext4], "paths-longest", 63, inside)
    }));
    cases
}

/// Whether inode numbers do not repeat, or are told apart.
fn is_sure(kind: Kind) -> bool {
    kind != Kind::Btrfs || tells_subvolumes()
}

/// Directories one in another, from `dir` down.
fn levels(dir: &Path, length: usize) -> PathBuf {
    let name = |level: usize| format!("{level:0length$}");
    (0..DEPTH).fold(dir.to_owned(), |dir, level| dir.join(name(level)))
}

/// Traces what one thread does on some file systems, with directories there before.
fn at_the_bottom(
    report: &mut Report,
    kinds: &[Kind],
    name: &str,
    length: usize,
    work: Work,
) -> Result<()> {
    let mut grounds = Vec::new();
    for kind in kinds {
        let mut place = kind.place(name)?;
        let ground = Ground {
            watched: place.dir.join("watched"),
            outside: place.dir.join("outside"),
            can: Can::probe(&place)?,
            steady: place.inos && is_sure(*kind),
        };
        for tree in [&ground.watched, &ground.outside] {
            fs::create_dir_all(levels(tree, length)).context("deep directories")?;
        }
        place.dir = levels(&ground.watched, length);
        grounds.push((place, ground));
    }
    let trace = Trace::start(below(grounds.iter().map(|(_, ground)| &ground.watched)))?;
    let mut expected = Vec::new();
    for (number, (place, ground)) in grounds.iter().enumerate() {
        let mut log = Log::new(place);
        if number == 0 {
            // At the bottom nothing is told before the snapshot is taken.
            let ready = log.path("ready");
            create(&mut log, &ready)?;
            let told = trace.program.wait_out(b"ready");
            told.context("the snapshot is not taken")?;
        }
        let result = work(&mut log, ground);
        expected.extend(worked(report, vec![(log, result)]));
    }
    if kinds.iter().all(|kind| is_sure(*kind)) {
        return finish(report, trace, &expected);
    }
    finish_unsure(report, trace, &expected)
}

/// All operations, in a directory of their own below `dir`.
fn all(log: &mut Log, ground: &Ground, dir: &Path) -> Result<()> {
    log.dir = dir.join("r");
    operations(log, &ground.can)
}

fn inside(log: &mut Log, ground: &Ground) -> Result<()> {
    let dir = log.dir.clone();
    all(log, ground, &dir)
}

/// Makes one directory after the other, in one that was there.
fn while_tracing(log: &mut Log, ground: &Ground) -> Result<()> {
    let mut dir = ground.watched.clone();
    for level in 0..DEPTH {
        dir.push(format!("new{level}"));
        log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    }
    all(log, ground, &dir)
}

/// The directory of a level, and what of the bottom's path is below it.
fn split_at(top: &Path, bottom: &Path, level: usize) -> Result<(PathBuf, PathBuf)> {
    let below = bottom.strip_prefix(top)?;
    let upper: PathBuf = below.components().take(level).collect();
    let lower = below.strip_prefix(&upper)?.to_owned();
    Ok((top.join(upper), lower))
}

fn moved(log: &mut Log, from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
    let expected = log.named("rename", from, to, || rename(from, to, flags))?;
    if flags == RenameFlags::RENAME_EXCHANGE {
        expected.fields.insert("exchange".into(), true.into());
    }
    Ok(())
}

/// Directories are renamed at several depths, the one around and the one inside.
fn moved_within(log: &mut Log, ground: &Ground) -> Result<()> {
    let mut bottom = log.dir.clone();
    for level in [50, 10, 30] {
        let (dir, rest) = split_at(&ground.watched, &bottom, level)?;
        let to = ground.watched.join(format!("from{level}"));
        moved(log, &dir, &to, RenameFlags::empty())?;
        // Back to where its depth is again, below another name.
        let back = dir.with_file_name("other");
        create(log, &to.join(&rest).join(format!("there{level}")))?;
        moved(log, &to, &back, RenameFlags::empty())?;
        bottom = back.join(rest);
        create(log, &bottom.join(format!("here{level}")))?;
    }
    all(log, ground, &bottom)
}

fn exchanged(log: &mut Log, ground: &Ground) -> Result<()> {
    let bottom = log.dir.clone();
    let (upper, rest) = split_at(&ground.watched, &bottom, 5)?;
    let other = ground.watched.join("other");
    let inner = other.join("1/2/3/4/5/6/7/8/9/10/11/12");
    let mut dir = other.clone();
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    for name in inner.strip_prefix(&other)?.components() {
        dir.push(name);
        log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    }
    moved(log, &other, &upper, RenameFlags::RENAME_EXCHANGE)?;
    create(log, &other.join(&rest).join("one"))?;
    create(log, &upper.join(inner.strip_prefix(&other)?).join("two"))?;
    moved(log, &upper, &other, RenameFlags::RENAME_EXCHANGE)?;
    create(log, &bottom.join("three"))?;
    create(log, &inner.join("four"))
}

fn create(log: &mut Log, path: &Path) -> Result<()> {
    log.made("create", path, || sys::creat(path, 0o644))
        .map(drop)
}

/// What is done out there is not reported; after it came back it is known as before.
fn moved_out_and_back(log: &mut Log, ground: &Ground) -> Result<()> {
    let bottom = log.dir.clone();
    let (dir, rest) = split_at(&ground.watched, &bottom, 20)?;
    let out = ground.outside.join("guest");
    moved(log, &dir, &out, RenameFlags::empty())?;
    let unseen = out.join(&rest).join("unseen");
    log.silent("create", || sys::creat(&unseen, 0o644))?;
    log.silent("mkdir", || mkdir(&out.join(&rest).join("new"), mode(0o755)))?;
    let to = dir.with_file_name("back");
    moved(log, &out, &to, RenameFlags::empty())?;
    let bottom = to.join(&rest);
    let (unseen, new) = (bottom.join("unseen"), bottom.join("new"));
    log.removed("delete", &unseen, || unlink(&unseen))?;
    all(log, ground, &new)
}

/// A deep directory from where nobody has looked.
fn moved_in(log: &mut Log, ground: &Ground) -> Result<()> {
    let bottom = log.dir.clone();
    let outside = levels(&ground.outside, 3);
    if ground.steady {
        log.silent("create", || sys::creat(&outside.join("unseen"), 0o644))?;
    }
    let (dir, rest) = split_at(&ground.outside, &outside, 1)?;
    let to = bottom.join("guest");
    moved(log, &dir, &to, RenameFlags::empty())?;
    create(log, &to.join(&rest).join("file"))?;
    all(log, ground, &to.join(&rest))
}

/// A removed directory's inode is another's, elsewhere.
fn inode_again(log: &mut Log, ground: &Ground) -> Result<()> {
    let bottom = log.dir.clone();
    let (upper, _) = split_at(&ground.watched, &bottom, 30)?;
    let mut again = 0;
    for round in 0..40 {
        let old = bottom.join(format!("old{round}"));
        log.made("mkdir", &old, || mkdir(&old, mode(0o755)))?;
        create(log, &old.join("file"))?;
        let file = old.join("file");
        log.removed("delete", &file, || unlink(&file))?;
        let inode = fs::metadata(&old)?.ino();
        log.removed("rmdir", &old, || errno(fs::remove_dir(&old)))?;
        let mut dir = upper.join(format!("new{round}"));
        log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
        again += u32::from(fs::metadata(&dir)?.ino() == inode);
        // Deep enough that its number is what its path hangs on.
        for name in ["1", "2", "3", "4", "5", "6", "7", "8"] {
            dir.push(name);
            log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
        }
        create(log, &dir.join("file"))?;
    }
    if again == 0 {
        bail!("no inode number was used again");
    }
    Ok(())
}

/// The kernel forgets dentries and inodes, and reads them again.
fn forgotten(log: &mut Log, _: &Ground) -> Result<()> {
    let bottom = log.dir.clone();
    create(log, &bottom.join("before"))?;
    for round in 0..3 {
        nix::unistd::sync();
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        create(log, &bottom.join(format!("file{round}")))?;
        let old = bottom.join(format!("dir{round}"));
        log.made("mkdir", &old, || mkdir(&old, mode(0o755)))?;
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        let new = bottom.join(format!("renamed{round}"));
        moved(log, &old, &new, RenameFlags::empty())?;
        create(log, &new.join("file"))?;
    }
    Ok(())
}

/// By a working directory whose path changes, from a chroot, by a descriptor.
fn from_elsewhere(log: &mut Log, ground: &Ground) -> Result<()> {
    let bottom = log.dir.clone();
    // The thread gets a root and a working directory of its own.
    unshare(CloneFlags::CLONE_FS)?;
    std::env::set_current_dir(&bottom)?;
    let (dir, rest) = split_at(&ground.watched, &bottom, 40)?;
    let renamed = dir.with_file_name("renamed");
    moved(log, &dir, &renamed, RenameFlags::empty())?;
    let bottom = renamed.join(&rest);
    let path = bottom.join("relative");
    log.made("create", &path, || sys::creat(Path::new("relative"), 0o644))?;

    let fd = directory(&bottom)?;
    let path = bottom.join("by-descriptor");
    let link = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    log.made("create", &path, || {
        sys::creat(&link.join("by-descriptor"), 0o644)
    })?;

    let (jail, rest) = split_at(&ground.watched, &bottom, 20)?;
    let path = bottom.join("in-chroot");
    let (file, span) = {
        let root = directory(Path::new("/"))?;
        std::os::unix::fs::chroot(&jail)?;
        let inner = Path::new("/").join(&rest).join("in-chroot");
        let made = log.run(|| open_with(&inner, OFlag::O_CREAT));
        nix::unistd::fchdir(&root)?;
        std::os::unix::fs::chroot(".")?;
        made?
    };
    drop(file);
    log.expect_made(span, "create", &path)?;

    // A working directory that is removed: nothing can be made there, and it says so.
    let gone = bottom.join("gone");
    log.made("mkdir", &gone, || mkdir(&gone, mode(0o755)))?;
    std::env::set_current_dir(&gone)?;
    log.removed("rmdir", &gone, || errno(fs::remove_dir(&gone)))?;
    let error = sys::creat(Path::new("file"), 0o644);
    std::env::set_current_dir("/")?;
    if error.err() != Some(nix::errno::Errno::ENOENT) {
        bail!("a file could be made in a removed directory");
    }
    Ok(())
}
