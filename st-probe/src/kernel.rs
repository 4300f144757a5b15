//! The kernel's side: what is probed, and how a probe is defined on a kernel of given types.
//! Pure: nothing here looks at a machine.

pub mod btf;
pub mod expression;
pub mod format;
pub mod hooks;
pub mod plan;
