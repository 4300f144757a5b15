//! The processes that are alive: at the start, and again after a loss.
//!
//! Most of what is to be known of a process is in proc(5). To read the link /proc/PID/exe also
//! lets the kernel record what is not: see [`crate::hooks::ALIVE`].

use crate::hooks::ALIVE;
use crate::proc::{self, Machine, now};
use crate::session::Session;
use crate::wire;
use anyhow::{Context, Result};
use nix::time::ClockId;
use nix::unistd::gettid;
use std::collections::HashSet;
use std::fs;

/// How long to look at processes before the ring buffers are to be read again: nanoseconds.
const SLICE: u64 = 5_000_000;
/// How long after a loss the next census begins: it is not to add to what overruns.
/// Nanoseconds.
const PAUSE: u64 = 200_000_000;

/// How often processes are listed: there may be new ones all the time.
const LISTINGS: u32 = 5;

/// Looks at all processes, some at a time.
pub struct Census<'a> {
    session: &'a Session,
    /// The one that is under way.
    round: Option<Round>,
    /// When the next one begins.
    again: Option<u64>,
}

impl<'a> Census<'a> {
    /// One that is to begin at once.
    pub fn new(session: &'a Session) -> Self {
        Self {
            session,
            round: None,
            again: Some(0),
        }
    }

    /// Notes that records were lost until some time, those of processes maybe.
    pub fn lost(&mut self, until: u64) {
        self.again = self.again.max(Some(until + PAUSE));
    }

    /// Whether there is more to come.
    pub fn is_busy(&self) -> bool {
        self.round.is_some() || self.again.is_some()
    }

    /// To be called whenever the ring buffers have been read. Hands out `process` records
    /// with their times.
    pub fn step(&mut self, cycle: u64, mut take: impl FnMut(u64, Vec<u8>)) -> Result<()> {
        let begins = |again: &mut u64| self.round.is_none() && *again <= cycle;
        if self.again.take_if(begins).is_some() {
            self.session.follow(ALIVE, Some(gettid()))?;
            self.round = Some(Round::begin()?);
        }
        let Some(mut round) = self.round.take() else {
            return Ok(());
        };
        let until = now(ClockId::CLOCK_MONOTONIC)? + SLICE;
        while let Some(pid) = round.next()? {
            let ts = now(ClockId::CLOCK_MONOTONIC)?;
            // One that is gone has a record of its end in the ring buffer.
            if let Some(process) = proc::process(&round.machine, ts, pid) {
                let mut record = Vec::new();
                wire::write(&process, &mut record);
                take(ts, record);
            }
            if ts > until {
                self.round = Some(round);
                return Ok(());
            }
        }
        self.session.follow(ALIVE, None)
    }
}

/// One look at all processes.
struct Round {
    machine: Machine,
    seen: HashSet<i32>,
    /// Those that are still to be looked at, the oldest last.
    left: Vec<i32>,
    /// How often they have been listed.
    listings: u32,
}

impl Round {
    fn begin() -> Result<Self> {
        Ok(Self {
            machine: Machine::read()?,
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
            for entry in fs::read_dir("/proc").context("cannot list /proc")? {
                let name = entry.context("cannot list /proc")?.file_name();
                let pid = name.to_str().and_then(|name| name.parse::<i32>().ok());
                self.left.extend(pid.filter(|pid| self.seen.insert(*pid)));
            }
            self.left.reverse();
        }
        Ok(self.left.pop())
    }
}
