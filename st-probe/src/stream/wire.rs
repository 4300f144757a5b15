//! Framing: a stream is a sequence of MessagePack maps with nothing between them.
//!
//! The first key of every map is `t`, whose value (a string) is the record's kind. A stage
//! hands on every record and every field that it does not know, byte for byte.
//! MessagePack: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

use std::io::{self, Read};

/// The largest record accepted, in bytes; a longer one counts as corruption.
pub const MAX_RECORD: usize = 16 << 20;

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

/// Lengths of the values that their first byte tells all about; 0 for the others.
const PLAIN: [u8; 256] = {
    let mut lengths = [0; 256];
    let mut marker = 0;
    while marker < 256 {
        lengths[marker] = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1,
            0xa0..=0xbf => 1 + (marker as u8 & 0x1f),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb | 0xcf | 0xd3 => 9,
            0xd4..=0xd8 => 2 + (1 << (marker - 0xd4)),
            _ => 0,
        };
        marker += 1;
    }
    lengths
};

/// The length of the MessagePack value at the start of `bytes`, or `None` if more bytes are
/// needed to tell.
pub fn value_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    Measure::default().resume(bytes)
}

/// How far a value has been measured, so that one that comes in many reads is measured once.
#[derive(Debug, Clone, Copy)]
struct Measure {
    /// Bytes measured, which need not have come yet.
    at: usize,
    /// Values that begin there or later.
    owed: u64,
}

impl Default for Measure {
    fn default() -> Self {
        Self { at: 0, owed: 1 }
    }
}

impl Measure {
    /// The length of the value at the start of `bytes`, or `None` if more bytes after these
    /// are needed to tell.
    fn resume(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Self { mut at, mut owed } = *self;
        while owed > 0 {
            let Some(&marker) = bytes.get(at) else {
                break;
            };
            let plain = usize::from(PLAIN[usize::from(marker)]);
            if plain > 0 {
                at += plain;
                owed -= 1;
                continue;
            }
            // Bytes of the length that follows.
            let field = match marker {
                0x80..=0x9f => 0,
                0xc4 | 0xd9 | 0xc7 => 1,
                0xc5 | 0xda | 0xc8 | 0xdc | 0xde => 2,
                0xc6 | 0xdb | 0xc9 | 0xdd | 0xdf => 4,
                _ => return Err(Malformed::NotARecord),
            };
            let Some(length) = bytes.get(at + 1..at + 1 + field) else {
                break;
            };
            let length = length.iter().fold(0u64, |n, &b| n << 8 | u64::from(b));
            at += 1 + field;
            let content = match marker {
                0xc4..=0xc6 | 0xd9..=0xdb => length,
                0xc7..=0xc9 => length + 1,
                _ => 0,
            };
            owed -= 1;
            owed += match marker {
                0x80..=0x8f => 2 * u64::from(marker & 0x0f),
                0x90..=0x9f => u64::from(marker & 0x0f),
                0xdc | 0xdd => length,
                0xde | 0xdf => 2 * length,
                _ => 0,
            };
            // Every value still owed takes one byte at least.
            if at as u64 + content + owed > MAX_RECORD as u64 {
                return Err(Malformed::TooLong);
            }
            at += content as usize;
        }
        *self = Self { at, owed };
        if at > MAX_RECORD {
            return Err(Malformed::TooLong);
        }
        Ok((owed == 0 && at <= bytes.len()).then_some(at))
    }
}

/// The bytes of the string at the start of `bytes`, and what follows it.
fn split_str(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (start, len) = match *bytes.first()? {
        marker @ 0xa0..=0xbf => (1, usize::from(marker & 0x1f)),
        0xd9 => (2, usize::from(*bytes.get(1)?)),
        0xda => (
            3,
            usize::from(u16::from_be_bytes([*bytes.get(1)?, *bytes.get(2)?])),
        ),
        _ => return None,
    };
    bytes.get(start..)?.split_at_checked(len)
}

/// The number of entries of the map at the start of `bytes` and what follows its marker.
fn split_map(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes.first()? {
        marker @ 0x80..=0x8f => Some((usize::from(marker & 0x0f), &bytes[1..])),
        0xdf => Some((
            u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize,
            &bytes[5..],
        )),
        0xde => Some((
            usize::from(u16::from_be_bytes([*bytes.get(1)?, *bytes.get(2)?])),
            &bytes[3..],
        )),
        _ => None,
    }
}

