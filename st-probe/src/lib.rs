//! The first stage, and what all stages share.
//!
//! # Map
//!
//! Folders are wings; arrows go downwards only.
//!
//! | wing | what is in it |
//! |---|---|
//! | `tracing` | the run itself: when to read what, in which order it leaves, when to end |
//! | [`tracefs`] | our instance of the ring buffer: made, watched, read, taken down |
//! | `machine` | what is read of /proc and of directories |
//! | [`kernel`] | which functions are probed and how, on a kernel of given types; pure |
//! | [`stream`] | the words, the records and the framing of the streams, and the loop of the later stages |
//! | `sys` | thin wrappers of system calls, and readers of /proc and /sys, for all of the above |
//!
//! `tracing`, `machine`, `sys` and most of `tracefs` are compiled with the feature `cli` only:
//! the later stages need [`record`], [`vocabulary`], [`time`], [`wire`], [`compressed`] and [`stage`].
//!
//! # Invariants
//!
//! - Only st-probe looks at the machine. After the first stage there is no clock, no file and no
//!   network: what a later stage must know is in its input.
//! - Records and fields that a stage does not know pass through it unchanged.
//! - `unsafe` is in this crate alone.
//! - Bytes from outside reach a terminal through st-format's `escape` only.
//! - What is missing is counted, what is not known is absent: nothing is guessed.
//!
//! # How to add
//!
//! - An event: [`kernel::hooks`] tells the steps.
//! - An architecture: a row of the table in [`stream::arch`], and a recording in `tests/recordings`.
//! - A kind of record: a struct in the module of the stage that outputs it ([`record`],
//!   `st_decode::event`, `st_pathtree::event`), with its specification. Later stages pass it on
//!   unread. A stage that is the last to need it drops it; st-format's JSON shows every kind but
//!   those of its list.
//! - An output format: a module of st-format whose type implements `st_format::rows::Format`, or
//!   [`stage::Stage`] where it reads records itself, a case of `Output` in its command line, and a
//!   part of the fuzz target `format_rows`. It is a pure function of the stream.
//!
//! # Glossary
//!
//! | word | meaning | type |
//! |---|---|---|
//! | event | what the user is told of: an operation that succeeded | [`vocabulary::Event`]; its record is `st_decode::event::EventRecord` |
//! | hook | a place in the kernel that is probed for an event, and what is fetched there | `kernel::hooks::HookRow`, a row of the table; [`record::Hook`], one in force |
//! | operand | where a value is that a hook fetches: an expression on a given kernel | `kernel::expression::Operand` |
//! | probe | what the kernel makes of a hook's definition: a kprobe or kretprobe of our group | `kernel::plan::Probe` |
//! | raw record | what a hook left in the ring buffer | [`record::Raw`] |
//! | session | our instance of the ring buffer with its probes | `tracefs::session::Session` |
//! | gap | a time in which records of one CPU are missing | [`record::Lost`] |
//! | walk | one pass over all directories below some roots | `machine::walk::Walk` |
//! | visit | what a walk does at each directory, so that the kernel records it | `machine::walk` |
//! | snapshot | what all walks have told of directories | `st_pathtree::snapshot::Snapshot` |
//! | census | one pass over all processes | `machine::census::Census` |
//! | mount table | the mounts of one mount namespace at an instant | [`record::Mounts`] |
//! | pid, tid | a process (the kernel's tgid), a thread (the kernel's pid) | |
//! | actor | the process and thread that did what an event tells | `st_decode::event::Actor` |
//! | chain | the names from a dentry, or from a cgroup, upwards | `kernel::hooks::Chain`, [`vocabulary::Series::Name`] |
//! | layer | a directory that overlayfs shows merged with others, in one; what it does there to carry out what it is asked for | `st_decode::event::EventRecord::layer_of` |
//! | fs path | a path within its file system, not yet joined to a mount point | |
//! | reserve, commit | the kernel takes room in the ring buffer for a record, with its time; makes the record readable | |
//! | grace period | the time after which all records that were reserved are committed: RCU's | `tracing::completeness` |
//! | sub-buffer | a page of one CPU's ring buffer, read as a whole | `tracefs::ring` |
//! | overwritten | later records have taken the place of records that nobody had read | `tracing::gaps` |
//! | cycle | one pass over all ring buffers, and the release of the records that are complete | `tracing::pump` |
//! | stall | a write that waits for the reader of the stream | `tracing::output` |
//! | mark | a word that a thread writes into the ring buffer, so that its record tells who the thread is | `tracefs::marker` |
//! | question | a path that st-pathtree wants walked | `tracing::questions` |

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

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod machine;
#[cfg(feature = "cli")]
pub mod sys;
#[cfg(feature = "cli")]
pub mod tracing;

#[cfg(all(test, feature = "cli"))]
mod testing;

#[cfg(feature = "args")]
pub use stream::args;
pub use stream::{compressed, record, stage, time, vocabulary, wire};
