//! What st-pathtree reads of its input.

use crate::event::InputEvent;
use st_decode::event::{Attach, Detach, Dir, Image, Namespace, Shutdown, Unload};
use st_decode::record::{Lost, Mounts, Walked};
use st_decode::stage::RecordError;
use st_decode::wire::Record;
use std::collections::VecDeque;

/// Bytes of records that may wait.
const MAX_WAITING: usize = 64 << 20;

/// A record, as far as st-pathtree reads it.
pub(super) enum Input<'a> {
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

impl<'a> Input<'a> {
    /// Reads a record.
    pub(super) fn read(record: Record<'a>) -> Result<Self, RecordError> {
        Ok(match record.kind() {
            "event" => Self::Event(record.read()?),
            "change" => Self::Change(record.read()?),
            "image" => Self::Image(record.read()?),
            "unload" => Self::Unload(record.read()?),
            "dir" => Self::Dir(record.read()?),
            "shutdown" => Self::Shutdown(record.read()?),
            "mounts" => Self::Mounts(record.read()?),
            "attach" => Self::Attach(record.read()?),
            "detach" => Self::Detach(record.read()?),
            "namespace" => Self::Namespace(record.read()?),
            "walked" => Self::Walked(record.read()?),
            "lost" => Self::Lost(record.read()?),
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
