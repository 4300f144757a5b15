//! Hooks that tell where directories are, beside the mounts: file systems that are shut down, and
//! the directories that a walk looks at.

use super::Fetch::Number;
use super::Point::Enter;
use super::{HookRow, service};
use crate::stream::vocabulary::{Service, Value};

/// The rows.
pub const HOOKS: &[HookRow] = &[
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
