//! The vocabulary of the streams, as types: events, roles, causes, values. In a stream each is
//! a string, its name.
//!
//! Each enum here has a last case, `Other`, for a name that this version does not know. Whoever
//! shows such a name reads it from the record: see [`crate::wire::Record::text`].

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
            /// A name that this version does not know.
            #[default]
            Other,
        }

        impl $Word {
            /// All cases but `Other`.
            pub const ALL: &'static [Self] = &[$(Self::$Case),+];

            /// Its name in streams and options.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$Case => $name,)+
                    Self::Other => "other",
                }
            }

            /// The case that has this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::from_bytes(name.as_bytes())
            }

            fn from_bytes(name: &[u8]) -> Option<Self> {
                $(if name == $name.as_bytes() {
                    return Some(Self::$Case);
                })+
                None
            }
        }

        travels_by_name!($Word);
    };
}

/// Implements reading and writing for a type with `name` and `from_bytes`: as its name. A name
/// that is not known is `Other`.
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
            fn named(name: &[u8]) -> Self {
                Self::from_bytes(name).unwrap_or(Self::Other)
            }
        }

        impl<'de> Deserialize<'de> for $Word {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_bytes(Name(PhantomData))
            }
        }
    };
}

trait Named {
    fn named(name: &[u8]) -> Self;
}

/// Reads a name.
struct Name<T>(PhantomData<T>);

impl<T: Named> de::Visitor<'_> for Name<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<T, E> {
        Ok(T::named(name.as_bytes()))
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<T, E> {
        Ok(T::named(name))
    }
}

// The macros above are known to modules that are declared after them.
mod values;

pub use values::{Series, Value};

words! {
    /// What happened to a file, a socket or a process.
    pub enum Event {
        /// A regular file was created, or got its first name.
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

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A file: the event has a path, and watches decide whether it is told.
    File,
    /// An IPv4 or IPv6 socket.
    Socket,
    /// A process: the event is told on request only.
    Process,
    /// Not known: the event is of a later version.
    Other,
}

/// What the stages must know about an event beside its name.
struct Facts {
    class: Class,
    /// Whether the event may change the paths of directories.
    changes_directories: bool,
    /// Whether the event makes an inode: the hooks of [`Service::Inode`] tell which one.
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

    /// What the event is about.
    pub const fn class(self) -> Class {
        self.facts().class
    }

    /// Whether the event may change the paths of directories.
    pub const fn changes_directories(self) -> bool {
        self.facts().changes_directories
    }

    /// Whether the event makes an inode.
    pub const fn makes_inode(self) -> bool {
        self.facts().makes_inode
    }

    /// All events of a class.
    pub fn of(class: Class) -> impl Iterator<Item = Self> {
        (Self::ALL.iter().copied()).filter(move |event| event.class() == class)
    }

    /// The names of events, as people read them: `create, mkdir`.
    pub fn list(events: impl IntoIterator<Item = Self>) -> String {
        let names: Vec<_> = events.into_iter().map(Self::name).collect();
        names.join(", ")
    }
}

words! {
    /// What a hook is for that serves no single event: it tells what later stages must know.
    pub enum Service {
        /// Which processes there are; its hooks serve `exec` and `exit`, too.
        Process = "process",
        /// A process that st-probe reads about in /proc: see `machine::census`.
        Alive = "alive",
        /// The realtime clock was set.
        Clock = "clock",
        /// A mount table may be about to change.
        Mount = "mount",
        /// A mount gets its place: a new one, one of a tree that is copied, or one that is moved.
        Attach = "attach",
        /// A mount is no longer in a mount namespace.
        Detach = "detach",
        /// A mount namespace is to be made: `instant`. The `return` of the same function tells which
        /// one, and comes as well where a process keeps its own.
        Namespace = "namespace",
        /// A file system is no longer mounted anywhere.
        Shutdown = "shutdown",
        /// A directory that a walk looks at: see `machine::walk`.
        Directory = "directory",
        /// A new inode: its hooks serve `create`, `mkdir`, `mknod` and `symlink`.
        Inode = "inode",
    }
}

/// What the records of a hook tell of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An event.
    Event(Event),
    /// A service for the events.
    Service(Service),
    /// A name that this version does not know.
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

    /// The subject that has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::from_bytes(name.as_bytes())
    }

    fn from_bytes(name: &[u8]) -> Option<Self> {
        let event = Event::from_bytes(name).map(Self::Event);
        event.or_else(|| Service::from_bytes(name).map(Self::Service))
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
    /// What a record of a hook tells of an operation.
    ///
    /// A call is one invocation of a probed function by one thread.
    pub enum Role {
        /// A call begins, and its stack pointer `sp` identifies it. The names are those of `path`.
        Entry = "entry",
        /// More of the same call: the names are those of `old_path`, or of what is mounted.
        Old = "old",
        /// More of the same call: the content of the symbolic link.
        Target = "target",
        /// More of the innermost call of this event that the thread has begun and not ended.
        Detail = "detail",
        /// A call ends: `sp` is the `sp` of its entry plus the `stack_delta` of the header. The
        /// call failed if `ret` is from -4095 to -1.
        Return = "return",
        /// A dentry gets a new inode: now the file exists that the thread's call was to make,
        /// which is the one under way or that of its last `create` entry with this dentry.
        Inode = "inode",
        /// A dentry loses its inode: now the directory is removed that the thread's last `rmdir`
        /// entry with this dentry was to remove.
        Gone = "gone",
        /// A file system that lies on others (overlayfs) begins to carry out, by calls on those,
        /// what the thread's last entry of this event announced. `sp` identifies this call.
        Carry = "carry",
        /// It has carried that out, or failed to: `sp` and `ret` are as of a `return`.
        Carried = "carried",
        /// The record is all that there is of the operation.
        Instant = "instant",
    }
}

