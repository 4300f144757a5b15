//! The names of the values in the kernel's records.

use super::{Name, Named};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

words! {
    /// A value in the kernel's records: fetched by a hook, or a field of a static tracepoint.
    pub enum Value {
        /// The thread, on every record: include/linux/trace_events.h, struct trace_entry.
        CommonPid = "common_pid",
        /// The stack pointer.
        Sp = "sp",
        /// What a function returned.
        Ret = "ret",
        /// The address of the dentry.
        Dentry = "dentry",
        /// The address of the parent of the dentry.
        Parent = "parent",
        /// The hash and length of the name of the dentry: `d_name.hash_len`.
        Hash = "hash",
        /// The address of the root dentry of the file system.
        Root = "root",
        /// The device number of the super block.
        Dev = "dev",
        /// The magic number of the super block.
        Magic = "magic",
        /// The number of the inode.
        Ino = "ino",
        /// The address of the inode.
        Inode = "inode",
        /// The mode of the inode: type and permissions.
        Mode = "mode",
        /// The number of the device that is made.
        Rdev = "rdev",
        /// How many names the file of the inode has.
        Nlink = "nlink",
        /// The name of an extended attribute.
        Name = "name",
        /// Flags of the call.
        Flags = "flags",
        /// 0 if the dentry is not hashed.
        Hashed = "hashed",
        /// Which attributes are set: `ia_valid`.
        Valid = "valid",
        /// A user.
        Uid = "uid",
        /// A group.
        Gid = "gid",
        /// An effective user.
        Euid = "euid",
        /// An effective group.
        Egid = "egid",
        /// The user who logged in: `loginuid`.
        Loginuid = "loginuid",
        /// The number of a login: `sessionid`.
        Session = "session",
        /// The id of a mount: the first field in proc_pid_mountinfo(5).
        Mount = "mount",
        /// The id of the mount that the mount point is on.
        ParentMount = "parent_mount",
        /// The address of the mount namespace that a mount is in.
        MntNs = "mnt_ns",
        /// The inode number of a namespace.
        Inum = "inum",
        /// The type of a file system.
        Fstype = "fstype",
        /// The content of a symbolic link.
        Target = "target",
        /// A file descriptor.
        Fd = "fd",
        /// Whether a send opens a connection: TCP fast open.
        IsSendmsg = "is_sendmsg",
        /// The state of a socket: SS_UNCONNECTED and others in include/uapi/linux/net.h.
        State = "state",
        /// How many connections may wait.
        Backlog = "backlog",
        /// How many bytes an address has.
        Addrlen = "addrlen",
        /// The address family of an address.
        Family = "family",
        /// The address family of a socket.
        SkFamily = "sk_family",
        /// A port, in network byte order.
        Port = "port",
        /// A local port, in the machine's byte order.
        Num = "num",
        /// An IPv4 address, in network byte order.
        Addr4 = "addr4",
        /// The type of a socket, or of an ACL.
        Type = "type",
        /// The protocol of a socket.
        Protocol = "protocol",
        /// A process or thread that the record is about.
        Pid = "pid",
        /// The id that the thread had before.
        OldPid = "old_pid",
        /// The flags that a thread was cloned with.
        CloneFlags = "clone_flags",
        /// The parent of a process.
        Ppid = "ppid",
        /// The first process of the pid namespace of a process.
        Reaper = "reaper",
        /// Whether orphans become children of a process: PR_SET_CHILD_SUBREAPER.
        Subreaper = "subreaper",
        /// The name of a thread.
        Comm = "comm",
        /// The name that a thread gets.
        Newcomm = "newcomm",
        /// How many arguments a program gets.
        Argc = "argc",
        /// The address of the memory map of a process: its mm_struct.
        Mm = "mm",
        /// The address of the file that a process executes.
        File = "file",
        /// How many threads of a process have not ended.
        Live = "live",
        /// The exit code of a whole process.
        GroupCode = "group_code",
        /// The exit code of the first thread of a process.
        Code = "code",
        /// The option that prctl(2) sets.
        Option = "option",
        /// The value that prctl(2) sets the option to.
        Value = "value",
        /// The path of a cgroup.
        DstPath = "dst_path",
        /// The number of the hierarchy of a cgroup.
        DstRoot = "dst_root",
    }
}

/// Values that a record has several of, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// `n0`, `n1`, ...: names from a dentry upwards.
    Name,
    /// `i0`, `i1`, ...: the inode numbers of the dentries with those names.
    Inode,
    /// `s0`, `s1`, ...: the numbers of the btrfs subvolumes of those inodes.
    Subvolume,
    /// `c0`, `c1`, ...: names from a cgroup upwards.
    Cgroup,
    /// `a0`, `a1`, ...: successive words of 8 bytes of the traced process's memory.
    Word,
    /// `addr6_0` to `addr6_3`: the words of 4 bytes of an IPv6 address, in network byte order.
    Addr6,
}

impl Series {
    const ALL: [Self; 6] = [
        Self::Name,
        Self::Inode,
        Self::Subvolume,
        Self::Cgroup,
        Self::Word,
        Self::Addr6,
    ];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Name => "n",
            Self::Inode => "i",
            Self::Subvolume => "s",
            Self::Cgroup => "c",
            Self::Word => "a",
            Self::Addr6 => "addr6_",
        }
    }

    /// The name of one of the values, by its number.
    pub fn nth(self, number: usize) -> String {
        format!("{}{number}", self.prefix())
    }

    /// The series and the number of the value with this name, if it is of a series.
    pub fn of_name(name: &str) -> Option<(Self, usize)> {
        Self::ALL.into_iter().find_map(|series| {
            let number = name.strip_prefix(series.prefix())?.parse().ok()?;
            Some((series, number))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_has_the_name_of_a_series() {
        for value in Value::ALL {
            assert_eq!(Series::of_name(value.name()), None, "{value}");
        }
        for series in Series::ALL {
            assert_eq!(Series::of_name(&series.nth(12)), Some((series, 12)));
        }
    }
}
