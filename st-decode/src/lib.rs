//! The second stage: from raw records to typed events.

pub mod event;

pub use st_probe::{record, stage, wire};
