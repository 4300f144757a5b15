//! Writes values of our types as MessagePack, by serde, each number in its shortest format.
//!
//! Unlike rmp-serde, which the tests hold it to, it needs no checks for bytes that cannot be
//! written: a Vec takes every byte.

use super::{ENCODED, Error};
use rmp::Marker;
use serde::Serialize;
use serde::ser::{
    Error as _, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, Serializer,
};

/// Appends a value to `out`. The error is that of a type that is none of ours.
pub(super) fn value<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    value.serialize(Writer { out, as_is: false })
}

/// Appends the marker of a string of so many bytes.
#[inline(always)]
fn str_len(length: usize, out: &mut Vec<u8>) {
    match length {
        0..32 => out.push(Marker::FixStr(length as u8).to_u8()),
        32..0x100 => out.extend([Marker::Str8.to_u8(), length as u8]),
        0x100..0x1_0000 => sized(Marker::Str16, (length as u16).to_be_bytes(), out),
        _ => sized(Marker::Str32, (length as u32).to_be_bytes(), out),
    }
}

/// Appends a string.
#[inline(always)]
pub(super) fn str(text: &[u8], out: &mut Vec<u8>) {
    str_len(text.len(), out);
    out.extend_from_slice(text);
}

/// Appends bytes.
#[inline]
pub(super) fn bin(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes.len() {
        length @ 0..0x100 => out.extend([Marker::Bin8.to_u8(), length as u8]),
        length @ 0x100..0x1_0000 => sized(Marker::Bin16, (length as u16).to_be_bytes(), out),
        length => sized(Marker::Bin32, (length as u32).to_be_bytes(), out),
    }
    out.extend_from_slice(bytes);
}

/// Appends a number.
#[inline]
pub(super) fn unsigned(number: u64, out: &mut Vec<u8>) {
    match number {
        0..0x80 => out.push(number as u8),
        0x80..0x100 => out.extend([Marker::U8.to_u8(), number as u8]),
        0x100..0x1_0000 => sized(Marker::U16, (number as u16).to_be_bytes(), out),
        0x1_0000..0x1_0000_0000 => sized(Marker::U32, (number as u32).to_be_bytes(), out),
        _ => sized(Marker::U64, number.to_be_bytes(), out),
    }
}

/// Appends a number that may be below 0.
#[inline]
fn signed(number: i64, out: &mut Vec<u8>) {
    match number {
        0.. => unsigned(number as u64, out),
        -0x20.. => out.push(number as u8),
        -0x80.. => out.extend([Marker::I8.to_u8(), number as u8]),
        -0x8000.. => sized(Marker::I16, (number as i16).to_be_bytes(), out),
        -0x8000_0000.. => sized(Marker::I32, (number as i32).to_be_bytes(), out),
        _ => sized(Marker::I64, number.to_be_bytes(), out),
    }
}

/// Appends a marker and the bytes after it.
#[inline]
fn sized<const SIZE: usize>(marker: Marker, bytes: [u8; SIZE], out: &mut Vec<u8>) {
    out.reserve(1 + SIZE);
    out.push(marker.to_u8());
    out.extend_from_slice(&bytes);
}

/// Appends the marker of a map of so many entries.
#[inline]
pub(super) fn map_len(count: usize, out: &mut Vec<u8>) {
    match count {
        0..16 => out.push(Marker::FixMap(count as u8).to_u8()),
        16..0x1_0000 => sized(Marker::Map16, (count as u16).to_be_bytes(), out),
        _ => sized(Marker::Map32, (count as u32).to_be_bytes(), out),
    }
}

fn array_len(count: usize, out: &mut Vec<u8>) {
    match count {
        0..16 => out.push(Marker::FixArray(count as u8).to_u8()),
        16..0x1_0000 => sized(Marker::Array16, (count as u16).to_be_bytes(), out),
        _ => sized(Marker::Array32, (count as u32).to_be_bytes(), out),
    }
}

/// Appends one value.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Whether bytes are a value already.
    as_is: bool,
}

/// None of our types is of the kind that this error is told of.
fn not_ours<T>() -> Result<T, Error> {
    Err(Error::custom("a type that no record has"))
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Impossible<(), Error>;

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        let marker = if value { Marker::True } else { Marker::False };
        self.out.push(marker.to_u8());
        Ok(())
    }

    #[inline]
    fn serialize_i8(self, number: i8) -> Result<(), Error> {
        self.serialize_i64(number.into())
    }

    #[inline]
    fn serialize_i16(self, number: i16) -> Result<(), Error> {
        self.serialize_i64(number.into())
    }

    #[inline]
    fn serialize_i32(self, number: i32) -> Result<(), Error> {
        self.serialize_i64(number.into())
    }

    #[inline]
    fn serialize_i64(self, number: i64) -> Result<(), Error> {
        signed(number, self.out);
        Ok(())
    }

    #[inline]
    fn serialize_u8(self, number: u8) -> Result<(), Error> {
        self.serialize_u64(number.into())
    }

    #[inline]
    fn serialize_u16(self, number: u16) -> Result<(), Error> {
        self.serialize_u64(number.into())
    }

    #[inline]
    fn serialize_u32(self, number: u32) -> Result<(), Error> {
        self.serialize_u64(number.into())
    }

    #[inline]
    fn serialize_u64(self, number: u64) -> Result<(), Error> {
        unsigned(number, self.out);
        Ok(())
    }

    fn serialize_f32(self, number: f32) -> Result<(), Error> {
        sized(Marker::F32, number.to_be_bytes(), self.out);
        Ok(())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Error> {
        sized(Marker::F64, number.to_be_bytes(), self.out);
        Ok(())
    }

    fn serialize_char(self, char: char) -> Result<(), Error> {
        self.serialize_str(char.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Error> {
        str(text.as_bytes(), self.out);
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        if self.as_is {
            self.out.extend_from_slice(bytes);
        } else {
            bin(bytes, self.out);
        }
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Error> {
        self.out.push(Marker::Null.to_u8());
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        not_ours()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(name)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(Self {
            as_is: name == ENCODED,
            ..self
        })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        not_ours()
    }

    fn serialize_seq(self, count: Option<usize>) -> Result<Parts<'a>, Error> {
        let Some(count) = count else {
            return not_ours();
        };
        array_len(count, self.out);
        Ok(Parts(self.out))
    }

    fn serialize_tuple(self, count: usize) -> Result<Parts<'a>, Error> {
        array_len(count, self.out);
        Ok(Parts(self.out))
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        not_ours()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        not_ours()
    }

    fn serialize_map(self, count: Option<usize>) -> Result<Parts<'a>, Error> {
        let Some(count) = count else {
            return not_ours();
        };
        map_len(count, self.out);
        Ok(Parts(self.out))
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, count: usize) -> Result<Parts<'a>, Error> {
        map_len(count, self.out);
        Ok(Parts(self.out))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        not_ours()
    }
}

/// Appends the elements of an array, or the entries of a map.
struct Parts<'a>(&'a mut Vec<u8>);

impl SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Error> {
        value(element, self.0)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl SerializeTuple for Parts<'_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Error> {
        value(element, self.0)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        value(key, self.0)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, entry: &T) -> Result<(), Error> {
        value(entry, self.0)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Error;

    // So that the length of the name is known where it is copied.
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        field: &T,
    ) -> Result<(), Error> {
        str(name.as_bytes(), self.0);
        value(field, self.0)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}
