//! Reads the mount tables of all mount namespaces when they may have changed.
//!
//! Where hooks tell each change itself ([`Service::Attach`], [`Service::Detach`],
//! [`Service::Namespace`]), the tables are what these changes start from, and they correct what
//! could not be followed. Else, and after a gap, a table is all that tells what has changed, some
//! time before it was read.

use crate::stream::record::{self, Bytes};
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::{Role, Service, Subject, tell_mounts};
use crate::stream::wire;
use crate::sys::clock::now;
use crate::sys::poll::poll;
use crate::sys::proc::Proc;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// The kernel does not tell when the table of another namespace changes. So all of them are read
/// as soon as a mount has begun, again after [`SOON`], and then each time after twice as long,
/// until the pause would be [`LATE`].
const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(3);
/// To read them may take one part in so many of the time.
const SHARE: u32 = 10;

/// Reads the mount tables.
pub struct MountReader {
    proc: Proc,
    /// The hooks that tell when a call begins.
    hooks: Vec<(u16, AttemptKind)>,
    /// The hooks that tell the changes themselves; empty if they do not tell all of them.
    changing: Vec<u16>,
    own: OwnTable,
    others: OtherTables,
    attempts: Vec<Attempt>,
    /// When something changed.
    changes: Vec<Monotonic>,
}

/// A call that began, which may change mount tables.
struct Attempt {
    ts: Monotonic,
    kind: AttemptKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttemptKind {
    /// To mount, to unmount or to move a mount.
    Mount,
    /// To make a mount namespace: a table appears, and those that are there do not change.
    Namespace,
}

/// The table of our own mount namespace: its file can be polled.
struct OwnTable {
    /// `/proc/self/mountinfo`.
    file: File,
    ns: u64,
    /// Whether it may have changed since it was read.
    changed: bool,
    /// When it was read last.
    read: Monotonic,
    /// Until when it is known to have been as it was read.
    checked: Monotonic,
    /// Whether changes since it was told may be missing.
    doubt: bool,
}

/// The tables of all other mount namespaces that a process is in.
struct OtherTables {
    /// By the inode number of the namespace.
    tables: HashMap<u64, OtherTable>,
    /// When to read them again.
    next: Monotonic,
    /// The pause after that.
    pause: Duration,
    /// Whether changes since they were told may be missing.
    doubt: bool,
    /// Whether to tell all of them, changed or not.
    tell_all: bool,
    /// The namespaces that no process is in any more, and of which nothing was told since.
    gone: HashSet<u64>,
}

struct OtherTable {
    mountinfo: Vec<u8>,
    /// When the reading began that found this content first ...
    began: Monotonic,
    /// ... and when it was read.
    read: Monotonic,
    /// Whether it was read of a process that has the namespace's root.
    is_whole: bool,
}

/// A reading of a table.
#[derive(Clone, Copy)]
struct Reading {
    began: Monotonic,
    ended: Monotonic,
    /// Whether changes since the previous one may be missing.
    doubt: bool,
}

/// A mount table that is new or has changed.
pub struct Table {
    reading: Reading,
    /// When the previous one was read.
    previous: Monotonic,
    /// Until when the previous one is known to have been in force.
    checked: Monotonic,
    ns: u64,
    /// Empty if the namespace is gone.
    mountinfo: Vec<u8>,
}

impl MountReader {
    /// Reads the tables below `proc`; those of `hooks` that are there for it tell when calls
    /// begin that may change them.
    pub fn open(proc: Proc, hooks: &[record::Hook]) -> Result<Self> {
        let this = proc.this();
        let file =
            File::open(this.path("mountinfo")).context("cannot open /proc/self/mountinfo")?;
        let ns = this.mnt_ns().context("cannot read /proc/self/ns/mnt")?;
        let attempts = hooks
            .iter()
            .filter_map(|hook| match (hook.subject, hook.role) {
                (Subject::Service(Service::Mount), _) => Some((hook.id, AttemptKind::Mount)),
                (Subject::Service(Service::Namespace), Role::Instant) => {
                    Some((hook.id, AttemptKind::Namespace))
                }
                _ => None,
            });
        let changing = hooks.iter().filter(|hook| {
            let changes = [Service::Attach, Service::Detach].map(Subject::Service);
            changes.contains(&hook.subject)
        });
        let tell_all = tell_mounts(hooks.iter().map(|hook| (hook.subject, hook.role)));
        Ok(Self {
            hooks: attempts.collect(),
            changing: (changing.map(|hook| hook.id).filter(|_| tell_all)).collect(),
            own: OwnTable {
                file,
                ns,
                changed: false,
                read: Monotonic::default(),
                checked: Monotonic::default(),
                doubt: false,
            },
            others: OtherTables {
                tables: HashMap::new(),
                next: Monotonic::MAX,
                pause: SOON,
                doubt: false,
                tell_all: false,
                gone: HashSet::new(),
            },
            attempts: Vec::new(),
            changes: Vec::new(),
            proc,
        })
    }

