//! A line of text: its columns, their colours and what stands in them.

use crate::time::Instants;
use crate::{escape, mode};
use st_pathtree::event::{Bytes, Status};
use st_pathtree::time::Unix;
use std::fmt::Arguments;
use std::ops::Range;

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

/// Appends `make[1234]`: the name of a process, or `?` if that is not known, and the id.
pub(crate) fn process(comm: Option<&[u8]>, pid: i32, out: &mut Vec<u8>) {
    match comm {
        // The brackets around the id must be the only ones outside quotes.
        Some(comm) if comm.iter().any(|byte| matches!(byte, b'[' | b']')) => {
            escape::quoted(comm, out);
        }
        Some(comm) => escape::word(comm, out),
        None => out.push(b'?'),
    }
    crate::put(out, format_args!("[{pid}]"));
}

/// Appends a path; one of which only the last names are known begins with `.../`.
pub(crate) fn path(path: &[u8], status: Option<Status>, out: &mut Vec<u8>) {
    match status {
        Some(Status::Partial) => escape::word(&[b".../", path].concat(), out),
        _ => escape::word(path, out),
    }
}

/// What stands behind a path that is not complete: `[partial]`, for example.
pub(crate) fn mark(status: Option<Status>) -> &'static str {
    match status {
        None | Some(Status::Complete) => "",
        Some(Status::Partial) => "[partial]",
        Some(Status::Unmounted) => "[unmounted]",
        Some(Status::Ambiguous) => "[ambiguous]",
        Some(Status::Deleted) => "[deleted]",
    }
}

/// A line that is being written. There is a space between two columns.
pub(crate) struct Line<'a> {
    out: &'a mut Vec<u8>,
    color: bool,
}

impl<'a> Line<'a> {
    /// Begins a line, or a part of one.
    pub fn begin(color: bool, out: &'a mut Vec<u8>) -> Self {
        Self { out, color }
    }

    /// Appends an instant, as the first column.
    pub fn instant(&mut self, instants: &mut Instants, ts: Unix) {
        self.styled(Style::Dim, |out| instants.micros(ts, out));
    }

    /// Appends columns that were written before.
    pub fn ready(&mut self, columns: &[u8]) {
        self.out.extend_from_slice(columns);
    }

    /// Appends a column of at least `width` characters.
    pub fn column(&mut self, width: usize, style: Style, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.push(b' ');
        let text = self.styled(style, write);
        if width > 0 {
            // Each byte begins a character, except for the continuation bytes of UTF-8.
            let begins = |byte: &&u8| **byte & 0xc0 != 0x80;
            let shown = self.out[text].iter().filter(begins).count();
            let length = self.out.len() + width.saturating_sub(shown);
            self.out.resize(length, b' ');
        }
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
        let mark = mark(status);
        self.column(0, Style::Plain, |out| {
            out.extend_from_slice(name.as_bytes());
            self::path(path, status, out);
        });
        if !mark.is_empty() {
            self.put(Style::Alarm, format_args!("{mark}"));
        }
    }

    /// Appends permissions: `rw-r--r-- (0644)`.
    pub fn permissions(&mut self, mode: u32) {
        self.column(0, Style::Plain, |out| out.extend(mode::permissions(mode)));
        self.column(0, Style::Plain, |out| out.extend(mode::octal(mode)));
    }

    /// Appends type and permissions: `prw-r--r-- (0644)`.
    pub fn mode(&mut self, mode: u32) {
        self.column(0, Style::Plain, |out| {
            out.push(mode::type_letter(mode));
            out.extend(mode::permissions(mode));
        });
        self.column(0, Style::Plain, |out| out.extend(mode::octal(mode)));
    }

    /// Ends the line.
    pub fn end(self) {
        while self.out.last() == Some(&b' ') {
            self.out.pop();
        }
        self.out.push(b'\n');
    }

    /// Appends in a style what `write` appends; returns where that is.
    fn styled(&mut self, style: Style, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
        let sequence = if self.color { style.sequence() } else { "" };
        self.out.extend_from_slice(sequence.as_bytes());
        let start = self.out.len();
        write(self.out);
        let end = self.out.len();
        if !sequence.is_empty() {
            self.out.extend_from_slice(b"\x1b[0m");
        }
        start..end
    }
}
