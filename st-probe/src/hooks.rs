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

use Fetch::{Cgroup, Flag, Names, Number, Return, Stack, String, User};
use Point::{Enter, Leave, Tracepoint};

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
    hook(event, Role::Entry, Enter(function), fetch)
}

const fn leave(event: &'static str, function: &'static str) -> Hook {
    hook(event, Role::Return, Leave(function), &[Stack, Return])
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
    pub fn name(&self) -> std::string::String {
        match self.point {
            Enter(function) => format!("{}_{}_{function}", self.event, self.role.name()),
            Leave(function) => format!("{}_return_{function}", self.event),
            Tracepoint(event) => event.rsplit('/').next().unwrap_or(event).to_owned(),
        }
    }

    /// The function or tracepoint.
    pub fn place(&self) -> &'static str {
        let (Enter(place) | Leave(place) | Tracepoint(place)) = self.point;
        place
    }
}

/// ATTR_MODE, ATTR_UID, ATTR_GID: include/linux/fs.h.
const SETS: &str = "valid & 0x7";
/// The same, and ATTR_KILL_SUID, ATTR_KILL_SGID, ATTR_KILL_PRIV, which notify_change() may
/// turn into ATTR_MODE.
const MAY_SET: &str = "valid & 0x5807";
/// Not the inodes of pipe(2), socket(2) and anonymous files, which are made all the time:
/// PIPEFS_MAGIC, SOCKFS_MAGIC, ANON_INODE_FS_MAGIC of include/uapi/linux/magic.h.
const FILES: &str = "magic != 0x50495045 && magic != 0x534f434b && magic != 0x09041934";

/// AF_INET and AF_INET6, of the socket and of an address that has a family at all.
const INTERNET: &str =
    "(family == 2 || family == 10) && (sk_family == 2 || sk_family == 10) && addrlen > 1";
/// S_IFDIR: include/uapi/linux/stat.h. Block devices have its bit too.
const DIRECTORIES: &str = "mode & 0x4000 && !(mode & 0xa000)";

/// Neither MS_REMOUNT nor a change of propagation: include/uapi/linux/mount.h.
const MOUNTS: &str = "!(flags & 0x1e0020)";

/// The last thread of its process, or one of those that end at the same time as it.
const LAST: &str = "live == 0";
/// PR_SET_CHILD_SUBREAPER: include/uapi/linux/prctl.h.
const SUBREAPER: &str = "option == 36";
/// CLONE_INTO_CGROUP: include/uapi/linux/sched.h.
const INTO_CGROUP: &str = "flags & 0x200000000";
/// CLONE_NEWNS: include/uapi/linux/sched.h.
const NEW_NAMESPACES: &str = "flags & 0x20000";

