//! The ring buffer of one CPU, read until it is empty.

use crate::stream::record::Lost;
use crate::stream::time::Monotonic;
use crate::tracefs::ring::{self, Item};
use crate::tracing::gaps::{Before, Gaps};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

/// The size of the fields that all records begin with, in bytes: `common_type` to `common_pid`
/// (include/linux/trace_events.h, struct trace_entry). No record is shorter.
const COMMON_FIELDS: usize = 8;

/// What is found in a ring buffer.
#[derive(Debug)]
pub enum Found<'a> {
    /// A record.
    Record {
        /// When its room was reserved.
        ts: Monotonic,
        /// The id of its event.
        id: u16,
        /// Its bytes as the kernel wrote them.
        data: &'a [u8],
    },
    /// A gap. It is found at its end, and told where it begins.
    Gap(Lost),
}

/// The ring buffer of one CPU.
pub struct Buffer {
    cpu: u32,
    file: File,
    gaps: Gaps,
    /// Whether the CPU is offline: a poll of its ring buffer would not wait.
    offline: bool,
}

impl Buffer {
    /// The ring buffer of a CPU. `file` is its `trace_pipe_raw`, which does not block.
    pub fn new(cpu: u32, file: File) -> Self {
        Self {
            cpu,
            file,
            gaps: Gaps::of(cpu),
            offline: false,
        }
    }

    /// The CPU.
    pub fn cpu(&self) -> u32 {
        self.cpu
    }

    /// Readable when there are records; `None` if a poll would not wait for them.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.offline).then(|| self.file.as_fd())
    }

    /// Notes that the CPU is offline.
    pub fn set_offline(&mut self) {
        self.offline = true;
    }

    /// Reads the ring buffer until it is empty, or a record at `until` or later was read: one
    /// sub-buffer after the other, into `page`. Returns whether there was anything.
    pub fn drain(
        &mut self,
        page: &mut [u8],
        until: Monotonic,
        before: Before,
        mut take: impl FnMut(Found<'_>),
    ) -> Result<bool> {
        let mut found = false;
        let Self {
            cpu, file, gaps, ..
        } = self;
        while gaps.latest() < until {
            let count = match file.read(page) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read the ring buffer"),
            };
            found = true;
            let parsed = ring::parse(&page[..count], |item| match item {
                Item::Lost(count) => gaps.overwritten(count),
                Item::Record { ts, data } => {
                    let ts = Monotonic(ts);
                    if let Some(gap) = gaps.record(ts, before) {
                        take(Found::Gap(gap));
                    }
                    if data.len() >= COMMON_FIELDS {
                        let id = u16::from_ne_bytes([data[0], data[1]]);
                        take(Found::Record { ts, id, data });
                    }
                }
            });
            if let Err(why) = parsed {
                say!("the ring buffer of CPU {cpu} is not as expected: {why}");
                gaps.unreadable();
            }
        }
        Ok(found)
    }

    /// The gap at the end of the ring buffer, if there is one. The kernel makes no record any more,
    /// and all records that are older than `released` have been released.
    pub fn end(&mut self, released: Monotonic) -> Option<Lost> {
        self.gaps.end(released)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};
    use std::os::fd::OwnedFd;

    /// A buffer whose pages are what is written to the descriptor.
    fn buffer() -> (Buffer, OwnedFd) {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        (Buffer::new(2, reader.into()), writer)
    }

    /// A page of one record, of an event with the id 7.
    fn page(ts: u64, flags: u64, data: &[u8]) -> Vec<u8> {
        let kind = data.len() as u32 / 4;
        let commit = flags | (4 + data.len() as u64);
        let mut page = [ts.to_ne_bytes(), commit.to_ne_bytes()].concat();
        page.extend(kind.to_ne_bytes());
        page.extend(data);
        page
    }

    const RECORD: [u8; 8] = {
        let id = 7u16.to_ne_bytes();
        [id[0], id[1], 0, 0, 9, 9, 9, 9]
    };
    /// kernel/trace/ring_buffer.c, RB_MISSED_EVENTS.
    const MISSED_EVENTS: u64 = 1 << 31;

    /// What is found: the times of records and gaps.
    fn drained(buffer: &mut Buffer, until: u64) -> Vec<(&'static str, u64)> {
        let mut page = [0; 64];
        let mut all = Vec::new();
        let any = buffer.drain(
            &mut page,
            Monotonic(until),
            Before::default(),
            |found| match found {
                Found::Record { ts, id, data } => {
                    assert_eq!((id, data), (7, &RECORD[..]));
                    all.push(("record", ts.0));
                }
                Found::Gap(lost) => {
                    assert_eq!(lost.cpu, Some(2));
                    all.push(("gap", lost.ts.0));
                }
            },
        );
        assert_eq!(any.unwrap(), !all.is_empty());
        all
    }

    #[test]
    fn tells_a_gap_before_the_record_after_it() {
        let (mut buffer, writer) = buffer();
        write(&writer, &page(100, 0, &RECORD)).unwrap();
        assert_eq!(drained(&mut buffer, u64::MAX), [("record", 100)]);
        write(&writer, &page(300, MISSED_EVENTS, &RECORD)).unwrap();
        let expected = [("gap", 100), ("record", 300)];
        assert_eq!(drained(&mut buffer, u64::MAX), expected);
        assert!(drained(&mut buffer, u64::MAX).is_empty());
        assert!(buffer.end(Monotonic(0)).is_none());
    }

    #[test]
    fn reads_no_further_than_it_was_told() {
        let (mut buffer, writer) = buffer();
        write(&writer, &page(100, 0, &RECORD)).unwrap();
        assert_eq!(drained(&mut buffer, 50), [("record", 100)]);
        write(&writer, &page(200, 0, &RECORD)).unwrap();
        assert!(drained(&mut buffer, 100).is_empty());
        assert_eq!(drained(&mut buffer, 101), [("record", 200)]);
    }

    #[test]
    fn what_cannot_be_read_is_a_gap() {
        let (mut buffer, writer) = buffer();
        // The page claims four bytes more than it has.
        let mut cut = page(100, 0, &RECORD);
        cut.truncate(cut.len() - 4);
        write(&writer, &cut).unwrap();
        let mut page = [0; 64];
        let any = buffer.drain(&mut page, Monotonic::MAX, Before::default(), |found| {
            panic!("{found:?}")
        });
        assert!(any.unwrap());
        assert!(buffer.end(Monotonic(0)).is_some());
    }
}
