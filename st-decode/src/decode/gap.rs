//! Gaps in the ring buffers.
//!
//! Until a gap is over, any thread may have been on the CPU whose records are missing, and back
//! within the same call: a return that was seen may be another call's than the entry before it.
//! So nothing is told then that takes more than one record, but how much that was.

use super::Decoder;
use crate::pair::Thread;
use st_probe::record::Lost;
use st_probe::time::Monotonic;
use st_probe::vocabulary::Cause;
use st_probe::wire;

/// The gap that a stream is in.
#[derive(Debug)]
pub(super) struct Gap {
    since: Monotonic,
    until: Monotonic,
    /// Calls that may have had something to tell.
    pub unpaired: u64,
}

impl Decoder {
    /// Takes a `lost` record: a gap begins, or is longer or wider than was known.
    pub(super) fn lost(&mut self, lost: &Lost) {
        let unpaired = self.forget();
        let gap = self.gap.get_or_insert(Gap {
            since: lost.since,
            until: Monotonic::default(),
            unpaired: 0,
        });
        gap.until = gap.until.max(lost.end());
        gap.unpaired += unpaired;
    }

    /// Ends the gap, if it is over by now.
    pub(super) fn end_gap(&mut self, now: Monotonic, out: &mut Vec<u8>) {
        let Some(gap) = self.gap.take_if(|gap| now >= gap.until) else {
            return;
        };
        let unpaired = gap.unpaired + self.forget();
        if unpaired > 0 {
            let lost = Lost {
                since: gap.since,
                ts: gap.until,
                count: Some(unpaired),
                cause: Cause::Unpaired,
                ..Lost::default()
            };
            wire::write(&lost, out);
            self.lost += unpaired;
        }
    }

    /// Trusts nothing of what is known of threads: a return may be among what is missing, and
    /// the end of a process whose number another one has now. How many calls may have had
    /// something to tell.
    fn forget(&mut self) -> u64 {
        self.processes.lost();
        let threads = self.threads.drain();
        threads.map(|(_, thread)| Thread::abandon(thread)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::{Call, Known};
    use st_probe::record::{Bytes, Raw};
    use st_probe::vocabulary::Event;

    #[test]
    fn counts_the_calls_of_a_gap() {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        let thread = |decoder: &mut Decoder, tid| {
            let thread = decoder.threads.entry(tid).or_default();
            thread.enter(Event::Delete, 0, 1000, 1);
            thread.announce(Event::Create, Call::default());
        };
        let lost = |since, until| Lost {
            since: Monotonic(since),
            ts: Monotonic(since),
            until: Some(Monotonic(until)),
            ..Lost::default()
        };
        thread(&mut decoder, 1);
        decoder.lost(&lost(5, 20));
        thread(&mut decoder, 1);
        // Of another CPU.
        decoder.lost(&lost(6, 10));
        thread(&mut decoder, 1);
        thread(&mut decoder, 2);
        let raw = Raw {
            ts: Monotonic(19),
            cpu: 0,
            id: 0,
            data: Bytes::default(),
        };
        let calls = vec![(Event::Delete, Known::default())];
        decoder.unreturned(&raw, calls, &mut out);
        decoder.end_gap(Monotonic(19), &mut out);
        assert!(out.is_empty());
        decoder.end_gap(Monotonic(20), &mut out);
        let told: Lost = wire::read(&out).unwrap();
        assert_eq!(
            (told.since, told.ts, told.until),
            (Monotonic(5), Monotonic(20), None)
        );
        assert_eq!((told.count, decoder.lost), (Some(9), 9));
        out.clear();
        // Nothing is left of it.
        decoder.end_gap(Monotonic(21), &mut out);
        assert!(out.is_empty() && decoder.threads.is_empty());
    }
}
