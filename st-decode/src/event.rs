//! The records that st-decode outputs in place of `raw`, in MessagePack: [`EventRecord`],
//! [`Change`], [`Fork`], [`Image`], [`Unload`], [`Dir`], [`Shutdown`], [`Attach`], [`Detach`] and
//! [`Namespace`].
//!
//! Each record is a map whose first key is `t`, the record's kind, with the fields of the struct
//! by name. A field that does not apply or is not known is absent. *bytes* are MessagePack `bin`.
//!
//! # Order
//!
//! Records stand in the order in which they happened, but for one thing. overlayfs carries out an
//! operation by operations on its layers. These succeed first, and are told after it:
//!
//! ```text
//! seq 7   delete /merged/a
//! seq 8   mknod /work/#5    layer_of 7
//! seq 9   rename /work/#5 -> /upper/a    layer_of 7
//! ```
//!
//! The events with [`EventRecord::layer_of`] follow at once the event that they name, in the order
//! in which they happened, each with its own `ts` and `cpu`; and so after what other threads did
//! meanwhile. If the operation around them fails, or if it is not known how it ended, they are told
//! when that turns out, and name none. No more than 1024 of one operation are kept: where there are
//! more, those before them are told, and name none.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use st_probe::record::{Bytes, Ids};
use st_probe::time::{Monotonic, Unix};
use st_probe::vocabulary::Event;
use st_probe::wire::{Blank, Encoded};

/// `t` = `event`: an operation that succeeded (or, for `connect`, was tried).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "event")]
pub struct EventRecord<'a> {
    /// What happened.
    pub event: Event,
    /// When the operation had succeeded, by the realtime clock as it was set then. An event may
    /// have an earlier time than the one before it, if the clock was set back.
    pub ts: Unix,
    /// The number of the event in the stream, from 0.
    pub seq: u64,
    /// The number of the event that this one is part of: the file system of that one (overlayfs)
    /// carries it out so on another, within the same call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_of: Option<u64>,
    /// The CPU on which the operation ended.
    pub cpu: u32,
    /// Who did it: an [`Actor`]. It is the same for many events.
    #[serde(borrow)]
    pub process: Encoded<'a, Actor<'a>>,
    /// The process's parent, the parent's parent, and so on, 8 at most: an array of [`Ancestor`].
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub ancestors: Option<Encoded<'a, Vec<Ancestor<'a>>>>,
    /// Device number of the file system, `major:minor`, as in proc_pid_mountinfo(5).
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub dev: Option<&'a str>,
    /// Inode number of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ino: Option<u64>,
    /// What st-pathtree needs to resolve the paths of the event.
    #[serde(borrow)]
    pub unresolved: Unresolved<'a>,
    /// create, mkdir, mknod: type and permissions, as st_mode in inode(7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// mknod: the number of the new device, `major:minor`.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub rdev: Option<&'a str>,
    /// symlink: the content of the symbolic link. Absent where the content did not fit the
    /// kernel's record (some 4000 bytes).
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub target: Option<Bytes<'a>>,
    /// attrib: what was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attrib: Option<Attrib>,
    /// rename: both names existed and were exchanged (RENAME_EXCHANGE).
    #[serde(default, skip_serializing_if = "is_false")]
    pub exchange: bool,
    /// rename: a whiteout took the old name, as overlayfs asks for it (RENAME_WHITEOUT): a character
    /// device 0:0 without permissions.
    #[serde(default, skip_serializing_if = "is_false")]
    pub whiteout: bool,
    /// connect, listen: the file descriptor, where a system call named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<i32>,
    /// `tcp`, `udp`, ..., or the number of another protocol.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub proto: Option<&'a str>,
    /// `inet` or `inet6`.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub family: Option<&'a str>,
    /// The address: the remote one of connect, the local one of listen and unlisten.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub addr: Option<&'a str>,
    /// The port of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// listen: how many connections may wait, as the kernel limited it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i32>,
    /// connect: 0, or a negative errno(3); EINPROGRESS is not a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<i32>,
    /// connect: a send opened the connection (MSG_FASTOPEN in sendto(2)).
    #[serde(default, skip_serializing_if = "is_false")]
    pub fastopen: bool,
    /// exit: the exit status, unless a signal killed the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// exit: the signal that killed the process, signal(7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
}

