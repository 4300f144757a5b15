//! The third stage: it resolves paths within file systems to paths, and passes the events that a
//! watch wants.
//!
//! Its output depends on nothing but its input and its watches. The stage is
//! [`pathtree::PathTree`].
//!
//! | module | what is in it |
//! |---|---|
//! | [`event`] | the records that the stage reads and writes |
//! | [`pathtree`] | the stage: the order in which records are handled |
//! | [`tree`] | the directories of a file system: from an inode to a path within it |
//! | [`mount`] | the mount tables: from a device and a path within its file system to a path |
//! | [`resolve`] | both together: paths by the mounts of all namespaces, and how these change |
//! | [`watch`] | which events are wanted below which paths |
//! | `snapshot` | the walks that st-probe makes, and those that are requested of it |
//! | [`image`] | the files that processes execute |
//! | [`layers`] | for later stages: which events are part of others |

#[cfg(feature = "cli")]
pub mod cli;
pub mod event;
pub mod image;
pub mod layers;
pub mod mount;
pub mod pathtree;
pub mod resolve;
mod snapshot;
pub mod tree;
pub mod watch;

#[cfg(feature = "args")]
pub use st_decode::args;
pub use st_decode::{record, stage, time, vocabulary, wire};