    /// Appends the records of all tables, at the start.
    pub fn all(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let own = self.read_own()?;
        out.extend(own.record(own.ts(), 0));
        for table in self.read_others()? {
            out.extend(table.record(table.ts(), 0));
        }
        self.confirm(own.ts());
        Ok(())
    }

    /// Lets all tables be told once more: changes that these have already are told after them.
    fn confirm(&mut self, ts: Monotonic) {
        if !self.changing.is_empty() {
            self.own.changed = true;
            self.others.tell_all = true;
            self.others.hurry(ts);
        }
    }

    /// To poll for POLLPRI, which tells that the table of our own namespace has changed:
    /// proc_pid_mounts(5).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.own.file.as_fd()
    }

    /// Notes whether a poll has told so: the kernel tells each change to one poll only.
    pub fn told(&mut self, changed: bool) {
        self.own.changed |= changed;
    }

    /// Notes a record of the ring buffer.
    pub fn note(&mut self, id: u16, ts: Monotonic) {
        let hook = self.hooks.iter().find(|(hook, _)| *hook == id);
        if let Some(&(_, kind)) = hook {
            self.attempted(Attempt { ts, kind });
        }
        if self.changing.contains(&id) {
            self.others.hurry(ts);
            self.changes.push(ts);
        }
    }

    fn attempted(&mut self, attempt: Attempt) {
        self.others.hurry(attempt.ts);
        self.attempts.push(attempt);
    }

    /// Notes that records are missing from some instant on: of mounts, or of the renames of
    /// directories above a mount point.
    pub fn lost(&mut self, since: Monotonic) {
        self.own.changed = true;
        self.own.checked = self.own.checked.min(since);
        self.own.doubt = true;
        // What was followed and is no more may be wrong though the table is as it was read.
        self.others.doubt = !self.changing.is_empty();
        // Several calls may have begun: then there were tables that nobody has read.
        for _ in 0..2 {
            self.attempted(Attempt {
                ts: since,
                kind: AttemptKind::Mount,
            });
        }
    }

