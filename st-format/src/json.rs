//! Newline-delimited JSON, for programs: one object for each event.
//!
//! The fields are those of the event record ([`st_pathtree::event`]) without `t`, and those
//! that a later version or another program added, but for one: `time` is the instant of `ts` in
//! RFC 3339 (UTC) with nanoseconds, in place of a `time` that the record has. `ts` has 19 digits, of
//! which JavaScript, jq 1.6 and others that know no integers keep 16. This is how MessagePack
//! becomes JSON:
//!
//! - A str or bin is a string. If its bytes are not UTF-8, the string has U+FFFD in place of
//!   the bad ones, and beside it there is `<its key>_bytes`: all bytes in Base64 (RFC 4648
//!   section 4). There is no such field for an element of an array.
//! - A character that could command a terminal is written as `\uNNNN`: see [`escape`].
//! - An ext is Base64. A float that is no number or infinite is null. A key that is no string
//!   is the JSON text of that key, as a string.
//!
//! A record of kind `lost`, or of a kind that is not known, is an object, too. It keeps its `t`,
//! which no event has. In `lost`, `since`, `ts` and `until` are nanoseconds since the Unix
//! epoch, as `ts` is in events, by the clock as it was set at this point of the stream; `time` is
//! there, too.

use crate::loss::Losses;
use crate::time::Instants;
use crate::{escape, put};
use st_pathtree::record::{ClockSet, Header};
use st_pathtree::stage::{RecordError, Stage};
use st_pathtree::time::{Clock, Monotonic, Unix};
use st_pathtree::wire::{self, Memo, Record, Value, split};

/// How deep arrays and maps may be nested; deeper ones are refused.
const MAX_DEPTH: usize = 32;
/// How deep they may be nested in a key, where each level doubles the backslashes.
const MAX_KEY_DEPTH: usize = 4;

/// How many of [`KEYS`] come first in an event, in their order: a reader looks for them.
const FIRST: usize = 10;
/// The place of `ts`.
const TS: usize = 1;
/// The name of what stands behind it, in place of such a field of the record.
const TIME: &[u8] = b"time";

macro_rules! keys {
    ($($name:literal),+) => { [$(($name, concat!("\"", $name, "\":"))),+] };
}

/// The names of the fields of events, each with its text as a key of JSON.
const KEYS: [(&str, &str); 30] = keys!(
    "event",
    "ts",
    "seq",
    "cpu",
    "process",
    "ancestors",
    "path",
    "path_status",
    "old_path",
    "old_path_status",
    "mnt_ns",
    "dev",
    "ino",
    "mode",
    "rdev",
    "target",
    "attrib",
    "exchange",
    "whiteout",
    "layer_of",
    "fd",
    "proto",
    "family",
    "addr",
    "port",
    "backlog",
    "ret",
    "fastopen",
    "status",
    "signal"
);

/// The place of a name in [`KEYS`].
fn place(name: &[u8]) -> Option<usize> {
    KEYS.iter().position(|(key, _)| key.as_bytes() == name)
}

/// The kinds of records that tell stages what they must know of the machine, and of the end.
const NOT_SHOWN: [&str; 7] = ["clock", "mounts", "process", "fork", "walked", "dir", "end"];

/// The stage that renders JSON.
#[derive(Debug, Default)]
pub struct Json {
    clock: Clock,
    losses: Losses,
    instants: Instants,
    /// What many events have: the JSON of their maps and arrays, by their bytes.
    rendered: Memo<Vec<u8>>,
}

impl Json {
    /// Sets whether a stream in which something was lost is a failure.
    pub fn strict(mut self, strict: bool) -> Self {
        self.losses.strict = strict;
        self
    }
}

