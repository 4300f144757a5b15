//! Where directories are: mounts, and those that the snapshot looks at.

use super::Fetch::{Names, Number};
use super::Point::Enter;
use super::{DIRECTORY, Hook, MOUNT, NAMESPACE, Role, SHUTDOWN, hook};

/// Neither MS_REMOUNT nor a change of propagation: include/uapi/linux/mount.h.
const MOUNTS: &str = "!(flags & 0x1e0020)";
/// CLONE_NEWNS: include/uapi/linux/sched.h.
const NEW_NAMESPACES: &str = "flags & 0x20000";

/// The rows.
pub const HOOKS: &[Hook] = &[
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
];
