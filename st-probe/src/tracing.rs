//! Tracing itself: from the ring buffers, and what is read of the machine, to the stream.

mod command;
mod completeness;
mod merge;
mod pump;
mod questions;
pub mod run;
mod source;
mod walks;