impl Stage for Json {
    const NAME: &'static str = crate::NAME;
    const AFTER: &'static [&'static str] = crate::AFTER;
    const LINES: bool = true;

    fn begin(&mut self, header: &Header, _: Record, _: &mut Vec<u8>) {
        self.clock = header.clock();
    }

    fn push(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let kind = record.kind();
        if kind == "clock" {
            self.clock = record.read::<ClockSet>()?.clock();
        }
        if NOT_SHOWN.contains(&kind) {
            return Ok(());
        }
        let start = out.len();
        let rendered = match kind {
            "event" => self.event(record, out),
            "lost" => {
                self.losses.add(&record.read()?, record);
                self.lost(record, out)
            }
            _ => value(record.bytes(), 0, out).map(drop),
        };
        match rendered {
            Ok(()) => out.push(b'\n'),
            Err(_) => out.truncate(start),
        }
        rendered
    }

    fn losses(&self) -> Vec<String> {
        self.losses.lines()
    }

    fn is_strict(&self) -> bool {
        self.losses.strict
    }
}

impl Json {
    fn lost(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let mut object = Object::begin(out);
        for entry in record.entries() {
            match (entry.name, split(entry.value)) {
                (b"ts" | b"since" | b"until", Some((Value::Unsigned(ts), _))) => {
                    let ts = self.clock.unix(Monotonic(ts));
                    object.key(entry.key, 0)?;
                    decimal(ts.0, object.out);
                    if entry.name == b"ts" {
                        object.time(ts, &mut self.instants);
                    }
                }
                (TIME, _) => {}
                _ => {
                    object.entry(entry.key, entry.value, 0)?;
                }
            }
        }
        object.end();
        Ok(())
    }

    fn event(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let mut first = [None; FIRST];
        let mut object = Object::begin(out);
        // The first entry is `t`.
        for entry in record.entries().skip(1) {
            if let Some(place) = place(entry.name).filter(|place| *place < FIRST) {
                first[place] = Some(entry);
            }
        }
        for (place, (entry, (_, key))) in first.into_iter().zip(KEYS).enumerate() {
            let Some(entry) = entry else { continue };
            object.begin_entry();
            object.out.extend_from_slice(key.as_bytes());
            match entry.value.first() {
                Some(0x80..=0x9f | 0xdc..=0xdf) => self.repeated(entry.value, object.out)?,
                _ => drop(object.value(entry.key, entry.value, 0)?),
            }
            let ts = (place == TS).then(|| split(entry.value)).flatten();
            if let Some((Value::Unsigned(ts), _)) = ts {
                object.time(Unix(ts), &mut self.instants);
            }
        }
        for entry in record.entries().skip(1) {
            match place(entry.name) {
                Some(..FIRST) => {}
                Some(place) => {
                    object.begin_entry();
                    object.out.extend_from_slice(KEYS[place].1.as_bytes());
                    object.value(entry.key, entry.value, 0)?;
                }
                None if entry.name == TIME => {}
                None => drop(object.entry(entry.key, entry.value, 0)?),
            }
        }
        object.end();
        Ok(())
    }

    /// Appends a map or an array that many events have.
    fn repeated(&mut self, encoded: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        if let Some((_, rendered)) = self.rendered.find(encoded) {
            out.extend_from_slice(rendered);
            return Ok(());
        }
        let start = out.len();
        value(encoded, 1, out)?;
        self.rendered.keep(encoded, out[start..].to_vec());
        Ok(())
    }
}

/// An object that is being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn end(self) {
        self.out.push(b'}');
    }

    /// Appends a key and the colon. `key` is encoded in MessagePack.
    fn key(&mut self, key: &[u8], depth: usize) -> Result<(), RecordError> {
        self.key_with(key, "", depth)
    }

    /// Appends what is between two entries.
    fn begin_entry(&mut self) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
    }

    /// Appends `time`.
    fn time(&mut self, ts: Unix, instants: &mut Instants) {
        self.begin_entry();
        self.out.extend_from_slice(b"\"time\":\"");
        instants.nanos(ts, self.out);
        self.out.push(b'"');
    }

    /// Appends a key with a suffix, and the colon.
    fn key_with(&mut self, key: &[u8], suffix: &str, depth: usize) -> Result<(), RecordError> {
        self.begin_entry();
        self.out.push(b'"');
        match split(key) {
            Some((Value::Str(name) | Value::Bin(name), _)) => drop(characters(name, self.out)),
            _ => {
                let mut text = Vec::new();
                let depth = (depth + 1).max(MAX_DEPTH - MAX_KEY_DEPTH);
                value(key, depth, &mut text)?;
                characters(&text, self.out);
            }
        }
        self.out.extend(suffix.as_bytes());
        self.out.extend(b"\":");
        Ok(())
    }

    /// Appends a key and the value at the start of `encoded`; returns what follows the value.
    fn entry<'b>(
        &mut self,
        key: &[u8],
        encoded: &'b [u8],
        depth: usize,
    ) -> Result<&'b [u8], RecordError> {
        self.key(key, depth)?;
        self.value(key, encoded, depth)
    }

    /// Appends the value at the start of `encoded`, after its key; returns what follows it.
    fn value<'b>(
        &mut self,
        key: &[u8],
        encoded: &'b [u8],
        depth: usize,
    ) -> Result<&'b [u8], RecordError> {
        let Some((Value::Str(bytes) | Value::Bin(bytes), rest)) = split(encoded) else {
            return value(encoded, depth + 1, self.out);
        };
        if !string(bytes, self.out) {
            self.key_with(key, "_bytes", depth)?;
            base64(bytes, self.out);
        }
        Ok(rest)
    }
}

