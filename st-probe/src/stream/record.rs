//! The records of the raw stream: what st-probe outputs, in MessagePack.
//!
//! Every record is a map whose first key is `t`, its kind. Field names are those of the
//! structs below; a field whose value is `None` may be absent or nil. *bytes* are
//! MessagePack `bin`. Times are nanoseconds of CLOCK_MONOTONIC unless they say otherwise.
//! The first record is [`Header`], the last is [`End`]; [`Raw`] records are in time order.

use crate::stream::time::{Monotonic, Unix};
use crate::stream::vocabulary::{Cause, Event, Order, Role, Subject, Why};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;

/// The value of [`Header::magic`].
pub const MAGIC: &str = "systracer";
/// The value of [`Header::version`]: raised when an old reader would misread a new stream.
pub const VERSION: u32 = 1;

/// `t` = `header`: the first record of a stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "header")]
pub struct Header {
    /// [`MAGIC`].
    pub magic: String,
    /// [`VERSION`].
    pub version: u32,
    /// The stages that the stream has passed, in order: `st-probe`, `st-decode`, ...
    pub stages: Vec<String>,
    /// `uname -r` of the traced kernel.
    pub kernel: String,
    /// `uname -m` of the traced machine.
    pub machine: String,
    /// Its host name.
    pub host: String,
    /// The byte order of [`Raw::data`].
    pub byte_order: Order,
    /// Bytes of a memory page.
    pub page_size: u32,
    /// CPUs that have a ring buffer.
    pub cpus: u32,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// CLOCK_MONOTONIC at one instant ...
    pub monotonic: Monotonic,
    /// ... and CLOCK_REALTIME at the same: nanoseconds since the Unix epoch.
    pub realtime: Unix,
    /// How far above its value at a function's entry the stack pointer is at the return:
    /// 8 where `call` pushes the return address, else 0. Bytes.
    pub stack_delta: u64,
    /// The hooks in force.
    pub hooks: Vec<Hook>,
    /// Events that were asked for but cannot be traced on this kernel.
    pub unavailable: Vec<Unavailable>,
    /// Whether st-probe looks at every directory below some, at the start and after each
    /// [`Lost`]: a [`Walked`] follows.
    #[serde(default)]
    pub snapshot: bool,
    /// Whether st-probe can be asked to look below further ones: another [`Walked`] follows.
    #[serde(default)]
    pub answers: bool,
    /// The command line of st-probe.
    pub command: Vec<String>,
    /// The process that runs the command which st-probe was given, if any.
    #[serde(default)]
    pub child: Option<i32>,
}

/// One kernel event that [`Raw`] records come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hook {
    /// [`Raw::id`] of its records.
    pub id: u16,
    /// Its name, unique in the stream.
    pub name: String,
    /// What it helps to tell.
    #[serde(rename = "event")]
    pub subject: Subject,
    /// Its part in that.
    pub role: Role,
    /// The kernel function, or `group/event` of a static tracepoint.
    pub point: String,
    /// The most names that a chain in its records holds, the file's own included; 0: none.
    pub names: u32,
    /// Where in [`Raw::data`] its values are.
    pub fields: Vec<Field>,
}

/// A value in [`Raw::data`], as the event's `format` file in tracefs describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Field {
    /// Its name: that of a [`crate::vocabulary::Value`], or of one of a
    /// [`crate::vocabulary::Series`]. In a chain of names, `n0` is the file's own, `n1` its
    /// parent's, and so on; a name `/` ends it at the root of its file system; an empty one could
    /// not be read. Subvolumes are nonsense unless `magic` is that of btrfs. An empty cgroup name
    /// is the root's.
    pub name: String,
    /// Bytes from the start of the record.
    pub offset: u16,
    /// Bytes.
    pub size: u16,
    /// Whether a number is signed.
    pub signed: bool,
    /// The C type. `__data_loc char[]` is a u32: the low half is the string's offset in
    /// the record, the high half its length with the final NUL.
    #[serde(rename = "type")]
    pub ctype: String,
}

/// An event that cannot be traced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unavailable {
    /// What would have been told.
    pub event: Subject,
    /// Why.
    pub why: String,
}

/// `t` = `raw`: one record of the ring buffer, as the kernel wrote it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "raw")]
pub struct Raw<'a> {
    /// When.
    pub ts: Monotonic,
    /// On which CPU.
    pub cpu: u32,
    /// [`Hook::id`].
    pub id: u16,
    /// The record's bytes.
    #[serde(borrow)]
    pub data: Bytes<'a>,
}

/// `t` = `mounts`: the mount table of a mount namespace, at the start and when it changed.
///
/// It stands before the records of `since` and later: the change happened at an unknown
/// instant between `since` and `ts`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "mounts")]
pub struct Mounts<'a> {
    /// When it was read.
    pub ts: Monotonic,
    /// When the previous one was last known to hold; equal to `ts` in the first.
    pub since: Monotonic,
    /// How many mounts and unmounts began since the previous one was read: if it is one,
    /// there was no third table between the two.
    pub attempts: u64,
    /// The namespace: the inode number of `/proc/PID/ns/mnt`.
    pub ns: u64,
    /// `/proc/PID/mountinfo`, proc_pid_mountinfo(5).
    #[serde(borrow)]
    pub mountinfo: Bytes<'a>,
}

