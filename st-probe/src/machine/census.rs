//! A census: one pass over all processes, at the start and again after a loss.
//!
//! Most of what is told of a process is in proc(5). To read the link /proc/PID/exe also makes the
//! kernel record what proc(5) does not tell: see [`Service::Alive`]. While a census is under way,
//! the records of that service are to be on, for the thread that takes it.
//!
//! [`Service::Alive`]: crate::stream::vocabulary::Service::Alive

use crate::machine::processes::ProcessReader;
use crate::stream::time::Monotonic;
use crate::stream::wire;
use crate::sys::clock::{self, now};
use crate::sys::namespaces::Namespaces;
use crate::sys::proc::Proc;
use anyhow::Result;
use std::collections::HashSet;
use std::time::Duration;

/// How long processes are read before the ring buffers are to be read again.
const SLICE: Duration = Duration::from_millis(5);
/// How long after a loss the next census begins: its records would add to what overruns the ring
/// buffer.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a census lists the processes at most: new ones may begin all the time.
const LISTINGS: u32 = 5;

/// The census that is under way, and when the next one begins.
pub struct Census {
    proc: Proc,
    namespaces: Namespaces,
    under_way: Option<(ProcessReader, Round)>,
    next: Option<Monotonic>,
}

impl Census {
    /// Those of the processes of `proc`. The first one is due at an instant. Where `proc` does not
    /// show the initial pid namespace, the ids of processes there are those of other ones here:
    /// there is no census.
    pub fn due(first: Monotonic, proc: Proc, namespaces: Namespaces) -> Self {
        Self {
            proc,
            under_way: None,
            next: namespaces.proc.then_some(first),
            namespaces,
        }
    }

    /// Notes that records were lost until an instant, records of processes maybe: another census
    /// is due some time after that.
    pub fn lost(&mut self, until: Monotonic) {
        if self.namespaces.proc {
            self.next = self.next.max(Some(until.after(PAUSE)));
        }
    }

    /// Whether a census is under way, or will be.
    pub fn is_busy(&self) -> bool {
        self.under_way.is_some() || self.next.is_some()
    }

    /// Whether the next census is to begin.
    pub fn is_due(&self, now: Monotonic) -> bool {
        self.under_way.is_none() && self.next.is_some_and(|next| next <= now)
    }

    /// Begins a census.
    pub fn begin(&mut self) -> Result<()> {
        self.next = None;
        let (proc, booted) = (self.proc.clone(), clock::booted()?);
        let reader = ProcessReader::open(proc, booted, self.namespaces.user)?;
        self.under_way = Some((reader, Round::default()));
        Ok(())
    }

    /// Reads some processes of the census that is under way. Hands out their `process` records,
    /// each with its time. Returns whether the census has ended with that.
    pub fn step(&mut self, mut take: impl FnMut(Monotonic, Vec<u8>)) -> Result<bool> {
        let Some((reader, round)) = &mut self.under_way else {
            return Ok(false);
        };
        let until = now()?.after(SLICE);
        while let Some(pid) = round.next(|| self.proc.pids())? {
            let ts = now()?;
            // The ring buffer has a record of the end of one that is gone.
            if let Some(process) = reader.read(ts, pid) {
                let mut record = Vec::new();
                wire::write(&process, &mut record);
                take(ts, record);
            }
            if ts > until {
                return Ok(false);
            }
        }
        self.under_way = None;
        Ok(true)
    }
}

/// Which processes one census has listed, and which of them are still to be read.
#[derive(Debug, Default)]
struct Round {
    seen: HashSet<i32>,
    /// The first to be read is the last.
    left: Vec<i32>,
    listings: u32,
}

impl Round {
    /// The next process to read: in the order of the list, each once. `list` lists all processes.
    ///
    /// A process that is not in the list has begun since, maybe by a fork of a process that had not
    /// been read yet. So the processes are listed again, until there are no new ones.
    fn next(&mut self, list: impl FnOnce() -> Result<Vec<i32>>) -> Result<Option<i32>> {
        if self.left.is_empty() && self.listings < LISTINGS {
            self.listings += 1;
            let seen = &mut self.seen;
            self.left = list()?;
            self.left.retain(|pid| seen.insert(*pid));
            self.left.reverse();
        }
        Ok(self.left.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pids in the order in which a census reads them, and how often it lists all, if the
    /// lists are these.
    fn census(lists: &[&[i32]]) -> (Vec<i32>, usize) {
        let mut round = Round::default();
        let mut read = Vec::new();
        let mut listings = 0;
        loop {
            let list = || {
                let list = lists.get(listings).expect("it lists no more");
                listings += 1;
                Ok(list.to_vec())
            };
            match round.next(list).expect("the lists are there") {
                Some(pid) => read.push(pid),
                None => return (read, listings),
            }
        }
    }

    #[test]
    fn lists_again_until_there_is_nobody_new() {
        assert_eq!(census(&[&[1, 2, 9], &[1, 2, 9]]), (vec![1, 2, 9], 2));
        // 2 has ended, 9 has begun 5, 5 has begun 3.
        let lists: [&[i32]; 4] = [&[1, 2, 9], &[1, 5, 9], &[1, 3, 5, 9], &[1, 3, 5, 9]];
        assert_eq!(census(&lists), (vec![1, 2, 9, 5, 3], 4));
    }

    #[test]
    fn lists_a_limited_number_of_times() {
        let lists: [&[i32]; 5] = [&[1], &[2], &[3], &[4], &[5]];
        let read = vec![1, 2, 3, 4, 5];
        assert_eq!(census(&lists), (read, LISTINGS as usize));
    }

    const INITIAL: Namespaces = Namespaces {
        pid: true,
        proc: true,
        user: true,
    };

    #[test]
    fn never_begins_where_processes_have_other_ids() {
        let namespaces = Namespaces {
            proc: false,
            ..INITIAL
        };
        let mut census = Census::due(Monotonic(7), Proc::default(), namespaces);
        census.lost(Monotonic(9));
        assert!(!census.is_busy() && !census.is_due(Monotonic::MAX));
    }

    #[test]
    fn begins_at_the_start_and_some_time_after_the_last_loss() {
        let mut census = Census::due(Monotonic(7), Proc::default(), INITIAL);
        assert!(!census.is_due(Monotonic(6)) && census.is_due(Monotonic(7)));
        census.begin().expect("a machine");
        assert!(census.is_busy() && !census.is_due(Monotonic::MAX));
        let (first, second) = (Monotonic(1_000_000_000), Monotonic(1_100_000_000));
        census.lost(second);
        census.lost(first);
        census.under_way = None;
        assert!(census.is_busy());
        assert!(!census.is_due(Monotonic(second.after(PAUSE).0 - 1)));
        assert!(census.is_due(second.after(PAUSE)));
        census.begin().expect("a machine");
        census.under_way = None;
        assert!(!census.is_busy());
    }
}
