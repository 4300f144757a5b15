//! The ids of threads as the kernel's records have them: those of the initial pid namespace.
//!
//! In another pid namespace a thread cannot learn that id of its own from a system call. But what
//! it writes to `trace_marker` becomes a record of the ring buffer (Documentation/trace/ftrace.rst),
//! and each record has the id of the thread that made it.

use crate::tracefs::ring::{self, Item, LARGEST_SUB_BUFFER};
use crate::tracefs::session::Session;
use anyhow::{Context, Result, bail};
use nix::unistd::{Pid, gettid};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;

/// Where `common_pid` is in every record: struct trace_entry, include/linux/trace_events.h.
const COMMON_PID: Range<usize> = 4..8;

/// With it a thread tells who it is.
pub struct Marker {
    /// `None` in the initial pid namespace, where a thread knows.
    file: Option<File>,
}

impl Marker {
    /// Leaves a record with a word in it. Returns the id of the calling thread in its own pid
    /// namespace.
    pub fn leave(&self, word: &str) -> Result<Pid> {
        if let Some(mut file) = self.file.as_ref() {
            // The kernel does not wait for a page that is not in memory: a forked process has not
            // met all pages of its program, but one that it has written to.
            let word = word.as_bytes().to_vec();
            // One record for each call of write(2).
            let written = file.write(&word);
            written.context("cannot write to trace_marker")?;
        }
        Ok(gettid())
    }
}

impl Session {
    /// A marker for any number of threads.
    pub fn marker(&self) -> Result<Marker> {
        let file = if self.namespaces.pid {
            None
        } else {
            let path = self.path("trace_marker");
            let file = fs::OpenOptions::new().write(true).open(&path);
            Some(file.with_context(|| format!("cannot open {}", path.display()))?)
        };
        Ok(Marker { file })
    }

    /// The id in the kernel's records of the thread that has left a record with this word, and
    /// whose own id this is. To be called before [`Session::enable`]: takes all records out of the
    /// ring buffers.
    pub fn marked(&self, word: &str, own: Pid) -> Result<Pid> {
        if self.namespaces.pid {
            return Ok(own);
        }
        let mut page = vec![0; LARGEST_SUB_BUFFER];
        let mut found = None;
        for (_, mut file) in self.buffers()? {
            loop {
                match file.read(&mut page) {
                    Ok(0) => break,
                    Ok(count) => found = found.or(tid_of(&page[..count], word.as_bytes())),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error).context("cannot read the ring buffer"),
                }
            }
        }
        match found {
            Some(tid) => Ok(tid),
            None => bail!("the kernel has not recorded what was written to trace_marker"),
        }
    }
}

/// The thread that has made the record with this word, if it is in a page.
fn tid_of(page: &[u8], word: &[u8]) -> Option<Pid> {
    let mut found = None;
    // Whatever is wrong with a page, its items before that are good.
    let _ = ring::parse(page, |item| {
        if let Item::Record { data, .. } = item {
            let tid = data.get(COMMON_PID).and_then(|tid| tid.try_into().ok());
            if let (Some(tid), true) = (tid, data.windows(word.len()).any(|bytes| bytes == word)) {
                found = Some(Pid::from_raw(i32::from_ne_bytes(tid)));
            }
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_who_wrote_a_word() {
        let record = |tid: i32, text: &[u8]| {
            let mut data = vec![0; 16];
            data[COMMON_PID].copy_from_slice(&tid.to_ne_bytes());
            data.extend(text);
            data.resize(data.len().div_ceil(4) * 4, 0);
            let kind = data.len() as u32 / 4;
            [&kind.to_ne_bytes()[..], &data].concat()
        };
        let records = [record(70, b"walk\n"), record(7, b"command\n")].concat();
        let length = records.len() as u64;
        let page = [&0u64.to_ne_bytes()[..], &length.to_ne_bytes(), &records].concat();
        assert_eq!(tid_of(&page, b"walk"), Some(Pid::from_raw(70)));
        assert_eq!(tid_of(&page, b"command"), Some(Pid::from_raw(7)));
        assert_eq!(tid_of(&page, b"census"), None);
        assert_eq!(tid_of(&page[..20], b"walk"), None);
    }
}
