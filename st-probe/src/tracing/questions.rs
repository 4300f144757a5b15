//! Questions: paths that st-pathtree wants walked, through a named pipe.

use crate::stream::time::Monotonic;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest path that is taken, in bytes. The rest of a longer path is left out.
const LONGEST: usize = 1 << 16;

/// The named pipe.
pub struct Questions {
    pipe: File,
    parser: Parser,
}

impl Questions {
    /// Opens the named pipe. Its writers may come and go: it is opened for writing, too, so that
    /// it never ends.
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.custom_flags(libc::O_NONBLOCK);
        let pipe = options
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self {
            pipe,
            parser: Parser::default(),
        })
    }

    /// Reads what has come.
    pub fn read(&mut self) -> Result<Asked> {
        let mut asked = Asked::default();
        let mut bytes = [0; 4096];
        loop {
            match self.pipe.read(&mut bytes) {
                Ok(0) => return Ok(asked),
                Ok(count) => self.parser.push(&bytes[..count], &mut asked),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(asked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read which paths to walk"),
            }
        }
    }

    /// Readable when there are questions.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// What has come through the pipe.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The paths that are to be walked.
    pub paths: Vec<PathBuf>,
    /// The latest instant at which all watched directories were known: `known NANOSECONDS`.
    pub known: Option<Monotonic>,
}

/// Divides bytes into messages, each of which ends with a NUL.
#[derive(Debug, Default)]
struct Parser {
    /// The beginning of a path whose end has not come yet.
    begun: Vec<u8>,
}

impl Parser {
    /// Appends the messages that end in these bytes. Those that are neither an absolute path nor
    /// an instant are left out.
    fn push(&mut self, bytes: &[u8], asked: &mut Asked) {
        for &byte in bytes {
            if byte != 0 {
                if self.begun.len() < LONGEST {
                    self.begun.push(byte);
                }
                continue;
            }
            let message = mem::take(&mut self.begun);
            if let Some(known) = message.strip_prefix(b"known ") {
                let known = std::str::from_utf8(known).ok();
                let known = known.and_then(|known| known.parse().ok()).map(Monotonic);
                asked.known = asked.known.max(known);
                continue;
            }
            let path = PathBuf::from(OsStr::from_bytes(&message));
            if path.is_absolute() {
                asked.paths.push(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};

    fn parsed(pieces: &[&[u8]]) -> Vec<PathBuf> {
        let mut parser = Parser::default();
        let mut asked = Asked::default();
        for piece in pieces {
            parser.push(piece, &mut asked);
        }
        asked.paths
    }

    #[test]
    fn a_path_may_come_in_pieces() {
        let paths = parsed(&[b"/a\0/b", b"", b"c\0/d\n\xff", b"\0", b"/unfinished"]);
        let expected = [&b"/a"[..], b"/bc", b"/d\n\xff"];
        assert_eq!(paths, expected.map(OsStr::from_bytes));
    }

    #[test]
    fn a_path_that_is_not_absolute_is_left_out() {
        assert_eq!(parsed(&[b"\0a\0../b\0/c\0"]), [PathBuf::from("/c")]);
    }

    #[test]
    fn the_latest_instant_counts() {
        let mut asked = Asked::default();
        Parser::default().push(
            b"known 7\0/a\0known 9\0known 8\0known x\0known\0",
            &mut asked,
        );
        assert_eq!(asked.known, Some(Monotonic(9)));
        assert_eq!(asked.paths, [PathBuf::from("/a")]);
    }

    #[test]
    fn a_path_takes_no_more_memory_than_it_may() {
        let paths = parsed(&[b"/", &[b'x'; 2 * LONGEST], b"\0/a\0"]);
        let lengths: Vec<_> = paths.iter().map(|path| path.as_os_str().len()).collect();
        assert_eq!(lengths, [LONGEST, 2]);
    }

    #[test]
    fn reads_what_has_come_and_does_not_wait() {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).unwrap();
        let mut questions = Questions {
            pipe: reader.into(),
            parser: Parser::default(),
        };
        write(&writer, b"/a\0/b\0/c").unwrap();
        assert_eq!(
            questions.read().unwrap().paths,
            [PathBuf::from("/a"), PathBuf::from("/b")]
        );
        assert_eq!(questions.read().unwrap(), Asked::default());
        write(&writer, b"\0").unwrap();
        assert_eq!(questions.read().unwrap().paths, [PathBuf::from("/c")]);
    }
}