/// `t` = `process`: a process that was alive when tracing began, or after a loss.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "process")]
pub struct Process<'a> {
    /// Just before it was looked at: later records supersede it.
    pub ts: Monotonic,
    /// Its id (the kernel's tgid) in the initial pid namespace, as st-probe sees it.
    pub pid: i32,
    /// Its parent's; 0 if it has none.
    #[serde(default)]
    pub ppid: Option<i32>,
    /// Its pid namespace: the inode number of `/proc/PID/ns/pid`.
    #[serde(default)]
    pub pid_ns: Option<u64>,
    /// Whether it is the first process of that, which inherits orphans there.
    #[serde(default)]
    pub first: bool,
    /// When it began, to a clock tick (10 ms): nanoseconds since the Unix epoch.
    #[serde(default)]
    pub start: Option<Unix>,
    /// The path of its executable, where it is in st-probe's own mount namespace.
    #[serde(default, borrow)]
    pub exe: Option<Bytes<'a>>,
    /// Whether that file has been removed since.
    #[serde(default)]
    pub exe_deleted: bool,
    /// Its arguments as it shows them, [`ARGV`] bytes at most; absent for a kernel thread.
    #[serde(default, borrow)]
    pub argv: Option<Vec<Bytes<'a>>>,
    /// Whether there were more.
    #[serde(default)]
    pub argv_cut: bool,
    /// Its cgroups, one a hierarchy.
    #[serde(default, borrow)]
    pub cgroups: Vec<Cgroup<'a>>,
    /// Its threads.
    #[serde(borrow)]
    pub threads: Vec<Thread<'a>>,
}

/// The most bytes of arguments that are told, the NULs between them counted.
pub const ARGV: usize = 512;

/// The cgroup of a [`Process`] in one hierarchy: a line of cgroups(7)' `/proc/PID/cgroup`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cgroup<'a> {
    /// The hierarchy's number; 0 is cgroup v2.
    pub hierarchy: u32,
    /// The path in it.
    #[serde(borrow)]
    pub path: Bytes<'a>,
}

/// A thread of a [`Process`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Thread<'a> {
    /// Its id.
    pub tid: i32,
    /// Its name.
    #[serde(borrow)]
    pub comm: Bytes<'a>,
    /// On whose behalf it acts.
    #[serde(default)]
    pub ids: Option<Ids>,
}

/// The users and groups of a thread, as the initial user namespace numbers them:
/// credentials(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The real user.
    pub uid: u32,
    /// The real group.
    pub gid: u32,
    /// The effective user.
    pub euid: u32,
    /// The effective group.
    pub egid: u32,
}

/// `t` = `walked`: every directory below some was looked at, and recorded by the hook of the
/// event `directory`, between `since` and `ts`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "walked")]
pub struct Walked<'a> {
    /// When that was done.
    pub ts: Monotonic,
    /// When it began.
    pub since: Monotonic,
    /// Whether it was asked for, see [`Header::answers`].
    pub answer: bool,
    /// The directories below which it was, absolute.
    #[serde(borrow)]
    pub roots: Vec<Bytes<'a>>,
    /// How many directories were seen.
    pub directories: u64,
    /// Whether all were: false if one could not be looked at though it is there. Those of
    /// file systems that are not the machine's own (proc, NFS, FUSE, ...) are left out.
    pub complete: bool,
}

/// `t` = `lost`: records that are missing.
///
/// A gap in a ring buffer is told where it begins. Until its end nothing can be trusted that
/// takes more than one record, nor what was known of processes and directories before: a record
/// that is missing may have changed it. What is noticed later than it was missed is told then.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "lost")]
pub struct Lost {
    /// Since when records may be missing.
    pub since: Monotonic,
    /// When that is told.
    pub ts: Monotonic,
    /// Until when records are missing, where that is after `ts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Monotonic>,
    /// The CPU whose records are missing, if one.
    pub cpu: Option<u32>,
    /// How many, if known.
    pub count: Option<u64>,
    /// The event that they would have told of or completed, if it is known that they were of no
    /// other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// Why.
    pub cause: Cause,
}

impl Lost {
    /// The first instant since which nothing is missing.
    pub fn end(&self) -> Monotonic {
        self.until.unwrap_or(self.ts)
    }
}

/// `t` = `end`: the last record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "end")]
pub struct End {
    /// When.
    pub ts: Monotonic,
    /// [`Raw`] records written.
    pub records: u64,
    /// Records known to be lost, those of all [`Lost`] records.
    pub lost: u64,
    /// Why.
    pub why: Why,
}

/// Bytes that are text to a person but need not be UTF-8: names, paths, mount tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes<'a>(pub Cow<'a, [u8]>);

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Bytes<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

impl std::ops::Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Bytes<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("bytes or a string")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Bytes::from(bytes))
            }

            // Other languages' MessagePack libraries may write a name as a string.
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Bytes::from(text.as_bytes()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Bytes::from(bytes.to_vec()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Bytes::from(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}
