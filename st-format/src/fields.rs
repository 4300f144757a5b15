//! Objects of JSON whose fields' names are ours. What is not known has no field, and an object
//! without fields is none.

use crate::json;
use crate::time::Instants;
use st_pathtree::time::Unix;

/// An object that is being written.
pub struct Fields<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Fields<'a> {
    /// Appends a line with an object.
    pub fn line(out: &mut Vec<u8>, write: impl FnOnce(&mut Fields)) {
        Fields::braces(out, write);
        out.push(b'\n');
    }

    /// Appends an object; returns whether it is empty.
    fn braces(out: &mut Vec<u8>, write: impl FnOnce(&mut Fields)) -> bool {
        out.push(b'{');
        let mut fields = Fields {
            out,
            is_empty: true,
        };
        write(&mut fields);
        let is_empty = fields.is_empty;
        out.push(b'}');
        is_empty
    }

    /// Appends what comes before a value.
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Appends an object, if it has any fields.
    pub fn object(&mut self, name: &str, write: impl FnOnce(&mut Fields)) {
        let (start, was_empty) = (self.out.len(), self.is_empty);
        self.name(name);
        if Fields::braces(self.out, write) {
            self.out.truncate(start);
            self.is_empty = was_empty;
        }
    }

    /// Appends an array of objects.
    pub fn objects<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Fields, T),
    ) {
        self.array(name, items, |out, item| {
            Fields::braces(out, |fields| write(fields, item));
        });
    }

    /// Appends an array of strings.
    pub fn texts<T: AsRef<[u8]>>(&mut self, name: &str, texts: impl IntoIterator<Item = T>) {
        self.array(name, texts, |out, text| {
            json::string(text.as_ref(), out);
        });
    }

    fn array<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Vec<u8>, T),
    ) {
        self.name(name);
        self.out.push(b'[');
        for (place, item) in items.into_iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            write(self.out, item);
        }
        self.out.push(b']');
    }

    /// Appends a string, which has U+FFFD in place of bytes that are not UTF-8.
    pub fn text(&mut self, name: &str, text: impl AsRef<[u8]>) {
        self.name(name);
        json::string(text.as_ref(), self.out);
    }

    /// Appends a string of all the bytes in Base64.
    pub fn base64(&mut self, name: &str, bytes: &[u8]) {
        self.name(name);
        json::base64(bytes, self.out);
    }

    /// Appends a string, if it is known.
    pub fn some_text(&mut self, name: &str, text: Option<impl AsRef<[u8]>>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// Appends a number.
    pub fn number(&mut self, name: &str, number: impl itoa::Integer) {
        self.name(name);
        let mut buffer = itoa::Buffer::new();
        self.out.extend_from_slice(buffer.format(number).as_bytes());
    }

    /// Appends a number, if it is known.
    pub fn some_number(&mut self, name: &str, number: Option<impl itoa::Integer>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    /// Appends a number as a string, if it is known.
    pub fn id(&mut self, name: &str, number: Option<impl itoa::Integer>) {
        if let Some(number) = number {
            self.text(name, itoa::Buffer::new().format(number));
        }
    }

    /// Appends true.
    pub fn set(&mut self, name: &str) {
        self.name(name);
        self.out.extend_from_slice(b"true");
    }

    /// Appends an instant as RFC 3339 with nanoseconds, if it is known.
    pub fn instant(&mut self, name: &str, ts: Option<Unix>, instants: &mut Instants) {
        let Some(ts) = ts else { return };
        self.name(name);
        self.out.push(b'"');
        instants.nanos(ts, self.out);
        self.out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_leaves_nothing() {
        let mut out = Vec::new();
        Fields::line(&mut out, |fields| {
            fields.object("a", |fields| {
                fields.some_text("x", None::<&str>);
                fields.object("b", |fields| fields.id("y", None::<u32>));
            });
            fields.number("n", -1);
            fields.object("c", |_| {});
            fields.object("d", |fields| {
                fields.text("t", b"a\"\xff\x1b");
                fields.set("s");
                fields.id("i", Some(7));
            });
            fields.texts("l", ["a", "b"]);
            fields.objects("o", [1, 2], |fields, number| fields.number("k", number));
        });
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"n\":-1,\"d\":{\"t\":\"a\\\"\u{fffd}\\u001b\",\"s\":true,\"i\":\"7\"},\
             \"l\":[\"a\",\"b\"],\"o\":[{\"k\":1},{\"k\":2}]}\n"
        );
    }
}