/// The kind of a record: the value of its first key, `t`.
pub fn kind(record: &[u8]) -> Option<&str> {
    let (_, rest) = split_map(record).filter(|(entries, _)| *entries > 0)?;
    let (_, rest) = split_str(rest).filter(|(key, _)| *key == b"t")?;
    std::str::from_utf8(split_str(rest)?.0).ok()
}

/// One entry of a record.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its key; empty if that is no string.
    pub name: &'a [u8],
    /// The bytes of its key.
    pub key: &'a [u8],
    /// The bytes of its value.
    pub value: &'a [u8],
}

/// The entries of a whole record, as [`Reader::take`] gives it.
pub fn entries(record: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let (mut left, mut rest) = split_map(record).unwrap_or((0, &[]));
    let mut value = move || {
        let (value, after) = rest.split_at(value_len(rest).ok()??);
        rest = after;
        Some(value)
    };
    std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let key = value()?;
        Some(Entry {
            name: split_str(key).map_or(&[][..], |(name, _)| name),
            key,
            value: value()?,
        })
    })
}

/// The entries of a record but its `t`.
pub fn fields(record: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    entries(record).filter(|entry| entry.name != b"t")
}

/// The bytes of the string that a record has under a name.
pub fn text<'a>(record: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let entry = entries(record).find(|entry| entry.name == name.as_bytes())?;
    Some(split_str(entry.value)?.0)
}

/// Appends `record` (or any map) to `out` without its entries named in `without`, and with
/// `more` at the end.
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
        out[start] = 0x80 | count as u8;
    } else {
        let [a, b, c, d] = count.to_be_bytes();
        out.splice(start..=start, [0xdf, a, b, c, d]);
    }
}

/// Appends a map to `out` with the entries of another one at its end.
pub fn append(map: &[u8], more: &[u8], out: &mut Vec<u8>) {
    let (Some((count, entries)), Some((added, more))) = (split_map(map), split_map(more)) else {
        out.extend_from_slice(map);
        return;
    };
    out.push(0xdf);
    out.extend(((count + added) as u32).to_be_bytes());
    out.extend_from_slice(entries);
    out.extend_from_slice(more);
}

/// Appends a value as a record, its fields by name.
pub fn write<T: serde::Serialize>(value: &T, out: &mut Vec<u8>) {
    rmp_serde::encode::write_named(out, value)
        .expect("a Vec takes every byte, our records every field");
}

/// Reads the fields of a record that `T` knows.
pub fn read<'a, T: serde::Deserialize<'a>>(
    record: &'a [u8],
) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(record)
}

/// Splits a byte stream into records.
///
/// Reading is separate from taking, so that a caller can flush its own output before it
/// asks for bytes that may not come for a long time.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    /// Of the record at `start`.
    measured: Measure,
}

impl Reader {
    /// The next record already read, or `None` when [`Reader::fill`] must be called.
    pub fn take(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        if !matches!(first, 0x80..=0x8f | 0xde | 0xdf) {
            return Err(Malformed::NotARecord);
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

    /// Reads once from `input`; false at its end.
    pub fn fill(&mut self, input: &mut impl Read) -> io::Result<bool> {
        // A record that comes in many reads is moved once.
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

    /// Bytes of all records taken so far: where in the stream the next one begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes read but not taken: those of a record cut short, at the end of input.
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
    fn measures_every_kind_of_value() {
        let values: [&[u8]; 12] = [
            b"\x00",
            b"\xc0",
            b"\xcb12345678",
            b"\xa3abc",
            b"\xd9\x03abc",
            b"\xc4\x02ab",
            b"\x92\x01\xa1a",
            b"\xdc\x00\x02\x01\x02",
            b"\xde\x00\x01\xa1a\x01",
            b"\xd4\x01a",
            b"\xc7\x02\x01ab",
            b"\x81\xa1a\x91\xc3",
        ];
        for value in values {
            assert_eq!(value_len(value), Ok(Some(value.len())), "{value:x?}");
            for cut in 0..value.len() {
                assert_eq!(
                    value_len(&value[..cut]),
                    Ok(None),
                    "{value:x?} cut at {cut}"
                );
            }
        }
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
