//! From the ring buffers, and from whatever else is read of the machine, to the stream.

use crate::machine::census::Census;
use crate::machine::clock::ClockReader;
use crate::machine::mounts::{MountReader, Table};
use crate::stream::record::{Bytes, End, Lost, Raw};
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::{Cause, Service, Why};
use crate::sys::clock::{self, now};
use crate::sys::proc::Proc;
use crate::sys::signals::Signals;
use crate::tracefs::health::{Finding, Health};
use crate::tracefs::ring::LARGEST_SUB_BUFFER;
use crate::tracefs::session::Session;
use crate::tracing::buffer::{Buffer, Found};
use crate::tracing::completeness::GracePeriods;
use crate::tracing::gaps::Before;
use crate::tracing::header::header;
use crate::tracing::merge::Merge;
use crate::tracing::output::Output;
use crate::tracing::source::Source;
use crate::tracing::waiting::{self, Awaited, Pace, TICK, Watched};
use crate::tracing::walks::Walks;
use anyhow::Result;
use nix::poll::PollFlags;
use nix::unistd::Pid;
use std::fs::File;
use std::time::Duration;

/// How long a record is held back at most, for an earlier one of another CPU.
const LONGEST_HOLD: Duration = Duration::from_millis(200);

/// What this thread tells its id with.
const OWN: &str = "census";

/// What waits in the merge.
enum Entry {
    /// A record of the ring buffer.
    Raw { cpu: u32, id: u16, data: Vec<u8> },
    /// A gap.
    Lost(Lost),
    /// A record of st-probe's own, encoded.
    Record(Vec<u8>),
}

/// Moves records from the ring buffers to standard output, and among them records of what is read
/// of the machine.
pub struct Pump {
    buffers: Vec<Buffer>,
    /// Bytes for one sub-buffer, which all buffers are read into.
    page: Vec<u8>,
    mounts: MountReader,
    clock: ClockReader,
    /// This thread, as the kernel's records have it.
    tid: Pid,
    census: Census,
    walks: Walks,
    health: Health,
    merge: Merge<Source, Entry>,
    output: Output<File>,
    /// `None` where the kernel cannot be asked for grace periods.
    grace_periods: Option<GracePeriods>,
    pace: Pace,
    /// When the last cycle began.
    cycled: Monotonic,
    /// Until when all records have been released.
    released: Monotonic,
    totals: Totals,
}

/// What the last record tells.
#[derive(Default)]
struct Totals {
    /// Records of the ring buffer that were released.
    records: u64,
    /// Records that are missing since the kernel did not enter a probe or had no room.
    missed: u64,
}

impl Pump {
    /// Opens the ring buffers of a session.
    pub fn open(session: &Session, walks: Walks) -> Result<Self> {
        let own = session.marker()?.leave(OWN)?;
        let tid = session.marked(OWN, own)?;
        let buffers = session.buffers()?.into_iter();
        let buffers: Vec<_> = buffers.map(|(cpu, file)| Buffer::new(cpu, file)).collect();
        let now = now()?;
        Ok(Self {
            page: vec![0; LARGEST_SUB_BUFFER],
            mounts: MountReader::open(Proc::default(), &session.hooks)?,
            clock: ClockReader::new(&session.hooks),
            tid,
            census: Census::due(now, Proc::default(), session.namespaces),
            walks,
            health: Health::new(buffers.iter().map(Buffer::cpu).collect()),
            buffers,
            merge: Merge::default(),
            output: Output::stdout()?,
            grace_periods: GracePeriods::start(TICK)?,
            pace: Pace::default(),
            cycled: now,
            released: now,
            totals: Totals::default(),
        })
    }

    /// Begins the stream with the header and the mount tables. `child` runs the command.
    pub fn begin(&mut self, session: &Session, child: Option<Pid>) -> Result<()> {
        let cpus = self.buffers.len() as u32;
        let header = header(session, &self.walks, cpus, child)?;
        self.clock.begin(header.clock());
        self.output.push(&header);
        let mut tables = Vec::new();
        self.mounts.all(&mut tables)?;
        self.output.push_encoded(&tables);
        Ok(())
    }

    /// Lets walks begin.
    pub fn begin_walks(&mut self) {
        self.walks.begin();
    }

    /// Whether a census is under way, or will be.
    pub fn takes_census(&self) -> bool {
        self.census.is_busy()
    }

    /// Whether nobody reads the stream any more.
    pub fn reader_gone(&self) -> bool {
        self.output.reader_gone()
    }

