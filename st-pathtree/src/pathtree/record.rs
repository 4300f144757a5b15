//! What st-pathtree reads of its input.

use crate::event::InputEvent;
use st_decode::event::{Attach, Detach, Dir, Image, Namespace, Shutdown, Unload};
use st_decode::record::{Lost, Mounts, Walked};
use st_decode::stage::RecordError;
use st_decode::wire;
use std::collections::VecDeque;

/// Bytes of records that may wait.
const MAX_WAITING: usize = 64 << 20;

/// A record, as far as st-pathtree reads it.
pub(super) enum Record<'a> {
    Event(InputEvent<'a>),
    /// What an event did to directories that is told later.
    Change(InputEvent<'a>),
    Image(Image<'a>),
    Unload(Unload),
    Dir(Dir<'a>),
    Shutdown(Shutdown<'a>),
    Mounts(Mounts<'a>),
    Attach(Attach<'a>),
    Detach(Detach),
    Namespace(Namespace<'a>),
    Walked(Walked<'a>),
    Lost(Lost),
    End,
    /// A record of another kind, which st-pathtree passes on.
    Other,
}

impl<'a> Record<'a> {
    /// Reads a record of a kind.
    pub(super) fn read(kind: &str, record: &'a [u8]) -> Result<Self, RecordError> {
        Ok(match kind {
            "event" => Self::Event(wire::read(record)?),
            "change" => Self::Change(wire::read(record)?),
            "image" => Self::Image(wire::read(record)?),
            "unload" => Self::Unload(wire::read(record)?),
            "dir" => Self::Dir(wire::read(record)?),
            "shutdown" => Self::Shutdown(wire::read(record)?),
            "mounts" => Self::Mounts(wire::read(record)?),
            "attach" => Self::Attach(wire::read(record)?),
            "detach" => Self::Detach(wire::read(record)?),
            "namespace" => Self::Namespace(wire::read(record)?),
            "walked" => Self::Walked(wire::read(record)?),
            "lost" => Self::Lost(wire::read(record)?),
            "end" => Self::End,
            _ => Self::Other,
        })
    }
}

/// Records that wait for a walk, in the order of the stream. They are kept as bytes, for what is
/// read of a record needs more memory than the record, and memory is what limits how many may
/// wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    records: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether more bytes wait than may.
    pub(super) fn is_too_long(&self) -> bool {
        self.bytes > MAX_WAITING
    }

    /// Appends a record.
    pub(super) fn push(&mut self, record: &[u8]) {
        self.bytes += record.len();
        self.records.push_back(record.to_vec());
    }

    /// Removes the first record.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let record = self.records.pop_front()?;
        self.bytes -= record.len();
        Some(record)
    }

    /// Puts the first record back.
    pub(super) fn put_back(&mut self, record: Vec<u8>) {
        self.bytes += record.len();
        self.records.push_front(record);
    }
}
