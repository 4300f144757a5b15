//! The first stage: what it outputs, and how a stream is framed.

/// Tells people something, as [`stage::say`] does.
#[cfg(feature = "cli")]
macro_rules! say {
    ($($text:tt)*) => {
        $crate::stream::stage::say("st-probe", &format!($($text)*))
    };
}

pub mod kernel;
pub mod stream;
pub mod tracefs;
pub mod tracing;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod machine;
#[cfg(feature = "cli")]
pub mod sys;

pub use stream::{record, stage, time, vocabulary, wire};
