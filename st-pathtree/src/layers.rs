//! Which events are part of events that are told: of an operation on overlayfs, and what that does
//! on its layers to carry it out, a reader mostly wants the first alone.

use crate::event::EventRecord;

/// Deeper than file systems lie on one another: FILESYSTEM_MAX_STACK_DEPTH, include/linux/fs.h.
const MAX_AROUND: usize = 8;

/// Follows the events of a stream that are to be told. Those that are part of another one follow
/// it at once: [`st_decode::event`], "Order".
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// What the next event may be part of: the last event, before that the one that it is part of,
    /// and so on.
    around: Vec<u64>,
}

impl Layers {
    /// Takes the next event. Returns whether it is part of one before it, whether that one is told
    /// or is itself left out as a part.
    pub fn is_part<P>(&mut self, event: &EventRecord<P>) -> bool {
        let Some(outer) = event.layer_of else {
            self.around.clear();
            self.around.push(event.seq);
            return false;
        };
        while self.around.last().is_some_and(|&seq| seq > outer) {
            self.around.pop();
        }
        let is_part = self.around.last() == Some(&outer);
        if self.around.len() == MAX_AROUND {
            self.around.remove(0);
        }
        self.around.push(event.seq);
        is_part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these events, by number and by what they are part of, are told alone.
    fn told(events: &[(u64, Option<u64>)]) -> Vec<u64> {
        let mut layers = Layers::default();
        let alone = events.iter().filter(|(seq, layer_of)| {
            let is_part = layers.is_part::<()>(&EventRecord {
                seq: *seq,
                layer_of: *layer_of,
                ..EventRecord::default()
            });
            assert!(layers.around.len() <= MAX_AROUND);
            !is_part
        });
        alone.map(|(seq, _)| *seq).collect()
    }

    #[test]
    fn what_is_part_of_an_event_is_left_out() {
        assert_eq!(
            told(&[(0, None), (1, None), (2, Some(1)), (3, Some(1))]),
            [0, 1]
        );
        // overlayfs on overlayfs.
        let nested = [
            (5, None),
            (6, Some(5)),
            (7, Some(6)),
            (8, Some(6)),
            (9, Some(5)),
        ];
        assert_eq!(told(&nested), [5]);
    }

    #[test]
    fn what_is_part_of_an_event_that_is_not_told_is_told() {
        assert_eq!(told(&[(2, Some(1)), (3, Some(1)), (4, None)]), [2, 3, 4]);
        // The middle one is missing, or the outermost one.
        assert_eq!(told(&[(5, None), (7, Some(6)), (9, Some(5))]), [5, 7]);
        assert_eq!(told(&[(6, Some(5)), (7, Some(6)), (9, Some(5))]), [6, 9]);
        // As many as you like of which the outer ones are missing.
        let parts: Vec<_> = (0..1000).map(|number| 2 * number + 2).collect();
        let events: Vec<_> = parts.iter().map(|seq| (*seq, Some(seq - 1))).collect();
        assert_eq!(told(&events), parts);
        // A number means nothing once another event came.
        assert_eq!(told(&[(5, None), (6, None), (7, Some(5))]), [5, 6, 7]);
    }
}
