//! The third stage: from paths within file systems to paths, and which of them are watched.
//!
//! It is a pure function of its input and its watches: [`pathtree::PathTree`] takes records
//! and appends records.

#[cfg(feature = "cli")]
pub mod cli;
pub mod event;
pub mod image;
mod mount;
pub mod pathtree;
pub mod resolve;
mod snapshot;
pub mod tree;
pub mod watch;

pub use st_decode::{record, stage, time, vocabulary, wire};
