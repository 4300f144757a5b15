//! From the ring buffers, and from whatever else is to be told, to the stream.

use crate::machine::census::Census;
use crate::machine::mounts::MountReader;
use crate::stream::arch::Arch;
use crate::stream::record::{Bytes, End, Header, Lost, MAGIC, Raw, VERSION};
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::{Cause, Order, Service, Why};
use crate::stream::wire;
use crate::sys::clock::{self, now};
use crate::sys::poll::poll;
use crate::sys::proc::Proc;
use crate::sys::signals::Signals;
use crate::sys::uname::Uname;
use crate::tracefs::health::{Finding, Health};
use crate::tracefs::ring::{self, Item};
use crate::tracefs::session::Session;
use crate::tracing::command::Command;
use crate::tracing::completeness::Complete;
use crate::tracing::merge::Merge;
use crate::tracing::source::Source;
use crate::tracing::walks::Walks;
use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{SysconfVar, gettid, sysconf};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// How long records gather before they are read, once there are some.
const TICK: Duration = Duration::from_millis(10);
/// The same once they have kept coming for [`SUSTAINED`] ticks: each tick wakes the whole
/// pipeline.
const LONG_TICK: Duration = Duration::from_millis(20);
const SUSTAINED: u32 = 10;
/// How long a record is held back at most, for an earlier one of another CPU.
const LONGEST_HOLD: Duration = Duration::from_millis(200);
/// How long to wait for records at most: the kernel may forget to tell of one (Linux
/// kernel/trace/ring_buffer.c, ring_buffer_poll_wait).
const DOZE: Duration = Duration::from_secs(1);
/// How long a write takes that waits for the reader.
const STALL: Duration = Duration::from_millis(50);
/// Bytes that the pipe to the next stage should hold: what the reader may lag behind
/// before records gather in the ring buffer.
const PIPE: i32 = 1 << 20;
/// The largest sub-buffer that the kernel lets an administrator choose.
const SUB_BUFFER: usize = 1 << 20;

/// What waits in the merge.
enum Entry {
    /// A record's bytes as the kernel wrote them.
    Raw { cpu: u32, data: Vec<u8> },
    /// A gap.
    Lost(Lost),
    /// A record of our own, encoded.
    Record(Vec<u8>),
}

/// What is waited for, beside a signal, the reader's going and the deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// Records, mounts and questions.
    News,
    /// That what was begun is complete.
    Complete,
    /// Nothing, for so long.
    Tick(Duration),
}

/// One CPU's ring buffer.
struct Buffer {
    cpu: u32,
    file: File,
    /// The time of the last record read.
    latest: Monotonic,
    /// A gap before the next record, of so many if known.
    gap: Option<Option<u64>>,
    /// It cannot be waited for: the CPU is not there.
    absent: bool,
}

/// Moves records from the ring buffers to standard output.
pub struct Pump {
    buffers: Vec<Buffer>,
    merge: Merge<Source, Entry>,
    /// Whether the kernel records what it should.
    pub health: Health,
    /// The processes that were there before.
    pub census: Census,
    /// The walks over directories.
    pub walks: Walks,
    complete: Option<Complete>,
    /// When the last cycle began.
    cycled: Monotonic,
    /// Until when everything has been handed on.
    released: Monotonic,
    /// How many cycles in a row have found something.
    ticks: u32,
    mounts: MountReader,
    page: Vec<u8>,
    out: Vec<u8>,
    stdout: File,
    /// Whether nobody reads any more, or can be written to.
    pub reader_gone: bool,
    records: u64,
    /// Records lost elsewhere than in the ring buffer.
    lost: u64,
    /// From when to when the reader was waited for last.
    stalled: (Monotonic, Monotonic),
}

