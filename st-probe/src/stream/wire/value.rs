//! MessagePack values, one at a time.
//!
//! <https://github.com/msgpack/msgpack/blob/master/spec.md>

use super::{MAX_RECORD, Malformed};
use rmp::Marker;

/// A value, or the beginning of one: what an array or a map contains follows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Nil.
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer of an unsigned format.
    Unsigned(u64),
    /// An integer of a signed format.
    Signed(i64),
    /// A float of 32 bits.
    Float32(f32),
    /// A float of 64 bits.
    Float64(f64),
    /// The bytes of a string, which should be UTF-8.
    Str(&'a [u8]),
    /// The bytes of a binary.
    Bin(&'a [u8]),
    /// The bytes of an extension value, without its type.
    Ext(&'a [u8]),
    /// An array of so many values.
    Array(u64),
    /// A map of so many entries, each a key and a value.
    Map(u64),
}

/// The value at the start of `bytes` and what follows it, or `None` if there is none.
#[inline]
pub fn split(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (&byte, rest) = bytes.split_first()?;
    match Marker::from_u8(byte) {
        Marker::FixPos(number) => Some((Value::Unsigned(number.into()), rest)),
        Marker::FixNeg(number) => Some((Value::Signed(number.into()), rest)),
        Marker::Null => Some((Value::Nil, rest)),
        Marker::False => Some((Value::Bool(false), rest)),
        Marker::True => Some((Value::Bool(true), rest)),
        Marker::U8 => unsigned::<1>(rest),
        Marker::U16 => unsigned::<2>(rest),
        Marker::U32 => unsigned::<4>(rest),
        Marker::U64 => unsigned::<8>(rest),
        Marker::I8 => signed::<1>(rest),
        Marker::I16 => signed::<2>(rest),
        Marker::I32 => signed::<4>(rest),
        Marker::I64 => signed::<8>(rest),
        Marker::F32 => {
            let (bits, rest) = number::<4>(rest)?;
            Some((Value::Float32(f32::from_bits(bits as u32)), rest))
        }
        Marker::F64 => {
            let (bits, rest) = number::<8>(rest)?;
            Some((Value::Float64(f64::from_bits(bits)), rest))
        }
        Marker::FixStr(len) => content(Value::Str, len.into(), rest),
        Marker::Str8 => sized::<1>(Value::Str, rest),
        Marker::Str16 => sized::<2>(Value::Str, rest),
        Marker::Str32 => sized::<4>(Value::Str, rest),
        Marker::Bin8 => sized::<1>(Value::Bin, rest),
        Marker::Bin16 => sized::<2>(Value::Bin, rest),
        Marker::Bin32 => sized::<4>(Value::Bin, rest),
        Marker::FixExt1 => ext(1, rest),
        Marker::FixExt2 => ext(2, rest),
        Marker::FixExt4 => ext(4, rest),
        Marker::FixExt8 => ext(8, rest),
        Marker::FixExt16 => ext(16, rest),
        Marker::Ext8 => sized_ext::<1>(rest),
        Marker::Ext16 => sized_ext::<2>(rest),
        Marker::Ext32 => sized_ext::<4>(rest),
        Marker::FixArray(count) => Some((Value::Array(count.into()), rest)),
        Marker::Array16 => counted::<2>(Value::Array, rest),
        Marker::Array32 => counted::<4>(Value::Array, rest),
        Marker::FixMap(count) => Some((Value::Map(count.into()), rest)),
        Marker::Map16 => counted::<2>(Value::Map, rest),
        Marker::Map32 => counted::<4>(Value::Map, rest),
        Marker::Reserved => None,
    }
}

/// A big-endian number of `SIZE` bytes.
fn number<const SIZE: usize>(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.split_first_chunk::<SIZE>()?;
    let number = digits.iter().fold(0, |n, &b| n << 8 | u64::from(b));
    Some((number, rest))
}

fn unsigned<const SIZE: usize>(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (number, rest) = number::<SIZE>(bytes)?;
    Some((Value::Unsigned(number), rest))
}

fn signed<const SIZE: usize>(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (number, rest) = number::<SIZE>(bytes)?;
    let unused = 64 - 8 * SIZE;
    Some((Value::Signed((number << unused) as i64 >> unused), rest))
}

/// A value whose content is the next `len` bytes.
fn content<'a>(
    make: fn(&'a [u8]) -> Value<'a>,
    len: u64,
    bytes: &'a [u8],
) -> Option<(Value<'a>, &'a [u8])> {
    let (content, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    Some((make(content), rest))
}

/// A value whose content follows its length of `SIZE` bytes.
fn sized<'a, const SIZE: usize>(
    make: fn(&'a [u8]) -> Value<'a>,
    bytes: &'a [u8],
) -> Option<(Value<'a>, &'a [u8])> {
    let (len, rest) = number::<SIZE>(bytes)?;
    content(make, len, rest)
}

/// An extension value whose content of `len` bytes follows its type.
fn ext(len: u64, bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    content(Value::Ext, len, bytes.get(1..)?)
}

/// An extension value whose length of `SIZE` bytes precedes its type and content.
fn sized_ext<const SIZE: usize>(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (len, rest) = number::<SIZE>(bytes)?;
    ext(len, rest)
}

/// An array or map whose number of values or entries takes `SIZE` bytes.
fn counted<'a, const SIZE: usize>(
    make: fn(u64) -> Value<'a>,
    bytes: &'a [u8],
) -> Option<(Value<'a>, &'a [u8])> {
    let (count, rest) = number::<SIZE>(bytes)?;
    Some((make(count), rest))
}

/// The bytes of the string at the start of `bytes`, and what follows it.
#[inline]
pub fn split_str(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&byte, rest) = bytes.split_first()?;
    // Nearly every string is so short, and this is fast.
    if let Marker::FixStr(len) = Marker::from_u8(byte) {
        return rest.split_at_checked(len.into());
    }
    match split_any(bytes)? {
        (Value::Str(text), rest) => Some((text, rest)),
        _ => None,
    }
}

/// The number of entries of the map at the start of `bytes`, and the first of them with all
/// that follows.
#[inline]
pub fn split_map(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&byte, rest) = bytes.split_first()?;
    // Nearly every map is so small.
    if let Marker::FixMap(entries) = Marker::from_u8(byte) {
        return Some((entries.into(), rest));
    }
    match split_any(bytes)? {
        (Value::Map(entries), rest) => Some((entries, rest)),
        _ => None,
    }
}

