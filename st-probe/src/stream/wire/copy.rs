//! Copies records with changes.

use super::index::{Entry, Record};
use super::value::split_map;
use super::write;
use serde::Serialize;

/// A copy of a record that is being written: what does not change is copied in few pieces. The
/// entries that change must be given in their order.
#[derive(Debug)]
pub struct RecordCopy<'a> {
    record: &'a [u8],
    out: &'a mut Vec<u8>,
    /// Where the copy begins in `out`.
    start: usize,
    /// So many bytes of the record are copied or left out.
    done: usize,
    /// How many entries the copy has.
    count: usize,
}

impl<'a> RecordCopy<'a> {
    /// Begins to append a copy to `out`.
    pub fn begin(record: Record<'a>, out: &'a mut Vec<u8>) -> Self {
        let record = record.bytes();
        let (count, entries) = split_map(record).unwrap_or_default();
        let start = out.len();
        // Mostly the whole map marker.
        out.push(0);
        Self {
            record,
            out,
            start,
            done: record.len() - entries.len(),
            count: count as usize,
        }
    }

    fn copy_up_to(&mut self, end: usize) {
        let piece = self.record.get(self.done..end);
        self.out.extend_from_slice(piece.unwrap_or_default());
        self.done = end;
    }

    /// Leaves out an entry.
    pub fn leave_out(&mut self, entry: Entry) {
        self.copy_up_to(entry.at);
        self.done = entry.end();
        self.count -= 1;
    }

    /// Puts another value into an entry: the one that `write` makes of its value and appends.
    pub fn replace(&mut self, entry: Entry, write: impl FnOnce(&[u8], &mut Vec<u8>)) {
        self.copy_up_to(entry.at + entry.key.len());
        write(entry.value, self.out);
        self.done = entry.end();
    }

    /// Ends the copy with the fields of `more`, a struct.
    pub fn end<T: Serialize>(mut self, more: Option<&T>) {
        self.copy_up_to(self.record.len());
        if let Some(more) = more {
            let start = self.out.len();
            super::write(more, self.out);
            let map = &self.out[start..];
            let (count, entries) = split_map(map).unwrap_or_default();
            let end = start + map.len() - entries.len();
            self.out.drain(start..end);
            self.count += count as usize;
        }
        match self.count {
            0..16 => self.out[self.start] = 0x80 | self.count as u8,
            count => {
                let mut marker = Vec::new();
                write::map_len(count, &mut marker);
                self.out.splice(self.start..=self.start, marker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::wire;
    use std::collections::BTreeMap;

    #[derive(Serialize)]
    struct More {
        b: u8,
    }

    #[test]
    fn what_does_not_change_is_copied_as_it_is() {
        let bytes = b"\x85\xa1t\xa1x\xa1a\x01\xa1u\x91\x02\xa1v\x03\x07\xc0";
        let mut out = b"before".to_vec();
        let mut copy = RecordCopy::begin(Record::new(bytes).unwrap(), &mut out);
        for entry in Record::new(bytes).unwrap().entries() {
            match entry.name {
                b"a" => copy.leave_out(entry),
                b"v" => copy.replace(entry, |value, out| out.extend([value, value].concat())),
                _ => {}
            }
        }
        copy.end(Some(&More { b: 9 }));
        assert_eq!(
            out,
            b"before\x85\xa1t\xa1x\xa1u\x91\x02\xa1v\x03\x03\x07\xc0\xa1b\x09"
        );
    }

    #[test]
    fn the_marker_tells_how_many_entries_there_are() {
        for count in [1, 14, 15, 16, 300] {
            let names = (0..count).map(|number| (format!("z{number:03}"), number));
            let map: BTreeMap<String, u32> = names.collect();
            let mut bytes = Vec::new();
            wire::write(&map, &mut bytes);
            let mut marker = Vec::new();
            write::map_len(count as usize + 1, &mut marker);
            let (_, entries) = split_map(&bytes).unwrap();
            let bytes = [&marker, &b"\xa1t\xa1x"[..], entries].concat();
            let mut out = Vec::new();
            RecordCopy::begin(Record::new(&bytes).unwrap(), &mut out).end(Some(&More { b: 1 }));
            let copied = Record::new(&out).unwrap();
            assert_eq!(copied.entries().count(), count as usize + 2);
            assert_eq!(copied.entry(b"b").unwrap().value, [1]);
        }
    }
}
