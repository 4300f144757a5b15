//! MessagePack values, one at a time.
//!
//! <https://github.com/msgpack/msgpack/blob/master/spec.md>

/// A value. Those inside an array or map follow it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float32(f32),
    Float64(f64),
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Ext(&'a [u8]),
    /// The number of its values.
    Array(u64),
    /// The number of its entries.
    Map(u64),
}

/// The value at the start of `bytes` and what follows it, or `None` if there is none.
pub(crate) fn split(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    let (&marker, rest) = bytes.split_first()?;
    let low = |bits: u8| u64::from(marker & bits);
    Some(match marker {
        0x00..=0x7f => (Value::Unsigned(low(0x7f)), rest),
        0x80..=0x8f => (Value::Map(low(0x0f)), rest),
        0x90..=0x9f => (Value::Array(low(0x0f)), rest),
        0xa0..=0xbf => content(Value::Str, low(0x1f), rest)?,
        0xc0 => (Value::Nil, rest),
        0xc1 => return None,
        0xc2 | 0xc3 => (Value::Bool(marker == 0xc3), rest),
        0xc4..=0xc6 => sized(Value::Bin, 1 << (marker - 0xc4), rest)?,
        0xc7..=0xc9 => {
            let (len, rest) = number(1 << (marker - 0xc7), rest)?;
            content(Value::Ext, len, rest.get(1..)?)?
        }
        0xca => {
            let (bits, rest) = number(4, rest)?;
            (Value::Float32(f32::from_bits(bits as u32)), rest)
        }
        0xcb => {
            let (bits, rest) = number(8, rest)?;
            (Value::Float64(f64::from_bits(bits)), rest)
        }
        0xcc..=0xcf => {
            let (number, rest) = number(1 << (marker - 0xcc), rest)?;
            (Value::Unsigned(number), rest)
        }
        0xd0..=0xd3 => {
            let size = 1 << (marker - 0xd0);
            let (number, rest) = number(size, rest)?;
            let unused = 64 - 8 * size;
            (Value::Signed((number << unused) as i64 >> unused), rest)
        }
        0xd4..=0xd8 => content(Value::Ext, 1 << (marker - 0xd4), rest.get(1..)?)?,
        0xd9..=0xdb => sized(Value::Str, 1 << (marker - 0xd9), rest)?,
        0xdc | 0xdd => {
            let (count, rest) = number(2 << (marker - 0xdc), rest)?;
            (Value::Array(count), rest)
        }
        0xde | 0xdf => {
            let (count, rest) = number(2 << (marker - 0xde), rest)?;
            (Value::Map(count), rest)
        }
        0xe0..=0xff => (Value::Signed(i64::from(marker as i8)), rest),
    })
}

/// A big-endian number of `size` bytes.
fn number(size: usize, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(size)?;
    let number = digits.iter().fold(0, |n, &b| n << 8 | u64::from(b));
    Some((number, rest))
}

fn content<'a>(
    make: fn(&'a [u8]) -> Value<'a>,
    len: u64,
    bytes: &'a [u8],
) -> Option<(Value<'a>, &'a [u8])> {
    let (content, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    Some((make(content), rest))
}

/// Content after its length, which takes `size` bytes.
fn sized<'a>(
    make: fn(&'a [u8]) -> Value<'a>,
    size: usize,
    bytes: &'a [u8],
) -> Option<(Value<'a>, &'a [u8])> {
    let (len, rest) = number(size, bytes)?;
    content(make, len, rest)
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
}