/// [`split`], where it is seldom needed.
#[cold]
#[inline(never)]
fn split_any(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    split(bytes)
}

/// The length in bytes of the MessagePack value at the start of `bytes`, or `None` if more
/// bytes are needed to tell.
pub fn value_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    Measure::default().resume(bytes)
}

/// The bytes of a value, its marker included, and how many values follow them that it contains,
/// by its marker, if that tells both; else no bytes.
pub(super) static FIXED: [(u8, u8); 256] = {
    let mut lengths = [(0, 0); 256];
    let mut byte = 0;
    while byte < 256 {
        lengths[byte] = match Marker::from_u8(byte as u8) {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null => (1, 0),
            Marker::False | Marker::True => (1, 0),
            Marker::U8 | Marker::I8 => (2, 0),
            Marker::U16 | Marker::I16 => (3, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (5, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (9, 0),
            Marker::FixExt1 => (3, 0),
            Marker::FixExt2 => (4, 0),
            Marker::FixExt4 => (6, 0),
            Marker::FixExt8 => (10, 0),
            Marker::FixExt16 => (18, 0),
            Marker::FixStr(len) => (1 + len, 0),
            Marker::FixArray(count) => (1, count),
            Marker::FixMap(count) => (1, 2 * count),
            _ => (0, 0),
        };
        byte += 1;
    }
    lengths
};

/// How far a value has been measured, so that the bytes of one that comes in many reads are
/// measured once.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Bytes measured, which need not have come yet.
    at: usize,
    /// Values that begin at `at` or later.
    owed: u64,
}

impl Default for Measure {
    fn default() -> Self {
        Self { at: 0, owed: 1 }
    }
}

impl Measure {
    /// How many bytes the value has at least, as far as it has been measured.
    pub fn reached(&self) -> usize {
        self.at
    }

    /// The length of the value at the start of `bytes`, or `None` if more bytes after these
    /// are needed to tell.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Self { mut at, mut owed } = *self;
        while owed > 0 {
            let Some(&byte) = bytes.get(at) else {
                break;
            };
            let (fixed, values) = FIXED[usize::from(byte)];
            if fixed > 0 {
                at += usize::from(fixed);
                owed += u64::from(values);
                owed -= 1;
                continue;
            }
            let rest = &bytes[at + 1..];
            let marker = Marker::from_u8(byte);
            let (size, number) = match marker {
                Marker::Str8 | Marker::Bin8 | Marker::Ext8 => (1, number::<1>(rest)),
                Marker::Str16 | Marker::Bin16 | Marker::Ext16 => (2, number::<2>(rest)),
                Marker::Array16 | Marker::Map16 => (2, number::<2>(rest)),
                Marker::Str32 | Marker::Bin32 | Marker::Ext32 => (4, number::<4>(rest)),
                Marker::Array32 | Marker::Map32 => (4, number::<4>(rest)),
                _ => return Err(Malformed::NotARecord),
            };
            let Some((number, _)) = number else {
                break;
            };
            let (content, values) = match marker {
                Marker::Ext8 | Marker::Ext16 | Marker::Ext32 => (number + 1, 0),
                Marker::Array16 | Marker::Array32 => (0, number),
                Marker::Map16 | Marker::Map32 => (0, 2 * number),
                _ => (number, 0),
            };
            at += 1 + size;
            owed += values;
            owed -= 1;
            // Each value owed takes one byte at least.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker() {
        let values: [(&[u8], Value); 36] = [
            (b"\x00", Value::Unsigned(0)),
            (b"\x7f", Value::Unsigned(127)),
            (b"\x82", Value::Map(2)),
            (b"\x93", Value::Array(3)),
            (b"\xa2ab", Value::Str(b"ab")),
            (b"\xc0", Value::Nil),
            (b"\xc2", Value::Bool(false)),
            (b"\xc3", Value::Bool(true)),
            (b"\xc4\x01a", Value::Bin(b"a")),
            (b"\xc5\x00\x01a", Value::Bin(b"a")),
            (b"\xc6\x00\x00\x00\x01a", Value::Bin(b"a")),
            (b"\xc7\x02\x09ab", Value::Ext(b"ab")),
            (b"\xc8\x00\x02\x09ab", Value::Ext(b"ab")),
            (b"\xc9\x00\x00\x00\x02\x09ab", Value::Ext(b"ab")),
            (b"\xca\x3f\xc0\x00\x00", Value::Float32(1.5)),
            (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", Value::Float64(1.5)),
            (b"\xcc\xff", Value::Unsigned(255)),
            (b"\xcd\x01\x00", Value::Unsigned(256)),
            (b"\xce\x00\x01\x00\x00", Value::Unsigned(65_536)),
            (
                b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
                Value::Unsigned(u64::MAX),
            ),
            (b"\xd0\x80", Value::Signed(-128)),
            (b"\xd1\xff\x91", Value::Signed(-111)),
            (b"\xd2\x7f\xff\xff\xff", Value::Signed(i64::from(i32::MAX))),
            (
                b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
                Value::Signed(i64::MIN),
            ),
            (b"\xd4\x01a", Value::Ext(b"a")),
            (b"\xd5\x01ab", Value::Ext(b"ab")),
            (b"\xd6\x01abcd", Value::Ext(b"abcd")),
            (b"\xd7\x01abcdefgh", Value::Ext(b"abcdefgh")),
            (b"\xd8\x01abcdefghabcdefgh", Value::Ext(b"abcdefghabcdefgh")),
            (b"\xd9\x01a", Value::Str(b"a")),
            (b"\xda\x00\x01a", Value::Str(b"a")),
            (b"\xdb\x00\x00\x00\x01a", Value::Str(b"a")),
            (b"\xdc\x00\x02", Value::Array(2)),
            (b"\xdd\x00\x00\x00\x02", Value::Array(2)),
            (b"\xde\x00\x02", Value::Map(2)),
            (b"\xff", Value::Signed(-1)),
        ];
        for (bytes, value) in values {
            assert_eq!(split(bytes), Some((value, &[][..])), "{bytes:x?}");
            let more = [bytes, b"more"].concat();
            assert_eq!(split(&more), Some((value, &b"more"[..])), "{bytes:x?}");
            for cut in 0..bytes.len() {
                assert_eq!(split(&bytes[..cut]), None, "{bytes:x?} cut at {cut}");
            }
        }
        assert_eq!(split(b"\xc1"), None);
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
}
