//! What a thread does, and the events that are to be reported of it.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::stat::{self, FileStat, SFlag};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{getpid, gettid};
use serde_json::{Map, Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use crate::fs::Place;

/// An event that is to be reported, with every field that it is to have.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The fields, `process` apart, as in the JSON.
    pub fields: Map<String, Value>,
    /// The fields that may as well be absent.
    pub optional: Vec<&'static str>,
    /// The process, if it is known beforehand.
    pub pid: Option<i32>,
    /// The thread that does it: the order is kept within each. 0 for one not known
    /// beforehand.
    pub tid: i32,
    /// The thread's name, if it is known beforehand.
    pub comm: Option<String>,
    /// What else is known of the process: fields of `process`.
    pub who: Map<String, Value>,
    /// When it happened.
    pub span: Span,
}

/// Nanoseconds of CLOCK_REALTIME before and after an operation.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// CLOCK_REALTIME in nanoseconds.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_REALTIME).expect("CLOCK_REALTIME is always there");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// One thread's operations and the events expected of them, in order.
#[derive(Debug)]
pub struct Log {
    /// The directory that is this thread's own.
    pub dir: PathBuf,
    /// The device number of its file system as in proc_pid_mountinfo(5); `None`: looked up
    /// for each path.
    pub dev: Option<String>,
    /// Whether st_ino is the inode's number in the kernel: not so on overlayfs.
    pub inos: bool,
    /// The events.
    pub expected: Vec<Expected>,
    pid: i32,
    tid: i32,
    comm: String,
}

impl Log {
    /// A log of the calling thread, which is to work in `place`.
    pub fn new(place: &Place) -> Self {
        let mut log = Self {
            dir: place.dir.clone(),
            dev: place.dev.clone(),
            inos: place.inos,
            expected: Vec::new(),
            pid: getpid().as_raw(),
            tid: gettid().as_raw(),
            comm: String::new(),
        };
        log.renamed_thread();
        log
    }

    /// To be called once the thread has changed its name.
    pub fn renamed_thread(&mut self) {
        let comm = fs::read("/proc/thread-self/comm").unwrap_or_default();
        let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
        self.comm = String::from_utf8_lossy(comm).into_owned();
    }

    /// A path in its directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// Runs an operation that must succeed, and notes when.
    pub fn run<T>(&self, operation: impl FnOnce() -> nix::Result<T>) -> Result<(T, Span)> {
        let before = now();
        let result = operation();
        let after = now();
        Ok((result?, Span { before, after }))
    }

    /// Expects an event by this thread with these fields.
    pub fn expect(&mut self, span: Span, fields: Value) -> &mut Expected {
        let Value::Object(fields) = fields else {
            panic!("the fields of an event are an object");
        };
        self.expected.push(Expected {
            fields,
            optional: Vec::new(),
            pid: Some(self.pid),
            tid: self.tid,
            comm: Some(self.comm.clone()),
            who: Map::new(),
            span,
        });
        self.expected.last_mut().expect("one was just pushed")
    }

    /// Expects an event on a file; `stat` is the file's.
    pub fn expect_file(
        &mut self,
        span: Span,
        event: &str,
        path: &Path,
        stat: &FileStat,
    ) -> Result<&mut Expected> {
        let mut fields = Map::new();
        fields.insert("event".into(), event.into());
        fields.insert("path_status".into(), "complete".into());
        set_bytes(&mut fields, "path", path.as_os_str().as_bytes());
        let dev = match &self.dev {
            Some(dev) => dev.clone(),
            None => crate::fs::device_of(path)?,
        };
        fields.insert("dev".into(), dev.into());
        if self.inos {
            fields.insert("ino".into(), stat.st_ino.into());
        }
        let inos = self.inos;
        let expected = self.expect(span, Value::Object(fields));
        if !inos {
            expected.optional.push("ino");
        }
        Ok(expected)
    }

    /// `event` = create, mkdir, mknod or symlink: makes `path`.
    pub fn made<T>(
        &mut self,
        event: &str,
        path: &Path,
        operation: impl FnOnce() -> nix::Result<T>,
    ) -> Result<T> {
        let (value, span) = self
            .run(operation)
            .with_context(|| format!("{event} {}", path.display()))?;
        self.expect_made(span, event, path)?;
        Ok(value)
    }

    /// Expects that `path`, which exists, was made at `span`.
    pub fn expect_made(&mut self, span: Span, event: &str, path: &Path) -> Result<&mut Expected> {
        let stat = stat::lstat(path).with_context(|| format!("stat {}", path.display()))?;
        let expected = self.expect_file(span, event, path, &stat)?;
        if event == "symlink" {
            let target = fs::read_link(path)?;
            set_bytes(
                &mut expected.fields,
                "target",
                target.as_os_str().as_bytes(),
            );
            return Ok(expected);
        }
        expected.fields.insert("mode".into(), stat.st_mode.into());
        if event == "mknod" {
            let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
            if kind == SFlag::S_IFCHR || kind == SFlag::S_IFBLK {
                let (major, minor) = (stat::major(stat.st_rdev), stat::minor(stat.st_rdev));
                let rdev = format!("{major}:{minor}");
                expected.fields.insert("rdev".into(), rdev.into());
            } else {
                // Anonymous pipes and sockets get inodes all the time: the kernel is not
                // asked for those.
                expected.optional.push("ino");
            }
        }
        Ok(expected)
    }

