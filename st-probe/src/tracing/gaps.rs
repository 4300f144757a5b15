//! Gaps: where records of one CPU are missing since later records have overwritten them, and what
//! is the cause. Pure.

use crate::stream::record::Lost;
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::Cause;
use std::time::Duration;

/// The time from one instant to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first instant.
    pub from: Monotonic,
    /// The first instant after it.
    pub to: Monotonic,
}

impl Span {
    /// How long it is.
    pub fn length(self) -> Duration {
        self.to.since(self.from)
    }

    /// How long it overlaps another one.
    fn overlap(self, other: Self) -> Duration {
        self.to.min(other.to).since(self.from.max(other.from))
    }
}

/// What st-probe has done before it reads the ring buffers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before {
    /// When it began to read them the last time: it has read all records up to that instant.
    pub read: Monotonic,
    /// Until when it has released all records.
    pub released: Monotonic,
    /// The last write that waited for the reader of the stream.
    pub stall: Span,
}

/// Finds the gaps in what is read of one CPU's ring buffer.
#[derive(Debug)]
pub struct Gaps {
    cpu: u32,
    /// The time of the last record.
    latest: Monotonic,
    /// What is missing before the next record.
    missing: Option<Missing>,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    /// How many records, if known.
    count: Option<u64>,
}

impl Gaps {
    /// The gaps of a CPU.
    pub fn of(cpu: u32) -> Self {
        Self {
            cpu,
            latest: Monotonic::default(),
            missing: None,
        }
    }

    /// The time of the last record.
    pub fn latest(&self) -> Monotonic {
        self.latest
    }

    /// Notes that later records have overwritten some before the next record: `count`, if known.
    pub fn overwritten(&mut self, count: Option<u64>) {
        self.missing = Some(Missing { count });
    }

    /// Notes that some records before the next record cannot be read.
    pub fn unreadable(&mut self) {
        self.missing.get_or_insert(Missing { count: None });
    }

    /// Notes a record. Returns the gap before it, if there is one.
    pub fn record(&mut self, ts: Monotonic, before: Before) -> Option<Lost> {
        let last = std::mem::replace(&mut self.latest, ts);
        let missing = self.missing.take()?;
        // All records that are older have been read, or released, so they are not missing.
        let since = before.released.min(ts).max(last);
        let unread = Span {
            from: before.read.max(last),
            to: ts,
        };
        let cause = cause(unread, before.stall);
        Some(self.lost(since, ts, missing, cause))
    }

    /// Ends the sequence: no record follows. Returns the gap at its end, if there is one.
    pub fn end(&mut self, released: Monotonic) -> Option<Lost> {
        let missing = self.missing.take()?;
        let since = released.max(self.latest);
        Some(self.lost(since, since, missing, Cause::RingBuffer))
    }

    fn lost(&self, since: Monotonic, until: Monotonic, missing: Missing, cause: Cause) -> Lost {
        Lost {
            since,
            ts: since,
            until: (until > since).then_some(until),
            cpu: Some(self.cpu),
            count: missing.count,
            cause,
            event: None,
        }
    }
}

