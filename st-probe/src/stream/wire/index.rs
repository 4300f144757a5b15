//! A record, walked once: where each of its entries is.

use super::memo::Memo;
use super::value::{FIXED, Measure, Value, split, split_map, split_str, value_len};
use super::{Error, MAX_RECORD, Malformed, read};
use rmp::Marker;
use serde::Deserialize;

/// The most entries of a record whose places are remembered. No record of ours has as many.
const MAX_PLACES: usize = 64;

/// The values that records repeat, each for many events: their length is that of the same bytes
/// in an earlier record.
const REPEATED: [&[u8]; 2] = [b"process", b"ancestors"];

/// One entry of a record.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The bytes of the string that is its key; none, if the key is no string.
    pub name: &'a [u8],
    /// Its key, encoded.
    pub key: &'a [u8],
    /// Its value, encoded.
    pub value: &'a [u8],
    /// Where it begins: bytes from the start of the record.
    pub at: usize,
}

impl Entry<'_> {
    /// Where it ends.
    pub(super) fn end(&self) -> usize {
        self.at + self.key.len() + self.value.len()
    }
}

/// A whole record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    bytes: &'a [u8],
    kind: &'a str,
    /// Where the first key begins.
    first: usize,
    /// Where the first entries are; possibly fewer than there are.
    places: &'a [Place],
}

/// Where an entry is in its record, whose keys begin where the entry before them ends.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Where the value begins ...
    value: u32,
    /// ... and where it ends.
    end: u32,
}

impl<'a> Record<'a> {
    /// The record that `bytes` are; `None`, if they are not one record.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let is_whole = value_len(bytes) == Ok(Some(bytes.len()));
        if is_whole { Self::begin(bytes) } else { None }
    }

    fn begin(bytes: &'a [u8]) -> Option<Self> {
        let (entries, rest) = split_map(bytes)?;
        let first = bytes.len() - rest.len();
        let rest = match rest {
            [0xa1, b't', rest @ ..] => rest,
            _ => split_str(rest).filter(|(key, _)| key == b"t")?.1,
        };
        if entries == 0 {
            return None;
        }
        let (kind, _) = split_str(rest)?;
        Some(Self {
            bytes,
            kind: std::str::from_utf8(kind).ok()?,
            first,
            places: &[],
        })
    }

    /// Its kind: the value of its first key, `t`.
    pub fn kind(self) -> &'a str {
        self.kind
    }

    /// The record, encoded.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Its entries, `t` first.
    pub fn entries(self) -> Entries<'a> {
        Entries {
            bytes: self.bytes,
            at: self.first,
            places: self.places.iter(),
        }
    }

    /// The entry of this name.
    pub fn entry(self, name: &[u8]) -> Option<Entry<'a>> {
        self.entries().find(|entry| entry.name == name)
    }

    /// The bytes of the string, or of the bin, that is the value of the entry of this name.
    pub fn text(self, name: &[u8]) -> Option<&'a [u8]> {
        match split(self.entry(name)?.value)? {
            (Value::Str(text) | Value::Bin(text), _) => Some(text),
            _ => None,
        }
    }

    /// Reads those fields of the record that `T` knows.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, Error> {
        read::record(self)
    }
}

/// Iterates over the entries of a record.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    /// Where the next key begins.
    at: usize,
    places: std::slice::Iter<'a, Place>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    // It is run for each entry of each record.
    #[inline(always)]
    fn next(&mut self) -> Option<Entry<'a>> {
        let at = self.at;
        let (value, end) = match self.places.next() {
            Some(place) => (place.value as usize, place.end as usize),
            None => self.walk()?,
        };
        self.at = end;
        let (key, value) = self.bytes[at..end].split_at(value - at);
        let name = match key {
            [0xa0..=0xbf, name @ ..] => name,
            _ => long_name(key),
        };
        Some(Entry {
            name,
            key,
            value,
            at,
        })
    }
}

impl Entries<'_> {
    /// Where the value of the next entry begins and ends, where its place is not remembered.
    #[inline(never)]
    fn walk(&self) -> Option<(usize, usize)> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let value = value_len(rest).ok()??;
        let end = value + value_len(&rest[value..]).ok()??;
        Some((self.at + value, self.at + end))
    }
}

#[cold]
fn long_name(key: &[u8]) -> &[u8] {
    split_str(key).map_or(&[][..], |(name, _)| name)
}

/// Where the entry at a place is, if it is like most and has come as a whole: a short name, and a
/// value that is no array and no map.
#[inline]
fn simple(bytes: &[u8], at: usize) -> Option<Place> {
    let name @ 0xa0..=0xbf = *bytes.get(at)? else {
        return None;
    };
    let value = at + 1 + usize::from(name & 0x1f);
    let marker = *bytes.get(value)?;
    let length = match FIXED[usize::from(marker)] {
        (length @ 1.., 0) => usize::from(length),
        _ if marker == Marker::Bin8.to_u8() => 2 + usize::from(*bytes.get(value + 1)?),
        _ => return None,
    };
    let end = value + length;
    (end <= bytes.len()).then_some(Place {
        value: value as u32,
        end: end as u32,
    })
}

