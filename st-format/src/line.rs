//! A line of text: its columns, their colours and what stands in them.

use crate::{escape, mode, time};
use st_pathtree::event::{Bytes, Status};
use st_pathtree::time::Unix;
use std::fmt::Arguments;

/// How a column looks: an SGR sequence of ECMA-48. No other control sequences are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
    Alarm,
}

impl Style {
    fn sequence(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "\x1b[2m",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Cyan => "\x1b[36m",
            Self::Alarm => "\x1b[1;31m",
        }
    }
}

/// A line that is being written. There is a space between two columns.
pub(crate) struct Line<'a> {
    out: &'a mut Vec<u8>,
    color: bool,
}

impl<'a> Line<'a> {
    /// Begins a line with the time.
    pub fn begin(ts: Unix, color: bool, out: &'a mut Vec<u8>) -> Self {
        let mut line = Self { out, color };
        line.styled(Style::Dim, |out| time::rfc3339(ts, out));
        line
    }

    /// Appends a column of at least `width` characters.
    pub fn column(&mut self, width: usize, style: Style, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b' ');
        let shown = self.styled(style, write);
        self.out
            .extend(std::iter::repeat_n(b' ', width.saturating_sub(shown)));
    }

    /// Appends a column that is as wide as its text.
    pub fn put(&mut self, style: Style, text: Arguments) {
        self.column(0, style, |out| crate::put(out, text));
    }

    /// Appends a name, or `?` if it is not known.
    pub fn word(&mut self, name: Option<&[u8]>) {
        self.column(0, Style::Plain, |out| match name {
            Some(name) => escape::word(name, out),
            None => out.push(b'?'),
        });
    }

    /// Appends a path, with a mark if it is not complete, or `?` if it is not known.
    pub fn path(&mut self, path: Option<&Bytes>, status: Option<Status>) {
        match path {
            Some(path) => self.named_path("", path, status),
            None => self.word(None),
        }
    }

    /// Appends a path after the name of what it is, with a mark if the path is not complete.
    pub fn named_path(&mut self, name: &str, path: &Bytes, status: Option<Status>) {
        let mark = match status {
            None | Some(Status::Complete) => "",
            Some(Status::Partial) => "[partial]",
            Some(Status::Unmounted) => "[unmounted]",
            Some(Status::Ambiguous) => "[ambiguous]",
            Some(Status::Deleted) => "[deleted]",
        };
        self.column(0, Style::Plain, |out| {
            out.extend(name.as_bytes());
            match status {
                Some(Status::Partial) => escape::word(&[b".../", &**path].concat(), out),
                _ => escape::word(path, out),
            }
        });
        if !mark.is_empty() {
            self.put(Style::Alarm, format_args!("{mark}"));
        }
    }

    /// Appends permissions: `rw-r--r-- (0644)`.
    pub fn permissions(&mut self, mode: u32) {
        self.column(0, Style::Plain, |out| out.extend(mode::permissions(mode)));
        self.put(Style::Plain, format_args!("({:04o})", mode & 0o7777));
    }

    /// Appends type and permissions: `prw-r--r-- (0644)`.
    pub fn mode(&mut self, mode: u32) {
        self.column(0, Style::Plain, |out| {
            out.push(mode::type_letter(mode));
            out.extend(mode::permissions(mode));
        });
        self.put(Style::Plain, format_args!("({:04o})", mode & 0o7777));
    }

    /// Ends the line.
    pub fn end(self) {
        while self.out.last() == Some(&b' ') {
            self.out.pop();
        }
        self.out.push(b'\n');
    }

    /// Appends in a style what `write` appends; returns how many characters that is.
    fn styled(&mut self, style: Style, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let sequence = if self.color { style.sequence() } else { "" };
        self.out.extend(sequence.as_bytes());
        let start = self.out.len();
        write(self.out);
        // Each byte begins a character, except for the continuation bytes of UTF-8.
        let shown = self.out[start..]
            .iter()
            .filter(|&&byte| byte & 0xc0 != 0x80)
            .count();
        if !sequence.is_empty() {
            self.out.extend(b"\x1b[0m");
        }
        shown
    }
}
