//! The records of the raw stream: what st-probe outputs, in MessagePack.
//!
//! # Encoding
//!
//! A stream is a sequence of records with nothing between them. A record is a MessagePack map
//! from the names of fields, which are strings, to their values. Its first key is `t`, the kind
//! of the record; the other fields are those of the structs below, in any order.
//!
//! | type below | in MessagePack |
//! |---|---|
//! | `u16`, `u32`, `u64`, `i32` | an integer in the range of the type, of any format |
//! | [`Monotonic`], [`Unix`] | an integer from 0: nanoseconds of the clock that the type names |
//! | `bool` | true or false |
//! | `String` | str: UTF-8 |
//! | [`Bytes`] | bin: bytes that need not be UTF-8. A reader accepts str, too |
//! | [`Event`], [`Cause`] and others of [`crate::vocabulary`] | str: one of the names that are listed there, or one of a later version |
//! | `Vec` | an array |
//! | a struct | a map like a record, without `t` |
//! | `Option` | its content; where that is not known or does not apply, nil, or the field is absent |
//!
//! A field that is no `Option` is always there, unless its description tells what it means that
//! the field is absent. For example, this is an [`End`]:
//!
//! ```text
//! 85                               a map of 5 entries
//! a1 t        a3 e n d             "t": "end"
//! a2 t s      cd 03 e8             "ts": 1000
//! a7 r e c o r d s   07            "records": 7
//! a4 l o s t  00                   "lost": 0
//! a3 w h y    a6 s i g n a l       "why": "signal"
//! ```
//!
//! A stream may come compressed by zstd, which [`crate::compressed`] specifies.
//!
//! # Order
//!
//! The first record is [`Header`], the last is [`End`]; a stream without that was cut. [`Raw`]
//! records are in the order of their times. [`ClockSet`], [`Mounts`], [`Process`], [`Walked`] and
//! [`Lost`] stand where they matter for the records after them, which their descriptions tell.
//!
//! # Stages
//!
//! Whoever writes a stage of one's own hands on each record and each field that the stage does
//! not know, as it is; may add its own name to [`Header::stages`]; writes what it has before it
//! waits for input; and ends when its input ends. `scripts/examples/without-comm.py` is such a
//! stage in Python, whose centre is
//!
//! ```python
//! for record in msgpack.Unpacker(sys.stdin.buffer, unicode_errors="surrogateescape"):
//!     if record["t"] != "event" or record["process"].get("comm") != b"make":
//!         sys.stdout.buffer.write(msgpack.packb(record, unicode_errors="surrogateescape"))
//! ```
//!
//! The kinds that later stages add are told in `st_decode::event` and `st_pathtree::event`.

use crate::stream::time::{Clock, Monotonic, Unix};
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
    /// The names of the stages that the stream has passed, in order: `st-probe`, `st-decode`, ...
    pub stages: Vec<String>,
    /// `uname -r` of the traced kernel.
    pub kernel: String,
    /// `uname -m` of the traced machine.
    pub machine: String,
    /// Its host name.
    pub host: String,
    /// The byte order of numbers in [`Raw::data`]: `little` or `big`.
    pub byte_order: Order,
    /// Bytes of a memory page.
    pub page_size: u32,
    /// How many CPUs have a ring buffer.
    pub cpus: u32,
    /// `/proc/sys/kernel/random/boot_id`, random(4): it differs after each boot.
    pub boot_id: String,
    /// CLOCK_MONOTONIC at one instant.
    pub monotonic: Monotonic,
    /// CLOCK_REALTIME at the instant of `monotonic`: nanoseconds since the Unix epoch. The Unix
    /// time of any record before the first [`ClockSet`] is its `ts` less `monotonic` plus
    /// `realtime`.
    pub realtime: Unix,
    /// How far above its value at a function's entry the stack pointer is at the return:
    /// 8 where `call` pushes the return address, else 0. Bytes.
    pub stack_delta: u64,
    /// The hooks in force.
    pub hooks: Vec<Hook>,
    /// The events that were asked for. Hooks of one may tell others, too, which are not wanted:
    /// those of `link` tell a `create` where a file gets its first name. Absent: all that are
    /// told are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// Events that were asked for but cannot be traced on this kernel.
    pub unavailable: Vec<Unavailable>,
    /// Whether st-probe walks the directories below some, at the start and after each
    /// [`Lost`]: a [`Walked`] tells when such a walk is done. Absent: false.
    #[serde(default)]
    pub snapshot: bool,
    /// Whether st-probe can be asked to walk further directories (`--answer`): for each answer
    /// there is another [`Walked`]. Absent: false.
    #[serde(default)]
    pub answers: bool,
    /// The command line of st-probe, its name included.
    pub command: Vec<String>,
    /// The process that runs the command which st-probe was given, if any: its id in the initial
    /// pid namespace.
    #[serde(default)]
    pub child: Option<i32>,
}

