//! The words of the streams, as types: events, roles, causes, values. Each travels as its name.
//!
//! An enum here has a last case, `Other`, for what a later version may send: whoever wants to
//! show that reads its own name from the record, see [`crate::wire::text`].

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::marker::PhantomData;

/// Declares an enum whose cases have names in the streams.
macro_rules! words {
    (
        $(#[$about:meta])*
        pub enum $Word:ident { $($(#[$case_about:meta])* $Case:ident = $name:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $Word {
            $($(#[$case_about])* $Case,)+
            /// One of a later version.
            #[default]
            Other,
        }

        impl $Word {
            /// All that this version knows.
            pub const ALL: &'static [Self] = &[$(Self::$Case),+];

            /// Its name in streams and options.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$Case => $name,)+
                    Self::Other => "other",
                }
            }

            /// The one that has this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$Case),)+
                    _ => None,
                }
            }
        }

        travels_by_name!($Word);
    };
}

/// Lets a type with `name` and `from_name` travel as its name. One that is not known is `Other`.
macro_rules! travels_by_name {
    ($Word:ident) => {
        impl fmt::Display for $Word {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl Serialize for $Word {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl Named for $Word {
            fn named(name: &str) -> Self {
                Self::from_name(name).unwrap_or(Self::Other)
            }
        }

        impl<'de> Deserialize<'de> for $Word {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Name(PhantomData))
            }
        }
    };
}

trait Named {
    fn named(name: &str) -> Self;
}

/// Reads a name.
struct Name<T>(PhantomData<T>);

impl<T: Named> de::Visitor<'_> for Name<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<T, E> {
        Ok(T::named(name))
    }
}

words! {
    /// What happened, to a file, a socket or a process.
    pub enum Event {
        /// A regular file was created.
        Create = "create",
        /// A directory was created.
        Mkdir = "mkdir",
        /// A pipe, socket or device was created.
        Mknod = "mknod",
        /// A name that is not a directory's was removed.
        Delete = "delete",
        /// A directory was removed.
        Rmdir = "rmdir",
        /// A name was changed, or two were exchanged.
        Rename = "rename",
        /// Mode, owner or group were set.
        Attrib = "attrib",
        /// A symbolic link was created.
        Symlink = "symlink",
        /// A further name was given to a file.
        Link = "link",
        /// A socket was asked to connect.
        Connect = "connect",
        /// A socket began to listen, or was told so again.
        Listen = "listen",
        /// A socket ceased to listen.
        Unlisten = "unlisten",
        /// A process began to execute another program.
        Exec = "exec",
        /// A process ended.
        Exit = "exit",
    }
}

/// What an event happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A file: it has a path, and watches decide about it.
    File,
    /// A socket of IPv4 or IPv6.
    Socket,
    /// A process: told on request only.
    Process,
    /// Not known: an event of a later version.
    Other,
}

/// What the stages must know of an event beside its name.
struct Facts {
    class: Class,
    /// Whether it may change where directories are.
    changes_directories: bool,
    /// Whether it makes an inode: the hooks of [`Service::Inode`] tell which.
    makes_inode: bool,
}

impl Event {
    const fn facts(self) -> Facts {
        let (class, changes_directories, makes_inode) = match self {
            Self::Create | Self::Mknod | Self::Symlink => (Class::File, false, true),
            Self::Mkdir => (Class::File, true, true),
            Self::Rmdir | Self::Rename => (Class::File, true, false),
            Self::Delete | Self::Attrib | Self::Link => (Class::File, false, false),
            Self::Connect | Self::Listen | Self::Unlisten => (Class::Socket, false, false),
            Self::Exec | Self::Exit => (Class::Process, false, false),
            Self::Other => (Class::Other, false, false),
        };
        Facts {
            class,
            changes_directories,
            makes_inode,
        }
    }

    /// What it happens to.
    pub const fn class(self) -> Class {
        self.facts().class
    }

    /// Whether it may change where directories are.
    pub const fn changes_directories(self) -> bool {
        self.facts().changes_directories
    }

    /// Whether it makes an inode.
    pub const fn makes_inode(self) -> bool {
        self.facts().makes_inode
    }

