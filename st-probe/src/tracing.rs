//! Tracing itself: from the ring buffers, and what is read of the machine, to the stream.

mod buffer;
mod command;
mod completeness;
mod ending;
mod gaps;
mod header;
mod merge;
mod output;
mod pump;
mod questions;
pub mod run;
mod source;
mod waiting;
mod walks;
