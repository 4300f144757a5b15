//! What tests share.

use st_pathtree::event::{Actor, EventRecord};
use st_pathtree::record::{Header, MAGIC, VERSION};
use st_pathtree::time::{Monotonic, Unix};
use st_pathtree::vocabulary::{Event, Order};
use st_pathtree::wire::Record;

/// An event with nothing but what every event has.
pub fn event(event: Event) -> EventRecord<'static> {
    EventRecord {
        event,
        ts: Unix(1_795_362_564_123_456_789),
        seq: 0,
        cpu: 0,
        process: Actor {
            pid: Some(40),
            tid: 41,
            comm: Some((&b"cat"[..]).into()),
            ..Actor::default()
        },
        ..EventRecord::default()
    }
}

/// The record that bytes are.
pub fn of(bytes: &[u8]) -> Record<'_> {
    Record::new(bytes).expect("a record")
}

/// A record for a callee that does not look at it.
pub fn no_record() -> Record<'static> {
    of(b"\x81\xa1t\xa6header")
}

/// A record of a kind, without any other field.
pub fn bare(kind: &str) -> Vec<u8> {
    pack(&[("t", Pack::Str(kind.as_bytes()))])
}

/// A header with these clocks.
pub fn header(monotonic: u64, realtime: u64) -> Header {
    Header {
        magic: MAGIC.into(),
        version: VERSION,
        stages: crate::AFTER.iter().map(|&stage| stage.into()).collect(),
        byte_order: Order::Little,
        monotonic: Monotonic(monotonic),
        realtime: Unix(realtime),
        ..Header::default()
    }
}

/// A MessagePack value to be written.
pub enum Pack<'a> {
    /// nil
    Nil,
    /// An integer.
    Int(u64),
    /// A string, which need not be UTF-8.
    Str(&'a [u8]),
    /// bin
    Bin(&'a [u8]),
    /// An array.
    Array(&'a [Pack<'a>]),
    /// A map.
    Map(&'a [(&'a str, Pack<'a>)]),
    /// Bytes as they are.
    Raw(&'a [u8]),
}

/// The bytes of a map: a record, if its first key is `t`.
pub fn pack(entries: &[(&str, Pack)]) -> Vec<u8> {
    let mut out = Vec::new();
    Pack::Map(entries).write(&mut out);
    out
}

impl Pack<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.push(0xc0),
            Self::Int(int) => {
                out.push(0xcf);
                out.extend(int.to_be_bytes());
            }
            Self::Str(text) => {
                out.extend([0xda, (text.len() >> 8) as u8, text.len() as u8]);
                out.extend(*text);
            }
            Self::Bin(bytes) => {
                out.extend([0xc5, (bytes.len() >> 8) as u8, bytes.len() as u8]);
                out.extend(*bytes);
            }
            Self::Array(values) => {
                out.extend([0xdc, 0, values.len() as u8]);
                values.iter().for_each(|value| value.write(out));
            }
            Self::Map(entries) => {
                out.extend([0xde, 0, entries.len() as u8]);
                for (key, value) in *entries {
                    Self::Str(key.as_bytes()).write(out);
                    value.write(out);
                }
            }
            Self::Raw(bytes) => out.extend(*bytes),
        }
    }
}

/// xorshift64, seeded with the time.
pub struct Random {
    /// What to name when a test fails.
    pub seed: u64,
    state: u64,
}

impl Random {
    pub fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let seed = now.as_nanos() as u64 | 1;
        println!("seed {seed}");
        Self { seed, state: seed }
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % limit as u64) as usize
    }

    /// A short name, most of it made of what could do harm.
    pub fn name(&mut self) -> Vec<u8> {
        let mut name = Vec::new();
        for _ in 0..self.below(12) {
            match self.below(4) {
                0 => name.push(self.below(256) as u8),
                1 => name.extend(self.char().to_string().as_bytes()),
                2 => name.push(b"\"\\\n\x1b ->?[]xu{}e"[self.below(15)]),
                _ => name.push(b'a'),
            }
        }
        name
    }

    /// The same, but text.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.name()).into_owned()
    }

    fn char(&mut self) -> char {
        const STARTS: [usize; 8] = [
            0x80, 0x600, 0x2000, 0x2060, 0xfe00, 0xfff0, 0x1d170, 0xe0000,
        ];
        let code = STARTS[self.below(8)] + self.below(0x40);
        char::from_u32(code as u32).unwrap_or('x')
    }
}