/// The part of an event that exists for st-pathtree alone, which resolves and removes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unresolved<'a> {
    /// When the operation had succeeded: [`EventRecord::ts`] by the clock that nobody can set.
    pub at: Monotonic,
    /// [`Image::image`] of what the process executes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<u64>,
    /// When the operation began: `fs_path` and `old_fs_path` are those of that time. Absent where
    /// there is no `fs_path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entered: Option<Monotonic>,
    /// The file's path; the new one (rename, link).
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub fs_path: Option<FsPath<'a>>,
    /// The old path (rename) or the existing one (link).
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub old_fs_path: Option<FsPath<'a>>,
    /// mkdir, rmdir, rename: inode of the directory that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<Inode>,
    /// rename: inode of the directory that had the new name, and has the old one now if
    /// they were exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_dir: Option<Inode>,
    /// The file's name had been removed before, or never existed (O_TMPFILE): `fs_path`
    /// (`old_fs_path` in a link) is its last.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// A [`Change`] has told before what the event did to directories.
    #[serde(default, skip_serializing_if = "is_false")]
    pub learned: bool,
}

/// The path of a file within its file system, as far as the kernel was asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsPath<'a> {
    /// The path. It begins with `/` if it is whole, else with the uppermost name that is known.
    #[serde(borrow)]
    pub path: Bytes<'a>,
    /// Inode of the directory that the file is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Inode>,
    /// Inode of the uppermost directory that the path names, where it is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<Inode>,
}

/// An inode of a file system. In the stream it is a number. On btrfs, where inode numbers repeat
/// in each subvolume, it is an array of the subvolume's number and the inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inode {
    /// The number of the subvolume, where st-probe could fetch it.
    pub subvolume: Option<u64>,
    /// The inode number.
    pub ino: u64,
}

impl Serialize for Inode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.subvolume {
            Some(subvolume) => (subvolume, self.ino).serialize(serializer),
            None => self.ino.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Inode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Inode;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(
                    "an inode number, or an array of a subvolume's number and an inode number",
                )
            }

            fn visit_u64<E>(self, ino: u64) -> Result<Inode, E> {
                Ok(Inode {
                    subvolume: None,
                    ino,
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Inode, A::Error> {
                let missing = || serde::de::Error::invalid_length(0, &"two numbers");
                Ok(Inode {
                    subvolume: Some(seq.next_element()?.ok_or_else(missing)?),
                    ino: seq.next_element()?.ok_or_else(missing)?,
                })
            }
        }
        // Mostly it is a number.
        deserializer.deserialize_u64(Either)
    }
}

/// `t` = `change`: what an operation did to directories, where its event is told later than it
/// happened, since it may be part of another one. The fields are those of its [`EventRecord`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "change")]
#[allow(missing_docs)]
pub struct Change<'a> {
    pub event: Event,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub dev: Option<&'a str>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub exchange: bool,
    #[serde(borrow)]
    pub unresolved: Unresolved<'a>,
}

/// `t` = `dir`: a directory that a walk looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "dir")]
pub struct Dir<'a> {
    /// When the walk looked at the directory.
    pub at: Monotonic,
    /// The device number of its file system, `major:minor`.
    #[serde(borrow)]
    pub dev: &'a str,
    /// The inode of the directory.
    pub dir: Inode,
    /// The path of the directory.
    #[serde(borrow)]
    pub fs_path: FsPath<'a>,
}

/// `t` = `shutdown`: a file system is no longer mounted anywhere. Another file system may get its
/// device number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "shutdown")]
pub struct Shutdown<'a> {
    /// When the kernel shut the file system down.
    pub at: Monotonic,
    /// The device number of the file system, `major:minor`.
    #[serde(borrow)]
    pub dev: &'a str,
}

/// `t` = `attach`: a mount got its place. It is new, or one of a tree of mounts that is copied, or it
/// was moved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "attach")]
pub struct Attach<'a> {
    /// When.
    pub at: Monotonic,
    /// The mount's id: the first field in proc_pid_mountinfo(5). Another mount may get it once this
    /// one is gone.
    pub mount: u64,
    /// The id of the mount that the mount point is on.
    pub parent: u64,
    /// The device number of the file system that the mount point is on, `major:minor`.
    #[serde(borrow)]
    pub parent_dev: &'a str,
    /// The path of the mount point within that file system.
    #[serde(borrow)]
    pub point: FsPath<'a>,
    /// The device number of the file system that is mounted, `major:minor`.
    #[serde(borrow)]
    pub dev: &'a str,
    /// The path within that file system of the directory (or file) that is to be seen there.
    #[serde(borrow)]
    pub root: FsPath<'a>,
    /// The type of that file system.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub fstype: Option<Bytes<'a>>,
}

