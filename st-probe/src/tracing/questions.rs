//! Questions: paths that st-pathtree wants walked, through a named pipe.

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

    /// Reads the paths that have come.
    pub fn read(&mut self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            match self.pipe.read(&mut bytes) {
                Ok(0) => return Ok(paths),
                Ok(count) => self.parser.push(&bytes[..count], &mut paths),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(paths),
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

/// Divides bytes into paths, each of which ends with a NUL.
#[derive(Debug, Default)]
struct Parser {
    /// The beginning of a path whose end has not come yet.
    begun: Vec<u8>,
}

impl Parser {
    /// Appends the paths that end in these bytes. Paths that are not absolute are left out.
    fn push(&mut self, bytes: &[u8], paths: &mut Vec<PathBuf>) {
        for &byte in bytes {
            if byte != 0 {
                if self.begun.len() < LONGEST {
                    self.begun.push(byte);
                }
                continue;
            }
            let path = PathBuf::from(OsStr::from_bytes(&mem::take(&mut self.begun)));
            if path.is_absolute() {
                paths.push(path);
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
        let mut paths = Vec::new();
        for piece in pieces {
            parser.push(piece, &mut paths);
        }
        paths
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
            questions.read().unwrap(),
            [PathBuf::from("/a"), PathBuf::from("/b")]
        );
        assert!(questions.read().unwrap().is_empty());
        write(&writer, b"\0").unwrap();
        assert_eq!(questions.read().unwrap(), [PathBuf::from("/c")]);
    }
}
