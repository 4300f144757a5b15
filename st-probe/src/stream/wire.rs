//! Framing: a stream is a sequence of MessagePack maps, its records, with nothing between them.
//!
//! The first key of every map is `t`, and its value is a string, the record's kind. A stage
//! hands on every record and every field that it does not know, byte for byte. What the fields
//! are is told in [`crate::record`]; MessagePack is specified in
//! <https://github.com/msgpack/msgpack/blob/master/spec.md>.

mod value;

pub use value::{Value, split, value_len};

use rmp::Marker;
use std::io::{self, Read};
use value::{Measure, split_map, split_str};

/// The largest record accepted, in bytes; a longer one counts as corruption.
pub const MAX_RECORD: usize = 16 << 20;

/// Bytes asked for in one read at least.
const CHUNK: usize = 256 << 10;

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not a MessagePack map whose first key is `t` and whose first value is a string.
    NotARecord,
    /// A record that announces more than [`MAX_RECORD`] bytes.
    TooLong,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotARecord => f.write_str("this is not a SysTracer record"),
            Self::TooLong => write!(f, "a record announces more than {MAX_RECORD} bytes"),
        }
    }
}

/// The kind of a record: the value of its first key, `t`.
pub fn kind(record: &[u8]) -> Option<&str> {
    let (entries, rest) = split_map(record)?;
    let (key, rest) = split_str(rest)?;
    if entries == 0 || key != b"t" {
        return None;
    }
    let (kind, _) = split_str(rest)?;
    std::str::from_utf8(kind).ok()
}

/// One entry of a record.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The bytes of the string that is its key; none, if the key is no string.
    pub name: &'a [u8],
    /// Its key, encoded.
    pub key: &'a [u8],
    /// Its value, encoded.
    pub value: &'a [u8],
}

/// The entries of a whole record, as [`Reader::take`] gives it.
pub fn entries(record: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let (mut left, mut rest) = split_map(record).unwrap_or((0, &[]));
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let (key, after) = rest.split_at(value_len(rest).ok()??);
        let (value, after) = after.split_at(value_len(after).ok()??);
        rest = after;
        let name = split_str(key).map_or(&[][..], |(name, _)| name);
        Some(Entry { name, key, value })
    })
}

/// The entries of a record without its `t`.
pub fn fields(record: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    entries(record).filter(|entry| entry.name != b"t")
}

/// The bytes of the string that is the value of the entry `name` of a record.
pub fn text<'a>(record: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let entry = entries(record).find(|entry| entry.name == name.as_bytes())?;
    let (text, _) = split_str(entry.value)?;
    Some(text)
}

/// Appends `record` (or any map) to `out`, without its entries whose names are in `without`,
/// and with the entries `more` at its end.
pub fn merge<'a>(
    record: &'a [u8],
    without: &[&str],
    more: impl Iterator<Item = Entry<'a>>,
    out: &mut Vec<u8>,
) {
    let kept =
        entries(record).filter(|entry| !without.iter().any(|name| name.as_bytes() == entry.name));
    let start = out.len();
    out.push(0);
    let mut count = 0u32;
    for entry in kept.chain(more) {
        out.extend_from_slice(entry.key);
        out.extend_from_slice(entry.value);
        count += 1;
    }
    if count < 16 {
        out[start] = Marker::FixMap(count as u8).to_u8();
    } else {
        let [a, b, c, d] = count.to_be_bytes();
        out.splice(start..=start, [Marker::Map32.to_u8(), a, b, c, d]);
    }
}

/// Appends a map to `out`, with the entries of the map `more` at its end. If one of the two is
/// no map, the first is appended as it is.
pub fn append(map: &[u8], more: &[u8], out: &mut Vec<u8>) {
    let (Some((count, entries)), Some((added, more))) = (split_map(map), split_map(more)) else {
        out.extend_from_slice(map);
        return;
    };
    out.push(Marker::Map32.to_u8());
    out.extend(((count + added) as u32).to_be_bytes());
    out.extend_from_slice(entries);
    out.extend_from_slice(more);
}

/// Appends `value` to `out` as a record: a map from the names of its fields to their values.
pub fn write<T: serde::Serialize>(value: &T, out: &mut Vec<u8>) {
    rmp_serde::encode::write_named(out, value)
        .expect("a Vec takes every byte, our records every field");
}

/// Reads those fields of a record that `T` knows.
pub fn read<'a, T: serde::Deserialize<'a>>(
    record: &'a [u8],
) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(record)
}

/// Splits a byte stream into records.
///
/// Reading and taking are two methods, so that a caller can flush its own output before it
/// waits for bytes that may not come for a long time.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    /// How far the record at `start` has been measured.
    measured: Measure,
}

