//! Every operation on files, on every file system: what is an event, and what is not.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, OFlag, OpenHow, RenameFlags, open, openat, openat2, renameat2,
};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mkdirat, mknod, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, chown, ftruncate, linkat, mkdir, setfsuid, symlinkat, truncate,
    unlink, unlinkat,
};
use serde_json::json;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::acls::acls;
use crate::attributes::{MODE, chmod, modes, owners, set_ids};
use crate::fs::{Kind, Place};
use crate::log::{Log, Set};
use crate::trace::{Trace, below, finish, four_each, worked};
use crate::{Case, Report, sys};

/// How often each thread goes through all of it.
const ROUNDS: usize = 2;

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![Case::new("files", files), Case::new("existing", existing)]
}

fn files(report: &mut Report) -> Result<()> {
    let places = Kind::places("files")?;
    let can = places.iter().map(Can::probe).collect::<Result<Vec<_>>>()?;
    for (kind, can) in Kind::ALL.into_iter().zip(&can) {
        let lacks = can.lacks().into_iter();
        report
            .notes
            .extend(lacks.map(|lack| format!("{}: {lack}", kind.name())));
    }
    four_each(
        report,
        &places,
        |_| Ok(()),
        |log, number| {
            let dir = log.dir.clone();
            for round in 0..ROUNDS {
                log.dir = dir.join(format!("r{round}"));
                operations(log, &can[number])?;
            }
            Ok(())
        },
    )
}

/// What not every file system can do.
#[derive(Debug, Clone, Copy)]
pub struct Can {
    /// RENAME_EXCHANGE.
    pub exchange: bool,
    /// O_TMPFILE.
    pub tmpfile: bool,
    /// Whether the file system itself clears set-id bits at a write.
    pub clears_at_write: bool,
}

impl Can {
    /// Tries it, below `place`, before anything is traced.
    pub fn probe(place: &Place) -> Result<Self> {
        let names = ["a", "b"].map(|name| place.dir.join(name));
        for name in &names {
            fs::write(name, "")?;
        }
        let exchange = rename(&names[0], &names[1], RenameFlags::RENAME_EXCHANGE);
        for name in &names {
            fs::remove_file(name)?;
        }
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY;
        let tmpfile = open(&place.dir, flags, Mode::from_bits_truncate(0o600));
        Ok(Self {
            exchange: supported(exchange)?,
            tmpfile: supported(tmpfile)?,
            // On overlayfs it is the upper layer that does.
            clears_at_write: place.inos,
        })
    }

    /// Says what it cannot do.
    pub fn lacks(&self) -> Vec<String> {
        [
            (self.exchange, "RENAME_EXCHANGE"),
            (self.tmpfile, "O_TMPFILE"),
        ]
        .into_iter()
        .filter(|(can, _)| !can)
        .map(|(_, what)| format!("this file system has no {what}"))
        .collect()
    }
}

fn supported<T>(result: nix::Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EXDEV) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// renameat2(2).
pub fn rename(old: &Path, new: &Path, flags: RenameFlags) -> nix::Result<()> {
    renameat2(AT_FDCWD, old, AT_FDCWD, new, flags)
}

/// The mode of these bits.
pub fn mode(bits: libc::mode_t) -> Mode {
    Mode::from_bits_truncate(bits)
}

/// The error of a function of std's, as nix has it.
pub fn errno<T>(result: std::io::Result<T>) -> nix::Result<T> {
    result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}

/// A directory, open.
pub fn directory(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
}

/// open(2) with these flags, to write.
pub fn open_with(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    open(path, flags | OFlag::O_WRONLY, mode(0o666))
}

/// Everything, in `log.dir`, which it makes.
pub fn operations(log: &mut Log, can: &Can) -> Result<()> {
    let dir = log.dir.clone();
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    creating(log).context("creating")?;
    nodes(log).context("making nodes")?;
    linking(log, can).context("linking")?;
    renaming(log, can).context("renaming")?;
    modes(log).context("setting modes")?;
    owners(log).context("setting owners")?;
    set_ids(log, can.clears_at_write).context("set-id bits")?;
    acls(log).context("access control lists")?;
    silent(log).context("what is no event")?;
    removing(log).context("removing")
}

