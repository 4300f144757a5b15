//! Thin wrappers of system calls.

pub mod capabilities;
pub mod clock;
pub mod grace;
pub mod signals;
