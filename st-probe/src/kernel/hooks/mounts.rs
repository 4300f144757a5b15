//! Hooks that tell what is mounted where: all that changes the mounts of any namespace, in the order
//! in which it happens. All functions are those of fs/namespace.c, if nothing else is said.

use super::Fetch::{Number, Return, String};
use super::Point::{Enter, Leave};
use super::{Condition, Fetch, HookRow, row, service};
use crate::stream::vocabulary::{Role, Service, Subject, Value};

/// A mount: neither MS_REMOUNT nor a change of propagation (include/uapi/linux/mount.h).
const MOUNTS: &[Condition] = &[Condition::NoneOf(Value::Flags, 0x1e_0020)];
/// The caller gets a new mount namespace: CLONE_NEWNS (include/uapi/linux/sched.h).
const NEW_NAMESPACES: &[Condition] = &[Condition::AnyOf(Value::Flags, 0x2_0000)];
/// A mount is made MS_PRIVATE that is in no namespace any more: umount_tree() does so.
const DETACHED: &[Condition] = &[
    Condition::In(Value::Type, &[0x4_0000]),
    Condition::In(Value::MntNs, &[0]),
];

/// umount_tree() has taken it out of its namespace: MNT_UMOUNT (include/linux/mount.h).
const UNMOUNTED: &[Condition] = &[Condition::AnyOf(Value::Flags, 0x800_0000)];

const ID: Fetch = Number(Value::Mount, "mnt->mnt_id");

/// A mount gets its place, which it knows already.
const fn attach(role: Role, function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    row(
        Subject::Service(Service::Attach),
        role,
        Enter(function),
        fetch,
    )
}

/// Where it is mounted: the device is that of the file system that its mount point is on.
const fn place(function: &'static str) -> HookRow {
    let fetch = &[
        ID,
        Number(Value::ParentMount, "mnt->mnt_parent->mnt_id"),
        Number(Value::Dev, "mnt->mnt_parent->mnt.mnt_sb->s_dev"),
    ];
    attach(Role::Entry, function, fetch).names("mnt->mnt_mountpoint")
}

/// What is mounted.
const fn mounted(function: &'static str) -> HookRow {
    let fetch = &[
        ID,
        Number(Value::Dev, "mnt->mnt.mnt_sb->s_dev"),
        String(Value::Fstype, "mnt->mnt.mnt_sb->s_type->name"),
    ];
    attach(Role::Old, function, fetch).names("mnt->mnt.mnt_root")
}

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // These are called just before it mounts, unmounts or moves a mount: they tell when mountinfo is
    // to be read.
    service(
        Service::Mount,
        Enter("security_sb_mount"),
        &[Number(Value::Flags, "flags")],
    )
    .filter(MOUNTS)
    .optional(),
    service(Service::Mount, Enter("security_sb_umount"), &[]).optional(),
    service(Service::Mount, Enter("security_move_mount"), &[]).optional(),
    // What mounts, binds, moves, copies, propagates or pivots comes here, once for each mount: from
    // Linux 6.17 on to the first, before to the second.
    place("make_visible").optional(),
    mounted("make_visible").optional(),
    place("__attach_mnt").before("make_visible"),
    mounted("__attach_mnt").before("make_visible"),
    // fs/pnode.c: umount_tree() calls it for each mount that it takes out of a namespace ...
    service(
        Service::Detach,
        Enter("change_mnt_propagation"),
        &[
            ID,
            Number(Value::Type, "type"),
            Number(Value::MntNs, "mnt->mnt_ns"),
        ],
    )
    .filter(DETACHED)
    .before("bulk_make_private"),
    // ... and where that is done for all at once (Linux 6.17), each of them (but those that stay on
    // another one that is unmounted) is put before umount(2) returns. 6.17 and 6.18 lack this
    // function.
    service(
        Service::Detach,
        Enter("mntput_no_expire_slowpath"),
        &[ID, Number(Value::Flags, "mnt->mnt.mnt_flags")],
    )
    .filter(UNMOUNTED)
    .optional(),
    // The mounts of a namespace are copied by attaching each to its parent's copy. Only the result
    // tells which one is the uppermost, and the number of the namespace.
    service(
        Service::Namespace,
        Enter("copy_mnt_ns"),
        &[Number(Value::Flags, "flags")],
    )
    .filter(NEW_NAMESPACES)
    .optional(),
    row(
        Subject::Service(Service::Namespace),
        Role::Return,
        Leave("copy_mnt_ns"),
        &[
            Return,
            Number(Value::Inum, "$retval->ns.inum"),
            Number(Value::Mount, "$retval->root->mnt_id"),
            Number(Value::Dev, "$retval->root->mnt.mnt_sb->s_dev"),
            String(Value::Fstype, "$retval->root->mnt.mnt_sb->s_type->name"),
        ],
    )
    .names("$retval->root->mnt.mnt_root")
    .optional(),
];
