//! Tracing itself: from the ring buffers, and what is read of the machine, to the stream.

pub mod merge;

#[cfg(feature = "cli")]
mod command;
#[cfg(feature = "cli")]
mod completeness;
#[cfg(feature = "cli")]
mod pump;
#[cfg(feature = "cli")]
pub mod run;
#[cfg(feature = "cli")]
mod walks;
