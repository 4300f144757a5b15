//! What fails is no event, and what then succeeds under the same name is told rightly.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags};
use nix::sys::stat::{SFlag, mknod};
use nix::unistd::{Uid, chown, mkdir, symlinkat, unlink};
use std::fs;
use std::path::{Path, PathBuf};

use crate::attributes::chmod;
use crate::files::{as_nobody, errno, mode, open_with, rename};
use crate::fs::{self as file_systems, Kind};
use crate::log::Log;
use crate::trace::four_each;
use crate::{Case, Report, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![Case::new("failures", failures)]
}

/// Another file system.
const ELSEWHERE: &str = "/mnt/elsewhere";

/// Where the same files are shown read-only.
fn shown(kind: Kind) -> PathBuf {
    Path::new("/mnt/read-only").join(kind.name())
}

fn failures(report: &mut Report) -> Result<()> {
    let places = Kind::places("failures")?;
    file_systems::tmpfs(Path::new(ELSEWHERE), None)?;
    fs::write(Path::new(ELSEWHERE).join("file"), "")?;
    for (kind, place) in Kind::ALL.into_iter().zip(&places) {
        file_systems::bind(&place.dir, &shown(kind))?;
        file_systems::make_read_only(&shown(kind))?;
    }
    let result = four_each(
        report,
        &places,
        |dir| {
            fs::create_dir_all(dir.join("full/sub"))?;
            fs::create_dir_all(dir.join("sticky"))?;
            chmod(&dir.join("sticky"), 0o1777)?;
            fs::write(dir.join("sticky/file"), "")?;
            fs::create_dir(dir.join("empty"))?;
            fs::write(dir.join("file"), "")?;
            fs::write(dir.join("other"), "")?;
            Ok(())
        },
        |log, number| {
            exists(log).context("EEXIST")?;
            absent(log).context("ENOENT")?;
            denied(log).context("EACCES")?;
            read_only(log, &shown(Kind::ALL[number])).context("EROFS")?;
            kinds(log).context("ENOTEMPTY and wrong kinds")?;
            elsewhere(log).context("EXDEV")?;
            // Only this has happened, in all that time.
            for name in ["new", "absent"] {
                let path = log.path(name);
                log.made("mkdir", &path, || mkdir(&path, mode(0o755)))?;
            }
            Ok(())
        },
    );
    for kind in Kind::ALL {
        file_systems::unmount(&shown(kind))?;
    }
    file_systems::unmount(Path::new(ELSEWHERE))?;
    result
}

