//! Counts by key, of which those with most are of interest, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;

/// How many keys are kept when there are twice as many.
const KEPT: usize = 2048;

/// What is counted for a key.
pub trait Count: Default {
    /// How much that is.
    fn count(&self) -> u64;
}

/// Counts by key. Where there are very many keys, those with least are forgotten now and then.
#[derive(Debug)]
pub struct Top<K, V> {
    counts: HashMap<K, V>,
    /// How much was counted for those that were forgotten.
    pub forgotten: u64,
}

impl<K, V> Default for Top<K, V> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            forgotten: 0,
        }
    }
}

impl<K: Hash + Ord + Clone, V: Count> Top<K, V> {
    /// What is counted for a key.
    pub fn of(&mut self, key: K) -> &mut V {
        if self.counts.len() >= 2 * KEPT && !self.counts.contains_key(&key) {
            let forgotten: Vec<K> = self
                .sorted()
                .skip(KEPT)
                .map(|(key, _)| key.clone())
                .collect();
            for key in forgotten {
                let value = self.counts.remove(&key).unwrap_or_default();
                self.forgotten += value.count();
            }
        }
        self.counts.entry(key).or_default()
    }

    /// The keys with their counts, those with most first.
    pub fn sorted(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        let mut all: Vec<_> = self.counts.iter().collect();
        all.sort_by(|(key, value), (other, than)| {
            than.count()
                .cmp(&value.count())
                .then_with(|| key.cmp(other))
        });
        all.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Count for u64 {
        fn count(&self) -> u64 {
            *self
        }
    }

    #[test]
    fn those_with_most_are_found_though_they_come_late() {
        let mut top = Top::<u32, u64>::default();
        for number in 0..100_000 {
            *top.of(number) += 1;
            if number >= 50_000 {
                *top.of(1_000_000 + number % 2) += 1;
            }
        }
        let first: Vec<_> = top.sorted().take(2).map(|(key, _)| *key).collect();
        assert_eq!(first, [1_000_000, 1_000_001]);
        assert!(top.counts.len() <= 2 * KEPT);
        let all = top.sorted().map(|(_, count)| count).sum::<u64>() + top.forgotten;
        assert_eq!(all, 150_000);
    }
}
