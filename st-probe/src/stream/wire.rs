//! Framing: a stream is a sequence of MessagePack maps, its records, with nothing between them.
//!
//! The first key of every map is `t`, and its value is a string, the record's kind. A stage
//! hands on every record and every field that it does not know, byte for byte. What the fields
//! are is told in [`crate::record`]; MessagePack is specified in
//! <https://github.com/msgpack/msgpack/blob/master/spec.md>.

mod copy;
mod index;
mod memo;
mod read;
mod value;
mod write;

pub use copy::RecordCopy;
pub use index::{Entries, Entry, Record};
pub use memo::Memo;
pub use value::{Value, split, value_len};

use index::Index;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::marker::PhantomData;
use value::split_map;

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

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord => f.write_str("this is not a SysTracer record"),
            Self::TooLong => write!(f, "a record announces more than {MAX_RECORD} bytes"),
        }
    }
}

/// Why a value is not one of the type that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// What is left of the input is not a whole value.
    pub fn cut() -> Self {
        Self("a value is cut or not MessagePack".into())
    }

    /// Arrays or maps are nested more deeply than anybody needs.
    pub fn too_deep() -> Self {
        Self("arrays or maps are nested too deeply".into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

impl serde::ser::Error for Error {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

/// Appends a map to `out`, with the entries of the map `more` at its end. If one of the two is
/// no map, the first is appended as it is.
pub fn append(map: &[u8], more: &[u8], out: &mut Vec<u8>) {
    let (Some((count, entries)), Some((added, more))) = (split_map(map), split_map(more)) else {
        out.extend_from_slice(map);
        return;
    };
    write::map_len((count + added) as usize, out);
    out.extend_from_slice(entries);
    out.extend_from_slice(more);
}

/// Appends `value` to `out` as a record: a map from the names of its fields to their values.
pub fn write<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    write::value(value, out).expect("each type of a record can be written");
}

/// Reads those fields of a record, or of any map, that `T` knows.
pub fn read<'a, T: Deserialize<'a>>(record: &'a [u8]) -> Result<T, Error> {
    read::value(record)
}

/// Tells our reader and writer that a value is [`Encoded`].
const ENCODED: &str = "$encoded";

/// A value of a type, encoded: what is copied from one record to others need not be read, and what
/// many records have need be written once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded<'a, T> {
    bytes: Cow<'a, [u8]>,
    of: PhantomData<T>,
}

impl<'a, T> Encoded<'a, T> {
    /// Bytes that are one value.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: Cow::Borrowed(bytes),
            of: PhantomData,
        }
    }

    /// The value, encoded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the value.
    pub fn read<'b>(&'b self) -> Result<T, Error>
    where
        T: Deserialize<'b>,
    {
        read::value(&self.bytes)
    }
}

impl<T: Serialize> From<&T> for Encoded<'_, T> {
    fn from(value: &T) -> Self {
        let mut bytes = Vec::new();
        write(value, &mut bytes);
        Self {
            bytes: Cow::Owned(bytes),
            of: PhantomData,
        }
    }
}

/// A type whose default value need not be encoded anew each time.
pub trait Blank {
    /// The default value, encoded.
    const ENCODED: &'static [u8];
}

impl<T: Blank> Default for Encoded<'_, T> {
    fn default() -> Self {
        Self::new(T::ENCODED)
    }
}

impl<T> Serialize for Encoded<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct AsIs<'a>(&'a [u8]);
        impl Serialize for AsIs<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.0)
            }
        }
        serializer.serialize_newtype_struct(ENCODED, &AsIs(&self.bytes))
    }
}

impl<'de: 'a, 'a, T> Deserialize<'de> for Encoded<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsIs<T>(PhantomData<T>);
        impl<'de, T> de::Visitor<'de> for AsIs<T> {
            type Value = Encoded<'de, T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Encoded::new(bytes))
            }
        }
        deserializer.deserialize_newtype_struct(ENCODED, AsIs(PhantomData))
    }
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
    /// The record at `start`, as far as it has come; after it was taken, the one before `start`.
    index: Index,
    is_taken: bool,
}

impl Reader {
    /// The next record, or `None` if it has not been read as a whole: then [`Reader::fill`] must
    /// be called.
    pub fn take(&mut self) -> Result<Option<Record<'_>>, Malformed> {
        if std::mem::take(&mut self.is_taken) {
            self.index.reset();
        }
        let bytes = &self.buffer[self.start..self.end];
        let Some(length) = self.index.resume(bytes)? else {
            return Ok(None);
        };
        let record = self.index.record(&bytes[..length]);
        let record = record.ok_or(Malformed::NotARecord)?;
        self.is_taken = true;
        self.start += length;
        self.offset += length as u64;
        Ok(Some(record))
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
            // Twice as much: a long record that comes in many reads is moved a few times.
            let mut larger = vec![0; 2 * self.end + CHUNK];
            larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
            self.buffer = larger;
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
mod tests;