    /// Whether somebody has removed the session's probes.
    pub fn probes_removed(&self) -> bool {
        self.health.probes_removed()
    }

    /// Whether a walk is under way or will be, or a question may come.
    pub fn may_be_asked(&self, now: Monotonic) -> bool {
        self.walks.may_be_asked(now)
    }

    /// Notes that tracing is to end: questions about what was done just before may still come.
    pub fn ending(&mut self, now: Monotonic) {
        self.walks.ending(now);
    }

    /// Waits while records gather. Waits for the first of them before, unless st-probe is `busy`. A
    /// signal, the going of the reader and the deadline end the wait.
    pub fn wait(&mut self, signals: &Signals, deadline: Monotonic, busy: bool) -> Result<()> {
        let woken = !busy && self.poll(signals, deadline, Awaited::News)?;
        if !woken && !busy {
            return Ok(());
        }
        let mut requested = false;
        if let Some(grace_periods) = &self.grace_periods {
            requested = woken || !self.merge.is_empty();
            if requested {
                grace_periods.request();
            }
        }
        self.poll(signals, deadline, self.pace.gather(requested))?;
        Ok(())
    }

    /// Waits for one thing. Returns whether there are news, and nothing else comes first.
    fn poll(&mut self, signals: &Signals, deadline: Monotonic, awaited: Awaited) -> Result<bool> {
        let at_most = awaited.at_most().min(deadline.since(now()?));
        let mut watched = vec![
            (Watched::Signals, signals.fd(), PollFlags::POLLIN),
            (Watched::Reader, self.output.fd(), PollFlags::empty()),
        ];
        match (awaited, &self.grace_periods) {
            (Awaited::News, _) => {
                watched.push((Watched::MountTable, self.mounts.fd(), PollFlags::POLLPRI));
                for (at, buffer) in self.buffers.iter().enumerate() {
                    let fd = buffer.fd();
                    watched.extend(fd.map(|fd| (Watched::Buffer(at), fd, PollFlags::POLLIN)));
                }
                let fd = self.walks.fd();
                watched.extend(fd.map(|fd| (Watched::Questions, fd, PollFlags::POLLIN)));
            }
            (Awaited::GracePeriod, Some(grace_periods)) => {
                watched.push((Watched::GracePeriod, grace_periods.fd(), PollFlags::POLLIN));
            }
            (Awaited::GracePeriod, None) | (Awaited::Tick(_), _) => {}
        }
        let told = waiting::poll_all(&watched, at_most)?;
        for (what, flags) in &told {
            match what {
                Watched::Reader => self.output.set_reader_gone(),
                // The kernel tells of a change only once.
                Watched::MountTable => self.mounts.told(true),
                Watched::Buffer(at) if *flags == PollFlags::POLLERR => {
                    self.buffers[*at].set_offline();
                }
                _ => {}
            }
        }
        Ok(waiting::only_news(&told))
    }

    /// Reads the ring buffers, and what is due of the machine. Writes, in time order, the records
    /// that are older than all records which are still to be committed. Returns whether there was
    /// anything, or something is left to do.
    pub fn cycle(&mut self, session: &mut Session, start: Monotonic) -> Result<bool> {
        let until = self.complete_until(start);
        let found = self.drain_all(start)?;
        self.cycled = start;
        self.take_census(session, start)?;
        if let Some((ts, record)) = self.walks.step(session, start)? {
            self.merge.push(Source::Walks, ts, Entry::Record(record));
        }
        if self.health.is_due(start) {
            self.check(session, start)?;
        }
        self.release(until)?;
        let reads = self.census.is_busy() || self.walks.is_busy();
        let busy = found || !self.merge.is_empty() || reads;
        if busy {
            self.pace.busy();
        } else {
            self.pace.idle();
        }
        Ok(busy)
    }

    /// Until when all records have been committed before `start`.
    fn complete_until(&self, start: Monotonic) -> Monotonic {
        match &self.grace_periods {
            Some(grace_periods) => {
                let at_least = start.before(LONGEST_HOLD);
                grace_periods.complete_until().clamp(at_least, start)
            }
            // A record that takes longer than a cycle from reserve to commit comes too late.
            None => self.cycled,
        }
    }