/// Appends the value at the start of `bytes`; returns what follows it.
fn value<'a>(bytes: &'a [u8], depth: usize, out: &mut Vec<u8>) -> Result<&'a [u8], RecordError> {
    if depth > MAX_DEPTH {
        return Err(RecordError::too_deep());
    }
    let (value, mut rest) = split(bytes).ok_or_else(RecordError::cut)?;
    match value {
        Value::Nil => out.extend(b"null"),
        Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Unsigned(number) => decimal(number, out),
        Value::Signed(number) => decimal(number, out),
        // {:?} writes the exponents of what is very large or small, as JSON has them.
        Value::Float32(number) if number.is_finite() => put(out, format_args!("{number:?}")),
        Value::Float64(number) if number.is_finite() => put(out, format_args!("{number:?}")),
        Value::Float32(_) | Value::Float64(_) => out.extend(b"null"),
        Value::Str(text) | Value::Bin(text) => drop(string(text, out)),
        Value::Ext(content) => base64(content, out),
        Value::Array(count) => {
            out.push(b'[');
            for index in 0..count {
                if index > 0 {
                    out.push(b',');
                }
                rest = self::value(rest, depth + 1, out)?;
            }
            out.push(b']');
        }
        Value::Map(count) => {
            let mut object = Object::begin(out);
            for _ in 0..count {
                let len = wire::value_len(rest)
                    .ok()
                    .flatten()
                    .ok_or_else(RecordError::cut)?;
                let (key, after) = rest.split_at(len);
                rest = object.entry(key, after, depth)?;
            }
            object.end();
        }
    }
    Ok(rest)
}

/// Appends a JSON string. False: the bytes are not UTF-8.
pub(crate) fn string(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let is_text = characters(text, out);
    out.push(b'"');
    is_text
}

/// Appends what stands between the quotes of a JSON string. False: the bytes are not UTF-8.
fn characters(text: &[u8], out: &mut Vec<u8>) -> bool {
    // Without a way out of the loop, the compiler tests many bytes at once.
    let special = |byte: &u8| !matches!(byte, b' '..=b'~') | (*byte == b'"') | (*byte == b'\\');
    let any = text
        .iter()
        .fold(0, |any, byte| any | u8::from(special(byte)));
    if any == 0 {
        out.extend_from_slice(text);
        return true;
    }
    let mut is_text = true;
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => out.extend(b"\\\""),
                '\\' => out.extend(b"\\\\"),
                '\n' => out.extend(b"\\n"),
                '\t' => out.extend(b"\\t"),
                '\r' => out.extend(b"\\r"),
                _ if escape::is_harmful(char) => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        put(out, format_args!("\\u{unit:04x}"));
                    }
                }
                _ => out.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend("\u{fffd}".as_bytes());
            is_text = false;
        }
    }
    is_text
}

fn decimal(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a JSON string of the bytes in Base64, with padding.
pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, index| {
            bits << 8 | usize::from(group.get(index).copied().unwrap_or(0))
        });
        for index in 0..4 {
            out.push(match index <= group.len() {
                true => DIGITS[bits >> (18 - 6 * index) & 63],
                false => b'=',
            });
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
