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
use std::fs;

/// How long to look at processes before the ring buffers are to be read again: nanoseconds.
const SLICE: u64 = 5_000_000;
/// How long after a loss the next census begins: it is not to add to what overruns.
/// Nanoseconds.
const PAUSE: u64 = 200_000_000;

/// Looks at all processes, some at a time.
pub struct Census<'a> {
    session: &'a Session,
    /// Those that are still to be looked at, if one is under way.
    left: Option<(Machine, Vec<i32>)>,
    /// When the next one begins.
    again: Option<u64>,
}

impl<'a> Census<'a> {
    /// One that is to begin at once.
    pub fn new(session: &'a Session) -> Self {
        Self {
            session,
            left: None,
            again: Some(0),
        }
    }

    /// Notes that records were lost, those of processes maybe.
    pub fn lost(&mut self, ts: u64) {
        self.again = Some(ts + PAUSE);
    }

    /// Whether there is more to come.
    pub fn is_busy(&self) -> bool {
        self.left.is_some() || self.again.is_some()
    }

    /// To be called whenever the ring buffers have been read. Hands out `process` records
    /// with their times.
    pub fn step(&mut self, cycle: u64, mut take: impl FnMut(u64, Vec<u8>)) -> Result<()> {
        let begins = |again: &mut u64| self.left.is_none() && *again <= cycle;
        if self.again.take_if(begins).is_some() {
            self.session.follow(ALIVE, Some(gettid()))?;
            self.left = Some((Machine::read()?, pids()?));
        }
        let Some((machine, mut pids)) = self.left.take() else {
            return Ok(());
        };
        let until = now(ClockId::CLOCK_MONOTONIC)? + SLICE;
        while let Some(pid) = pids.pop() {
            let ts = now(ClockId::CLOCK_MONOTONIC)?;
            // One that is gone has a record of its end in the ring buffer.
            if let Some(process) = proc::process(&machine, ts, pid) {
                let mut record = Vec::new();
                wire::write(&process, &mut record);
                take(ts, record);
            }
            if ts > until {
                self.left = Some((machine, pids));
                return Ok(());
            }
        }
        self.session.follow(ALIVE, None)
    }
}

/// The processes that are alive, the oldest last.
fn pids() -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let name = entry.context("cannot list /proc")?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    pids.reverse();
    Ok(pids)
}