    /// Reads the tables that may have changed; returns those that have. Before
    /// [`MountReader::records`] is called with these, the records of the ring buffers up to their
    /// times are to be noted.
    pub fn look(&mut self) -> Result<Vec<Table>> {
        let start = now()?;
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLPRI)];
        poll(&mut fds, Duration::ZERO).context("cannot poll")?;
        let changed = fds[0].any().unwrap_or(false);
        self.told(changed);
        let mut tables = Vec::new();
        if self.own.changed {
            tables.push(self.read_own()?);
        } else {
            self.own.checked = start;
        }
        if start >= self.others.next {
            tables.extend(self.read_others()?);
        }
        Ok(tables)
    }

    /// The records of tables, each with the instant at which it is to stand in the stream: the
    /// first attempt since the previous table, since nothing had changed before; or, if the stream
    /// has all changes before it, when it was read.
    pub fn records(&mut self, tables: Vec<Table>) -> Vec<(Monotonic, Vec<u8>)> {
        let mut records = Vec::new();
        for table in tables {
            let since = if self.is_followed(&table) {
                if table.mountinfo.is_empty() {
                    self.others.gone.insert(table.ns);
                    continue;
                }
                if self.is_torn(&table) {
                    self.read_again(table.ns);
                    continue;
                }
                table.ts()
            } else {
                self.confirm(table.ts());
                self.first_attempt(&table).max(table.checked)
            };
            let record = table.record(since, self.mounts_attempted(&table));
            records.push((since, record));
        }
        records.sort_by_key(|(since, _)| *since);
        let checked = self.own.checked;
        self.attempts
            .retain(|attempt| attempt.ts.after(LATE) > checked);
        self.changes.retain(|ts| ts.after(LATE) > checked);
        records
    }

    /// Whether the stream has all changes that lead from the previous table to this one.
    fn is_followed(&self, table: &Table) -> bool {
        // A gap may have been found since the table was read.
        let doubt = if table.ns == self.own.ns {
            self.own.doubt
        } else {
            self.others.doubt
        };
        !self.changing.is_empty() && !table.reading.doubt && !doubt
    }

    /// Whether something changed while the table was read: then it may be no table that ever was.
    fn is_torn(&self, table: &Table) -> bool {
        let Reading { began, ended, .. } = table.reading;
        (self.changes.iter()).any(|ts| *ts > began && *ts <= ended)
    }

    /// Lets a table be read again that cannot be told.
    fn read_again(&mut self, ns: u64) {
        if ns == self.own.ns {
            self.own.changed = true;
        } else {
            self.others.tables.remove(&ns);
        }
    }

    /// When the first attempt was that may have made a table out of the previous one; 0 if none
    /// is known.
    fn first_attempt(&self, table: &Table) -> Monotonic {
        let attempts = self.attempts_at(table);
        attempts.map(|attempt| attempt.ts).min().unwrap_or_default()
    }

    /// How many attempts to change mounts there were between a table and the previous one.
    fn mounts_attempted(&self, table: &Table) -> u64 {
        let attempts = self.attempts_at(table);
        let mounts = attempts.filter(|attempt| attempt.kind == AttemptKind::Mount);
        mounts.count() as u64
    }

    fn attempts_at(&self, table: &Table) -> impl Iterator<Item = &Attempt> {
        let (after, until) = (table.previous, table.ts());
        let attempts = self.attempts.iter();
        attempts.filter(move |attempt| attempt.ts > after && attempt.ts <= until)
    }

    fn read_own(&mut self) -> Result<Table> {
        self.own.changed = false;
        let began = now()?;
        let mountinfo = self.own.mountinfo().context("cannot read mountinfo")?;
        let reading = Reading {
            began,
            ended: now()?,
            doubt: mem::take(&mut self.own.doubt),
        };
        Ok(self.own.table(mountinfo, reading))
    }

    /// Reads the tables of all other namespaces; returns those that are new, changed or gone.
    ///
    /// None of their files is kept open: that would keep a namespace, and what is mounted in it,
    /// alive.
    fn read_others(&mut self) -> Result<Vec<Table>> {
        let start = now()?;
        let mut found: HashMap<u64, OtherTable> = HashMap::new();
        for pid in self.proc.pids()? {
            // A process may end, or enter another namespace, while its files are read.
            let process = self.proc.process(pid);
            let Ok(ns) = process.mnt_ns() else {
                continue;
            };
            if ns == self.own.ns || found.get(&ns).is_some_and(|known| known.is_whole) {
                continue;
            }
            // A process that has changed its root sees the mounts below that one only.
            let is_whole = !process.is_chrooted();
            if found.contains_key(&ns) && !is_whole {
                continue;
            }
            let began = now()?;
            let Ok(mountinfo) = process.mountinfo() else {
                continue;
            };
            if !mountinfo.is_empty() && process.mnt_ns().is_ok_and(|after| after == ns) {
                let table = OtherTable {
                    mountinfo,
                    began,
                    read: now()?,
                    is_whole,
                };
                found.insert(ns, table);
            }
        }
        let end = now()?;
        self.others.schedule(start, end);
        Ok(self.others.changes(found, end))
    }
}

