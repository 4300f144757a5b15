//! The `event` record as st-pathtree reads it and as it outputs it.
//!
//! The output is the record of [`st_decode::event`] with three changes: [`Unresolved`] is
//! removed, the fields of [`Paths`] are added (in place of any that were there), and those of
//! [`Executable`] are added to `process`. Every other field stays as it is, also one that
//! st-pathtree does not know. st-pathtree does not pass on records of the kinds `change`, `dir`,
//! `shutdown`, `image` and `unload`.

use serde::{Deserialize, Serialize};
use st_decode::event::Unresolved;
pub use st_decode::event::{Ancestor, Attrib, Bytes, Fork};
use st_decode::time::{Monotonic, Unix};
use st_decode::vocabulary::Event;

/// What st-pathtree reads of an event: some fields of [`st_decode::event::EventRecord`]; and of a
/// [`st_decode::event::Change`].
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs)]
pub struct InputEvent<'a> {
    pub event: Event,
    #[serde(borrow)]
    pub dev: Option<&'a str>,
    #[serde(borrow)]
    pub unresolved: Unresolved<'a>,
    #[serde(default)]
    pub exchange: bool,
}

impl InputEvent<'_> {
    /// When the event's call had succeeded.
    pub fn at(&self) -> Monotonic {
        self.unresolved.at
    }

    /// When the event's call began.
    pub fn began(&self) -> Monotonic {
        self.unresolved.entered.unwrap_or(self.unresolved.at)
    }
}

/// How far a path is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// An absolute path in the mount namespace of st-probe, or in the one that `mnt_ns` names.
    Complete,
    /// Only the last names of the path are known.
    Partial,
    /// The path within a file system that no known mount shows.
    Unmounted,
    /// The file may have another path instead.
    Ambiguous,
    /// The last path of a file whose name was removed before, or the path under which an
    /// O_TMPFILE file was created.
    Deleted,
}

impl Status {
    /// Its name in the stream.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Unmounted => "unmounted",
            Self::Ambiguous => "ambiguous",
            Self::Deleted => "deleted",
        }
    }
}

/// What st-pathtree adds to an event on a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Paths<'a> {
    /// The path; bytes.
    #[serde(borrow)]
    pub path: Bytes<'a>,
    /// How far `path` is known.
    pub path_status: Status,
    /// The old path (rename) or the existing one (link); bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub old_path: Option<Bytes<'a>>,
    /// How far `old_path` is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_path_status: Option<Status>,
    /// The mount namespace of the paths, if st-probe's own does not show the file system: the
    /// inode number of the namespace's `/proc/PID/ns/mnt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mnt_ns: Option<u64>,
}

/// What st-pathtree adds to `process`, if it is known.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Executable<'a> {
    /// The path of the file that the process executes, as it was at the exec; bytes.
    pub exe: Bytes<'a>,
    /// How far `exe` is known, if it is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_status: Option<Status>,
    /// The mount namespace of `exe`, as [`Paths::mnt_ns`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe_mnt_ns: Option<u64>,
}

/// The process and thread that did what an event tells: the fields of [`Executable`] and of
/// `process` in [`st_decode::event::EventRecord`].
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs)]
pub struct Actor<'a> {
    pub pid: Option<i32>,
    pub tid: i32,
    pub ppid: Option<i32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub euid: Option<u32>,
    pub egid: Option<u32>,
    pub loginuid: Option<u32>,
    pub session: Option<u32>,
    #[serde(borrow)]
    pub comm: Option<Bytes<'a>>,
    #[serde(borrow)]
    pub exe: Option<Bytes<'a>>,
    pub exe_status: Option<Status>,
    pub exe_mnt_ns: Option<u64>,
    #[serde(borrow)]
    pub argv: Option<Vec<Bytes<'a>>>,
    #[serde(default)]
    pub argv_cut: bool,
    pub start: Option<Unix>,
    #[serde(borrow)]
    pub cgroup: Option<Bytes<'a>>,
    #[serde(borrow)]
    pub container: Option<Bytes<'a>>,
}

/// An event with its paths, as the later stages read it: the fields of [`Paths`] and of
/// [`st_decode::event::EventRecord`], without `ancestors`, which no later stage reads. `P` is
/// [`Actor`], or that [`Encoded`](st_decode::wire::Encoded) for those who do not read it of each
/// event.
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs)]
pub struct EventRecord<'a, P = Actor<'a>> {
    pub event: Event,
    pub ts: Unix,
    pub seq: u64,
    pub layer_of: Option<u64>,
    pub cpu: u32,
    pub process: P,
    #[serde(borrow)]
    pub dev: Option<&'a str>,
    pub ino: Option<u64>,
    pub mode: Option<u32>,
    #[serde(borrow)]
    pub rdev: Option<&'a str>,
    #[serde(borrow)]
    pub target: Option<Bytes<'a>>,
    pub attrib: Option<Attrib>,
    #[serde(default)]
    pub exchange: bool,
    #[serde(default)]
    pub whiteout: bool,
    pub fd: Option<i32>,
    #[serde(borrow)]
    pub proto: Option<&'a str>,
    #[serde(borrow)]
    pub family: Option<&'a str>,
    #[serde(borrow)]
    pub addr: Option<&'a str>,
    pub port: Option<u16>,
    pub backlog: Option<i32>,
    pub ret: Option<i32>,
    #[serde(default)]
    pub fastopen: bool,
    pub status: Option<u8>,
    pub signal: Option<u8>,
    #[serde(borrow)]
    pub path: Option<Bytes<'a>>,
    pub path_status: Option<Status>,
    #[serde(borrow)]
    pub old_path: Option<Bytes<'a>>,
    pub old_path_status: Option<Status>,
    pub mnt_ns: Option<u64>,
}