type Creating = (&'static str, fn(&Path) -> nix::Result<Option<OwnedFd>>);

/// All the ways to make a regular file.
const CREATING: [Creating; 8] = [
    ("creat", |path| sys::creat(path, 0o640).map(Some)),
    ("open", |path| open_with(path, OFlag::O_CREAT).map(Some)),
    ("open-excl", |path| {
        open_with(path, OFlag::O_CREAT | OFlag::O_EXCL).map(Some)
    }),
    ("open-read", |path| {
        open(path, OFlag::O_CREAT | OFlag::O_RDONLY, mode(0)).map(Some)
    }),
    ("openat", |path| {
        let (dir, name) = split(path)?;
        openat(dir, name, OFlag::O_CREAT | OFlag::O_RDWR, mode(0o777)).map(Some)
    }),
    ("openat2", |path| {
        let (dir, name) = split(path)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY;
        openat2(dir, name, OpenHow::new().flags(flags).mode(mode(0o604))).map(Some)
    }),
    ("mknod", |path| {
        mknod(path, SFlag::S_IFREG, mode(0o620), 0).map(|()| None)
    }),
    ("mknodat", |path| {
        let (dir, name) = split(path)?;
        mknodat(dir, name, SFlag::S_IFREG, mode(0o602), 0).map(|()| None)
    }),
];

/// The directory of a path, open, and the name.
pub fn split(path: &Path) -> nix::Result<(OwnedFd, &Path)> {
    let dir = path.parent().ok_or(Errno::EINVAL)?;
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    Ok((directory(dir)?, Path::new(name)))
}

fn creating(log: &mut Log) -> Result<()> {
    for (name, create) in CREATING {
        let path = log.path(name);
        log.made("create", &path, || create(&path))?;
        for flags in [OFlag::O_CREAT, OFlag::O_CREAT | OFlag::O_TRUNC] {
            log.silent("O_CREAT on an existing file", || open_with(&path, flags))?;
        }
        log.silent("creat on an existing file", || sys::creat(&path, 0o666))?;
    }
    // Through a dangling symbolic link: the event is where the file is.
    let (link, target) = (log.path("dangling"), log.path("target"));
    log.made("symlink", &link, || symlinkat("target", AT_FDCWD, &link))?;
    let span = log.run(|| open_with(&link, OFlag::O_CREAT))?.1;
    log.expect_made(span, "create", &target)?;
    Ok(())
}

fn nodes(log: &mut Log) -> Result<()> {
    let dir = log.path("dir");
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o775)))?;
    let dir = log.path("dirat");
    log.made("mkdir", &dir, || {
        let (dir, name) = split(&dir)?;
        mkdirat(dir, name, mode(0o1777))
    })?;
    // What is made in a set-group-id directory has more bits than were asked for.
    log.attrib(
        &dir,
        Set {
            gid: true,
            ..Set::default()
        },
        || chown(&dir, None, Some(Gid::from_raw(1000))),
    )?;
    log.attrib(&dir, MODE, || chmod(&dir, 0o2775))?;
    let inherits = dir.join("inherits");
    log.made("mkdir", &inherits, || mkdir(&inherits, mode(0o755)))?;

    let nodes = [
        ("pipe", SFlag::S_IFIFO, 0),
        ("char", SFlag::S_IFCHR, makedev(1, 3)),
        ("block", SFlag::S_IFBLK, makedev(7, 200)),
        // More than eight bits of each number.
        ("large", SFlag::S_IFBLK, makedev(259, 65537)),
    ];
    for (name, kind, rdev) in nodes {
        let path = log.path(name);
        log.made("mknod", &path, || mknod(&path, kind, mode(0o660), rdev))?;
        let path = log.path(format!("{name}at"));
        log.made("mknod", &path, || {
            let (dir, name) = split(&path)?;
            mknodat(dir, name, kind, mode(0o606), rdev)
        })?;
    }
    let socket = log.path("socket");
    log.made("mknod", &socket, || {
        // A socket's address has no room for a long path.
        let (dir, name) = split(&socket)?;
        let short = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), name.display());
        errno(UnixDatagram::bind(short))
    })?;

    for (name, content) in [
        ("symlink", "somewhere/else".to_owned()),
        ("symlink-long", "x".repeat(1000)),
    ] {
        let path = log.path(name);
        log.made("symlink", &path, || {
            symlinkat(content.as_str(), AT_FDCWD, &path)
        })?;
    }
    // A directory's other name is not where its file is.
    let link = log.path("dirlink");
    log.made("symlink", &link, || symlinkat("dir", AT_FDCWD, &link))?;
    let span = log.run(|| sys::creat(&link.join("file"), 0o644))?.1;
    log.expect_made(span, "create", &log.path("dir/file"))?;
    Ok(())
}