impl Header {
    /// Converts the times of this stream's records, which are of CLOCK_MONOTONIC, until a
    /// [`ClockSet`] comes.
    pub fn clock(&self) -> Clock {
        Clock::new(self.monotonic, self.realtime)
    }
}

/// A source of [`Raw`] records: a function of the kernel that is probed, or a static tracepoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hook {
    /// [`Raw::id`] of its records.
    pub id: u16,
    /// Its name, unique in the stream.
    pub name: String,
    /// The event that its records tell of, or the service for all events: the field is named
    /// `event`.
    #[serde(rename = "event")]
    pub subject: Subject,
    /// What its records tell of that: how records of several roles make one event is told there.
    pub role: Role,
    /// The kernel function, or `group/event` of a static tracepoint.
    pub point: String,
    /// The most names that a chain in its records holds, the file's own included; 0: none.
    pub names: u32,
    /// Where in [`Raw::data`] which value is.
    pub fields: Vec<Field>,
}

/// A value in [`Raw::data`], as the event's `format` file in tracefs describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Field {
    /// The value's name: that of a [`crate::vocabulary::Value`], or of one of a
    /// [`crate::vocabulary::Series`]. In a chain of names, `n0` is the name of the dentry, `n1`
    /// that of its parent, and so on. The name `/` is that of the root of the file system and the
    /// last of a chain; an empty name could not be read. Numbers of subvolumes mean nothing
    /// unless `magic` is that of btrfs. An empty name of a cgroup is that of the root.
    pub name: String,
    /// Where the value begins: bytes from the start of [`Raw::data`].
    pub offset: u16,
    /// How many bytes the value has there: 1, 2, 4 or 8 for a number.
    pub size: u16,
    /// Whether the number is signed.
    pub signed: bool,
    /// The C type; the field is named `type`. A `__data_loc char[]` is a string that is elsewhere
    /// in the record: there is a number of 4 bytes whose lower 16 bits are the offset of the
    /// string from the start of [`Raw::data`], and whose upper 16 bits are its length, the
    /// final NUL included.
    #[serde(rename = "type")]
    pub ctype: String,
}

/// An event that cannot be traced on this kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unavailable {
    /// The event, or the service for all events.
    pub event: Subject,
    /// The reason, for people.
    pub why: String,
}

/// `t` = `raw`: one record of the ring buffer, as the kernel wrote it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "raw")]
pub struct Raw<'a> {
    /// When the kernel wrote it.
    pub ts: Monotonic,
    /// The CPU that wrote it, from 0.
    pub cpu: u32,
    /// The hook that it is of: [`Hook::id`].
    pub id: u16,
    /// The record as the kernel wrote it: [`Hook::fields`] tells what is where.
    #[serde(borrow)]
    pub data: Bytes<'a>,
}

