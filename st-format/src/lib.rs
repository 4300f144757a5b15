//! The last stage: renders events for people and for programs.
//!
//! | module | output |
//! |---|---|
//! | [`text`] | a line for each event, for people |
//! | [`template`] | the same, as the user lays it out |
//! | [`json`] | an object of JSON with all that the stream has |
//! | [`csv`] | a table |
//! | [`ecs`], [`ocsf`] | objects of JSON after published schemas |
//! | [`summary`] | what was done most, by whom and where, and what is left of it |
//!
//! Text and JSON read the stream themselves, as much as they need of each record. The others write
//! [`rows`], in which an event is read already; what CSV and templates show of it is told in
//! [`mod@column`].
//!
//! No other stage writes to a terminal, so bytes from outside are made harmless here: see
//! [`escape`].

#[cfg(feature = "cli")]
pub mod cli;
pub mod column;
pub mod csv;
pub mod ecs;
pub mod errno;
pub mod escape;
mod fields;
pub mod json;
mod line;
mod loss;
pub mod mode;
pub mod ocsf;
pub mod rows;
mod schema;
mod signal;
pub mod summary;
pub mod template;
#[cfg(test)]
mod testing;
pub mod text;
pub mod time;

use std::fmt::Arguments;
use std::io::Write;

/// The name of the stage.
const NAME: &str = "st-format";
/// The stages that its input must have passed.
const AFTER: &[&str] = &["st-probe", "st-decode", "st-pathtree"];

/// Appends formatted text.
fn put(out: &mut Vec<u8>, text: Arguments) {
    out.write_fmt(text).expect("a Vec takes every byte");
}
