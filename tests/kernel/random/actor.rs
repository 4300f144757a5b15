//! A thread that does what the plan says for it.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FchmodatFlags, FileStat, SFlag, fchmod, fchmodat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, chdir, fchdir, fchownat, linkat, symlinkat, unlinkat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::slice;

use super::op::{Action, Base, Op, Outcome, Route, SLOTS};
use super::tree::join;
use crate::attributes::chmod;
use crate::files::{directory, mode};
use crate::log::path_of;
use crate::log::{Span, now};

/// PATH_MAX of include/uapi/linux/limits.h, which counts the NUL.
const LONGEST_PATH: usize = 4095;

/// What only who did an operation knows.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// When.
    pub span: Span,
    /// The file's inode.
    pub ino: u64,
    /// The device of its file system, as stat(2) has it.
    pub dev: u64,
}

/// A thread with what it holds. Its working directory is its own.
#[derive(Debug, Default)]
pub struct Actor {
    held: [Option<OwnedFd>; SLOTS],
}

/// A path as system calls take it.
struct At<'a> {
    dir: Dir<'a>,
    path: PathBuf,
}

enum Dir<'a> {
    Here,
    Held(&'a OwnedFd),
    Opened(OwnedFd),
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Here => AT_FDCWD,
            Self::Held(fd) => fd.as_fd(),
            Self::Opened(fd) => fd.as_fd(),
        }
    }
}

impl At<'_> {
    fn stat(&self) -> nix::Result<FileStat> {
        fstatat(&self.dir, &self.path, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn open(&self, flags: OFlag, bits: u32) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        openat(&self.dir, &self.path, flags, mode(bits))
    }

    fn unlink(&self, flag: UnlinkatFlags) -> nix::Result<()> {
        unlinkat(&self.dir, &self.path, flag)
    }

    fn mknod(&self, kind: SFlag, bits: u32) -> nix::Result<()> {
        mknodat(&self.dir, &self.path, kind, mode(bits), 0)
    }
}

impl Actor {
    /// Does it, and checks that what was to come of it did.
    pub fn perform(&mut self, op: &Op) -> Result<Done> {
        let before = self.subject(op);
        let start = now();
        let result = self.call(op);
        let span = Span {
            before: start,
            after: now(),
        };
        match (&op.outcome, result) {
            (Outcome::Fails(errors), Err(error)) if errors.contains(&error) => {}
            (Outcome::Fails(_), result) => bail!("{op}: {result:?}"),
            (_, result) => result.with_context(|| op.to_string())?,
        }
        let stat = if op.action.makes() {
            self.subject(op)
        } else {
            before
        };
        let (ino, dev) = match (stat, &op.outcome) {
            (Ok(stat), _) => (stat.st_ino, stat.st_dev),
            (Err(error), Outcome::Told(..)) => bail!("{op}: stat: {error}"),
            (Err(_), _) => (0, 0),
        };
        Ok(Done { span, ino, dev })
    }

    /// The file that an operation is about.
    fn subject(&self, op: &Op) -> nix::Result<FileStat> {
        self.locate(op.old.as_ref().unwrap_or(&op.at))?.stat()
    }

