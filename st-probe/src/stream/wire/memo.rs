//! What was made of encoded values, kept for when the same bytes come again: of the process of an
//! event, for example, which many events have.

use std::fmt;

/// How many values are remembered, at most.
const SLOTS: usize = 64;
/// So many bytes tell one value from another, mostly. Shorter values are not remembered.
const HEAD: usize = 24;
/// The longest value that is remembered, in bytes.
const LONGEST: usize = 4096;

/// Remembers what was made of values, by all their bytes: the same bytes are the same value.
pub struct Memo<T>(Vec<Option<Kept<T>>>);

struct Kept<T> {
    value: Vec<u8>,
    made: T,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| None).collect())
    }
}

impl<T> fmt::Debug for Memo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

impl<T> Memo<T> {
    /// The length of the value at the start of `bytes`, and what was made of it, if it is remembered.
    /// MessagePack needs no byte after a value to tell its end: bytes that begin with those of a whole
    /// value begin with that value.
    #[inline]
    pub fn find(&self, bytes: &[u8]) -> Option<(usize, &T)> {
        let kept = self.0[slot(bytes)?].as_ref()?;
        let is_same = bytes.starts_with(&kept.value);
        is_same.then_some((kept.value.len(), &kept.made))
    }

    /// Remembers what was made of a whole value, perhaps in place of another value.
    pub fn keep(&mut self, value: &[u8], made: T) {
        if let Some(slot) = slot(value).filter(|_| value.len() <= LONGEST) {
            let former = self.0[slot].take();
            let mut kept = former.map(|former| former.value).unwrap_or_default();
            kept.clear();
            kept.extend_from_slice(value);
            self.0[slot] = Some(Kept { value: kept, made });
        }
    }
}

fn slot(bytes: &[u8]) -> Option<usize> {
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    let words = head.chunks_exact(8).flat_map(<[u8; 8]>::try_from);
    let hash = words.map(u64::from_le_bytes).fold(0, |hash: u64, word| {
        (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    Some((hash >> 32) as usize % SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_by_all_its_bytes() {
        let mut memo = Memo::default();
        let value = |last: u8| {
            let mut value = b"\x82\xa3pid\x01\xa4comm\xc4\x20".to_vec();
            value.extend([b'a'; 31]);
            value.push(last);
            value
        };
        assert_eq!(memo.find(&value(1)), None);
        memo.keep(&value(1), 'a');
        assert_eq!(memo.find(&value(2)), None);
        assert_eq!(memo.find(&value(1)[..40]), None, "a part of it");
        let more = [&value(1)[..], b"more"].concat();
        assert_eq!(memo.find(&more), Some((value(1).len(), &'a')));
        memo.keep(&value(2), 'b');
        assert_eq!(memo.find(&value(1)), None, "another one is in its place");
        assert_eq!(memo.find(&value(2)), Some((value(2).len(), &'b')));
    }

    #[test]
    fn what_is_too_short_or_too_long_is_not_remembered() {
        let mut memo = Memo::default();
        for length in [HEAD - 1, LONGEST + 1] {
            let value = vec![0xc0; length];
            memo.keep(&value, ());
            assert_eq!(memo.find(&value), None);
        }
    }
}
