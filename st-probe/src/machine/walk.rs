//! The snapshot: a thread that looks at every directory below some, so that the kernel
//! records what it is to the kernel: device, inode number, name and parent.
//!
//! To look is to call fstatfs(2), which does nothing to a directory: a probe on
//! security_sb_statfs() (security/security.c) that sees only this thread does the rest. So
//! each directory's place is known at an instant of the same clock and in the same order as
//! the renames around it, and in the kernel's own numbers: stat(2) tells others on btrfs
//! and overlayfs.

use crate::stream::record::{Bytes, Walked};
use crate::stream::time::Monotonic;
use crate::sys::clock::now;
use anyhow::{Context, Result};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Pid, gettid};
use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Super block magic numbers of file systems that have no directories of their own, or
/// whose directories are another machine's or program's, which may keep us waiting:
/// include/uapi/linux/magic.h; the last ones fs/smb/client, fs/ceph, fs/fuse, fs/nfs, fs/9p.
const NOT_WALKED: [u32; 26] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
    0x6573_5543, // fusectl
    0x9584_58f6, // hugetlbfs
    0x6759_6969, // rpc_pipefs
    0x0187,      // autofs
    0x6969,      // nfs
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x00c3_6400, // ceph
    0x0102_1997, // 9p
    0x6573_5546, // fuse
    0x5346_414f, // afs
];

/// A thread that walks on request, no faster than its records are read.
pub struct Walker {
    /// The thread, for the probe's filter.
    pub tid: Pid,
    requests: Sender<(Vec<PathBuf>, bool)>,
    results: Receiver<(Monotonic, Vec<u8>)>,
    budget: Arc<Budget>,
    /// How many directories it may look at between two calls of [`Walker::allow`].
    allowance: usize,
}

impl Walker {
    /// Starts the thread.
    pub fn start(allowance: usize) -> Result<Self> {
        // One descriptor a level.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read a limit")?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise a limit")?;
        let (requests, requested) = channel::<(Vec<PathBuf>, bool)>();
        let (done, results) = channel();
        let (say_tid, tid) = channel();
        let budget = Arc::new(Budget::default());
        let own = Arc::clone(&budget);
        let work = move || -> Option<()> {
            say_tid.send(gettid()).ok()?;
            while let Ok((roots, answer)) = requested.recv() {
                done.send(Walk::new(&own).run(&roots, answer).ok()?).ok()?;
            }
            Some(())
        };
        thread::Builder::new()
            .name("walk".into())
            .spawn(work)
            .context("cannot make a thread")?;
        Ok(Self {
            tid: tid.recv().context("the walking thread ended")?,
            requests,
            results,
            budget,
            allowance,
        })
    }

    /// Begins to walk below these directories; `answer` if somebody asked.
    pub fn walk(&self, roots: Vec<PathBuf>, answer: bool) -> Result<()> {
        self.requests
            .send((roots, answer))
            .context("the walking thread ended")
    }

    /// Lets it look at some more directories: what it has recorded so far is read.
    pub fn allow(&self) {
        self.budget.refill(self.allowance);
    }

    /// Waits for the `walked` record of a walk, and its time.
    pub fn wait(&self) -> Result<(Monotonic, Vec<u8>)> {
        self.results.recv().context("the walking thread ended")
    }

    /// A `walked` record and its time, once a walk is done.
    pub fn done(&self) -> Option<(Monotonic, Vec<u8>)> {
        self.results.try_recv().ok()
    }
}

/// How many more directories may be looked at.
#[derive(Default)]
struct Budget {
    left: Mutex<usize>,
    more: Condvar,
}

impl Budget {
    fn refill(&self, amount: usize) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = amount;
        self.more.notify_one();
    }

    /// Waits until there is some, and takes one.
    fn take(&self) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.more.wait_while(left, |left| *left == 0);
        *left.unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

/// One walk.
struct Walk<'a> {
    budget: &'a Budget,
    /// Device and inode number of each directory, as stat(2) tells them: one may be met
    /// twice where it is mounted twice.
    visited: HashSet<(u64, u64)>,
    directories: u64,
    complete: bool,
}

/// A directory on the way down, and its subdirectories that are still to be entered.
struct Level {
    dir: Dir,
    names: Vec<CString>,
    /// How often it may be listed again, and whether it should: a name was gone, which may
    /// have been changed to another one.
    again: u32,
    changed: bool,
}

