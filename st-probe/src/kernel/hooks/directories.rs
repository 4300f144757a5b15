//! Where directories are: mounts, and those that the snapshot looks at.

use super::Fetch::Number;
use super::Point::Enter;
use super::{Condition, HookRow, service};
use crate::stream::vocabulary::{Service, Value};

/// Neither MS_REMOUNT nor a change of propagation: include/uapi/linux/mount.h.
const MOUNTS: &[Condition] = &[Condition::NoneOf(Value::Flags, 0x1e_0020)];
/// CLONE_NEWNS: include/uapi/linux/sched.h.
const NEW_NAMESPACES: &[Condition] = &[Condition::AnyOf(Value::Flags, 0x2_0000)];

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // fs/namespace.c asks for permission just before it mounts, unmounts or moves.
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
    // fs/super.c: its device number may be given to another one as soon as this is done.
    service(
        Service::Shutdown,
        Enter("generic_shutdown_super"),
        &[Number(Value::Dev, "sb->s_dev")],
    )
    .optional(),
    // statfs(2) does nothing to the directory, and few others call it; what a probe fetches
    // is paid by every caller, whatever its filter.
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
