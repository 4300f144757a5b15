//! A walk: it visits every directory below some, so that the kernel records what each one is to
//! the kernel: device, inode number, name and parent.
//!
//! A visit is a call of fstatfs(2), which does nothing to the directory: a probe on
//! security_sb_statfs() (security/security.c) that sees only this thread does the rest. So the
//! place of each directory is known at an instant of the same clock and in the same order as the
//! renames around it, and in the kernel's own numbers: those of stat(2) differ on btrfs and
//! overlayfs.

mod not_walked;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How often a directory is listed at most: its entries may change all the time.
const LISTINGS: u32 = 5;

/// One pass over all directories below some roots.
pub struct Walk<F> {
    /// Called before each visit.
    before_each: F,
    /// Device and inode number of each directory that was entered, as stat(2) tells them: a
    /// directory is met again where it is mounted again.
    entered: HashSet<(u64, u64)>,
    complete: bool,
}

/// A directory on the way down, and its subdirectories that are still to be entered.
struct Level {
    dir: Dir,
    names: Vec<CString>,
    /// How often it may be listed again.
    listings_left: u32,
    /// Whether a name was not there any more: the subdirectory may have another name now.
    changed: bool,
}

impl<F: FnMut()> Walk<F> {
    /// One that has entered no directory yet. It calls `before_each` before each visit.
    pub fn new(before_each: F) -> Self {
        Self {
            before_each,
            entered: HashSet::new(),
            complete: true,
        }
    }

    /// How many directories were entered.
    pub fn directories(&self) -> u64 {
        self.entered.len() as u64
    }

    /// Whether every directory was entered that is there.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Visits the directories above a root, the root, and all directories below it.
    pub fn below(&mut self, root: &Path) {
        match self.root(root) {
            Ok(Some(level)) => self.descend(level),
            Ok(None) => {}
            Err(error) => self.failed(error),
        }
    }

    /// Notes that a directory was left out.
    fn failed(&mut self, error: Errno) {
        // If the directory has gone, or something else has its name now, nothing is missing: the
        // kernel records where it went, and what came.
        let gone = matches!(error, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP);
        self.complete &= gone;
    }

    /// Visits the directories above a root, and enters the root.
    fn root(&mut self, root: &Path) -> nix::Result<Option<Level>> {
        let above: Vec<_> = root.ancestors().skip(1).collect();
        for path in above.into_iter().rev() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            self.visit(&open(path, flags, Mode::empty())?)?;
        }
        let path = CString::new(root.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
        self.cross(AT_FDCWD, &path)
    }

    /// Enters all directories below one.
    fn descend(&mut self, top: Level) {
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                match level.list_again() {
                    Ok(true) => {}
                    Ok(false) => {
                        levels.pop();
                    }
                    Err(error) => {
                        levels.pop();
                        self.failed(error);
                    }
                }
                continue;
            };
            match self.child(&level.dir, &name) {
                Ok(child) => levels.extend(child),
                Err(error) => {
                    level.changed = true;
                    self.failed(error);
                }
            }
        }
    }

    /// Visits a directory; returns the type of its file system.
    fn visit(&mut self, dir: impl AsFd) -> nix::Result<FsType> {
        (self.before_each)();
        Ok(fstatfs(dir)?.filesystem_type())
    }

    /// Enters a subdirectory; `None` if it was entered before, or is not to be.
    fn child(&mut self, dir: &Dir, name: &CString) -> nix::Result<Option<Level>> {
        let how = OpenHow::new().resolve(ResolveFlag::RESOLVE_NO_XDEV);
        match noatime(|flags| openat2(dir, name.as_c_str(), how.flags(flags))) {
            Ok(fd) => {
                self.visit(&fd)?;
                self.enter(fd)
            }
            // Something is mounted there, or would be by an automount.
            Err(Errno::EXDEV) => self.cross(dir, name),
            Err(error) => Err(error),
        }
    }

    /// Enters a directory that may be in another file system than the one above it.
    fn cross(&mut self, dir: impl AsFd, name: &CString) -> nix::Result<Option<Level>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let kind = self.visit(openat(&dir, name.as_c_str(), flags, Mode::empty())?)?;
        if not_walked::not_walked(kind.0 as u32).is_some() {
            return Ok(None);
        }
        self.enter(noatime(|flags| {
            openat(&dir, name.as_c_str(), flags, Mode::empty())
        })?)
    }

    /// Lists a directory that was visited, unless it was entered before.
    fn enter(&mut self, fd: OwnedFd) -> nix::Result<Option<Level>> {
        let stat = fstat(&fd)?;
        if !self.entered.insert((stat.st_dev, stat.st_ino)) {
            return Ok(None);
        }
        let mut dir = Dir::from_fd(fd)?;
        Ok(Some(Level {
            names: subdirectories(&mut dir)?,
            dir,
            listings_left: LISTINGS - 1,
            changed: false,
        }))
    }
}

impl Level {
    /// Lists the directory again if its entries have changed; false if that is not to be done.
    fn list_again(&mut self) -> nix::Result<bool> {
        if !self.changed || self.listings_left == 0 {
            return Ok(false);
        }
        self.names = subdirectories(&mut self.dir)?;
        self.listings_left -= 1;
        self.changed = false;
        Ok(true)
    }
}

/// The names in a directory that may be subdirectories: some file systems do not tell the type.
fn subdirectories(dir: &mut Dir) -> nix::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        let may_be = matches!(entry.file_type(), Some(Type::Directory) | None);
        if may_be && !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory to list it, without a change of its access time where that is allowed.
fn noatime(open: impl Fn(OFlag) -> nix::Result<OwnedFd>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match open(flags | OFlag::O_NOATIME) {
        Err(Errno::EPERM) => open(flags),
        result => result,
    }
}

#[cfg(test)]
mod tests;
