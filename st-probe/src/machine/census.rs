//! The processes that are alive: at the start, and again after a loss.
//!
//! Most of what is to be known of a process is in proc(5). To read the link /proc/PID/exe also
//! lets the kernel record what is not: see [`Service::Alive`].

use crate::machine::processes::ProcessReader;
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::Service;
use crate::stream::wire;
use crate::sys::clock::{self, now};
use crate::sys::proc::Proc;
use crate::tracefs::session::Session;
use anyhow::Result;
use nix::unistd::gettid;
use std::collections::HashSet;
use std::time::Duration;

/// How long to look at processes before the ring buffers are to be read again.
const SLICE: Duration = Duration::from_millis(5);
/// How long after a loss the next census begins: it is not to add to what overruns.
const PAUSE: Duration = Duration::from_millis(200);

/// How often processes are listed: there may be new ones all the time.
const LISTINGS: u32 = 5;

/// Looks at all processes, some at a time.
pub struct Census<'a> {
    session: &'a Session,
    /// The one that is under way.
    round: Option<Round>,
    /// When the next one begins.
    again: Option<Monotonic>,
}

impl<'a> Census<'a> {
    /// One that is to begin at once.
    pub fn new(session: &'a Session) -> Self {
        Self {
            session,
            round: None,
            again: Some(Monotonic::default()),
        }
    }

    /// Notes that records were lost until some time, those of processes maybe.
    pub fn lost(&mut self, until: Monotonic) {
        self.again = self.again.max(Some(until.after(PAUSE)));
    }

    /// Whether there is more to come.
    pub fn is_busy(&self) -> bool {
        self.round.is_some() || self.again.is_some()
    }

    /// To be called whenever the ring buffers have been read. Hands out `process` records
    /// with their times.
    pub fn step(
        &mut self,
        cycle: Monotonic,
        mut take: impl FnMut(Monotonic, Vec<u8>),
    ) -> Result<()> {
        let begins = |again: &mut Monotonic| self.round.is_none() && *again <= cycle;
        if self.again.take_if(begins).is_some() {
            self.session.follow(Service::Alive, Some(gettid()))?;
            self.round = Some(Round::begin()?);
        }
        let Some(mut round) = self.round.take() else {
            return Ok(());
        };
        let until = now()?.after(SLICE);
        while let Some(pid) = round.next()? {
            let ts = now()?;
            // One that is gone has a record of its end in the ring buffer.
            if let Some(process) = round.reader.read(ts, pid) {
                let mut record = Vec::new();
                wire::write(&process, &mut record);
                take(ts, record);
            }
            if ts > until {
                self.round = Some(round);
                return Ok(());
            }
        }
        self.session.follow(Service::Alive, None)
    }
}

/// One look at all processes.
struct Round {
    proc: Proc,
    reader: ProcessReader,
    seen: HashSet<i32>,
    /// Those that are still to be looked at, the oldest last.
    left: Vec<i32>,
    /// How often they have been listed.
    listings: u32,
}

impl Round {
    fn begin() -> Result<Self> {
        let proc = Proc::default();
        Ok(Self {
            reader: ProcessReader::open(proc.clone(), clock::booted()?)?,
            proc,
            seen: HashSet::new(),
            left: Vec::new(),
            listings: 0,
        })
    }

    /// The next process to look at. One that was begun by a process which had not been looked
    /// at yet is not in the list: when that is done, there is another one.
    fn next(&mut self) -> Result<Option<i32>> {
        if self.left.is_empty() && self.listings < LISTINGS {
            self.listings += 1;
            for pid in self.proc.pids()? {
                if self.seen.insert(pid) {
                    self.left.push(pid);
                }
            }
            self.left.reverse();
        }
        Ok(self.left.pop())
    }
}
