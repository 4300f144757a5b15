//! The mount tables of all mount namespaces, read when they may have changed.

use crate::stream::record::{self, Bytes};
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::{Service, Subject};
use crate::stream::wire;
use crate::sys::clock::now;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// The other namespaces are looked for in all processes, again and again after a mount has
/// begun, each time after twice as long. It may take one part in [`SHARE`] of the
/// time.
const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(3);
const SHARE: u32 = 10;

/// A mount table that was read.
pub struct Table {
    /// When.
    pub ts: Monotonic,
    /// When the previous one was read, and when it was last known to hold.
    previous: Monotonic,
    checked: Monotonic,
    ns: u64,
    mountinfo: Vec<u8>,
}

/// The mount tables.
pub struct Mounts {
    /// That of our own namespace, which tells when it changes.
    file: File,
    ns: u64,
    changed: bool,
    /// When it was read last, and when it was last known to hold that.
    read: Monotonic,
    checked: Monotonic,
    /// The tables of other namespaces, and when they were read.
    others: HashMap<u64, (Vec<u8>, Monotonic)>,
    /// When those are to be read again, and how long after that the next time.
    scan: Monotonic,
    pause: Duration,
    /// The hooks that tell when somebody begins to change mounts, and which of them count:
    /// the others make namespaces.
    hooks: Vec<(u16, bool)>,
    /// When somebody began, and whether it counts.
    attempts: Vec<(Monotonic, bool)>,
}

impl Mounts {
    /// To be told of by these hooks.
    pub fn open(hooks: &[record::Hook]) -> Result<Self> {
        let file =
            File::open("/proc/self/mountinfo").context("cannot open /proc/self/mountinfo")?;
        let ns = fs::metadata("/proc/self/ns/mnt")
            .context("cannot look at /proc/self/ns/mnt")?
            .ino();
        let hooks = hooks.iter().filter_map(|hook| match hook.subject {
            Subject::Service(Service::Mount) => Some((hook.id, true)),
            Subject::Service(Service::Namespace) => Some((hook.id, false)),
            _ => None,
        });
        Ok(Self {
            file,
            ns,
            changed: false,
            read: Monotonic::default(),
            checked: Monotonic::default(),
            others: HashMap::new(),
            scan: Monotonic::MAX,
            pause: SOON,
            hooks: hooks.collect(),
            attempts: Vec::new(),
        })
    }

    /// Appends the records of all tables, at the start.
    pub fn all(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let own = self.read()?;
        let others = self.scan()?;
        for table in std::iter::once(own).chain(others) {
            let ts = table.ts;
            out.extend(table.record(ts, 0));
        }
        Ok(())
    }

    /// To poll for POLLPRI, which says that our own has changed: proc_pid_mounts(5).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Notes that a poll told so: the kernel does it once only.
    pub fn told(&mut self, changed: bool) {
        self.changed |= changed;
    }

    /// Notes a record of the ring buffer.
    pub fn note(&mut self, id: u16, ts: Monotonic) {
        if let Some((_, counts)) = self.hooks.iter().find(|hook| hook.0 == id) {
            self.begun(ts, *counts);
        }
    }

    fn begun(&mut self, ts: Monotonic, counts: bool) {
        self.attempts.push((ts, counts));
        (self.scan, self.pause) = (self.scan.min(ts), SOON);
    }

    /// Notes that records are missing from some time on: of mounts, or of the renames of
    /// directories above a mount point.
    pub fn lost(&mut self, since: Monotonic) {
        self.changed = true;
        self.checked = self.checked.min(since);
        // Several may have begun: more than one table is missing, then.
        for _ in 0..2 {
            self.begun(since, true);
        }
    }

