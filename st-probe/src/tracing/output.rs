//! The stream on its way to the next stage: when the reader keeps st-probe waiting, and when it
//! has gone.

use crate::stream::time::Monotonic;
use crate::stream::wire;
use crate::sys::clock;
use crate::sys::signals::Signals;
use crate::tracing::gaps::Span;
use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, fcntl};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A write that takes longer than this waits for the reader.
const STALL: Duration = Duration::from_millis(50);
/// Bytes that the pipe to the next stage should hold: what the reader may lag behind before
/// records gather in the ring buffer.
const PIPE: i32 = 1 << 20;

/// Where the stream goes.
pub struct Output<W> {
    to: W,
    /// Records that were not written yet.
    pending: Vec<u8>,
    reader_gone: bool,
    stall: Span,
}

impl Output<File> {
    /// Standard output.
    pub fn stdout() -> Result<Self> {
        let stdout = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .context("no standard output")?;
        // Only a pipe has a size. A file or a terminal needs none.
        let _ = fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(PIPE));
        Ok(Self::to(stdout.into()))
    }

    /// A poll of it tells an error when the reader has gone.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }
}

impl<W: Write> Output<W> {
    fn to(to: W) -> Self {
        Self {
            to,
            pending: Vec::new(),
            reader_gone: false,
            stall: Span::default(),
        }
    }

    /// Appends a record to what is to be written.
    pub fn push(&mut self, record: &impl Serialize) {
        wire::write(record, &mut self.pending);
    }

    /// Appends encoded records to what is to be written.
    pub fn push_encoded(&mut self, records: &[u8]) {
        self.pending.extend(records);
    }

    /// Whether nobody reads the stream any more, or it cannot be written.
    pub fn reader_gone(&self) -> bool {
        self.reader_gone
    }

    /// Notes that nobody reads the stream any more.
    pub fn set_reader_gone(&mut self) {
        self.reader_gone = true;
    }

    /// The last write that waited for the reader.
    pub fn stall(&self) -> Span {
        self.stall
    }

    /// Writes what is to be written, and waits for the reader as long as it takes. Writes nothing
    /// once the reader has gone. Fails if an urgent signal comes while it waits.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_by(clock::now, Signals::urgent, Signals::continued)
    }

    fn flush_by(
        &mut self,
        mut now: impl FnMut() -> Result<Monotonic>,
        urgent: impl Fn() -> bool,
        continued: impl Fn() -> usize,
    ) -> Result<()> {
        let (from, continued_before) = (now()?, continued());
        let mut rest = &self.pending[..];
        while !rest.is_empty() && !self.reader_gone {
            match self.to.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.reader_gone = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if urgent() {
                        self.reader_gone = true;
                        bail!("given up while the reader was not reading");
                    }
                }
                Err(error) => {
                    self.reader_gone = true;
                    return Err(error).context("cannot write to standard output");
                }
            }
        }
        self.pending.clear();
        let write = Span { from, to: now()? };
        // Of a write in which somebody had stopped this process, it is not known how long it waited
        // for the reader.
        if write.length() > STALL && continued() == continued_before {
            self.stall = write;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::VecDeque;

    /// Takes three bytes at a time, or fails as it is told.
    #[derive(Default)]
    struct Reader {
        errors: VecDeque<io::ErrorKind>,
        read: Vec<u8>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(error) = self.errors.pop_front() {
                return Err(error.into());
            }
            let count = bytes.len().min(3);
            self.read.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(errors: &[io::ErrorKind]) -> Output<Reader> {
        let mut output = Output::to(Reader {
            errors: errors.iter().copied().collect(),
            ..Reader::default()
        });
        output.push_encoded(b"records");
        output
    }

    /// A clock that is read at these instants.
    fn clock(instants: [u64; 2]) -> impl FnMut() -> Result<Monotonic> {
        let mut instants = instants.into_iter();
        move || instants.next().map(Monotonic).context("it is read again")
    }

    const NO_TIME: [u64; 2] = [0, 0];

    #[test]
    fn writes_all_of_it_once() {
        let mut output = output(&[]);
        for _ in 0..2 {
            output.flush_by(clock(NO_TIME), || false, || 0).unwrap();
            assert_eq!(output.to.read, b"records");
        }
        assert!(!output.reader_gone());
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let mut output = output(&[io::ErrorKind::BrokenPipe]);
        output.flush_by(clock(NO_TIME), || false, || 0).unwrap();
        assert!(output.reader_gone());
        output.push_encoded(b"more");
        output.flush_by(clock(NO_TIME), || false, || 0).unwrap();
        assert!(output.to.read.is_empty());
    }

    #[test]
    fn a_signal_does_not_end_a_write_unless_it_is_urgent() {
        let mut output = output(&[io::ErrorKind::Interrupted; 2]);
        output.flush_by(clock(NO_TIME), || false, || 0).unwrap();
        assert_eq!(output.to.read, b"records");
        output.to.errors.push_back(io::ErrorKind::Interrupted);
        output.push_encoded(b"more");
        assert!(output.flush_by(clock(NO_TIME), || true, || 0).is_err());
        assert!(output.reader_gone());
    }

    #[test]
    fn a_write_that_fails_is_not_tried_again() {
        let mut output = output(&[io::ErrorKind::StorageFull]);
        assert!(output.flush_by(clock(NO_TIME), || false, || 0).is_err());
        output.flush_by(clock(NO_TIME), || false, || 0).unwrap();
        assert!(output.to.read.is_empty());
    }

    #[test]
    fn a_long_write_is_a_stall() {
        let mut output = output(&[]);
        let stall = STALL.as_nanos() as u64;
        output
            .flush_by(clock([7, 7 + stall]), || false, || 0)
            .unwrap();
        assert_eq!(output.stall(), Span::default());
        output
            .flush_by(clock([9, 10 + stall]), || false, || 0)
            .unwrap();
        let expected = Span {
            from: Monotonic(9),
            to: Monotonic(10 + stall),
        };
        assert_eq!(output.stall(), expected);
        output.flush_by(clock([900, 901]), || false, || 0).unwrap();
        assert_eq!(output.stall(), expected);
    }

    #[test]
    fn a_write_in_which_it_was_stopped_is_no_stall() {
        let mut output = output(&[]);
        let stall = STALL.as_nanos() as u64;
        let times = Cell::new(0);
        let continued = || times.replace(times.get() + 1);
        (output.flush_by(clock([9, 10 + stall]), || false, continued)).unwrap();
        assert_eq!(output.stall(), Span::default());
    }
}
