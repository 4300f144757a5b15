//! tracefs: an instance of our own with its probes, and how both are taken down.

pub mod ring;

#[cfg(feature = "cli")]
pub mod absent;
#[cfg(feature = "cli")]
mod counters;
#[cfg(feature = "cli")]
pub mod files;
#[cfg(feature = "cli")]
pub mod guardian;
#[cfg(feature = "cli")]
pub mod health;
#[cfg(feature = "cli")]
pub mod marker;
#[cfg(feature = "cli")]
pub mod owner;
#[cfg(feature = "cli")]
pub mod session;
#[cfg(feature = "cli")]
pub mod teardown;