    /// All events of a class.
    pub fn of(class: Class) -> impl Iterator<Item = Self> {
        (Self::ALL.iter().copied()).filter(move |event| event.class() == class)
    }

    /// The names of some events, for people: `create, mkdir`.
    pub fn list(events: impl IntoIterator<Item = Self>) -> String {
        let names: Vec<_> = events.into_iter().map(Self::name).collect();
        names.join(", ")
    }
}

words! {
    /// What hooks tell that are not there for an event but for what other stages must know.
    pub enum Service {
        /// Who the processes are; it tells `exec` and `exit`, too.
        Process = "process",
        /// What st-probe looks at in /proc: see `machine::census`.
        Alive = "alive",
        /// A mount table may be about to change.
        Mount = "mount",
        /// A mount namespace is made.
        Namespace = "namespace",
        /// A file system is no longer mounted anywhere.
        Shutdown = "shutdown",
        /// A directory that a walk looks at: see `machine::walk`.
        Directory = "directory",
        /// A new inode: it serves `create`, `mkdir`, `mknod` and `symlink`.
        Inode = "inode",
    }
}

/// What a hook's records tell of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An event.
    Event(Event),
    /// What serves the events.
    Service(Service),
    /// Something of a later version.
    #[default]
    Other,
}

impl Subject {
    /// Its name in streams.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event(event) => event.name(),
            Self::Service(service) => service.name(),
            Self::Other => "other",
        }
    }

    /// The one that has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let event = Event::from_name(name).map(Self::Event);
        event.or_else(|| Service::from_name(name).map(Self::Service))
    }

    /// The event, if it is one.
    pub const fn event(self) -> Option<Event> {
        match self {
            Self::Event(event) => Some(event),
            _ => None,
        }
    }
}

travels_by_name!(Subject);

words! {
    /// What a hook's record tells of an operation.
    pub enum Role {
        /// A call begins; `sp` identifies it. The names are those of `path`.
        Entry = "entry",
        /// Of the same call, with the names of `old_path`.
        Old = "old",
        /// Of the same call, with a symbolic link's content.
        Target = "target",
        /// Further in, within the thread's innermost open call of this event.
        Detail = "detail",
        /// A call ends; `sp` is its entry's plus the header's `stack_delta`. It failed if `ret`
        /// is from -4095 to -1.
        Return = "return",
        /// A dentry gets a new inode: the file that the thread's open call, or its last `create`
        /// entry with that dentry, was to make now exists.
        Inode = "inode",
        /// A dentry loses its inode: what the thread's last `rmdir` entry with that dentry was to
        /// remove is removed.
        Gone = "gone",
        /// Complete in itself.
        Instant = "instant",
    }
}

words! {
    /// The byte order of a machine.
    pub enum Order {
        /// Least significant byte first.
        Little = "little",
        /// Most significant byte first.
        Big = "big",
    }
}

impl Order {
    /// That of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "big") {
        Self::Big
    } else {
        Self::Little
    };
}

words! {
    /// Why a stream ended.
    pub enum Why {
        /// A signal.
        Signal = "signal",
        /// The time that was asked for is over.
        Duration = "duration",
        /// The command that was traced ended.
        Command = "command",
        /// Nobody reads any more.
        Reader = "reader",
        /// Something went wrong.
        Failure = "failure",
        /// A later stage found its input without an end and wrote this in its place.
        Cut = "cut",
    }
}

