//! The second stage: from raw records to typed events.
//!
//! It is a pure function of its input: [`decode::Decoder`] takes records and appends
//! records.

#[cfg(feature = "cli")]
pub mod cli;
pub mod container;
pub mod decode;
pub mod event;
mod field;
mod pair;
mod process;
mod socket;

#[cfg(feature = "args")]
pub use st_probe::args;
pub use st_probe::{record, stage, time, vocabulary, wire};