/// `t` = `clock`: CLOCK_REALTIME was set, or jumped as the machine was suspended or a leap second
/// was inserted. CLOCK_MONOTONIC goes on meanwhile.
///
/// It stands where that happened, among the raw records: the Unix time of later records is their
/// `ts` less the `ts` of this one plus `realtime`. If the clock is set again before st-probe has
/// read it, the first record has the time of the last setting.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(tag = "t", rename = "clock")]
pub struct ClockSet {
    /// An instant just after the clock was set (`timerfd_clock_was_set()` in fs/timerfd.c). Where
    /// the kernel's record of that is missing, st-probe finds out within some two seconds.
    pub ts: Monotonic,
    /// CLOCK_REALTIME at the instant of `ts`.
    pub realtime: Unix,
}

impl ClockSet {
    /// Converts the times of the records that follow.
    pub fn clock(&self) -> Clock {
        Clock::new(self.ts, self.realtime)
    }
}

/// `t` = `mounts`: the mount table of a mount namespace, at the start and whenever it changed.
///
/// It stands before all raw records since `since`: the table changed at an unknown instant
/// between `since` and `ts`. Where the raw records before it tell each change, `since` is `ts`: the
/// table confirms them, or corrects what they could not tell, such as a place too deep.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "mounts")]
pub struct Mounts<'a> {
    /// When the table was read.
    pub ts: Monotonic,
    /// The last instant at which the previous table of this namespace is known to have been the
    /// current one; equal to `ts` in the first.
    pub since: Monotonic,
    /// How many mounts and unmounts began since the previous table was read. If it is 1, there
    /// was no third table between the two.
    pub attempts: u64,
    /// The namespace: the inode number of `/proc/PID/ns/mnt`, namespaces(7). The first table of
    /// a stream is that of st-probe's own namespace.
    pub ns: u64,
    /// The table: the content of `/proc/PID/mountinfo`, proc_pid_mountinfo(5).
    #[serde(borrow)]
    pub mountinfo: Bytes<'a>,
}

/// `t` = `process`: a process that was alive when tracing began, or after a gap.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "process")]
pub struct Process<'a> {
    /// An instant just before st-probe read about the process: records of a later time supersede
    /// this one.
    pub ts: Monotonic,
    /// Its id (the kernel's tgid) in the initial pid namespace.
    pub pid: i32,
    /// The id of its parent; 0 if it has none.
    #[serde(default)]
    pub ppid: Option<i32>,
    /// Its pid namespace: the inode number of `/proc/PID/ns/pid`.
    #[serde(default)]
    pub pid_ns: Option<u64>,
    /// Whether it is the first process of its pid namespace, which becomes the parent of the
    /// orphans there. Absent: false.
    #[serde(default)]
    pub first: bool,
    /// When it began, rounded to a clock tick (10 ms), by the realtime clock as it was set when
    /// st-probe found the process: nanoseconds since the Unix epoch.
    #[serde(default)]
    pub start: Option<Unix>,
    /// The path of its executable, if the process is in st-probe's own mount namespace.
    #[serde(default, borrow)]
    pub exe: Option<Bytes<'a>>,
    /// Whether the file at `exe` has been removed since. Absent: false.
    #[serde(default)]
    pub exe_deleted: bool,
    /// Its arguments as `/proc/PID/cmdline` shows them, [`ARGV`] bytes at most. A kernel thread
    /// has none.
    #[serde(default, borrow)]
    pub argv: Option<Vec<Bytes<'a>>>,
    /// Whether there were more arguments. Absent: false.
    #[serde(default)]
    pub argv_cut: bool,
    /// Its cgroups, one for each hierarchy. Absent: none is known.
    #[serde(default, borrow)]
    pub cgroups: Vec<Cgroup<'a>>,
    /// Its threads.
    #[serde(borrow)]
    pub threads: Vec<Thread<'a>>,
}

/// The most bytes of arguments that a [`Process`] has, the NULs between them included.
pub const ARGV: usize = 512;