fn linking(log: &mut Log, can: &Can) -> Result<()> {
    let (open, link) = (log.path("open"), log.path("link"));
    log.named("link", &open, &link, || errno(fs::hard_link(&open, &link)))?;
    let other = log.path("dir/link");
    log.named("link", &open, &other, || {
        errno(fs::hard_link(&open, &other))
    })?;
    // Of a symbolic link itself, and of what it points to.
    let (dangling, itself) = (log.path("dangling"), log.path("link-itself"));
    log.named("link", &dangling, &itself, || {
        linkat(AT_FDCWD, &dangling, AT_FDCWD, &itself, AtFlags::empty())
    })?;
    let (target, followed) = (log.path("target"), log.path("link-target"));
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    log.named("link", &target, &followed, || {
        linkat(AT_FDCWD, &dangling, AT_FDCWD, &followed, follow)
    })?;

    if can.tmpfile {
        let file = log.silent("O_TMPFILE", || open_with(&log.dir, OFlag::O_TMPFILE))?;
        let proc = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let path = log.path("tmpfile");
        // Its first name makes it. The next one is a further one.
        log.made("create", &path, || {
            linkat(AT_FDCWD, &proc, AT_FDCWD, &path, follow)
        })?;
        let second = log.path("tmpfile2");
        log.named("link", &path, &second, || {
            errno(fs::hard_link(&path, &second))
        })?;
    }
    Ok(())
}

fn renaming(log: &mut Log, can: &Can) -> Result<()> {
    let none = RenameFlags::empty();
    let renames = [
        ("creat", "renamed", none),
        // Replacing another.
        ("renamed", "open-excl", none),
        ("open-excl", "dir/across", none),
        ("dir/across", "back", none),
        ("back", "noreplace", RenameFlags::RENAME_NOREPLACE),
        ("symlink", "symlink-renamed", none),
        ("pipe", "pipe-renamed", none),
        ("dir", "dir-renamed", none),
        ("dir-renamed/file", "dir-renamed/file2", none),
        ("dirat/inherits", "dir-renamed/moved", none),
    ];
    for (old, new, flags) in renames {
        let (old, new) = (log.path(old), log.path(new));
        log.named("rename", &old, &new, || rename(&old, &new, flags))?;
    }
    // A directory that replaces an empty one; then something in it.
    let (old, new) = (log.path("dirat"), log.path("dir-renamed/moved"));
    log.named("rename", &old, &new, || rename(&old, &new, none))?;
    let path = log.path("dir-renamed/new");
    log.made("create", &path, || sys::creat(&path, 0o600))?;

    if can.exchange {
        for (old, new) in [("noreplace", "open-read"), ("openat", "dir-renamed")] {
            let (old, new) = (log.path(old), log.path(new));
            log.named("rename", &old, &new, || {
                rename(&old, &new, RenameFlags::RENAME_EXCHANGE)
            })?
            .fields
            .insert("exchange".into(), json!(true));
        }
        // And back, for what follows.
        let (old, new) = (log.path("dir-renamed"), log.path("openat"));
        log.named("rename", &old, &new, || {
            rename(&old, &new, RenameFlags::RENAME_EXCHANGE)
        })?
        .fields
        .insert("exchange".into(), json!(true));
    }
    // rename(2): nothing is done if both are names of the same file.
    let (open, link) = (log.path("open"), log.path("link"));
    log.silent("rename to another hard link", || rename(&open, &link, none))?;
    log.silent("rename to itself", || rename(&open, &open, none))
}

/// Runs an operation with the rights of a user that has none; for this thread only.
pub fn as_nobody<T>(operation: impl FnOnce() -> T) -> T {
    let before = setfsuid(Uid::from_raw(65534));
    let result = operation();
    setfsuid(before);
    result
}