/// Why records were overwritten in a span in which nobody read the ring buffer.
///
/// Records are overwritten because st-probe does not read for too long, so the cause is what kept
/// it from reading for most of that time. A write that waited for the reader during a small part of
/// that time is not the cause: for the rest, somebody has stopped st-probe, or no CPU was free for
/// it.
fn cause(unread: Span, stall: Span) -> Cause {
    if 2 * unread.overlap(stall) > unread.length() {
        Cause::SlowReader
    } else {
        Cause::RingBuffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Monotonic {
        Monotonic(ms * 1_000_000)
    }

    fn span(from: u64, to: u64) -> Span {
        Span {
            from: ms(from),
            to: ms(to),
        }
    }

    /// The gap of seven records that ends with a record at `ts`, after a record at 1000 ms.
    fn gap(ts: u64, before: Before) -> Lost {
        let mut gaps = Gaps::of(3);
        assert!(gaps.record(ms(1000), before).is_none());
        gaps.overwritten(Some(7));
        let lost = gaps.record(ms(ts), before).expect("a gap");
        assert_eq!((lost.cpu, lost.count), (Some(3), Some(7)));
        assert!(gaps.record(ms(ts), before).is_none(), "it is told twice");
        lost
    }

    #[test]
    fn begins_after_what_was_read_and_what_was_released() {
        for (released, since) in [(900, 1000), (1000, 1000), (1200, 1200), (1700, 1500)] {
            let before = Before {
                released: ms(released),
                ..Before::default()
            };
            let lost = gap(1500, before);
            assert_eq!((lost.since, lost.ts), (ms(since), ms(since)));
            assert_eq!(lost.until, (since < 1500).then_some(ms(1500)));
            assert_eq!(lost.end(), ms(1500));
        }
    }

    #[test]
    fn the_last_of_two_counts_holds() {
        let mut gaps = Gaps::of(0);
        gaps.overwritten(Some(7));
        gaps.unreadable();
        let count = |lost: Option<Lost>| lost.map(|lost| lost.count);
        assert_eq!(count(gaps.record(ms(1), Before::default())), Some(Some(7)));
        gaps.unreadable();
        gaps.overwritten(Some(5));
        gaps.overwritten(None);
        assert_eq!(count(gaps.record(ms(2), Before::default())), Some(None));
    }

    #[test]
    fn may_be_at_the_end() {
        let mut gaps = Gaps::of(1);
        assert!(gaps.end(ms(9)).is_none());
        gaps.record(ms(5), Before::default());
        gaps.unreadable();
        let lost = gaps.end(ms(3)).expect("a gap");
        assert_eq!((lost.since, lost.ts, lost.until), (ms(5), ms(5), None));
        assert_eq!((lost.cpu, lost.count), (Some(1), None));
        assert_eq!(lost.cause, Cause::RingBuffer);
        gaps.overwritten(Some(2));
        assert_eq!(gaps.end(ms(8)).map(|lost| lost.ts), Some(ms(8)));
    }

    #[test]
    fn a_reader_that_sleeps_is_slow() {
        // It sleeps for longer than the gap lasts; it wakes up before the end of the gap.
        for stall in [span(1010, 4000), span(1010, 2500)] {
            let before = Before {
                read: ms(1000),
                released: ms(990),
                stall,
            };
            assert_eq!(gap(3000, before).cause, Cause::SlowReader);
        }
    }

    #[test]
    fn a_short_write_before_st_probe_is_stopped_is_not_the_cause() {
        let before = Before {
            read: ms(1000),
            released: ms(990),
            stall: span(1010, 1070),
        };
        assert_eq!(gap(4000, before).cause, Cause::RingBuffer);
        // A write that ended before the ring buffer was read the last time is not, either.
        let before = Before {
            read: ms(1900),
            released: ms(1800),
            stall: span(1010, 1890),
        };
        assert_eq!(gap(2000, before).cause, Cause::RingBuffer);
    }

    #[test]
    fn a_stall_is_compared_with_the_time_in_which_nobody_read() {
        // The CPU was idle before. The gap is told since the last release, but no record is
        // missing that is older than the last time at which the ring buffer was read.
        let before = Before {
            read: ms(1900),
            released: ms(1700),
            stall: span(1905, 2100),
        };
        let lost = gap(2060, before);
        assert_eq!(lost.since, ms(1700));
        assert_eq!(lost.cause, Cause::SlowReader);
        // Half of the time is not most of it.
        let before = Before {
            stall: span(1900, 1980),
            ..before
        };
        assert_eq!(gap(2060, before).cause, Cause::RingBuffer);
        let before = Before {
            stall: span(1900, 1981),
            ..before
        };
        assert_eq!(gap(2060, before).cause, Cause::SlowReader);
    }

    #[test]
    fn a_gap_that_lasts_no_time_was_nobodys_wait() {
        let before = Before {
            read: ms(2000),
            released: ms(990),
            stall: span(1010, 1990),
        };
        assert_eq!(gap(1995, before).cause, Cause::RingBuffer);
    }
}
