//! Reads values of our types from MessagePack, by serde.
//!
//! Unlike rmp-serde, which the tests hold it to, it looks at each byte once: the entries of a record
//! are those that its walk found, the names of fields are compared as bytes, and UTF-8 is checked
//! only where text is asked for.

use super::index::{Entries, Entry, Record};
use super::value::{Value, split, split_str, value_len};
use super::{ENCODED, Error};
use serde::de::value::{BorrowedBytesDeserializer, BorrowedStrDeserializer, MapAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// Reads those fields of a record that `T` knows.
pub(super) fn record<'a, T: Deserialize<'a>>(record: Record<'a>) -> Result<T, Error> {
    T::deserialize(MapAccessDeserializer::new(Fields {
        entries: record.entries(),
        value: &[],
    }))
}

/// Reads the value that `bytes` are.
pub(super) fn value<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    T::deserialize(&mut Cursor {
        rest: bytes,
        is_one_value: false,
    })
}

/// The fields of a record.
struct Fields<'de> {
    entries: Entries<'de>,
    /// The value of the last key.
    value: &'de [u8],
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(Entry { name, value, .. }) = self.entries.next() else {
            return Ok(None);
        };
        self.value = value;
        // It is compared with names that are text, so it need not be checked.
        seed.deserialize(BorrowedBytesDeserializer::new(name))
            .map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut Cursor {
            rest: self.value,
            is_one_value: true,
        })
    }
}

/// What follows in a value.
struct Cursor<'de> {
    rest: &'de [u8],
    /// Whether that is one value, whose end need not be looked for.
    is_one_value: bool,
}

impl<'de> Cursor<'de> {
    #[inline]
    fn next(&mut self) -> Result<Value<'de>, Error> {
        let (value, rest) = split(self.rest).ok_or_else(Error::cut)?;
        self.enter(rest);
        Ok(value)
    }

    /// Goes on with what is behind the beginning of a value, or behind all of it.
    #[inline]
    fn enter(&mut self, rest: &'de [u8]) {
        self.rest = rest;
        self.is_one_value = false;
    }

    /// The number that is next, if it is of an unsigned format.
    #[inline]
    fn unsigned(&mut self) -> Option<u64> {
        let (number, rest) = match self.rest {
            [number @ 0..=0x7f, rest @ ..] => (u64::from(*number), rest),
            [0xcc, a, rest @ ..] => (u64::from(*a), rest),
            [0xcd, a, b, rest @ ..] => (u16::from_be_bytes([*a, *b]).into(), rest),
            [0xce, a, b, c, d, rest @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]).into(), rest),
            [0xcf, rest @ ..] => {
                let (number, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*number), rest)
            }
            _ => return None,
        };
        self.rest = rest;
        Some(number)
    }

    /// The whole value that is next, encoded.
    fn encoded(&mut self) -> Result<&'de [u8], Error> {
        let length = match self.is_one_value {
            true => self.rest.len(),
            false => value_len(self.rest).ok().flatten().ok_or_else(Error::cut)?,
        };
        let (value, rest) = self.rest.split_at(length);
        self.enter(rest);
        Ok(value)
    }
}

impl<'de> Deserializer<'de> for &mut Cursor<'de> {
    type Error = Error;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.next()? {
            Value::Unsigned(number) => visitor.visit_u64(number),
            Value::Signed(number) => visitor.visit_i64(number),
            Value::Bin(bytes) => visitor.visit_borrowed_bytes(bytes),
            Value::Str(text) => match std::str::from_utf8(text) {
                Ok(text) => visitor.visit_borrowed_str(text),
                Err(_) => visitor.visit_borrowed_bytes(text),
            },
            Value::Nil => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Float32(number) => visitor.visit_f32(number),
            Value::Float64(number) => visitor.visit_f64(number),
            Value::Ext(_) => Err(Error::custom("an extension value is not expected here")),
            Value::Array(mut left) => {
                let array = visitor.visit_seq(Elements {
                    cursor: self,
                    left: &mut left,
                })?;
                // Those that a later version added.
                for _ in 0..left {
                    self.encoded()?;
                }
                Ok(array)
            }
            Value::Map(mut left) => visitor.visit_map(Elements {
                cursor: self,
                left: &mut left,
            }),
        }
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.rest.split_first() {
            Some((0xc0, rest)) => {
                self.rest = rest;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.unsigned() {
            Some(number) => visitor.visit_u64(number),
            None => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    #[inline]
    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_u64(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let [0xc4, length, rest @ ..] = self.rest {
            if let Some((bytes, rest)) = rest.split_at_checked(usize::from(*length)) {
                self.rest = rest;
                return visitor.visit_borrowed_bytes(bytes);
            }
        }
        match split(self.rest) {
            Some((Value::Bin(bytes) | Value::Str(bytes), rest)) => {
                self.rest = rest;
                visitor.visit_borrowed_bytes(bytes)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some((name, rest)) = split_str(self.rest) {
            self.rest = rest;
            return visitor.visit_borrowed_bytes(name);
        }
        // No field of ours has a name that is no string.
        self.encoded()?;
        visitor.visit_borrowed_bytes(b"")
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let [marker @ 0x80..=0x8f, rest @ ..] = self.rest else {
            return self.deserialize_any(visitor);
        };
        self.enter(rest);
        let mut left = u64::from(marker & 0x0f);
        visitor.visit_map(Elements {
            cursor: self,
            left: &mut left,
        })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == ENCODED {
            visitor.visit_borrowed_bytes(self.encoded()?)
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.next()? {
            Value::Str(name) => {
                let name = std::str::from_utf8(name).map_err(Error::custom)?;
                visitor.visit_enum(BorrowedStrDeserializer::new(name))
            }
            _ => Err(Error::custom("a name is expected here")),
        }
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.encoded()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i64 i128 u8 u16 u128 f32 f64 char str string
        unit unit_struct seq tuple tuple_struct
    }
}

/// The elements of an array, or the entries of a map, that are left.
struct Elements<'c, 'de> {
    cursor: &'c mut Cursor<'de>,
    left: &'c mut u64,
}

impl Elements<'_, '_> {
    fn size_hint(&self) -> usize {
        // Each takes one byte at least.
        (*self.left as usize).min(self.cursor.rest.len())
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        *self.left = left;
        seed.deserialize(&mut *self.cursor).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.size_hint())
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        self.next_element_seed(seed)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.cursor)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.size_hint())
    }
}