fn silent(log: &mut Log) -> Result<()> {
    let path = log.path("openat2");
    let time = TimeSpec::new(1_000_000_000, 0);
    log.silent("utimensat", || {
        let flag = UtimensatFlags::FollowSymlink;
        utimensat(AT_FDCWD, &path, &time, &time, flag)
    })?;
    log.silent("truncate", || truncate(&path, 100))?;
    log.silent("chown(-1, -1)", || chown(&path, None, None))?;
    let file = log.silent("O_TRUNC", || open_with(&path, OFlag::O_TRUNC))?;
    log.silent("ftruncate", || ftruncate(&file, 10))?;
    log.silent("write", || nix::unistd::write(&file, b"content"))?;
    log.silent("read", || errno(fs::read(&path)))?;
    log.silent("readdir", || {
        errno(fs::read_dir(&log.dir).map(Iterator::count))
    })?;
    log.silent("stat", || errno(fs::metadata(&path)))?;
    Ok(())
}

fn removing(log: &mut Log) -> Result<()> {
    let names = ["open", "link", "char", "blockat", "socket", "dangling"];
    for name in names {
        let path = log.path(name);
        log.removed("delete", &path, || unlink(&path))?;
    }
    let path = log.path("openat2");
    log.removed("delete", &path, || {
        let (dir, name) = split(&path)?;
        unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)
    })?;
    let dirs = ["dir-renamed/moved", "d"];
    let path = log.path(dirs[1]);
    log.made("mkdir", &path, || mkdir(&path, mode(0o700)))?;
    for name in dirs {
        let path = log.path(name);
        log.removed("rmdir", &path, || errno(fs::remove_dir(&path)))?;
    }
    // The same names again, as something else.
    for name in names {
        let path = log.path(name);
        log.made("mkdir", &path, || mkdir(&path, mode(0o700)))?;
        log.removed("rmdir", &path, || {
            let (dir, name) = split(&path)?;
            unlinkat(dir, name, UnlinkatFlags::RemoveDir)
        })?;
        log.made("create", &path, || sys::creat(&path, 0o700))?;
        log.removed("delete", &path, || unlink(&path))?;
    }
    Ok(())
}

/// O_CREAT on a file that exists but that the kernel has forgotten: it begins like a
/// creation. What is next made under that name, or by that thread, is told rightly.
fn existing(report: &mut Report) -> Result<()> {
    let places = Kind::places("existing")?;
    for place in &places {
        for name in EXISTING.into_iter().chain(["other"]) {
            fs::write(place.dir.join(name), "content")?;
        }
    }
    let trace = Trace::start(below(places.iter().map(|place| &place.dir)))?;
    let mut expected = Vec::new();
    for place in &places {
        let mut log = Log::new(place);
        let result = make_again(&mut log);
        expected.extend(worked(report, vec![(log, result)]));
    }
    finish(report, trace, &expected)
}

/// The files that are there; each is then made anew, as what its name tells.
const EXISTING: [&str; 6] = ["mkdir", "link", "symlink", "pipe", "create", "rename"];

fn make_again(log: &mut Log) -> Result<()> {
    let flags = [
        OFlag::O_CREAT,
        OFlag::O_CREAT | OFlag::O_TRUNC,
        OFlag::O_CREAT | OFlag::O_APPEND,
    ];
    let other = log.path("other");
    for (name, flags) in EXISTING.into_iter().zip(flags.into_iter().cycle()) {
        let path = log.path(name);
        forget()?;
        log.silent("O_CREAT on an existing file", || open_with(&path, flags))?;
        forget()?;
        log.fails(&[Errno::EEXIST], "O_EXCL", || {
            open_with(&path, flags | OFlag::O_EXCL)
        })?;
        log.removed("delete", &path, || unlink(&path))?;
        match name {
            "mkdir" => log.made("mkdir", &path, || mkdir(&path, mode(0o755)))?,
            "link" => {
                log.named("link", &other, &path, || {
                    errno(fs::hard_link(&other, &path))
                })?;
            }
            "symlink" => log.made("symlink", &path, || symlinkat("x", AT_FDCWD, &path))?,
            "pipe" => log.made("mknod", &path, || {
                mknod(&path, SFlag::S_IFIFO, mode(0o600), 0)
            })?,
            "create" => drop(log.made("create", &path, || sys::creat(&path, 0o644))?),
            _ => {
                log.named("rename", &other, &path, || {
                    rename(&other, &path, RenameFlags::empty())
                })?;
            }
        }
    }
    Ok(())
}

/// Empties the dentry and inode caches.
fn forget() -> Result<()> {
    // Only what is on the disk can be forgotten.
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "2").context("cannot drop the caches")
}
