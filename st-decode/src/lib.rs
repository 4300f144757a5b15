//! The second stage: from raw records to typed events.
//!
//! It is a pure function of its input: [`decode::Decoder`] takes records and appends
//! records.
//!
//! | module | what is in it |
//! |---|---|
//! | [`event`] | the records that the stage appends |
//! | [`decode`] | the stage: which raw record means what, which record is appended, gaps |
//! | `calls`, `pair` | the records of one call put together: of all threads, of one thread |
//! | `layer` | calls on other file systems within a call, kept until that is over |
//! | `operation`, `socket` | what the records of a call tell, by kind of operation |
//! | `mount` | mounts and mount namespaces |
//! | `process` | processes and threads; [`container`]: the containers that cgroups name |
//! | `field` | where the values are in a raw record |
//! | `linux` | numbers of Linux that the values are compared with |

#[cfg(feature = "cli")]
pub mod cli;
pub mod container;
pub mod decode;
pub mod event;

mod calls;
mod field;
mod layer;
mod linux;
mod mount;
mod operation;
mod pair;
mod process;
mod socket;

#[cfg(feature = "args")]
pub use st_probe::args;
pub use st_probe::{record, stage, time, vocabulary, wire};