    /// The tables that have changed. What the ring buffers hold up to the times of these is
    /// to be noted before they are made [`Mounts::records`].
    pub fn look(&mut self) -> Result<Vec<Table>> {
        let ts = now()?;
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLPRI)];
        while let Err(error) = poll(&mut fds, PollTimeout::ZERO) {
            if error != Errno::EINTR {
                return Err(error).context("cannot poll");
            }
        }
        let changed = fds[0].any().unwrap_or(false);
        let mut tables = Vec::new();
        if changed || self.changed {
            self.changed = false;
            tables.push(self.read()?);
        } else {
            self.checked = ts;
        }
        if ts >= self.scan {
            tables.extend(self.scan()?);
        }
        Ok(tables)
    }

    /// Their records, with the times to place them at: before an attempt nothing had changed.
    pub fn records(&mut self, tables: Vec<Table>) -> Vec<(Monotonic, Vec<u8>)> {
        let records = tables.into_iter().map(|table| {
            let within =
                |attempt: &&(Monotonic, bool)| attempt.0 > table.previous && attempt.0 <= table.ts;
            let attempts = self.attempts.iter().filter(within);
            let first = attempts
                .clone()
                .map(|attempt| attempt.0)
                .min()
                .unwrap_or_default();
            let since = first.max(table.checked);
            (
                since,
                table.record(since, attempts.filter(|attempt| attempt.1).count() as u64),
            )
        });
        let mut records: Vec<_> = records.collect();
        records.sort_by_key(|record| record.0);
        let checked = self.checked;
        self.attempts.retain(|(ts, _)| ts.after(LATE) > checked);
        records
    }

    /// Reads our own.
    fn read(&mut self) -> Result<Table> {
        let mut mountinfo = Vec::new();
        self.file
            .rewind()
            .and_then(|()| self.file.read_to_end(&mut mountinfo))
            .context("cannot read mountinfo")?;
        let ts = now()?;
        let checked = std::mem::replace(&mut self.checked, ts);
        let previous = std::mem::replace(&mut self.read, ts);
        Ok(Table {
            ts,
            previous,
            checked,
            ns: self.ns,
            mountinfo,
        })
    }

    /// Reads those of other namespaces; returns those that are new, changed or gone.
    ///
    /// No file of theirs is kept open: that would keep a namespace, and what is mounted
    /// there, alive.
    fn scan(&mut self) -> Result<Vec<Table>> {
        let start = now()?;
        let mut found = HashMap::new();
        for entry in fs::read_dir("/proc")
            .context("cannot list /proc")?
            .flatten()
        {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            // Processes may go while they are looked at.
            let ns_of = || {
                fs::metadata(format!("/proc/{pid}/ns/mnt"))
                    .ok()
                    .map(|ns| ns.ino())
            };
            let Some(ns) = ns_of().filter(|ns| *ns != self.ns && !found.contains_key(ns)) else {
                continue;
            };
            let Ok(mountinfo) = fs::read(format!("/proc/{pid}/mountinfo")) else {
                continue;
            };
            if ns_of() == Some(ns) && !mountinfo.is_empty() {
                found.insert(ns, mountinfo);
            }
        }
        let ts = now()?;
        let pause = self.pause.max(SHARE * ts.since(start));
        (self.scan, self.pause) = if pause < LATE {
            (ts.after(pause), 2 * pause)
        } else {
            (Monotonic::MAX, SOON)
        };
        let mut tables = Vec::new();
        let none = (Vec::new(), ts.before(LATE));
        let gone = self.others.keys().filter(|ns| !found.contains_key(*ns));
        let gone = gone.map(|ns| (*ns, Vec::new())).collect::<Vec<_>>();
        for (ns, mountinfo) in found.into_iter().chain(gone) {
            let (old, previous) = self.others.get(&ns).unwrap_or(&none);
            if *old == mountinfo {
                continue;
            }
            tables.push(Table {
                ts,
                previous: *previous,
                checked: *previous,
                ns,
                mountinfo: mountinfo.clone(),
            });
            self.others.insert(ns, (mountinfo, ts));
        }
        self.others
            .retain(|_, (mountinfo, _)| !mountinfo.is_empty());
        Ok(tables)
    }
}

impl Table {
    /// Its record: the change began after `since`, by so many attempts.
    fn record(&self, since: Monotonic, attempts: u64) -> Vec<u8> {
        let mountinfo = Bytes::from(&self.mountinfo[..]);
        let mounts = record::Mounts {
            ts: self.ts,
            since,
            attempts,
            ns: self.ns,
            mountinfo,
        };
        let mut record = Vec::new();
        wire::write(&mounts, &mut record);
        record
    }
}