impl Reader {
    /// The next record, or `None` if it has not been read as a whole: then [`Reader::fill`] must
    /// be called.
    pub fn take(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        match Marker::from_u8(first) {
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {}
            _ => return Err(Malformed::NotARecord),
        }
        let Some(len) = self.measured.resume(bytes)? else {
            return Ok(None);
        };
        if kind(&bytes[..len]).is_none() {
            return Err(Malformed::NotARecord);
        }
        self.measured = Measure::default();
        let start = self.start;
        self.start += len;
        self.offset += len as u64;
        Ok(Some(&self.buffer[start..start + len]))
    }

    /// Reads once from `input`. False: `input` has ended.
    pub fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        // `start` is 0 after this, so that a record that comes in many reads is moved once.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + CHUNK {
            self.buffer.resize(self.end + CHUNK, 0);
        }
        loop {
            match input.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where in the stream the next record begins: how many bytes all records taken so far have.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes have been read and not taken. At the end of the input these are the
    /// beginning of a record that was cut.
    pub fn pending(&self) -> usize {
        self.end - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[u8] = b"\x82\xa1t\xa1x\xa1n\x07";

    #[test]
    fn takes_records_however_they_are_cut_into_reads() {
        let stream = [RECORD, b"\x81\xa1t\xa1y", RECORD].concat();
        for size in 1..stream.len() {
            let mut reader = Reader::default();
            let mut taken = Vec::new();
            for mut part in stream.chunks(size) {
                while reader.fill(&mut part).unwrap() {
                    while let Some(record) = reader.take().unwrap() {
                        taken.push(kind(record).unwrap().to_owned());
                    }
                }
            }
            assert_eq!(taken, ["x", "y", "x"], "in reads of {size}");
            assert_eq!(
                (reader.offset(), reader.pending()),
                (stream.len() as u64, 0)
            );
        }
    }

    #[test]
    fn measures_no_byte_of_a_record_twice() {
        const NILS: usize = 1000;
        let mut record = b"\x82\xa1t\xa1x\xa1n\xdd".to_vec();
        record.extend((NILS as u32).to_be_bytes());
        let head = record.len();
        record.resize(head + NILS, 0xc0);
        let mut reader = Reader::default();
        for part in record.chunks(7) {
            assert_eq!(reader.take(), Ok(None));
            // What has been measured is no longer looked at.
            let Reader { buffer, end, .. } = &mut reader;
            if *end > head {
                buffer[head..*end].fill(0xc1);
            }
            assert!(reader.fill(&mut &part[..]).unwrap());
        }
        assert_eq!(reader.take().unwrap().map(<[u8]>::len), Some(record.len()));
        assert_eq!(reader.take(), Ok(None));
    }

    #[test]
    fn refuses_what_is_no_record() {
        for bytes in [
            &b"hello"[..],
            b"\xc1",
            b"\x80",
            b"\x81\x01\x02",
            b"\x81\xa1t\x01",
        ] {
            let mut reader = Reader::default();
            reader.fill(&mut &bytes[..]).unwrap();
            assert_eq!(reader.take(), Err(Malformed::NotARecord), "{bytes:x?}");
        }
    }

    #[test]
    fn refuses_an_announced_gigabyte_before_it_arrives() {
        assert_eq!(
            value_len(b"\x81\xa1t\xc6\x40\x00\x00\x00"),
            Err(Malformed::TooLong)
        );
        assert_eq!(value_len(b"\xdd\xff\xff\xff\xff"), Err(Malformed::TooLong));
    }

    #[test]
    fn appends_the_entries_of_a_map() {
        let mut out = Vec::new();
        append(b"\x81\xa1a\x01", b"\xde\x00\x01\xa1b\x02", &mut out);
        let names: Vec<_> = entries(&out)
            .map(|entry| (entry.name, entry.value))
            .collect();
        assert_eq!(names, [(&b"a"[..], &b"\x01"[..]), (b"b", b"\x02")]);
        assert_eq!(value_len(&out), Ok(Some(out.len())));
        out.clear();
        append(b"\xc0", b"\x80", &mut out);
        assert_eq!(out, b"\xc0");
    }

    #[test]
    fn merges_and_keeps_what_it_does_not_know() {
        let mut out = Vec::new();
        merge(
            b"\x84\xa1t\xa1x\xa1a\x01\xa1u\x91\x02\x07\xc0",
            &["a"],
            fields(b"\x82\xa1t\xa1x\xa1b\x03"),
            &mut out,
        );
        assert_eq!(out, b"\x84\xa1t\xa1x\xa1u\x91\x02\x07\xc0\xa1b\x03");
    }
}
