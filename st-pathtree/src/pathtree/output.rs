//! Writes events with their paths.

use super::locate::Located;
use crate::event::{Bytes, Paths};
use st_decode::wire::{self, Record, RecordCopy};

/// Appends an event, with its paths if it has any, and with `executable` (the fields of
/// [`crate::event::Executable`], encoded) in its `process`. What is not changed is copied.
pub(super) fn event(
    record: Record,
    located: Option<&Located>,
    executable: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    let paths = located.map(paths);
    let mut copy = RecordCopy::begin(record, out);
    for entry in record.entries() {
        match (entry.name, executable) {
            (b"unresolved", _) => copy.leave_out(entry),
            (b"process", Some(executable)) => {
                copy.replace(entry, |process, out| wire::append(process, executable, out));
            }
            // In case somebody has told paths before: these take their place.
            (b"path" | b"path_status" | b"old_path" | b"old_path_status" | b"mnt_ns", _)
                if paths.is_some() =>
            {
                copy.leave_out(entry);
            }
            _ => {}
        }
    }
    copy.end(paths.as_ref());
}

fn paths(Located { new, old }: &Located) -> Paths<'_> {
    let old = old.as_ref();
    Paths {
        path: Bytes::from(&new.path[..]),
        path_status: new.status,
        old_path: old.map(|old| Bytes::from(&old.path[..])),
        old_path_status: old.map(|old| old.status),
        mnt_ns: new.mnt_ns.or_else(|| old.and_then(|old| old.mnt_ns)),
    }
}