impl Pump {
    /// Opens the buffers of a session.
    pub fn new(session: &Session, walks: Walks) -> Result<Self> {
        let buffers: Vec<_> = (session.buffers()?.into_iter())
            .map(|(cpu, file)| Buffer {
                cpu,
                file,
                latest: Monotonic::default(),
                gap: None,
                absent: false,
            })
            .collect();
        let stdout = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .context("no standard output")?;
        // Only pipes have a size; a file or terminal needs none.
        let _ = fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(PIPE));
        Ok(Self {
            merge: Merge::default(),
            health: Health::new(buffers.iter().map(|buffer| buffer.cpu).collect()),
            buffers,
            census: Census::due(now()?, Proc::default()),
            walks,
            complete: Complete::start(TICK)?,
            cycled: Monotonic::default(),
            released: now()?,
            ticks: 0,
            mounts: MountReader::open(Proc::default(), &session.hooks)?,
            page: vec![0; SUB_BUFFER],
            out: Vec::new(),
            stdout: stdout.into(),
            reader_gone: false,
            records: 0,
            lost: 0,
            stalled: Default::default(),
        })
    }

    /// Appends the header and the first mount table.
    pub fn header(&mut self, session: &Session, command: Option<&Command>) -> Result<()> {
        let uname = Uname::read()?;
        let boot_id = fs::read_to_string(Proc::default().sysctl("kernel/random/boot_id"))
            .context("cannot read the boot id")?;
        let page_size = sysconf(SysconfVar::PAGE_SIZE)
            .context("cannot tell the page size")?
            .unwrap_or(0);
        let (monotonic, realtime) = clock::both()?;
        wire::write(
            &Header {
                magic: MAGIC.into(),
                version: VERSION,
                stages: vec!["st-probe".into()],
                kernel: uname.release,
                stack_delta: Arch::of(&uname.machine).map_or(0, |arch| arch.stack_delta),
                machine: uname.machine,
                host: uname.nodename,
                byte_order: Order::NATIVE,
                page_size: page_size as u32,
                cpus: self.buffers.len() as u32,
                boot_id: boot_id.trim().into(),
                monotonic,
                realtime,
                hooks: session.hooks.clone(),
                unavailable: session.unavailable.clone(),
                snapshot: self.walks.has_roots(),
                answers: self.walks.answers(),
                command: std::env::args_os()
                    .map(|word| word.to_string_lossy().into_owned())
                    .collect(),
                child: command.map(|command| command.pid.as_raw()),
            },
            &mut self.out,
        );
        self.mounts.all(&mut self.out)
    }

    /// Waits for a signal, the reader's going or the deadline; while `busy`, no longer than
    /// [`LONG_TICK`], else also for records or mounts and then for more of them to gather.
    pub fn wait(&mut self, signals: &Signals, deadline: Monotonic, busy: bool) -> Result<()> {
        let woken = !busy && self.poll(signals, deadline, Awaited::News)?;
        let mut tick = Awaited::Tick(TICK);
        if let (Some(complete), true) = (&self.complete, woken || !self.merge.is_empty()) {
            complete.ask();
            tick = Awaited::Complete;
        }
        if self.ticks > SUSTAINED {
            tick = Awaited::Tick(LONG_TICK);
        }
        if woken || busy {
            self.poll(signals, deadline, tick)?;
        }
        Ok(())
    }

    /// Polls; true if there are records or mounts, and they were awaited.
    fn poll(&mut self, signals: &Signals, deadline: Monotonic, awaited: Awaited) -> Result<bool> {
        let left = deadline.since(now()?);
        let at_most = match awaited {
            Awaited::News => DOZE,
            Awaited::Complete => LONG_TICK,
            Awaited::Tick(tick) => tick,
        };
        let mut fds = vec![
            PollFd::new(signals.fd(), PollFlags::POLLIN),
            PollFd::new(self.stdout.as_fd(), PollFlags::empty()),
        ];
        let mut sources = Vec::new();
        let complete = self.complete.as_ref();
        if awaited == Awaited::News {
            fds.push(PollFd::new(self.mounts.fd(), PollFlags::POLLPRI));
            sources.extend((0..self.buffers.len()).filter(|&source| !self.buffers[source].absent));
            fds.extend(
                sources.iter().map(|&source| {
                    PollFd::new(self.buffers[source].file.as_fd(), PollFlags::POLLIN)
                }),
            );
            let questions = self.walks.fd();
            fds.extend(questions.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        } else if let Some(complete) = complete.filter(|_| awaited == Awaited::Complete) {
            fds.push(PollFd::new(complete.fd(), PollFlags::POLLIN));
        }
        poll(&mut fds, left.min(at_most)).context("cannot poll")?;
        let told: Vec<PollFlags> = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::POLLIN))
            .collect();
        let any = |told: &[PollFlags]| told.iter().any(|told| !told.is_empty());
        self.reader_gone |= !told[1].is_empty();
        if awaited != Awaited::News {
            return Ok(false);
        }
        self.mounts.told(!told[2].is_empty());
        for (source, told) in sources.into_iter().zip(told.iter().skip(3)) {
            self.buffers[source].absent = *told == PollFlags::POLLERR;
        }
        Ok(!any(&told[..2]) && any(&told[2..]))
    }

    /// Drains every buffer and hands on, in time order, what no record that is still being
    /// written precedes. Returns whether there was anything, or is something left.
    pub fn cycle(&mut self, session: &mut Session, start: Monotonic) -> Result<bool> {
        let until = match &self.complete {
            // What had been begun before that has been complete since before the draining.
            Some(complete) => {
                let at_least = start.before(LONGEST_HOLD);
                complete.until().clamp(at_least, start)
            }
            // As far as can be known: whoever took longer than a cycle comes too late.
            None => self.cycled,
        };
        self.cycled = start;
        let found = self.drain_all(start)?;
        self.take_census(session, start)?;
        if let Some((ts, record)) = self.walks.step(session, start)? {
            self.merge.push(Source::Walks, ts, Entry::Record(record));
        }
        if self.health.is_due(start) {
            self.check(session, start)?;
        }
        self.release(until)?;
        let looking = self.census.is_busy() || self.walks.is_busy();
        let busy = found || !self.merge.is_empty() || looking;
        self.ticks = if busy {
            self.ticks.saturating_add(1)
        } else {
            0
        };
        Ok(busy)
    }

    /// Lets the census go on, or the next one begin. The kernel records what this thread reads of
    /// processes meanwhile.
    fn take_census(&mut self, session: &mut Session, now: Monotonic) -> Result<()> {
        if self.census.is_due(now) {
            session.follow(Service::Alive, gettid())?;
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

    /// Looks for what the kernel did not record.
    pub fn check(&mut self, session: &Session, now: Monotonic) -> Result<()> {
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

    /// Drains every buffer until it is empty or has come to `until`, and looks for a change
    /// of the mount tables. Returns whether there was anything.
    fn drain_all(&mut self, until: Monotonic) -> Result<bool> {
        let mut found = false;
        for source in 0..self.buffers.len() {
            found |= self.drain(source, until)?;
        }
        let tables = self.mounts.look()?;
        // Whoever made a change has left a record before.
        if let Some(read) = tables.iter().map(|table| table.ts).max() {
            found = true;
            for source in 0..self.buffers.len() {
                self.drain(source, read)?;
            }
        }
        for (since, record) in self.mounts.records(tables) {
            self.merge
                .push(Source::MountTables, since, Entry::Record(record));
        }
        Ok(found)
    }

    /// Reads one CPU's buffer until it is empty or has come to `until`.
    fn drain(&mut self, source: usize, until: Monotonic) -> Result<bool> {
        let mut found = false;
        let Self {
            buffers,
            merge,
            page,
            mounts,
            stalled,
            released,
            ..
        } = self;
        let Buffer {
            cpu,
            file,
            latest,
            gap,
            ..
        } = &mut buffers[source];
        while *latest < until {
            let count = match file.read(page) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read the ring buffer"),
            };
            found = true;
            let parsed = ring::parse(&page[..count], |item| match item {
                Item::Lost(count) => *gap = Some(count),
                Item::Record { ts, data } => {
                    let ts = Monotonic(ts);
                    if let Some(count) = gap.take() {
                        // What is older has all been read.
                        let since = ts.min(*released).max(*latest);
                        let by_reader = stalled.0 < ts && since < stalled.1;
                        let cause = match by_reader {
                            true => Cause::SlowReader,
                            false => Cause::RingBuffer,
                        };
                        let lost = overwritten(*cpu, since, ts, count, cause);
                        merge.push(Source::Cpu(*cpu), since, Entry::Lost(lost));
                        mounts.lost(since);
                    }
                    *latest = ts;
                    // An event is never shorter than its common fields.
                    if data.len() >= 8 {
                        mounts.note(common_type(data), ts);
                        merge.push(
                            Source::Cpu(*cpu),
                            ts,
                            Entry::Raw {
                                cpu: *cpu,
                                data: data.to_vec(),
                            },
                        );
                    }
                }
            });
            if let Err(why) = parsed {
                say!("the ring buffer of CPU {cpu} is not as expected: {why}");
                // The rest of the page is missing, until the next record.
                gap.get_or_insert(None);
            }
        }
        Ok(found)
    }

    /// Writes every record older than `until`.
    fn release(&mut self, until: Monotonic) -> Result<()> {
        self.released = self.released.max(until);
        let Self {
            merge,
            out,
            records,
            lost,
            census,
            walks,
            ..
        } = self;
        merge.release(until, |ts, entry| match entry {
            Entry::Raw { cpu, data } => {
                *records += 1;
                wire::write(
                    &Raw {
                        ts,
                        cpu,
                        id: common_type(&data),
                        data: Bytes::from(&data[..]),
                    },
                    out,
                );
            }
            Entry::Lost(gap) => {
                if gap.cause == Cause::MissedProbe {
                    *lost += gap.count.unwrap_or(0);
                }
                census.lost(gap.end());
                walks.lost(gap.end());
                wire::write(&gap, out);
            }
            Entry::Record(record) => out.extend(record),
        });
        self.flush()
    }

    /// Writes all that is left, and the last record. Nothing new is to be recorded any more.
    pub fn end(&mut self, session: &Session, why: Why) -> Result<()> {
        if let Some(complete) = &self.complete {
            complete.wait(now()?, LONGEST_HOLD)?;
        }
        self.drain_all(Monotonic::MAX)?;
        for buffer in &mut self.buffers {
            if let Some(count) = buffer.gap.take() {
                let since = self.released.max(buffer.latest);
                let lost = overwritten(buffer.cpu, since, since, count, Cause::RingBuffer);
                let source = Source::Cpu(buffer.cpu);
                self.merge.push(source, since, Entry::Lost(lost));
            }
        }
        self.release(Monotonic::MAX)?;
        let ts = now()?;
        wire::write(
            &End {
                ts,
                records: self.records,
                lost: self.lost + self.health.overwritten(session)?,
                why,
            },
            &mut self.out,
        );
        self.flush()
    }

    /// Writes what there is. When the reader has gone, it is dropped.
    fn flush(&mut self) -> Result<()> {
        let began = now()?;
        let mut rest = &self.out[..];
        while !rest.is_empty() && !self.reader_gone {
            match self.stdout.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.reader_gone = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if Signals::urgent() {
                        self.reader_gone = true;
                        bail!("given up while the reader was not reading");
                    }
                }
                Err(error) => {
                    self.reader_gone = true;
                    return Err(error).context("cannot write to standard output");
                }
            }
        }
        self.out.clear();
        let ended = now()?;
        if ended.since(began) > STALL {
            self.stalled = (began, ended);
        }
        Ok(())
    }
}

/// Records that later ones have overwritten.
fn overwritten(
    cpu: u32,
    since: Monotonic,
    until: Monotonic,
    count: Option<u64>,
    cause: Cause,
) -> Lost {
    Lost {
        since,
        ts: since,
        until: (until > since).then_some(until),
        cpu: Some(cpu),
        count,
        cause,
        event: None,
    }
}

/// The id of a record's event: the first of its common fields.
fn common_type(data: &[u8]) -> u16 {
    u16::from_ne_bytes([data[0], data[1]])
}
