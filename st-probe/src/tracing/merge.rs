//! Sequences of several sources, each in time order, merged into one in time order.

use crate::stream::time::Monotonic;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Holds items back until all older items have been pushed, and releases them by time.
#[derive(Debug)]
pub struct Merge<S, T> {
    queues: BTreeMap<S, VecDeque<(Monotonic, T)>>,
}

impl<S, T> Default for Merge<S, T> {
    fn default() -> Self {
        Self {
            queues: BTreeMap::new(),
        }
    }
}

impl<S: Ord, T> Merge<S, T> {
    /// Takes an item of a source. Its time is not before the time of the source's last item.
    pub fn push(&mut self, source: S, ts: Monotonic, item: T) {
        self.queues.entry(source).or_default().push_back((ts, item));
    }

    /// Whether no item is held back.
    pub fn is_empty(&self) -> bool {
        self.queues.values().all(VecDeque::is_empty)
    }

    /// Hands out every item older than `until`: by time, those of the same time by source.
    pub fn release(&mut self, until: Monotonic, mut take: impl FnMut(Monotonic, T)) {
        // In the order of the sources: to compare places is faster than to compare sources.
        let mut queues: Vec<_> = self.queues.values_mut().collect();
        let mut heads = BinaryHeap::new();
        for (place, queue) in queues.iter().enumerate() {
            heads.extend(head(queue, until).map(|ts| Reverse((ts, place))));
        }
        while let Some(Reverse((_, place))) = heads.pop() {
            let queue = &mut queues[place];
            if let Some((ts, item)) = queue.pop_front() {
                take(ts, item);
            }
            if let Some(ts) = head(queue, until) {
                heads.push(Reverse((ts, place)));
            }
        }
    }
}

/// The time of a queue's first item, if that is older than `until`.
fn head<T>(queue: &VecDeque<(Monotonic, T)>, until: Monotonic) -> Option<Monotonic> {
    let (ts, _) = queue.front()?;
    (*ts < until).then_some(*ts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_what_is_older_in_order() {
        let mut merge = Merge::default();
        // The sources are not pushed in their order: that is not to matter.
        for (source, ts) in [(2, 3), (2, 9), (1, 2), (1, 4), (0, 1), (0, 4)] {
            merge.push(source, Monotonic(ts), source);
        }
        let mut released = Vec::new();
        merge.release(Monotonic(9), |ts, source| released.push((ts.0, source)));
        assert_eq!(released, [(1, 0), (2, 1), (3, 2), (4, 0), (4, 1)]);
        assert!(!merge.is_empty());
        released.clear();
        merge.release(Monotonic::MAX, |ts, source| released.push((ts.0, source)));
        assert_eq!(released, [(9, 2)]);
        assert!(merge.is_empty());
    }
}
