//! What the kernel should have recorded and did not: two readings of what it counts, compared.

use crate::stream::record::{Hook, Lost};
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::{Cause, Event, Role, Service, Subject};
use crate::tracefs::session::{Session, Switched};
use anyhow::Result;
use std::time::Duration;

/// The time between two readings.
const PERIOD: Duration = Duration::from_secs(1);

/// Something that the kernel did not record between two readings.
#[derive(Debug)]
pub enum Finding {
    /// Records of any kind may be missing.
    Records(Lost),
    /// Returns from calls that change directories are missing, until this instant. st-decode finds
    /// the calls that have no return, and tells of them.
    Returns(Monotonic),
}

/// The session's counters, and the last reading of them.
pub struct Health {
    /// The CPUs that have a ring buffer.
    cpus: Vec<u32>,
    last: Reading,
}

/// What the kernel has counted until an instant.
#[derive(Debug, Clone, Default)]
struct Reading {
    /// The instant.
    ts: Monotonic,
    /// Whether something was switched off, or removed, since the reading before.
    switched: Switched,
    /// Records of each CPU's ring buffer that the kernel could not reserve room for.
    dropped: Vec<u64>,
    /// How often the kernel did not enter a probe, the probes of all owners together.
    missed: u64,
    /// The same of each hook in force.
    misses: Vec<u64>,
}

impl Health {
    /// Nothing was read yet of the session, whose ring buffers are those of `cpus`.
    pub fn new(cpus: Vec<u32>) -> Self {
        let last = Reading {
            dropped: vec![0; cpus.len()],
            ..Reading::default()
        };
        Self { cpus, last }
    }

    /// Whether somebody has removed the session's probes.
    pub fn probes_removed(&self) -> bool {
        self.last.switched == Switched::Removed
    }

    /// Whether the next reading is due.
    pub fn is_due(&self, now: Monotonic) -> bool {
        now >= self.last.ts.after(PERIOD)
    }

    /// Switches on again what somebody has switched off, reads the counters, and compares them
    /// with the last reading.
    pub fn check(&mut self, session: &Session, now: Monotonic) -> Result<Vec<Finding>> {
        let reading = self.read(session, now)?;
        let findings = compare(&self.last, &reading, &self.cpus, &session.hooks);
        self.last = reading;
        Ok(findings)
    }

    /// How many records later records have overwritten since the session was opened.
    pub fn overwritten(&self, session: &Session) -> Result<u64> {
        let overruns = (self.cpus.iter()).map(|cpu| Ok(session.statistics(*cpu)?.overrun));
        overruns.sum()
    }

    fn read(&self, session: &Session, ts: Monotonic) -> Result<Reading> {
        let mut switched = session.switch_on()?;
        if self.probes_removed() {
            switched = Switched::Removed;
        }
        let mut reading = Reading {
            ts,
            switched,
            ..self.last.clone()
        };
        // What was removed counts nothing.
        if switched == Switched::Removed {
            return Ok(reading);
        }
        for (cpu, dropped) in self.cpus.iter().zip(&mut reading.dropped) {
            *dropped = session.statistics(*cpu)?.dropped;
        }
        // The misses of each hook take three files to read, so they are read only if there are
        // new ones. If they could not be told apart this time, they are read the next time.
        let missed = session.missed()?;
        if missed != self.last.missed {
            if let Some(misses) = session.misses()? {
                (reading.missed, reading.misses) = (missed, misses);
            }
        }
        Ok(reading)
    }
}

/// What the kernel did not record between two readings.
fn compare(before: &Reading, after: &Reading, cpus: &[u32], hooks: &[Hook]) -> Vec<Finding> {
    let lost = |count, cause| Lost {
        since: before.ts,
        ts: after.ts,
        count,
        cause,
        ..Lost::default()
    };
    let mut findings = Vec::new();
    if after.switched != Switched::On {
        findings.push(Finding::Records(lost(None, Cause::SwitchedOff)));
    }
    for (at, cpu) in cpus.iter().enumerate() {
        let count = increase(&before.dropped, &after.dropped, at);
        if count > 0 {
            findings.push(Finding::Records(Lost {
                cpu: Some(*cpu),
                ..lost(Some(count), Cause::MissedProbe)
            }));
        }
    }
    for (at, hook) in hooks.iter().enumerate() {
        let count = increase(&before.misses, &after.misses, at);
        if count == 0 || hook.role.tells_of_layers() {
            continue;
        }
        let is_made_namespace = hook.subject == Subject::Service(Service::Namespace);
        if hook.role != Role::Return || is_made_namespace {
            findings.push(Finding::Records(lost(Some(count), Cause::MissedProbe)));
        } else if hook.subject.event().is_some_and(Event::changes_directories) {
            findings.push(Finding::Returns(after.ts));
        }
    }
    findings
}