/// The table.
pub const HOOKS: &[Hook] = &[
    // open(O_CREAT), also with vfs_create() for mknod(S_IFREG): permission is asked before the
    // file system looks whether the file exists (fs/namei.c lookup_open), and d_instantiate*
    // (fs/dcache.c) runs for new inodes only: look-ups use d_splice_alias() and d_add().
    entry(
        "create",
        "security_inode_create",
        &[
            Stack,
            Number("dentry", "dentry"),
            Number("parent", "dentry->d_parent"),
            Number("hash", "dentry->d_name.hash_len"),
            Number("dev", "dentry->d_sb->s_dev"),
            Names("dentry"),
        ],
    ),
    hook(
        INODE,
        Role::Inode,
        Enter("d_instantiate"),
        &[
            Number("dentry", "entry"),
            Number("ino", "inode->i_ino"),
            Number("mode", "inode->i_mode"),
            Number("parent", "entry->d_parent"),
            Number("hash", "entry->d_name.hash_len"),
            Number("magic", "entry->d_sb->s_magic"),
        ],
    )
    .filter(FILES),
    hook(
        INODE,
        Role::Inode,
        Enter("d_instantiate_new"),
        &[
            Number("dentry", "entry"),
            Number("parent", "entry->d_parent"),
            Number("hash", "entry->d_name.hash_len"),
            Number("ino", "inode->i_ino"),
            Number("mode", "inode->i_mode"),
        ],
    ),
    // tmpfs and other file systems that live in the dentry cache, from 7.0 on.
    hook(
        INODE,
        Role::Inode,
        Enter("d_make_persistent"),
        &[
            Number("dentry", "dentry"),
            Number("parent", "dentry->d_parent"),
            Number("hash", "dentry->d_name.hash_len"),
            Number("ino", "inode->i_ino"),
            Number("mode", "inode->i_mode"),
        ],
    )
    .optional(),
    // fs/namei.c
    entry(
        "mkdir",
        "vfs_mkdir",
        &[
            Stack,
            Number("dentry", "dentry"),
            Number("dev", "dentry->d_sb->s_dev"),
            Number("mode", "mode"),
            Names("dentry"),
        ],
    ),
    leave("mkdir", "vfs_mkdir"),
    entry(
        "mknod",
        "vfs_mknod",
        &[
            Stack,
            Number("dentry", "dentry"),
            Number("dev", "dentry->d_sb->s_dev"),
            Number("mode", "mode"),
            Number("rdev", "dev"),
            Names("dentry"),
        ],
    ),
    leave("mknod", "vfs_mknod"),
    entry(
        "delete",
        "vfs_unlink",
        &[
            Stack,
            Number("dev", "dentry->d_sb->s_dev"),
            Number("ino", "dentry->d_inode->i_ino"),
            Names("dentry"),
        ],
    ),
    leave("delete", "vfs_unlink"),
    // 5.10 calls vfs_rmdir() by a part of it that has no such name; d_delete() (fs/dcache.c)
    // runs there only once the directory is gone.
    entry(
        "rmdir",
        "security_inode_rmdir",
        &[
            Stack,
            Number("dentry", "dentry"),
            Number("parent", "dentry->d_parent"),
            Number("hash", "dentry->d_name.hash_len"),
            Number("dev", "dentry->d_sb->s_dev"),
            Number("ino", "dentry->d_inode->i_ino"),
            Names("dentry"),
        ],
    ),
    hook(
        "rmdir",
        Role::Gone,
        Enter("d_delete"),
        &[
            Number("dentry", "dentry"),
            Number("parent", "dentry->d_parent"),
            Number("hash", "dentry->d_name.hash_len"),
            Number("mode", "dentry->d_inode->i_mode"),
        ],
    )
    .filter(DIRECTORIES),
    // One record cannot hold two chains of 255-byte names: it must fit a sub-buffer page.
    entry(
        "rename",
        "vfs_rename",
        &[
            Stack,
            Number("dev", "rd->new_dentry->d_sb->s_dev"),
            // What has the new name already, if its address is not 0.
            Number("inode", "rd->new_dentry->d_inode"),
            Number("ino", "rd->new_dentry->d_inode->i_ino"),
            Number("mode", "rd->new_dentry->d_inode->i_mode"),
            Number("flags", "rd->flags"),
            Names("rd->new_dentry"),
        ],
    ),
    hook(
        "rename",
        Role::Old,
        Enter("vfs_rename"),
        &[
            Stack,
            Number("inode", "rd->old_dentry->d_inode"),
            Number("ino", "rd->old_dentry->d_inode->i_ino"),
            Number("mode", "rd->old_dentry->d_inode->i_mode"),
            Names("rd->old_dentry"),
        ],
    ),
    leave("rename", "vfs_rename"),
    // fs/attr.c: security_inode_setattr() sees the values as they will be, notify_change()
    // those that were asked for.
    entry(
        "attrib",
        "notify_change",
        &[
            Stack,
            Number("valid", "attr->ia_valid"),
            Number("dev", "dentry->d_sb->s_dev"),
            Number("ino", "dentry->d_inode->i_ino"),
            Number("hashed", "dentry->d_hash.pprev"),
            // Not every dentry that is its own parent is a file system's root: one may have
            // been opened by handle, or be of a file that never had a name (memfd_create).
            Number("dentry", "dentry"),
            Number("parent", "dentry->d_parent"),
            Number("root", "dentry->d_sb->s_root"),
            Names("dentry"),
        ],
    )
    .filter(MAY_SET),
    hook(
        "attrib",
        Role::Detail,
        Enter("security_inode_setattr"),
        &[
            Number("valid", "attr->ia_valid"),
            Number("mode", "attr->ia_mode"),
            Number("uid", "attr->ia_uid.val"),
            Number("gid", "attr->ia_gid.val"),
        ],
    )
    .filter(SETS),
    leave("attrib", "notify_change"),
    entry(
        "symlink",
        "vfs_symlink",
        &[
            Stack,
            Number("dentry", "dentry"),
            Number("dev", "dentry->d_sb->s_dev"),
            Names("dentry"),
        ],
    ),
    hook(
        "symlink",
        Role::Target,
        Enter("vfs_symlink"),
        &[Stack, String("target", "oldname")],
    ),
    leave("symlink", "vfs_symlink"),
    entry(
        "link",
        "vfs_link",
        &[
            Stack,
            Number("dentry", "new_dentry"),
            Number("dev", "new_dentry->d_sb->s_dev"),
            Names("new_dentry"),
        ],
    ),
    hook(
        "link",
        Role::Old,
        Enter("vfs_link"),
        &[
            Stack,
            Number("ino", "old_dentry->d_inode->i_ino"),
            Number("hashed", "old_dentry->d_hash.pprev"),
            Names("old_dentry"),
        ],
    ),
    leave("link", "vfs_link"),
    // net/socket.c: connect(2) enters at the first, io_uring at the second; the address is
    // in kernel memory at the third.
    entry("connect", "__sys_connect", &[Stack, Number("fd", "fd")]),
    entry("connect", "__sys_connect_file", &[Stack]).optional(),
    hook(
        "connect",
        Role::Detail,
        Enter("security_socket_connect"),
        &[
            Number("addrlen", "addrlen"),
            Number("sk_family", "sock->sk->__sk_common.skc_family"),
            Number("family", "(sockaddr)address->sa_family"),
            Number("port", "(sockaddr_in)address->sin_port"),
            Number("addr4", "(sockaddr_in)address->sin_addr.s_addr"),
            Number(
                "addr6_0",
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32[0]",
            ),
            Number(
                "addr6_1",
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32[1]",
            ),
            Number(
                "addr6_2",
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32[2]",
            ),
            Number(
                "addr6_3",
                "(sockaddr_in6)address->sin6_addr.in6_u.u6_addr32[3]",
            ),
            Number("type", "sock->sk->sk_type"),
            Number("protocol", "sock->sk->sk_protocol"),
        ],
    )
    .filter(INTERNET),
    leave("connect", "__sys_connect_file").optional(),
    leave("connect", "__sys_connect"),
    // listen(2) enters at the first, io_uring (from 6.11 on) at the second. An unbound socket
    // gets its port between security_socket_listen() and inet_hash() (net/ipv4).
    entry("listen", "__sys_listen", &[Stack, Number("fd", "fd")]),
    entry("listen", "__sys_listen_socket", &[Stack]).optional(),
    hook(
        "listen",
        Role::Detail,
        Enter("security_socket_listen"),
        &[
            Number("backlog", "backlog"),
            Number("family", "sock->sk->__sk_common.skc_family"),
            Number("num", "sock->sk->__sk_common.skc_num"),
            Number("addr4", "sock->sk->__sk_common.skc_rcv_saddr"),
            Number(
                "addr6_0",
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0]",
            ),
            Number(
                "addr6_1",
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1]",
            ),
            Number(
                "addr6_2",
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2]",
            ),
            Number(
                "addr6_3",
                "sock->sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3]",
            ),
            Number("type", "sock->sk->sk_type"),
            Number("protocol", "sock->sk->sk_protocol"),
        ],
    )
    .filter("family == 2 || family == 10"),
    hook(
        "listen",
        Role::Detail,
        Enter("inet_hash"),
        &[Number("num", "sk->__sk_common.skc_num")],
    ),
    // Until 7.x, which has inet_hash() for both families.
    hook(
        "listen",
        Role::Detail,
        Enter("inet6_hash"),
        &[Number("num", "sk->__sk_common.skc_num")],
    )
    .optional(),
    leave("listen", "__sys_listen_socket").optional(),
    leave("listen", "__sys_listen"),
    // The last listener's close or shutdown; skc_num is 0 already.
    hook(
        "unlisten",
        Role::Instant,
        Enter("inet_csk_listen_stop"),
        &[
            Number("family", "sk->__sk_common.skc_family"),
            Number("port", "(inet_sock)sk->inet_sport"),
            Number("addr4", "sk->__sk_common.skc_rcv_saddr"),
            Number(
                "addr6_0",
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[0]",
            ),
            Number(
                "addr6_1",
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[1]",
            ),
            Number(
                "addr6_2",
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[2]",
            ),
            Number(
                "addr6_3",
                "sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[3]",
            ),
            Number("type", "sk->sk_type"),
            Number("protocol", "sk->sk_protocol"),
        ],
    ),
    // fs/namespace.c asks for permission just before it mounts, unmounts or moves.
    hook(
        MOUNT,
        Role::Instant,
        Enter("security_sb_mount"),
        &[Number("flags", "flags")],
    )
    .filter(MOUNTS)
    .optional(),
    hook(MOUNT, Role::Instant, Enter("security_sb_umount"), &[]).optional(),
    hook(MOUNT, Role::Instant, Enter("security_move_mount"), &[]).optional(),
    // fs/namespace.c
    hook(
        NAMESPACE,
        Role::Instant,
        Enter("copy_mnt_ns"),
        &[Number("flags", "flags")],
    )
    .filter(NEW_NAMESPACES)
    .optional(),
    // fs/super.c: its device number may be given to another one as soon as this is done.
    hook(
        SHUTDOWN,
        Role::Instant,
        Enter("generic_shutdown_super"),
        &[Number("dev", "sb->s_dev")],
    )
    .optional(),
    // statfs(2) does nothing to the directory, and few others call it; what a probe fetches
    // is paid by every caller, whatever its filter.
    hook(
        DIRECTORY,
        Role::Instant,
        Enter("security_sb_statfs"),
        &[
            Number("dev", "dentry->d_sb->s_dev"),
            Number("ino", "dentry->d_inode->i_ino"),
            Names("dentry"),
        ],
    )
    .optional(),
    // include/trace/events/task.h, sched.h, cgroup.h
    hook(PROCESS, Role::Instant, Tracepoint("task/task_newtask"), &[]),
    hook(PROCESS, Role::Instant, Tracepoint("task/task_rename"), &[]),
    hook(
        PROCESS,
        Role::Instant,
        Tracepoint("sched/sched_process_exec"),
        &[],
    ),
    hook(
        PROCESS,
        Role::Instant,
        Tracepoint("sched/sched_process_exit"),
        &[],
    ),
    hook(
        PROCESS,
        Role::Instant,
        Tracepoint("cgroup/cgroup_attach_task"),
        &[],
    )
    .optional(),
    // kernel/cgroup/cgroup.c: a process that begins in another cgroup than its parent's does
    // not pass cgroup_attach_task. Before task_newtask.
    hook(
        PROCESS,
        Role::Instant,
        Enter("cgroup_post_fork"),
        &[
            Number("pid", "child->pid"),
            Number("flags", "kargs->flags"),
            Cgroup("kargs->cgrp->kn"),
        ],
    )
    .filter(INTO_CGROUP)
    .optional(),
    // kernel/sched/core.c: what task_newtask leaves out. Just after it.
    hook(
        PROCESS,
        Role::Instant,
        Enter("wake_up_new_task"),
        &[
            Number("pid", "p->pid"),
            Number("ppid", "p->real_parent->tgid"),
            Number(
                "reaper",
                "p->nsproxy->pid_ns_for_children->child_reaper->tgid",
            ),
        ],
    )
    .optional(),
    // kernel/cred.c, also at every exec.
    hook(
        PROCESS,
        Role::Instant,
        Enter("commit_creds"),
        &[
            Number("uid", "new->uid.val"),
            Number("gid", "new->gid.val"),
            Number("euid", "new->euid.val"),
            Number("egid", "new->egid.val"),
        ],
    ),
    // fs/exec.c begin_new_exec(): the arguments are where the new stack will be; bprm->file is
    // what is executed in the end, an interpreter of a script.
    hook(
        PROCESS,
        Role::Instant,
        Enter("security_bprm_committed_creds"),
        &[
            Number("dentry", "bprm->file->f_path.dentry"),
            Number("parent", "bprm->file->f_path.dentry->d_parent"),
            Number("root", "bprm->file->f_path.dentry->d_sb->s_root"),
            Number("hashed", "bprm->file->f_path.dentry->d_hash.pprev"),
            Number("dev", "bprm->file->f_path.dentry->d_sb->s_dev"),
            Number("argc", "bprm->argc"),
            User("bprm->p"),
            Names("bprm->file->f_path.dentry"),
        ],
    ),
    // kernel/exit.c do_exit(), after sched_process_exit: how the process is seen to have ended
    // (wait_task_zombie()).
    hook(
        PROCESS,
        Role::Instant,
        Enter("exit_files"),
        &[
            Number("pid", "tsk->tgid"),
            Number("live", "tsk->signal->live.counter"),
            Number("flags", "tsk->signal->flags"),
            Number("group_code", "tsk->signal->group_exit_code"),
            Number("code", "tsk->group_leader->exit_code"),
        ],
    )
    .filter(LAST),
    // kernel/sys.c: who inherits orphans.
    hook(
        PROCESS,
        Role::Instant,
        Enter("security_task_prctl"),
        &[Number("option", "option"), Number("value", "arg2")],
    )
    .filter(SUBREAPER),
    // kernel/ptrace.c ptrace_may_access(), when st-probe looks at /proc/PID/exe: what is told
    // nowhere in /proc.
    hook(
        ALIVE,
        Role::Instant,
        Enter("security_ptrace_access_check"),
        &[
            Number("pid", "child->tgid"),
            Flag("subreaper", "child->signal->is_child_subreaper"),
            // There is nothing behind those that are 0.
            Number("mm", "child->mm"),
            Number("file", "child->mm->exe_file"),
            Number("dentry", "child->mm->exe_file->f_path.dentry"),
            Number("parent", "child->mm->exe_file->f_path.dentry->d_parent"),
            Number("root", "child->mm->exe_file->f_path.dentry->d_sb->s_root"),
            Number("hashed", "child->mm->exe_file->f_path.dentry->d_hash.pprev"),
            Number("dev", "child->mm->exe_file->f_path.dentry->d_sb->s_dev"),
            Names("child->mm->exe_file->f_path.dentry"),
        ],
    )
    .optional(),
];
