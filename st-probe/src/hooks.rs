//! Which kernel functions are probed, and what is fetched there: the one table.
//!
//! An operation is told by several hooks, each with a [`Role`]. All of one thread's hooks
//! come in the order in which it ran through them, so st-decode puts them together again
//! by thread, function and stack pointer.
//!
//! Expressions are C without the stars: `dentry->d_inode->i_ino` starts from the function's
//! parameter of that name; `.` enters an embedded struct, `[i]` an array; `(type)` in front
//! casts the parameter to a pointer to that struct. Offsets, sizes and the parameter's
//! place come from BTF, see [`crate::plan`].

mod directories;
mod files;
mod processes;
mod sockets;

/// What a hook's record tells of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `entry`: a call begins; `sp` identifies it. The names are those of `path`.
    Entry,
    /// `old`: of the same call, with the names of `old_path`.
    Old,
    /// `target`: of the same call, with a symbolic link's content.
    Target,
    /// `detail`: further in, within the thread's innermost open call of this event.
    Detail,
    /// `return`: a call ends; `sp` is its entry's plus the header's `stack_delta`. It failed
    /// if `ret` is from -4095 to -1.
    Return,
    /// `inode`: a dentry gets a new inode: the file that the thread's open call, or its last
    /// `create` entry with that dentry, was to make now exists.
    Inode,
    /// `gone`: a dentry loses its inode: what the thread's last `rmdir` entry with that
    /// dentry was to remove is removed.
    Gone,
    /// `instant`: complete in itself.
    Instant,
}

impl Role {
    /// Its name in the stream.
    pub fn name(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Old => "old",
            Self::Target => "target",
            Self::Detail => "detail",
            Self::Return => "return",
            Self::Inode => "inode",
            Self::Gone => "gone",
            Self::Instant => "instant",
        }
    }
}

/// Where a hook sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// At the entry of a kernel function.
    Enter(&'static str),
    /// At its return.
    Leave(&'static str),
    /// At a static tracepoint, `group/event`.
    Tracepoint(&'static str),
}

/// A value to fetch.
#[derive(Debug, Clone, Copy)]
pub enum Fetch {
    /// The stack pointer, as `sp`.
    Stack,
    /// The function's result, as `ret`.
    Return,
    /// A number or pointer, by name and expression.
    Number(&'static str, &'static str),
    /// A NUL-terminated string that the expression points to.
    String(&'static str, &'static str),
    /// A flag, the last member of the expression: a bit field, or from 7.x on a number.
    Flag(&'static str, &'static str),
    /// `a0`, `a1`, ...: [`ARGV`] bytes of the traced process's own memory, from the address
    /// that the expression is, in words of 8 bytes.
    User(&'static str),
    /// `c0`, `c1`, ...: the names from a cgroup's kernfs node upwards; the root's is empty.
    Cgroup(&'static str),
    /// `n0`, `n1`, ...: the names from a dentry upwards, as many as the kernel accepts; and
    /// `i1` and `iN`, the inode numbers of the parent and of the uppermost one named; where
    /// btrfs is in use also its subvolumes' `s0`, `s1` and `sN`, and `magic`.
    Names(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// The event.
    pub event: &'static str,
    /// Its part in it.
    pub role: Role,
    /// Where it sits.
    pub point: Point,
    /// What it fetches.
    pub fetch: &'static [Fetch],
    /// Records that do not match are dropped in the kernel. Empty: none.
    pub filter: &'static str,
    /// Whether the event cannot be told without it. One that is not needed is left out
    /// where the kernel lacks its function.
    pub needed: bool,
}

/// The events that can be asked for.
pub const EVENTS: [&str; 14] = [
    "create", "mkdir", "mknod", "delete", "rmdir", "rename", "attrib", "symlink", "link",
    "connect", "listen", "unlisten", "exec", "exit",
];
/// Those of them that the hooks of [`PROCESS`] tell.
pub const OF_PROCESSES: [&str; 2] = ["exec", "exit"];

/// The event of the hooks that are always in force: who the processes are.
pub const PROCESS: &str = "process";
/// The event of the hook that sees what st-probe looks at in /proc: see [`crate::census`].
pub const ALIVE: &str = "alive";
/// The event of the hooks that are always in force where the kernel has them: when a mount
/// table may be about to change.
pub const MOUNT: &str = "mount";
/// The event of the hook that is always in force where the kernel has it: a mount namespace
/// is made.
pub const NAMESPACE: &str = "namespace";
/// The event of the hook that is always in force where the kernel has it: a file system is no
/// longer mounted anywhere.
pub const SHUTDOWN: &str = "shutdown";
/// The event of the hook that sees a directory that the snapshot looks at: see
/// [`crate::walk`].
pub const DIRECTORY: &str = "directory";
/// The event of the hooks that see new inodes: they serve `create`, `mkdir`, `mknod` and
/// `symlink`.
pub const INODE: &str = "inode";

const fn hook(event: &'static str, role: Role, point: Point, fetch: &'static [Fetch]) -> Hook {
    Hook {
        event,
        role,
        point,
        fetch,
        filter: "",
        needed: true,
    }
}

const fn entry(event: &'static str, function: &'static str, fetch: &'static [Fetch]) -> Hook {
    hook(event, Role::Entry, Point::Enter(function), fetch)
}

const fn leave(event: &'static str, function: &'static str) -> Hook {
    let fetch = &[Fetch::Stack, Fetch::Return];
    hook(event, Role::Return, Point::Leave(function), fetch)
}

impl Hook {
    const fn filter(self, filter: &'static str) -> Self {
        Self { filter, ..self }
    }

    const fn optional(self) -> Self {
        Self {
            needed: false,
            ..self
        }
    }

    /// Its name in tracefs and in the stream.
    pub fn name(&self) -> String {
        match self.point {
            Point::Enter(function) => format!("{}_{}_{function}", self.event, self.role.name()),
            Point::Leave(function) => format!("{}_return_{function}", self.event),
            Point::Tracepoint(event) => event.rsplit('/').next().unwrap_or(event).to_owned(),
        }
    }

    /// The function or tracepoint.
    pub fn place(&self) -> &'static str {
        let (Point::Enter(place) | Point::Leave(place) | Point::Tracepoint(place)) = self.point;
        place
    }
}

/// All rows of the table.
pub fn hooks() -> impl Iterator<Item = &'static Hook> {
    [
        files::HOOKS,
        sockets::HOOKS,
        directories::HOOKS,
        processes::HOOKS,
    ]
    .into_iter()
    .flatten()
}