/// The cgroup of a [`Process`] in one hierarchy: a line of `/proc/PID/cgroup`, cgroups(7).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cgroup<'a> {
    /// The hierarchy's number; 0 is cgroup v2.
    pub hierarchy: u32,
    /// The path within that hierarchy.
    #[serde(borrow)]
    pub path: Bytes<'a>,
}

/// A thread of a [`Process`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Thread<'a> {
    /// Its id (the kernel's pid) in the initial pid namespace.
    pub tid: i32,
    /// Its name: `/proc/PID/task/TID/comm`, proc_pid_comm(5), without the newline.
    #[serde(borrow)]
    pub comm: Bytes<'a>,
    /// Its users and groups.
    #[serde(default)]
    pub ids: Option<Ids>,
    /// The user who logged in, as the initial user namespace numbers users:
    /// `/proc/PID/task/TID/loginuid`, kernel/audit.c. Absent: nobody has, or the kernel does not
    /// keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// The number of that login: `/proc/PID/task/TID/sessionid`. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u32>,
}

/// The number of nobody and of no login: AUDIT_UID_UNSET, AUDIT_SID_UNSET
/// (include/uapi/linux/audit.h).
pub const AUDIT_UNSET: u32 = u32::MAX;

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

/// `t` = `walked`: a walk is done. Between `since` and `ts` every directory below some roots was
/// looked at, and a raw record of the hook whose `event` is `directory` tells of each.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "walked")]
pub struct Walked<'a> {
    /// When the walk was done.
    pub ts: Monotonic,
    /// When the walk began.
    pub since: Monotonic,
    /// Whether somebody asked for this walk: see [`Header::answers`].
    pub answer: bool,
    /// The roots: the absolute paths of the directories below which the walk was.
    #[serde(borrow)]
    pub roots: Vec<Bytes<'a>>,
    /// How many directories were looked at.
    pub directories: u64,
    /// False if a directory that exists could not be looked at. Directories of file systems
    /// that are not the machine's own (proc, NFS, FUSE, ...) are left out, and do not count.
    pub complete: bool,
}

/// `t` = `lost`: records are missing.
///
/// If the ring buffer of a CPU has a gap, this record stands where the gap begins, and `until`
/// is its end. Until then, what takes more than one record cannot be trusted, and neither can
/// what was known before of processes and directories: a missing record may have changed it. A
/// loss that st-probe notices later than it happened is told when it is noticed: records may be
/// missing from `since` to `ts`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "lost")]
pub struct Lost {
    /// The beginning of the time in which records may be missing.
    pub since: Monotonic,
    /// The time of this record, which is its place among the raw records.
    pub ts: Monotonic,
    /// The end of the time in which records may be missing, if that is after `ts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Monotonic>,
    /// The CPU whose records are missing, if one.
    pub cpu: Option<u32>,
    /// How many records are missing, if that is known.
    pub count: Option<u64>,
    /// The event that the missing records are of, if it is known that they are of one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// Why they are missing.
    pub cause: Cause,
}

impl Lost {
    /// The end of the time in which records may be missing.
    pub fn end(&self) -> Monotonic {
        self.until.unwrap_or(self.ts)
    }
}

/// `t` = `end`: the last record.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "end")]
pub struct End {
    /// When the stream ended.
    pub ts: Monotonic,
    /// How many [`Raw`] records the stream has.
    pub records: u64,
    /// How many records are known to be missing: the sum of [`Lost::count`].
    pub lost: u64,
    /// Why the stream ended.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::wire;

    /// The bytes that the documentation of this module shows.
    #[test]
    fn the_example_is_an_end() {
        let end = End {
            ts: Monotonic(1000),
            records: 7,
            lost: 0,
            why: Why::Signal,
        };
        let mut record = Vec::new();
        wire::write(&end, &mut record);
        let example =
            b"\x85\xa1t\xa3end\xa2ts\xcd\x03\xe8\xa7records\x07\xa4lost\x00\xa3why\xa6signal";
        assert_eq!(record, example);
    }
}