/// How often a directory is listed: it may change all the time.
const LISTINGS: u32 = 5;

impl<'a> Walk<'a> {
    fn new(budget: &'a Budget) -> Self {
        Self {
            budget,
            visited: HashSet::new(),
            directories: 0,
            complete: true,
        }
    }

    fn run(mut self, roots: &[PathBuf], answer: bool) -> Result<(Monotonic, Vec<u8>)> {
        let since = now()?;
        for root in roots {
            if let Err(error) = self.root(root) {
                self.failed(error);
            }
        }
        let ts = now()?;
        let walked = Walked {
            ts,
            since,
            answer,
            roots: (roots.iter())
                .map(|root| Bytes::from(root.as_os_str().as_bytes()))
                .collect(),
            directories: self.directories,
            complete: self.complete,
        };
        let mut record = Vec::new();
        crate::stream::wire::write(&walked, &mut record);
        Ok((ts, record))
    }

    /// Notes why a directory was left out.
    fn failed(&mut self, error: Errno) {
        // It has gone, or something else has its name now. Whatever came instead, or where
        // it went, the kernel tells.
        self.complete &= matches!(error, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP);
    }

    /// Looks at the directories above one, and at all below it.
    fn root(&mut self, root: &Path) -> nix::Result<()> {
        let above: Vec<_> = root.ancestors().skip(1).collect();
        for path in above.into_iter().rev() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            self.look(&open(path, flags, Mode::empty())?)?;
        }
        let mut levels = Vec::new();
        let path = CString::new(root.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
        levels.extend(self.cross(AT_FDCWD, &path)?);
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                if level.changed && level.again > 0 {
                    level.names = list(&mut level.dir)?;
                    level.again -= 1;
                    level.changed = false;
                } else {
                    levels.pop();
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
        Ok(())
    }

    /// Looks at a directory; tells of which type its file system is.
    fn look(&mut self, dir: impl AsFd) -> nix::Result<FsType> {
        self.budget.take();
        Ok(fstatfs(dir)?.filesystem_type())
    }

    /// Enters a subdirectory.
    fn child(&mut self, dir: &Dir, name: &CString) -> nix::Result<Option<Level>> {
        let how = OpenHow::new().resolve(ResolveFlag::RESOLVE_NO_XDEV);
        match noatime(|flags| openat2(dir, name.as_c_str(), how.flags(flags))) {
            Ok(fd) => {
                self.look(&fd)?;
                self.enter(fd)
            }
            // Another file system begins here, or an automount would.
            Err(Errno::EXDEV) => self.cross(dir, name),
            Err(error) => Err(error),
        }
    }

    /// Enters a directory that may be another file system's than the one it is in.
    fn cross(&mut self, dir: impl AsFd, name: &CString) -> nix::Result<Option<Level>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let kind = self.look(openat(&dir, name.as_c_str(), flags, Mode::empty())?)?;
        if NOT_WALKED.contains(&(kind.0 as u32)) {
            return Ok(None);
        }
        self.enter(noatime(|flags| {
            openat(&dir, name.as_c_str(), flags, Mode::empty())
        })?)
    }

    /// Lists a directory that was looked at, unless it was entered before.
    fn enter(&mut self, fd: OwnedFd) -> nix::Result<Option<Level>> {
        let stat = fstat(&fd)?;
        if !self.visited.insert((stat.st_dev, stat.st_ino)) {
            return Ok(None);
        }
        self.directories += 1;
        let mut dir = Dir::from_fd(fd)?;
        Ok(Some(Level {
            names: list(&mut dir)?,
            dir,
            again: LISTINGS - 1,
            changed: false,
        }))
    }
}

/// The names in a directory that may be subdirectories: not every file system tells the type.
fn list(dir: &mut Dir) -> nix::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(entry.file_type(), Some(Type::Directory) | None)
            && !matches!(name.to_bytes(), b"." | b"..")
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Opens a directory to list it, without a trace in its access time where that is allowed.
fn noatime(open: impl Fn(OFlag) -> nix::Result<OwnedFd>) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match open(flags | OFlag::O_NOATIME) {
        Err(Errno::EPERM) => open(flags),
        result => result,
    }
}
