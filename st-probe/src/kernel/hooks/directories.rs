//! Hooks that tell where directories are: mounts, and the directories that a walk looks at.

use super::Fetch::Number;
use super::Point::Enter;
use super::{Condition, HookRow, service};
use crate::stream::vocabulary::{Service, Value};

/// A mount: neither MS_REMOUNT nor a change of propagation (include/uapi/linux/mount.h).
const MOUNTS: &[Condition] = &[Condition::NoneOf(Value::Flags, 0x1e_0020)];
/// The caller gets a new mount namespace: CLONE_NEWNS (include/uapi/linux/sched.h).
const NEW_NAMESPACES: &[Condition] = &[Condition::AnyOf(Value::Flags, 0x2_0000)];

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // fs/namespace.c calls these just before it mounts, unmounts or moves a mount.
    service(
        Service::Mount,
        Enter("security_sb_mount"),
        &[Number(Value::Flags, "flags")],
    )
    .filter(MOUNTS)
    .optional(),
    service(Service::Mount, Enter("security_sb_umount"), &[]).optional(),
    service(Service::Mount, Enter("security_move_mount"), &[]).optional(),
    // fs/namespace.c
    service(
        Service::Namespace,
        Enter("copy_mnt_ns"),
        &[Number(Value::Flags, "flags")],
    )
    .filter(NEW_NAMESPACES)
    .optional(),
    // fs/super.c: another file system may get its device number as soon as this has returned.
    service(
        Service::Shutdown,
        Enter("generic_shutdown_super"),
        &[Number(Value::Dev, "sb->s_dev")],
    )
    .optional(),
    // A walk calls statfs(2) of each directory: it changes nothing, and few programs call it.
    // Every caller pays for what a probe fetches, also one that the filter excludes.
    service(
        Service::Directory,
        Enter("security_sb_statfs"),
        &[
            Number(Value::Dev, "dentry->d_sb->s_dev"),
            Number(Value::Ino, "dentry->d_inode->i_ino"),
        ],
    )
    .names("dentry")
    .optional(),
];