    /// A path longer than system calls take is walked.
    fn locate(&self, route: &Route) -> nix::Result<At<'_>> {
        let held = |slot: usize| self.held[slot].as_ref().ok_or(Errno::EBADF);
        let (mut dir, base) = match &route.base {
            Base::Root(path) => (Dir::Here, path.clone()),
            Base::Cwd => (Dir::Here, b".".to_vec()),
            Base::Held(slot) => (Dir::Held(held(*slot)?), b".".to_vec()),
            Base::Proc(slot) => {
                let fd = held(*slot)?.as_raw_fd();
                // Not the link itself, where that is meant by the system call.
                (Dir::Here, format!("/proc/self/fd/{fd}/.").into_bytes())
            }
        };
        let mut path = base;
        for name in &route.names {
            if path.len() + 1 + name.len() > LONGEST_PATH {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                dir = Dir::Opened(openat(&dir, path_of(&path), flags, mode(0))?);
                path = b".".to_vec();
            }
            path = join(&path, slice::from_ref(name));
        }
        let path = path_of(&path).to_owned();
        Ok(At { dir, path })
    }

    fn call(&mut self, op: &Op) -> nix::Result<()> {
        match op.action {
            Action::Hold(slot) => return self.hold(slot, &op.at),
            Action::Release => return self.release(),
            Action::Mount | Action::Bind | Action::MoveMount | Action::Unmount => {
                return self.mount(op);
            }
            _ => {}
        }
        let at = self.locate(&op.at)?;
        if let Some(old) = &op.old {
            let old = self.locate(old)?;
            return match op.action {
                Action::Rename(flags) => renameat2(&old.dir, &old.path, &at.dir, &at.path, flags),
                _ => linkat(&old.dir, &old.path, &at.dir, &at.path, AtFlags::empty()),
            };
        }
        match &op.action {
            Action::Create(bits, true) => at.open(OFlag::O_CREAT | OFlag::O_EXCL, *bits).map(drop),
            Action::Create(bits, false) => at.open(OFlag::O_CREAT, *bits).map(drop),
            Action::Mknod(bits) => at.mknod(SFlag::S_IFREG, *bits),
            Action::Fifo(bits) => at.mknod(SFlag::S_IFIFO, *bits),
            Action::Mkdir(bits) => mkdirat(&at.dir, &at.path, mode(*bits)),
            Action::Symlink(target) => symlinkat(OsStr::from_bytes(target), &at.dir, &at.path),
            Action::Unlink => at.unlink(UnlinkatFlags::NoRemoveDir),
            Action::Rmdir => at.unlink(UnlinkatFlags::RemoveDir),
            Action::Chmod(bits) => {
                let follow = FchmodatFlags::FollowSymlink;
                fchmodat(&at.dir, &at.path, mode(*bits), follow)
            }
            Action::ChmodOpen(bits) => fchmod(at.open(OFlag::O_RDONLY, 0)?, mode(*bits)),
            Action::ChmodProc(bits) => {
                let file = at.open(OFlag::O_PATH, 0)?;
                chmod(&PathBuf::from(proc_path(&file)), *bits)
            }
            Action::Chown(uid, gid) => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                fchownat(&at.dir, &at.path, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn hold(&mut self, slot: usize, route: &Route) -> nix::Result<()> {
        let dir = self
            .locate(route)?
            .open(OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)?;
        if slot == 0 {
            return fchdir(dir);
        }
        self.held[slot] = Some(dir);
        Ok(())
    }

    /// Lets go of all directories.
    fn release(&mut self) -> nix::Result<()> {
        self.held = Default::default();
        chdir("/")
    }

    /// mount(2) and umount(2) take no directories but the working one.
    fn mount(&self, op: &Op) -> nix::Result<()> {
        let mut above = op.at.clone();
        let name = above.names.pop().ok_or(Errno::EINVAL)?;
        let name = path_of(&name);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let above = self.locate(&above)?.open(flags, 0)?;
        let source = op.old.as_ref().map(|old| self.locate(old)?.open(flags, 0));
        let source = source.transpose()?;
        let here = directory(path_of(b"."))?;
        fchdir(above)?;
        let result = match (&op.action, source) {
            (Action::Mount, _) => {
                let none = MsFlags::empty();
                mount(Some("tmpfs"), name, Some("tmpfs"), none, None::<&str>)
            }
            (_, Some(source)) => {
                let (source, none) = (proc_path(&source), None::<&str>);
                let flag = match op.action {
                    Action::Bind => MsFlags::MS_BIND,
                    _ => MsFlags::MS_MOVE,
                };
                mount(Some(source.as_str()), name, none, flag, none)
            }
            // Who traces may look at it just then.
            _ => match umount2(name, MntFlags::UMOUNT_NOFOLLOW) {
                Err(Errno::EBUSY) => {
                    umount2(name, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
                }
                result => result,
            },
        };
        fchdir(here)?;
        result
    }
}

fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