    /// `event` = delete or rmdir: removes `path`.
    pub fn removed<T>(
        &mut self,
        event: &str,
        path: &Path,
        operation: impl FnOnce() -> nix::Result<T>,
    ) -> Result<T> {
        let what = || format!("{event} {}", path.display());
        let stat = stat::lstat(path).with_context(what)?;
        let (value, span) = self.run(operation).with_context(what)?;
        self.expect_file(span, event, path, &stat)?;
        Ok(value)
    }

    /// `event` = rename or link: `path` becomes a name of what `old` names.
    pub fn named<T>(
        &mut self,
        event: &str,
        old: &Path,
        path: &Path,
        operation: impl FnOnce() -> nix::Result<T>,
    ) -> Result<&mut Expected> {
        let what = || format!("{event} {} {}", old.display(), path.display());
        let stat = stat::lstat(old).with_context(what)?;
        let (_, span) = self.run(operation).with_context(what)?;
        let expected = self.expect_file(span, event, path, &stat)?;
        set_bytes(&mut expected.fields, "old_path", old.as_os_str().as_bytes());
        expected
            .fields
            .insert("old_path_status".into(), "complete".into());
        Ok(expected)
    }

    /// attrib: sets mode, owner or group of `path`, and what that brings with it.
    pub fn attrib<T>(
        &mut self,
        path: &Path,
        set: Set,
        operation: impl FnOnce() -> nix::Result<T>,
    ) -> Result<()> {
        let what = || format!("attrib {} {set:?}", path.display());
        let old = stat::lstat(path).with_context(what)?;
        let (_, span) = self.run(operation).with_context(what)?;
        let stat = stat::lstat(path).with_context(what)?;
        let mut attrib = Map::new();
        // A new owner takes set-id bits away.
        if set.mode || stat.st_mode != old.st_mode {
            attrib.insert("mode".into(), stat.st_mode.into());
        }
        if set.uid {
            attrib.insert("uid".into(), stat.st_uid.into());
        }
        if set.gid {
            attrib.insert("gid".into(), stat.st_gid.into());
        }
        if !attrib.is_empty() {
            let expected = self.expect_file(span, "attrib", path, &stat)?;
            expected
                .fields
                .insert("attrib".into(), Value::Object(attrib));
        }
        Ok(())
    }

    /// An operation that succeeds and is no event.
    pub fn silent<T>(&self, what: &str, operation: impl FnOnce() -> nix::Result<T>) -> Result<T> {
        operation().with_context(|| format!("{what} in {}", self.dir.display()))
    }

    /// An operation that fails with one of `errors` and is no event.
    pub fn fails<T>(
        &self,
        errors: &[Errno],
        what: &str,
        operation: impl FnOnce() -> nix::Result<T>,
    ) -> Result<()> {
        match operation() {
            Err(error) if errors.contains(&error) => Ok(()),
            Err(error) => bail!("{what} failed with {error}, meant to fail with {errors:?}"),
            Ok(_) => bail!("{what} succeeded, meant to fail with {errors:?}"),
        }
    }

    /// connect, with the other fields of its event but `ret`, which is what it returned.
    /// Fails if that is not `ret`.
    pub fn connects(
        &mut self,
        ret: nix::Result<()>,
        mut fields: Value,
        operation: impl FnOnce() -> nix::Result<()>,
    ) -> Result<()> {
        let before = now();
        let got = operation();
        let after = now();
        fields["event"] = "connect".into();
        fields["ret"] = json!(got.map_or_else(|errno| -(errno as i32), |()| 0));
        if got != ret {
            bail!("the test's connect gave {got:?}, meant to give {ret:?}: {fields}");
        }
        self.expect(Span { before, after }, fields);
        Ok(())
    }
}

/// What an attrib operation sets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Set {
    /// The mode.
    pub mode: bool,
    /// The owner.
    pub uid: bool,
    /// The group.
    pub gid: bool,
}

/// Sets a field of bytes as st-format's JSON does: `NAME`, and beside it `NAME_bytes` in
/// base64 where they are not UTF-8.
pub fn set_bytes(fields: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    fields.insert(name.into(), String::from_utf8_lossy(bytes).into());
    if std::str::from_utf8(bytes).is_err() {
        fields.insert(format!("{name}_bytes"), base64(bytes).into());
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0u32, |word, &byte| word << 8 | u32::from(byte));
        let word = word << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            text.push(if digit <= chunk.len() {
                DIGITS[(word >> (18 - 6 * digit)) as usize & 63].into()
            } else {
                '='
            });
        }
    }
    text
}

/// How many threads work at once.
pub const THREADS: usize = 4;

/// The directories below `dir` in which [`threads`] lets its threads work.
pub fn directories(dir: &Path) -> impl Iterator<Item = PathBuf> {
    (0..THREADS).map(|thread| dir.join(format!("t{thread}")))
}

/// Lets [`THREADS`] threads work at once, each in a directory of its own, which exists, and
/// returns their logs, with the errors that ended some early.
pub fn threads(
    place: &Place,
    work: impl Fn(&mut Log) -> Result<()> + Sync,
) -> Vec<(Log, Result<()>)> {
    let (barrier, work) = (Barrier::new(THREADS), &work);
    std::thread::scope(|scope| {
        let workers: Vec<_> = directories(&place.dir)
            .enumerate()
            .map(|(number, dir)| {
                let place = place.at(dir);
                let barrier = &barrier;
                std::thread::Builder::new()
                    .name(format!("worker {number}"))
                    .spawn_scoped(scope, move || {
                        let mut log = Log::new(&place);
                        barrier.wait();
                        let result = work(&mut log);
                        (log, result)
                    })
                    .expect("a thread can be made")
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker does not panic"))
            .collect()
    })
}

/// The bytes as a path.
pub fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