/// Walks records, one after the other, however many reads one comes in.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Where the first key begins; 0: not known yet.
    first: usize,
    /// How many keys and values have not been walked yet.
    left: u64,
    /// Where the next of them begins.
    at: usize,
    /// How far that has been measured.
    measure: Measure,
    places: Vec<Place>,
    /// The value of the key that was walked last.
    value: usize,
    known: Memo<()>,
}

impl Index {
    /// The length of the record at the start of `bytes`, or `None` if more bytes after these are
    /// needed to tell. No byte is walked twice.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        if self.first == 0 {
            let Some(&first) = bytes.first() else {
                return Ok(None);
            };
            match Marker::from_u8(first) {
                Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {}
                _ => return Err(Malformed::NotARecord),
            }
            let Some((entries, rest)) = split_map(bytes) else {
                return Ok(None);
            };
            self.first = bytes.len() - rest.len();
            self.at = self.first;
            self.left = 2 * entries;
        }
        while self.left > 0 {
            // Each value takes one byte at least.
            if self.at as u64 + self.left > MAX_RECORD as u64 {
                return Err(Malformed::TooLong);
            }
            self.walk_simple(bytes);
            if self.left == 0 {
                break;
            }
            let Some(length) = self.length(bytes)? else {
                return Ok(None);
            };
            self.at += length;
            self.left -= 1;
            if self.left % 2 == 1 {
                self.value = self.at;
            } else if self.places.len() < MAX_PLACES {
                self.places.push(Place {
                    value: self.value as u32,
                    end: self.at as u32,
                });
            }
        }
        if self.at > MAX_RECORD {
            return Err(Malformed::TooLong);
        }
        Ok(Some(self.at))
    }

    /// Walks the next entries as far as they are like most.
    #[inline]
    fn walk_simple(&mut self, bytes: &[u8]) {
        while self.left > 0 && self.left % 2 == 0 && self.places.len() < MAX_PLACES {
            let Some(place) = simple(bytes, self.at) else {
                break;
            };
            self.at = place.end as usize;
            self.left -= 2;
            self.places.push(place);
        }
    }

    /// The length of the next value, if it has come as a whole.
    #[inline]
    fn length(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) else {
            return Ok(None);
        };
        if let (length @ 1.., 0) = FIXED[usize::from(rest[0])] {
            let length = usize::from(length);
            return Ok((length <= rest.len()).then_some(length));
        }
        let is_repeated = self.left % 2 == 1 && self.is_repeated(bytes);
        if is_repeated {
            if let Some((length, ())) = self.known.find(rest) {
                self.measure = Measure::default();
                return Ok(Some(length));
            }
        }
        let length = self.measure.resume(rest)?;
        if self.at + self.measure.reached() > MAX_RECORD {
            return Err(Malformed::TooLong);
        }
        let Some(length) = length else {
            return Ok(None);
        };
        self.measure = Measure::default();
        if is_repeated {
            self.known.keep(&rest[..length], ());
        }
        Ok(Some(length))
    }

    /// Whether the key that was walked last is one of [`REPEATED`].
    fn is_repeated(&self, bytes: &[u8]) -> bool {
        let key = self
            .places
            .last()
            .map_or(self.first, |place| place.end as usize);
        let name = bytes.get(key..self.value).and_then(split_str);
        name.is_some_and(|(name, _)| REPEATED.contains(&name))
    }

    /// The record that was walked last, of `bytes` that are its own. `None`, if it is a map but no
    /// record.
    pub fn record<'a>(&'a self, bytes: &'a [u8]) -> Option<Record<'a>> {
        Some(Record {
            places: &self.places,
            ..Record::begin(bytes)?
        })
    }

    /// Begins with the next record.
    pub fn reset(&mut self) {
        self.first = 0;
        self.places.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with so many entries, each of a name and a number.
    fn record(entries: u16) -> Vec<u8> {
        let mut record = vec![0xde];
        record.extend((entries + 1).to_be_bytes());
        record.extend(b"\xa1t\xa1x");
        for number in 0..entries {
            record.extend(b"\xa4");
            record.extend(format!("{number:04}").bytes());
            record.push(0xcd);
            record.extend(number.to_be_bytes());
        }
        record
    }

    #[test]
    fn every_entry_is_found_whether_or_not_its_place_is_remembered() {
        for entries in [0, 1, 14, 15, 63, 64, 200] {
            let bytes = record(entries);
            let mut index = Index::default();
            assert_eq!(index.resume(&bytes), Ok(Some(bytes.len())));
            let indexed = index.record(&bytes).unwrap();
            let walked = Record::new(&bytes).unwrap();
            for record in [indexed, walked] {
                let names: Vec<_> = record.entries().skip(1).map(|entry| entry.name).collect();
                let expected: Vec<_> = (0..entries).map(|number| format!("{number:04}")).collect();
                assert!(
                    names
                        .iter()
                        .zip(&expected)
                        .all(|(a, b)| **a == *b.as_bytes())
                );
                assert_eq!(names.len(), expected.len());
            }
        }
    }

    #[test]
    fn a_map_is_no_record_unless_its_first_key_is_t() {
        for bytes in [
            &b"\x80"[..],
            b"\x81\x01\x02",
            b"\x81\xa1t\x01",
            b"\x81\xa1u\xa1x",
        ] {
            assert!(Record::new(bytes).is_none(), "{bytes:x?}");
        }
        assert!(
            Record::new(b"\x81\xa1t\xa1x\x00").is_none(),
            "more than one value"
        );
    }
}