impl Role {
    /// Whether it only tells which calls are made within which other one: without it, every event
    /// is told.
    pub const fn tells_of_layers(self) -> bool {
        matches!(self, Self::Carry | Self::Carried)
    }
}

/// Whether hooks tell, together, each change of what is mounted where, in every mount namespace.
pub fn tell_mounts(hooks: impl Iterator<Item = (Subject, Role)>) -> bool {
    let mut needed = vec![
        (Service::Attach, Role::Entry),
        (Service::Attach, Role::Old),
        (Service::Detach, Role::Instant),
        (Service::Namespace, Role::Return),
    ];
    for (subject, role) in hooks {
        needed.retain(|(service, needed)| (Subject::Service(*service), *needed) != (subject, role));
    }
    needed.is_empty()
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
    /// The byte order of this machine.
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
        /// The time of `--duration` was over.
        Duration = "duration",
        /// The command that was traced ended.
        Command = "command",
        /// The reader closed the stream.
        Reader = "reader",
        /// Something went wrong.
        Failure = "failure",
        /// The input of a later stage had no end record, and that stage wrote this one.
        Cut = "cut",
    }
}

words! {
    /// Why records are missing.
    pub enum Cause {
        /// The ring buffer was full: st-probe was not fast enough.
        RingBuffer = "ring buffer",
        /// The ring buffer was full, and for most of that time st-probe waited for the reader of its
        /// output.
        SlowReader = "slow reader",
        /// The kernel did not run a probe, since another one was running, or could not write the
        /// record of a probe, since an interrupt came in between.
        MissedProbe = "missed probe",
        /// Somebody switched off our instance of the ring buffer (`tracing_on`), events of it, or
        /// all probes (`kernel.ftrace_enabled`, `kprobes/enabled`), or removed ours.
        SwitchedOff = "switched off",
        /// From st-decode: a call has ended, and its result is not known. More calls of the same
        /// function were under way than the kernel reserves return instances for.
        MissedReturn = "missed return",
        /// From st-decode: calls that were under way in a gap, or began there. What looks like
        /// the records of one call may be those of two.
        Unpaired = "unpaired",
        /// From st-decode: a record did not fit a page of the ring buffer.
        TooLarge = "too large",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::wire;

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
        assert_eq!(wire::read::<Event>(b"\xa6rename").unwrap(), Event::Rename);
        assert_eq!(wire::read::<Event>(b"\xa8teleport").unwrap(), Event::Other);
        assert!(wire::read::<Event>(b"\x07").is_err());
    }
}
