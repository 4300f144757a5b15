//! The last stage: renders events as text or JSON.
//!
//! No other stage writes to a terminal, so bytes from outside are made harmless here: see
//! [`escape`].

#[cfg(feature = "cli")]
pub mod cli;
pub mod errno;
pub mod escape;
pub mod json;
mod line;
mod loss;
pub mod mode;
mod signal;
#[cfg(test)]
mod testing;
pub mod text;
pub mod time;

use std::fmt::Arguments;
use std::io::Write;

/// The name of the stage, in both formats.
const NAME: &str = "st-format";
/// The stages that its input must have passed.
const AFTER: &[&str] = &["st-probe", "st-decode", "st-pathtree"];

/// Appends formatted text.
fn put(out: &mut Vec<u8>, text: Arguments) {
    out.write_fmt(text).expect("a Vec takes every byte");
}
