//! Whether the kernel still records what it should.

use crate::stream::record::Lost;
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::{Cause, Event, Role};
use crate::tracefs::session::{Session, Switched};
use anyhow::Result;
use std::time::Duration;

/// How often to look.
const EVERY: Duration = Duration::from_secs(1);

/// What was seen when it was looked at last.
pub struct Health<'a> {
    session: &'a Session,
    cpus: Vec<u32>,
    looked: Monotonic,
    /// Whether somebody has removed our probes.
    pub removed: bool,
    /// As [`Session::missed`] has it, and [`Session::misses`] them.
    missed: u64,
    misses: Vec<u64>,
    /// As the statistics of each CPU have them.
    dropped: Vec<u64>,
}

/// What is wrong.
pub struct Finding {
    /// What was lost.
    pub lost: Lost,
    /// Whether anything may have been: else only how some calls that change directories ended,
    /// which st-decode tells.
    pub any: bool,
}

impl<'a> Health<'a> {
    /// Of a session, whose buffers are those of these CPUs.
    pub fn new(session: &'a Session, cpus: Vec<u32>) -> Self {
        Self {
            session,
            dropped: vec![0; cpus.len()],
            cpus,
            looked: Monotonic::default(),
            removed: false,
            missed: 0,
            misses: Vec::new(),
        }
    }

    /// How many records were overwritten so far.
    pub fn overruns(&self) -> Result<u64> {
        let overruns = (self.cpus.iter()).map(|cpu| Ok(self.session.statistics(*cpu)?.overrun));
        overruns.sum()
    }

    /// Whether it was long ago that it was looked.
    pub fn is_due(&self, now: Monotonic) -> bool {
        now >= self.looked.after(EVERY)
    }

    /// Looks.
    pub fn look(&mut self, now: Monotonic) -> Result<Vec<Finding>> {
        let since = std::mem::replace(&mut self.looked, now);
        let lost = |count, cause| Lost {
            since,
            ts: now,
            count,
            cause,
            ..Lost::default()
        };
        let mut found = Vec::new();
        let switched = self.session.switch_on()?;
        self.removed |= switched == Switched::Removed;
        if switched != Switched::On {
            let lost = lost(None, Cause::SwitchedOff);
            found.push(Finding { lost, any: true });
        }
        if self.removed {
            return Ok(found);
        }
        for (cpu, before) in self.cpus.iter().zip(&mut self.dropped) {
            let dropped = self.session.statistics(*cpu)?.dropped;
            let count = dropped.saturating_sub(*before);
            *before = dropped;
            if count > 0 {
                let lost = Lost {
                    cpu: Some(*cpu),
                    ..lost(Some(count), Cause::MissedProbe)
                };
                found.push(Finding { lost, any: true });
            }
        }
        let missed = self.session.missed()?;
        if missed == self.missed {
            return Ok(found);
        }
        let Some(misses) = self.session.misses()? else {
            return Ok(found);
        };
        self.missed = missed;
        for (at, hook) in self.session.hooks.iter().enumerate() {
            let before = self.misses.get(at).copied().unwrap_or(0);
            let count = misses[at].saturating_sub(before);
            let any = hook.role != Role::Return;
            let moves = hook.subject.event().is_some_and(Event::changes_directories);
            if count > 0 && (any || moves) {
                let lost = lost(Some(count), Cause::MissedProbe);
                found.push(Finding { lost, any });
            }
        }
        self.misses = misses;
        Ok(found)
    }
}