    /// Reads every ring buffer until it is empty or has come to `until`, the mount tables if they
    /// may have changed, and the realtime clock if it may have been set. Returns whether there was
    /// anything.
    fn drain_all(&mut self, until: Monotonic) -> Result<bool> {
        let mut found = false;
        for at in 0..self.buffers.len() {
            found |= self.drain(at, until)?;
        }
        let tables = self.mounts.look()?;
        // Whoever changed a table has left a record before: it is to be noted first.
        if let Some(read) = tables.iter().map(Table::ts).max() {
            found = true;
            for at in 0..self.buffers.len() {
                self.drain(at, read)?;
            }
        }
        for (since, record) in self.mounts.records(tables) {
            self.merge
                .push(Source::MountTables, since, Entry::Record(record));
        }
        if self.clock.is_due() {
            let (now, realtime) = clock::both()?;
            if let Some((ts, record)) = self.clock.read(now, realtime) {
                found = true;
                self.merge.push(Source::Clock, ts, Entry::Record(record));
            }
        }
        Ok(found)
    }

    fn drain(&mut self, at: usize, until: Monotonic) -> Result<bool> {
        let before = Before {
            read: self.cycled,
            released: self.released,
            stall: self.output.stall(),
        };
        let buffer = &mut self.buffers[at];
        let (merge, mounts, clock) = (&mut self.merge, &mut self.mounts, &mut self.clock);
        let cpu = buffer.cpu();
        buffer.drain(&mut self.page, until, before, |found| match found {
            Found::Record { ts, id, data } => {
                mounts.note(id, ts);
                clock.note(id, ts);
                let data = data.to_vec();
                merge.push(Source::Cpu(cpu), ts, Entry::Raw { cpu, id, data });
            }
            Found::Gap(lost) => {
                mounts.lost(lost.ts);
                clock.doubt();
                merge.push(Source::Cpu(cpu), lost.ts, Entry::Lost(lost));
            }
        })
    }

    /// Lets the census that is under way go on, or the next one begin. The kernel records what
    /// this thread reads of processes meanwhile.
    fn take_census(&mut self, session: &mut Session, now: Monotonic) -> Result<()> {
        if self.census.is_due(now) {
            session.follow(Service::Alive, self.tid)?;
            self.census.begin()?;
        }
        let merge = &mut self.merge;
        let ended = self.census.step(|ts, record| {
            merge.push(Source::Processes, ts, Entry::Record(record));
        })?;
        if ended {
            session.unfollow(Service::Alive)?;
        }
        Ok(())
    }

    /// Finds what the kernel did not record.
    pub fn check(&mut self, session: &Session, now: Monotonic) -> Result<()> {
        // The record of a setting may be missing, or its hook absent.
        self.clock.doubt();
        for finding in self.health.check(session, now)? {
            match finding {
                Finding::Records(lost) => {
                    self.mounts.lost(lost.ts);
                    self.merge.push(Source::Health, lost.ts, Entry::Lost(lost));
                }
                Finding::Returns(ts) => self.walks.lost(ts),
            }
        }
        Ok(())
    }

    /// Writes every record that is older than `until`.
    fn release(&mut self, until: Monotonic) -> Result<()> {
        self.released = self.released.max(until);
        let Self {
            merge,
            output,
            totals,
            census,
            walks,
            ..
        } = self;
        merge.release(until, |ts, entry| match entry {
            Entry::Raw { cpu, id, data } => {
                totals.records += 1;
                let data = Bytes::from(&data[..]);
                output.push(&Raw { ts, cpu, id, data });
            }
            Entry::Lost(lost) => {
                if lost.cause == Cause::MissedProbe {
                    totals.missed += lost.count.unwrap_or(0);
                }
                census.lost(lost.end());
                walks.lost(lost.end());
                output.push(&lost);
            }
            Entry::Record(record) => output.push_encoded(&record),
        });
        output.flush()
    }

    /// Writes all that is left, and the last record; the session makes no record any more.
    pub fn end(&mut self, session: &Session, why: Why) -> Result<()> {
        if let Some(grace_periods) = &self.grace_periods {
            grace_periods.wait(now()?, LONGEST_HOLD)?;
        }
        self.drain_all(Monotonic::MAX)?;
        for buffer in &mut self.buffers {
            if let Some(lost) = buffer.end(self.released) {
                let source = Source::Cpu(buffer.cpu());
                self.merge.push(source, lost.ts, Entry::Lost(lost));
            }
        }
        self.release(Monotonic::MAX)?;
        self.output.push(&End {
            ts: now()?,
            records: self.totals.records,
            lost: self.totals.missed + self.health.overwritten(session)?,
            why,
        });
        self.output.flush()
    }
}