impl OwnTable {
    fn mountinfo(&mut self) -> std::io::Result<Vec<u8>> {
        let mut mountinfo = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut mountinfo)?;
        Ok(mountinfo)
    }

    /// The table that was read.
    fn table(&mut self, mountinfo: Vec<u8>, reading: Reading) -> Table {
        Table {
            reading,
            previous: mem::replace(&mut self.read, reading.ended),
            checked: mem::replace(&mut self.checked, reading.ended),
            ns: self.ns,
            mountinfo,
        }
    }
}

impl OtherTables {
    /// Notes that they may change from `ts` on.
    fn hurry(&mut self, ts: Monotonic) {
        self.next = self.next.min(ts);
        self.pause = SOON;
    }

    /// Decides when to read them again; they were read just now, from `start` to `end`.
    fn schedule(&mut self, start: Monotonic, end: Monotonic) {
        let pause = self.pause.max(SHARE * end.since(start));
        if pause < LATE {
            self.next = end.after(pause);
            self.pause = 2 * pause;
        } else {
            self.next = Monotonic::MAX;
            self.pause = SOON;
        }
    }

    /// Takes the tables that were found by `end`; returns those that are new, changed or gone, or
    /// that may have changed and changed back.
    fn changes(&mut self, found: HashMap<u64, OtherTable>, end: Monotonic) -> Vec<Table> {
        let doubt = mem::take(&mut self.doubt);
        let tell_all = mem::take(&mut self.tell_all) || doubt;
        let mut changes = Vec::new();
        let known = self.tables.keys().copied();
        let mut gone: Vec<_> = known.filter(|ns| !found.contains_key(ns)).collect();
        if doubt {
            gone.extend(self.gone.drain());
            gone.retain(|ns| !found.contains_key(ns));
        }
        for ns in gone {
            let reading = Reading {
                began: end,
                ended: end,
                doubt,
            };
            changes.push(self.change(ns, Vec::new(), reading));
            self.tables.remove(&ns);
        }
        for (ns, table) in found {
            let known = self.tables.get(&ns);
            if tell_all || known.is_none_or(|known| known.mountinfo != table.mountinfo) {
                let reading = Reading {
                    began: table.began,
                    ended: table.read,
                    doubt,
                };
                changes.push(self.change(ns, table.mountinfo.clone(), reading));
                self.tables.insert(ns, table);
            }
        }
        changes
    }

    /// The table of a namespace in place of the one that is known. A new namespace was made
    /// after the last time that all tables were read: within [`LATE`].
    fn change(&self, ns: u64, mountinfo: Vec<u8>, reading: Reading) -> Table {
        let known = self.tables.get(&ns);
        let previous = known.map_or(reading.ended.before(LATE), |known| known.read);
        Table {
            reading,
            previous,
            checked: previous,
            ns,
            mountinfo,
        }
    }
}

impl Table {
    /// When it was read.
    pub fn ts(&self) -> Monotonic {
        self.reading.ended
    }

    /// Its record: the change began at `since` or later, with so many attempts since the previous
    /// table.
    fn record(&self, since: Monotonic, attempts: u64) -> Vec<u8> {
        let mountinfo = Bytes::from(&self.mountinfo[..]);
        let mounts = record::Mounts {
            ts: self.ts(),
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

#[cfg(test)]
mod tests;