words! {
    /// Why records are missing.
    pub enum Cause {
        /// The ring buffer was full: st-probe was not fast enough.
        RingBuffer = "ring buffer",
        /// The ring buffer was full while st-probe waited for whoever reads its output.
        SlowReader = "slow reader",
        /// The kernel did not enter a probe, since it was in another one, or could not write its
        /// record, since an interrupt had.
        MissedProbe = "missed probe",
        /// Somebody switched off our instance of the ring buffer (`tracing_on`), events of it, or
        /// all probes (`kernel.ftrace_enabled`, `kprobes/enabled`), or removed ours.
        SwitchedOff = "switched off",
        /// From st-decode: a call has ended, how is not known. Too many of its kind were under
        /// way at once for the kernel to follow their returns.
        MissedReturn = "missed return",
        /// From st-decode: calls that were under way within a gap, or began there. What is
        /// recorded of one may be of two.
        Unpaired = "unpaired",
        /// From st-decode: a record did not fit a page of the ring buffer.
        TooLarge = "too large",
    }
}

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
        /// That of its parent.
        Parent = "parent",
        /// The hash and length of its name.
        Hash = "hash",
        /// The address of the root dentry of its file system.
        Root = "root",
        /// The device number of its super block.
        Dev = "dev",
        /// The super block's magic number.
        Magic = "magic",
        /// The inode's number.
        Ino = "ino",
        /// The inode's address.
        Inode = "inode",
        /// Type and permissions.
        Mode = "mode",
        /// The number of a device that is made.
        Rdev = "rdev",
        /// Flags of the call.
        Flags = "flags",
        /// 0 if the dentry is not hashed.
        Hashed = "hashed",
        /// Which attributes are set.
        Valid = "valid",
        /// A user.
        Uid = "uid",
        /// A group.
        Gid = "gid",
        /// An effective user.
        Euid = "euid",
        /// An effective group.
        Egid = "egid",
        /// The content of a symbolic link.
        Target = "target",
        /// A file descriptor.
        Fd = "fd",
        /// How many connections may wait.
        Backlog = "backlog",
        /// Bytes of an address.
        Addrlen = "addrlen",
        /// The address family of an address.
        Family = "family",
        /// That of a socket.
        SkFamily = "sk_family",
        /// A port, in network byte order.
        Port = "port",
        /// A local port, in the machine's byte order.
        Num = "num",
        /// An IPv4 address, in network byte order.
        Addr4 = "addr4",
        /// The type of a socket.
        Type = "type",
        /// Its protocol.
        Protocol = "protocol",
        /// A process or thread that the record is about.
        Pid = "pid",
        /// What its id was before.
        OldPid = "old_pid",
        /// How it was cloned.
        CloneFlags = "clone_flags",
        /// A process's parent.
        Ppid = "ppid",
        /// The first process of its pid namespace.
        Reaper = "reaper",
        /// Whether orphans become its children.
        Subreaper = "subreaper",
        /// A thread's name.
        Comm = "comm",
        /// The name that it gets.
        Newcomm = "newcomm",
        /// How many arguments a program gets.
        Argc = "argc",
        /// The address of a process's memory map.
        Mm = "mm",
        /// That of the file that it executes.
        File = "file",
        /// Threads of a process that have not ended.
        Live = "live",
        /// The exit code of all of a process.
        GroupCode = "group_code",
        /// That of its first thread.
        Code = "code",
        /// An option of prctl(2) ...
        Option = "option",
        /// ... and its value.
        Value = "value",
        /// The path of a cgroup.
        DstPath = "dst_path",
        /// The number of its hierarchy.
        DstRoot = "dst_root",
    }
}

/// Values of one kind that a record has several of, numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// `n0`, `n1`, ...: names from a dentry upwards.
    Name,
    /// `i0`, `i1`, ...: the inode numbers of what those name.
    Inode,
    /// `s0`, `s1`, ...: the numbers of the btrfs subvolumes that they are in.
    Subvolume,
    /// `c0`, `c1`, ...: names of a cgroup upwards.
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

    /// The name of one of its values.
    pub fn nth(self, number: usize) -> String {
        format!("{}{number}", self.prefix())
    }

    /// Which value of which series has this name, if one of any does.
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
    fn every_word_is_found_by_its_name() {
        for event in Event::ALL {
            assert_eq!(Event::from_name(event.name()), Some(*event));
            assert_eq!(
                Subject::from_name(event.name()),
                Some(Subject::Event(*event))
            );
        }
        for service in Service::ALL {
            let subject = Subject::Service(*service);
            assert_eq!(Subject::from_name(service.name()), Some(subject));
        }
        assert_eq!(Event::from_name("other"), None);
        assert_eq!(Subject::from_name("teleport"), None);
    }

    #[test]
    fn a_word_of_a_later_version_is_other() {
        let read = |name: &str| rmp_serde::from_slice::<Event>(&rmp_serde::to_vec(name).unwrap());
        assert_eq!(read("rename").unwrap(), Event::Rename);
        assert_eq!(read("teleport").unwrap(), Event::Other);
        assert!(rmp_serde::from_slice::<Event>(b"\x07").is_err());
    }

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