/// `t` = `detach`: a mount is no longer in a mount namespace; nor are those on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "detach")]
pub struct Detach {
    /// When.
    pub at: Monotonic,
    /// As in [`Attach`].
    pub mount: u64,
}

/// `t` = `namespace`: a mount namespace was made. Its mounts are that of this record and those that
/// were attached to it before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "namespace")]
pub struct Namespace<'a> {
    /// When.
    pub at: Monotonic,
    /// The namespace: the inode number of `/proc/PID/ns/mnt`.
    pub ns: u64,
    /// Its uppermost mount, and what is mounted there, as in [`Attach`].
    pub mount: u64,
    #[serde(borrow)]
    #[allow(missing_docs)]
    pub dev: &'a str,
    #[serde(borrow)]
    #[allow(missing_docs)]
    pub root: FsPath<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    #[allow(missing_docs)]
    pub fstype: Option<Bytes<'a>>,
}

/// `t` = `fork`: a process began another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "fork")]
pub struct Fork {
    /// When the new process began.
    pub ts: Unix,
    /// The process that called fork(2) or clone(2).
    pub parent: i32,
    /// The new process.
    pub pid: i32,
}

/// `t` = `image`: a file that processes execute.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(tag = "t", rename = "image")]
pub struct Image<'a> {
    /// When a process began to execute the file, or was found to execute it.
    pub at: Monotonic,
    /// The number of the image: no other image in the stream has it.
    pub image: u64,
    /// The path of the file, where st-probe has read it from /proc.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub path: Option<Bytes<'a>>,
    /// The device number of its file system, `major:minor`, where st-probe has not read its path.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub dev: Option<&'a str>,
    /// Its path within that file system.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub fs_path: Option<FsPath<'a>>,
    /// As in [`Unresolved`].
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
}

/// `t` = `unload`: no process executes an image any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "t", rename = "unload")]
pub struct Unload {
    /// [`Image::image`].
    pub image: u64,
}

/// The process and thread that did what an event tells. What is not known is absent. Ids are those
/// of the initial namespaces.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Actor<'a> {
    /// The process (the kernel's tgid).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The thread.
    pub tid: i32,
    /// The process's parent; 0 if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppid: Option<i32>,
    /// The thread's real user ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// ... and group: credentials(7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The thread's effective user, where it is not the real one ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub euid: Option<u32>,
    /// ... and group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egid: Option<u32>,
    /// The user who logged in, whoever the thread has become since: auditd's `auid`
    /// (kernel/audit.c, audit_set_loginuid). Absent, too, if nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// The number of that login: auditd's `ses`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u32>,
    /// The thread's name.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub comm: Option<Bytes<'a>>,
    /// The arguments that the process was executed with, as far as 512 bytes hold them. For a
    /// process that st-probe found alive, the arguments that it showed in /proc then.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub argv: Option<Vec<Bytes<'a>>>,
    /// Whether there were more arguments.
    #[serde(default, skip_serializing_if = "is_false")]
    pub argv_cut: bool,
    /// When the process began, by the realtime clock as it was set then. For a process that
    /// st-probe found alive, by the clock as it was set when st-probe found it, and exact to a clock
    /// tick (10 ms).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Unix>,
    /// The path of the process's cgroup in cgroup v2. Where that is the root, the path in the
    /// first hierarchy in which it is not, if there is such a hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub cgroup: Option<Bytes<'a>>,
    /// The container that the cgroup names: see [`crate::container`].
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub container: Option<Bytes<'a>>,
}

impl Blank for Actor<'_> {
    const ENCODED: &'static [u8] = b"\x81\xa3tid\x00";
}

/// A process that an event's process descends from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ancestor<'a> {
    /// The pid of the ancestor.
    pub pid: i32,
    /// The name of its first thread.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub comm: Option<Bytes<'a>>,
}

/// The attributes that an attrib event set; those that it did not set are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attrib {
    /// Type and permissions, as st_mode in inode(7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blank_actor_is_the_default_one() {
        let blank = Encoded::from(&Actor::default());
        assert_eq!(blank.bytes(), Actor::ENCODED);
    }
}
