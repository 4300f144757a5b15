//! Hooks that tell which mode comes of an access control list: it is set without notify_change(),
//! whether the list says more than the mode (setfacl(1)) or not (cp(1), which copies modes so).

use super::Fetch::{Number, Stack, String};
use super::{Condition, Fetch, HookRow, detail, entry, leave};
use crate::stream::vocabulary::{Event, Value};

/// The extended attribute is the ACL that comes with the mode: XATTR_NAME_POSIX_ACL_ACCESS
/// (include/uapi/linux/xattr.h).
const ACCESS_ACL: &[Condition] = &[Condition::Is(Value::Name, "system.posix_acl_access")];
/// The same: ACL_TYPE_ACCESS (include/uapi/linux/posix_acl.h).
const OF_ACCESS: &[Condition] = &[Condition::In(Value::Type, &[0x8000])];

/// What is fetched where a function is entered that sets or removes the extended attribute
/// `name`, a parameter, of a `dentry`.
const fn before_acl(name: &'static str) -> [Fetch; 9] {
    [
        Stack,
        String(Value::Name, name),
        Number(Value::Mode, "dentry->d_inode->i_mode"),
        Number(Value::Dev, "dentry->d_sb->s_dev"),
        Number(Value::Ino, "dentry->d_inode->i_ino"),
        // As for notify_change().
        Number(Value::Hashed, "dentry->d_hash.pprev"),
        Number(Value::Dentry, "dentry"),
        Number(Value::Parent, "dentry->d_parent"),
        Number(Value::Root, "dentry->d_sb->s_root"),
    ]
}

/// What is fetched once that is done.
const fn after_acl(name: &'static str) -> [Fetch; 2] {
    [
        String(Value::Name, name),
        Number(Value::Mode, "dentry->d_inode->i_mode"),
    ]
}

/// A call begins that is to set or remove an ACL.
const fn begins(function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    entry(Event::Attrib, function, fetch)
        .names("dentry")
        .filter(ACCESS_ACL)
        .optional()
}

/// Within it, that is done.
const fn done(function: &'static str, fetch: &'static [Fetch]) -> HookRow {
    detail(Event::Attrib, function, fetch)
        .filter(ACCESS_ACL)
        .optional()
}

/// It ends.
const fn ends(function: &'static str) -> HookRow {
    leave(Event::Attrib, function).optional()
}

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // From Linux 6.2 on, fs/posix_acl.c:
    begins("vfs_set_acl", &before_acl("acl_name")),
    done("security_inode_post_set_acl", &after_acl("acl_name")),
    ends("vfs_set_acl"),
    begins("vfs_remove_acl", &before_acl("acl_name")),
    done("security_inode_post_remove_acl", &after_acl("acl_name")),
    ends("vfs_remove_acl"),
    // Before Linux 6.9, these two are in the place of the two that are done above:
    // security/integrity/evm/evm_main.c, and fs/posix_acl.c, which is called before the mode is set
    // that comes of an ACL, but after it is set that comes of a removal.
    done("evm_inode_post_setxattr", &after_acl("xattr_name")).before("security_inode_post_set_acl"),
    detail(
        Event::Attrib,
        "set_cached_acl",
        &[
            Number(Value::Type, "type"),
            Number(Value::Mode, "inode->i_mode"),
        ],
    )
    .filter(OF_ACCESS)
    .before("security_inode_post_remove_acl"),
    // Before Linux 6.2, fs/xattr.c:
    begins("vfs_setxattr", &before_acl("name")).before("vfs_set_acl"),
    done("security_inode_post_setxattr", &after_acl("name")).before("vfs_set_acl"),
    ends("vfs_setxattr").before("vfs_set_acl"),
    begins("vfs_removexattr", &before_acl("name")).before("vfs_set_acl"),
    ends("vfs_removexattr").before("vfs_set_acl"),
];
