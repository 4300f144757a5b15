//! Per-CPU sequences, each in time order, into one in time order.

use crate::stream::time::Monotonic;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Holds back what is not yet known to be complete and releases the rest, oldest first.
#[derive(Debug)]
pub struct Merge<T> {
    queues: Vec<VecDeque<(Monotonic, T)>>,
}

impl<T> Merge<T> {
    /// For so many sources.
    pub fn new(sources: usize) -> Self {
        Self {
            queues: (0..sources).map(|_| VecDeque::new()).collect(),
        }
    }

    /// Takes an item of a source; its time is not before that of the source's last.
    pub fn push(&mut self, source: usize, ts: Monotonic, item: T) {
        self.queues[source].push_back((ts, item));
    }

    /// Whether nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// Hands out every item older than `until`: by time, at the same time by source.
    pub fn release(&mut self, until: Monotonic, mut take: impl FnMut(usize, Monotonic, T)) {
        let front = |queue: &VecDeque<(Monotonic, T)>| {
            queue.front().map(|item| item.0).filter(|&ts| ts < until)
        };
        let mut heads: BinaryHeap<_> = (self.queues.iter().enumerate())
            .filter_map(|(source, queue)| front(queue).map(|ts| Reverse((ts, source))))
            .collect();
        while let Some(Reverse((_, source))) = heads.pop() {
            if let Some((ts, item)) = self.queues[source].pop_front() {
                take(source, ts, item);
            }
            if let Some(ts) = front(&self.queues[source]) {
                heads.push(Reverse((ts, source)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_what_is_older_in_order() {
        let mut merge = Merge::new(3);
        for (source, ts) in [(0, 1), (0, 4), (1, 2), (1, 4), (2, 3), (2, 9)] {
            merge.push(source, Monotonic(ts), ());
        }
        let mut released = Vec::new();
        merge.release(Monotonic(9), |source, ts, ()| released.push((ts.0, source)));
        assert_eq!(released, [(1, 0), (2, 1), (3, 2), (4, 0), (4, 1)]);
        released.clear();
        merge.release(Monotonic::MAX, |source, ts, ()| {
            released.push((ts.0, source))
        });
        assert_eq!(released, [(9, 2)]);
    }
}
