//! The third stage: from chains of names to paths, and which of them are watched.

pub mod event;

pub use st_decode::{record, stage, wire};