/// By how much one of several counters has increased. A counter that was not read yet is 0.
fn increase(before: &[u64], after: &[u64], at: usize) -> u64 {
    let counter = |counters: &[u64]| counters.get(at).copied().unwrap_or(0);
    counter(after).saturating_sub(counter(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Monotonic = Monotonic(1_000);
    const AFTER: Monotonic = Monotonic(2_000);

    fn reading(ts: Monotonic) -> Reading {
        Reading {
            ts,
            dropped: vec![4, 5],
            missed: 9,
            misses: vec![1, 2, 3, 4],
            ..Reading::default()
        }
    }

    /// What changed between a reading and one in which `change` was made.
    fn findings(change: impl FnOnce(&mut Reading)) -> Vec<Finding> {
        let mut after = reading(AFTER);
        change(&mut after);
        let hooks = [
            (Event::Mkdir, Role::Entry),
            (Event::Mkdir, Role::Return),
            (Event::Connect, Role::Return),
            (Event::Rmdir, Role::Carried),
        ];
        let hooks = hooks.map(|(event, role)| Hook {
            id: 0,
            name: String::new(),
            subject: Subject::Event(event),
            role,
            point: String::new(),
            names: 0,
            fields: Vec::new(),
        });
        compare(&reading(BEFORE), &after, &[0, 8], &hooks)
    }

    /// The only finding, which is of records.
    fn lost(findings: &[Finding]) -> &Lost {
        match findings {
            [Finding::Records(lost)] => {
                assert_eq!((lost.since, lost.ts, lost.until), (BEFORE, AFTER, None));
                lost
            }
            _ => panic!("{findings:?}"),
        }
    }

    #[test]
    fn finds_nothing_where_nothing_has_changed() {
        assert!(findings(|_| ()).is_empty());
        // Somebody else's probes were missed, or removed.
        assert!(findings(|after| after.missed = 12).is_empty());
        // Without these, every event is told.
        assert!(findings(|after| after.misses[3] += 2).is_empty());
    }

    #[test]
    fn finds_what_was_switched_off() {
        for switched in [Switched::Off, Switched::Removed] {
            let findings = findings(|after| after.switched = switched);
            let lost = lost(&findings);
            assert_eq!(
                (lost.cpu, lost.count, lost.cause),
                (None, None, Cause::SwitchedOff)
            );
        }
    }

    #[test]
    fn finds_what_was_dropped_on_a_cpu() {
        let findings = findings(|after| after.dropped[1] += 3);
        let lost = lost(&findings);
        assert_eq!(
            (lost.cpu, lost.count, lost.cause),
            (Some(8), Some(3), Cause::MissedProbe)
        );
    }

    #[test]
    fn finds_entries_that_were_missed() {
        let findings = findings(|after| after.misses[0] += 2);
        let lost = lost(&findings);
        assert_eq!(
            (lost.cpu, lost.count, lost.cause),
            (None, Some(2), Cause::MissedProbe)
        );
    }

    #[test]
    fn returns_count_where_they_change_directories() {
        let found = findings(|after| after.misses[1] += 2);
        assert!(matches!(found[..], [Finding::Returns(AFTER)]), "{found:?}");
        assert!(findings(|after| after.misses[2] += 2).is_empty());
    }

    #[test]
    fn the_first_reading_is_compared_with_nothing() {
        let hooks = [];
        let before = Reading::default();
        let found = compare(&before, &reading(AFTER), &[0, 8], &hooks);
        let counts = found.iter().map(|finding| match finding {
            Finding::Records(lost) => (lost.cpu, lost.count),
            Finding::Returns(_) => panic!("{found:?}"),
        });
        let counts: Vec<_> = counts.collect();
        assert_eq!(counts, [(Some(0), Some(4)), (Some(8), Some(5))]);
    }
}
