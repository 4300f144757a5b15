//! Lines after a template: `{time} {event} {comm} {path}`.
//!
//! A name in braces is that of a [column](mod@column), in whose place its value is written;
//! `{{` and `}}` are braces. Names from outside are written as [`escape`] tells, so that each is one
//! word; paths that are not complete have their mark behind them, as in text: `.../x [partial]`.
//! Instants have nanoseconds. `?` is what is not known, or what such an event does not have. Events
//! that are part of another one are left out as in text; missing records have a line, too.

use crate::column::{self, COLUMNS, Cell, Column};
use crate::rows::{Format, Row};
use crate::time::{Instants, Notation};
use crate::{escape, line, put};
use st_pathtree::layers::Layers;
use st_pathtree::record::Header;

/// A template.
#[derive(Clone)]
pub struct Template(Vec<Part>);

#[derive(Clone)]
enum Part {
    Text(String),
    Column(&'static Column),
}

impl Template {
    /// Reads a template. The error says what is wrong in it.
    pub fn parse(template: &str) -> Result<Self, String> {
        let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), template);
        while let Some(place) = rest.find(['{', '}']) {
            text.push_str(&rest[..place]);
            let (brace, after) = rest[place..].split_at(1);
            if let Some(after) = after.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}').filter(|_| brace == "{") else {
                return Err(format!(
                    "a '{brace}' without its pair; write {brace}{brace} for one"
                ));
            };
            let column = column::named(name).ok_or_else(|| unknown(name))?;
            parts.push(Part::Text(std::mem::take(&mut text)));
            parts.push(Part::Column(column));
            rest = after;
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        Ok(Self(parts))
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
    format!("'{name}' is no field; known are {}", names.join(", "))
}

/// Writes lines after a template.
pub struct Lines {
    template: Template,
    /// If there: events that are part of another one that is shown are not.
    hidden: Option<Layers>,
    instants: Instants,
}

impl Lines {
    /// Lines after this template. `layers`: with those events, too, that are part of another one.
    /// `notation`: how instants are written.
    pub fn new(template: Template, notation: Notation, layers: bool) -> Self {
        Self {
            template,
            hidden: (!layers).then(Layers::default),
            instants: Instants::new(notation),
        }
    }
}

impl Format for Lines {
    fn begin(&mut self, header: &Header, _: &mut Vec<u8>) {
        self.instants.begin(header.realtime);
    }

    fn row(&mut self, row: &Row, out: &mut Vec<u8>) {
        let mut hidden = self.hidden.as_mut();
        let mut is_part = |event| hidden.as_mut().is_some_and(|layers| layers.is_part(event));
        if row.event().is_some_and(&mut is_part) {
            return;
        }
        for part in &self.template.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Column(column) => cell((column.cell)(row), &mut self.instants, out),
            }
        }
        out.push(b'\n');
    }
}

fn cell(cell: Option<Cell>, instants: &mut Instants, out: &mut Vec<u8>) {
    match cell {
        None => out.push(b'?'),
        Some(Cell::Number(number)) => put(out, format_args!("{number}")),
        Some(Cell::Set) => out.extend_from_slice(b"true"),
        Some(Cell::Instant(ts)) => instants.nanos(ts, out),
        Some(Cell::Name(name)) => escape::word(&name, out),
        Some(Cell::Words(words)) => out.extend_from_slice(&words),
        Some(Cell::Path(path, status)) => {
            line::path(path, status, out);
            let mark = line::mark(status);
            if !mark.is_empty() {
                put(out, format_args!(" {mark}"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