/// A way to make something.
pub type Making = (&'static str, fn(&Path, &Path) -> nix::Result<()>);

/// Makes the second path: as another name of the first, where it takes one.
pub const MAKING: [Making; 7] = [
    ("creat", |_, path| sys::creat(path, 0o644).map(drop)),
    ("O_EXCL", |_, path| {
        open_with(path, OFlag::O_CREAT | OFlag::O_EXCL).map(drop)
    }),
    ("mkdir", |_, path| mkdir(path, mode(0o755))),
    ("mknod", |_, path| {
        mknod(path, SFlag::S_IFIFO, mode(0o644), 0)
    }),
    ("symlink", |_, path| symlinkat("x", AT_FDCWD, path)),
    ("link", |old, path| errno(fs::hard_link(old, path))),
    ("rename", |old, path| {
        rename(old, path, RenameFlags::RENAME_NOREPLACE)
    }),
];

/// Tries to make `path` in every way; each must fail with one of `errors`.
fn all_fail(log: &Log, errors: &[Errno], path: &Path, old: &Path) -> Result<()> {
    for (what, make) in MAKING {
        log.fails(errors, what, || make(old, path))?;
    }
    Ok(())
}

fn exists(log: &Log) -> Result<()> {
    for (what, make) in MAKING {
        // This one opens what exists.
        if what != "creat" {
            let (old, path) = (log.path("other"), log.path("file"));
            log.fails(&[Errno::EEXIST], what, || make(&old, &path))?;
        }
    }
    Ok(())
}

fn absent(log: &Log) -> Result<()> {
    let (path, file) = (log.path("absent"), log.path("file"));
    all_fail(log, &[Errno::ENOENT], &log.path("absent/file"), &file)?;
    let only = &[Errno::ENOENT];
    log.fails(only, "unlink", || unlink(&path))?;
    log.fails(only, "rmdir", || errno(fs::remove_dir(&path)))?;
    log.fails(only, "chmod", || chmod(&path, 0o600))?;
    log.fails(only, "chown", || chown(&path, Some(Uid::from_raw(1)), None))?;
    log.fails(only, "open", || open_with(&path, OFlag::empty()))?;
    log.fails(only, "link", || {
        errno(fs::hard_link(&path, log.path("new")))
    })?;
    for flags in [RenameFlags::empty(), RenameFlags::RENAME_EXCHANGE] {
        log.fails(only, "rename", || rename(&path, &file, flags))?;
    }
    log.fails(&[Errno::ENOENT, Errno::EINVAL], "exchange", || {
        rename(&file, &path, RenameFlags::RENAME_EXCHANGE)
    })
}

fn denied(log: &Log) -> Result<()> {
    // fs.protected_hardlinks comes first in link(2).
    let errors = &[Errno::EACCES, Errno::EPERM];
    let (new, file, sticky) = (log.path("new"), log.path("file"), log.path("sticky/file"));
    for (what, make) in MAKING {
        log.fails(errors, what, || as_nobody(|| make(&file, &new)))?;
    }
    log.fails(errors, "unlink", || as_nobody(|| unlink(&file)))?;
    // These get as far as vfs_unlink() and vfs_rename().
    log.fails(errors, "unlink, sticky", || as_nobody(|| unlink(&sticky)))?;
    log.fails(errors, "rename, sticky", || {
        let new = log.path("sticky/new");
        as_nobody(|| rename(&sticky, &new, RenameFlags::empty()))
    })?;
    log.fails(errors, "rmdir", || {
        as_nobody(|| errno(fs::remove_dir(log.path("empty"))))
    })?;
    log.fails(errors, "chmod", || as_nobody(|| chmod(&file, 0o777)))?;
    log.fails(errors, "chown", || {
        as_nobody(|| chown(&file, Some(Uid::from_raw(65534)), None))
    })
}

fn read_only(log: &Log, shown: &Path) -> Result<()> {
    let errors = &[Errno::EROFS];
    let thread = log.dir.file_name().context("a thread's directory")?;
    let dir = shown.join(thread);
    let file = dir.join("file");
    all_fail(log, errors, &dir.join("new"), &file)?;
    log.fails(errors, "unlink", || unlink(&file))?;
    log.fails(errors, "rmdir", || errno(fs::remove_dir(dir.join("empty"))))?;
    log.fails(errors, "chmod", || chmod(&file, 0o600))?;
    log.fails(errors, "chown", || {
        chown(&file, Some(Uid::from_raw(1)), None)
    })
}

fn kinds(log: &Log) -> Result<()> {
    let full = &[Errno::ENOTEMPTY, Errno::EEXIST];
    let none = RenameFlags::empty();
    let path = |name: &str| log.path(name);
    let (file, dir, empty) = (path("file"), path("full"), path("empty"));
    log.fails(full, "rmdir", || errno(fs::remove_dir(&dir)))?;
    log.fails(full, "rename", || rename(&empty, &dir, none))?;
    log.fails(&[Errno::EISDIR], "unlink", || unlink(&dir))?;
    log.fails(&[Errno::ENOTDIR], "rmdir", || errno(fs::remove_dir(&file)))?;
    log.fails(&[Errno::EISDIR], "rename", || rename(&file, &empty, none))?;
    log.fails(&[Errno::ENOTDIR], "rename", || rename(&empty, &file, none))?;
    log.fails(&[Errno::EINVAL], "rename", || {
        rename(&dir, &path("full/sub/below"), none)
    })?;
    log.fails(&[Errno::EISDIR], "open", || open_with(&dir, OFlag::O_CREAT))?;
    log.fails(&[Errno::EPERM], "link", || {
        errno(fs::hard_link(&dir, path("new")))
    })?;
    let long = path(&"n".repeat(256));
    all_fail(log, &[Errno::ENAMETOOLONG], &long, &file)
}

fn elsewhere(log: &Log) -> Result<()> {
    let (file, there) = (log.path("file"), Path::new(ELSEWHERE));
    let only = &[Errno::EXDEV];
    for (old, new) in [
        (file.clone(), there.join("new")),
        (there.join("file"), log.path("new")),
    ] {
        log.fails(only, "rename", || rename(&old, &new, RenameFlags::empty()))?;
        log.fails(only, "link", || errno(fs::hard_link(&old, &new)))?;
    }
    Ok(())
}
