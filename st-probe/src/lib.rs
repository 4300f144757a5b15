//! The first stage: what it outputs, and how a stream is framed.
//!
//! [`record`] specifies every record that st-probe writes, [`wire`] the framing and
//! [`stage`] the loop that every later stage runs. The other modules are the parts of the
//! probe itself that are pure: they can be tested, and fuzzed, without a kernel.

/// Tells people something, as [`stage::say`] does.
#[cfg(feature = "cli")]
macro_rules! say {
    ($($text:tt)*) => {
        $crate::stage::say("st-probe", &format!($($text)*))
    };
}

pub mod arch;
pub mod btf;
mod confine;
pub mod format;
pub mod hooks;
pub mod interrupt;
pub mod merge;
pub mod plan;
pub mod record;
pub mod ring;
pub mod stage;
pub mod wire;

#[cfg(feature = "cli")]
mod capabilities;
#[cfg(feature = "cli")]
mod census;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
mod command;
#[cfg(feature = "cli")]
mod complete;
#[cfg(feature = "cli")]
mod grace;
#[cfg(feature = "cli")]
mod guardian;
#[cfg(feature = "cli")]
mod health;
#[cfg(feature = "cli")]
mod leftovers;
#[cfg(feature = "cli")]
mod mounts;
#[cfg(feature = "cli")]
mod owner;
#[cfg(feature = "cli")]
mod proc;
#[cfg(feature = "cli")]
mod pump;
#[cfg(feature = "cli")]
mod session;
#[cfg(feature = "cli")]
mod signals;
#[cfg(feature = "cli")]
mod snapshot;
#[cfg(feature = "cli")]
mod trace;
#[cfg(feature = "cli")]
mod tracefs;
#[cfg(feature = "cli")]
pub mod walk;
