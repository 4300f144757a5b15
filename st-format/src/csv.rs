//! CSV by RFC 4180, for spreadsheets and databases: a header row, then a row for each event and
//! each gap, with all [columns](crate::column) and CRLF at the end. A cell is empty where there
//! is nothing to tell, or it is not known.
//!
//! A name stands as it is, unless it is empty, has bytes that are not UTF-8 or a
//! character that could command a terminal ([`escape`]), or begins with `"` or with what makes a
//! spreadsheet take a cell for a formula (`=` `+` `-` `@`). Then it stands in double quotes with
//! escapes, as in text: a cell whose content begins with `"` is such a name. These quotes are
//! content, around which CSV has its own. Of a path that is `partial`, the cell has the end that
//! is known.

use crate::column::{COLUMNS, Cell};
use crate::escape;
use crate::rows::{Format, Row};
use crate::time::Instants;
use st_pathtree::record::Header;

/// Writes rows of CSV.
#[derive(Debug, Default)]
pub struct Csv {
    instants: Instants,
    begun: bool,
    cell: Vec<u8>,
}

impl Format for Csv {
    /// Appends the header row, where nothing was written yet: of several streams one after the
    /// other comes one table.
    fn begin(&mut self, _: &Header, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
        out.extend_from_slice(names.join(",").as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    fn row(&mut self, row: &Row, out: &mut Vec<u8>) {
        for (place, column) in COLUMNS.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            let Some(cell) = (column.cell)(row) else {
                continue;
            };
            match cell {
                Cell::Number(number) => crate::put(out, format_args!("{number}")),
                Cell::Set => out.extend_from_slice(b"true"),
                Cell::Instant(ts) => self.instants.nanos(ts, out),
                Cell::Name(name) => self.name(&name, out),
                Cell::Path(path, _) => self.name(path, out),
                Cell::Words(words) => quoted(&words, out),
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Csv {
    fn name(&mut self, name: &[u8], out: &mut Vec<u8>) {
        if is_plain(name) {
            return quoted(name, out);
        }
        self.cell.clear();
        escape::quoted(name, &mut self.cell);
        quoted(&self.cell, out);
    }
}

/// Whether a name can stand as it is.
fn is_plain(name: &[u8]) -> bool {
    let is_taken_for_another = matches!(name, [] | [b'"' | b'=' | b'+' | b'-' | b'@', ..]);
    !is_taken_for_another
        && std::str::from_utf8(name).is_ok_and(|name| !name.chars().any(escape::is_harmful))
}

/// Appends the content of a cell, in the quotes of CSV where it needs them.
fn quoted(content: &[u8], out: &mut Vec<u8>) {
    if !content.iter().any(|byte| matches!(byte, b'"' | b',')) {
        return out.extend_from_slice(content);
    }
    out.push(b'"');
    for part in content.split_inclusive(|&byte| byte == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
