//! Gaps: times in which records of a CPU are missing.
//!
//! Within a gap, any thread may have run on the CPU whose records are missing, and have come back
//! within the same call: a return that was recorded may belong to another call than the entry
//! before it. So within a gap nothing is told that takes more than one record; what is not told
//! is counted. All calls and processes are forgotten at its beginning and at its end: the records
//! that are missing may be those of returns, or of the end of a process whose pid another process
//! has now.

use super::Decoder;
use crate::mount::Mounts;
use st_probe::record::Lost;
use st_probe::time::Monotonic;
use st_probe::vocabulary::Cause;
use st_probe::wire;

/// The gap that a stream is in.
#[derive(Debug)]
pub(super) struct Gap {
    since: Monotonic,
    until: Monotonic,
    /// How many calls may have made events.
    pub unpaired: u64,
}

impl Decoder {
    /// Takes a `lost` record: a gap begins, or the gap lasts longer, or concerns more CPUs.
    pub(super) fn lost(&mut self, lost: &Lost, out: &mut Vec<u8>) {
        let unpaired = self.forget_calls(out);
        self.processes.forget_all();
        self.mounts = Mounts::default();
        let gap = self.gap.get_or_insert(Gap {
            since: lost.since,
            until: Monotonic::default(),
            unpaired: 0,
        });
        gap.until = gap.until.max(lost.end());
        gap.unpaired += unpaired;
    }

    /// Ends the gap if it is over at `now`; appends how many calls may have made events.
    pub(super) fn end_gap(&mut self, now: Monotonic, out: &mut Vec<u8>) {
        let Some(gap) = self.gap.take_if(|gap| now >= gap.until) else {
            return;
        };
        let unpaired = gap.unpaired + self.calls.forget_all().count();
        self.processes.forget_all();
        self.mounts = Mounts::default();
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

    /// Forgets all calls, and appends the events that are kept within them, unless in a gap.
    /// Returns how many calls may have made events that are not told.
    pub(super) fn forget_calls(&mut self, out: &mut Vec<u8>) -> u64 {
        let forgotten = self.calls.forget_all();
        if self.gap.is_some() {
            return forgotten.count();
        }
        for (tid, success) in &forgotten.kept {
            self.succeeded(*tid, success, None, out);
        }
        forgotten.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{CallHook, CallRecord};
    use crate::field::Layout;
    use crate::layer::Layers;
    use crate::operation::Operation;
    use crate::pair::{Call, Ended, EntryHook, Function};
    use st_probe::record::{Bytes, Raw};
    use st_probe::time::Unix;
    use st_probe::vocabulary::Event;

    #[test]
    fn counts_the_calls_of_a_gap() {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        let layout = Layout::default();
        let begin_calls = |decoder: &mut Decoder, tid| {
            let record = CallRecord {
                tid,
                ts: Monotonic(0),
                time: Unix(0),
                cpu: 0,
                values: layout.values(&[]),
            };
            for hook in [
                CallHook::Announcement(Event::Create),
                CallHook::Entry(Event::Delete, Function(0), EntryHook::Entry),
            ] {
                decoder.calls.learn(hook, &record);
            }
        };
        let lost = |since, until| Lost {
            since: Monotonic(since),
            ts: Monotonic(since),
            until: Some(Monotonic(until)),
            ..Lost::default()
        };
        begin_calls(&mut decoder, 1);
        decoder.lost(&lost(5, 20), &mut out);
        begin_calls(&mut decoder, 1);
        // Of another CPU.
        decoder.lost(&lost(6, 10), &mut out);
        begin_calls(&mut decoder, 1);
        begin_calls(&mut decoder, 2);
        let raw = Raw {
            ts: Monotonic(19),
            cpu: 0,
            id: 0,
            data: Bytes::default(),
        };
        let call = Call {
            began: Monotonic(0),
            sp: 0,
            dentry: None,
            operation: Operation::begin(Event::Delete).unwrap(),
            layers: Layers::default(),
        };
        decoder.ended(&raw, 1, vec![Ended::Unreturned(call)], &mut out);
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
        assert!(out.is_empty());
        assert_eq!(decoder.calls.forget_all().count(), 0);
    }
}
