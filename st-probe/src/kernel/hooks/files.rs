//! Hooks that tell what happens to files.

use super::Fetch::{Number, Stack, String};
use super::{Condition, HookRow, carried, carry, detail, entry, gone, inode, leave, old, target};
use crate::stream::vocabulary::{Event, Value};

/// The mode, the owner or the group is set: ATTR_MODE, ATTR_UID, ATTR_GID (include/linux/fs.h).
const SETS: &[Condition] = &[Condition::AnyOf(Value::Valid, 0x7)];
/// The same may come of it: also ATTR_KILL_SUID, ATTR_KILL_SGID or ATTR_KILL_PRIV, which
/// notify_change() may turn into ATTR_MODE.
const MAY_SET: &[Condition] = &[Condition::AnyOf(Value::Valid, 0x5807)];
/// The inode is of a file system, and not of pipe(2), socket(2) or an anonymous file, which are
/// made all the time: PIPEFS_MAGIC, SOCKFS_MAGIC, ANON_INODE_FS_MAGIC
/// (include/uapi/linux/magic.h).
const FILES: &[Condition] = &[Condition::NotIn(
    Value::Magic,
    &[0x5049_5045, 0x534f_434b, 0x0904_1934],
)];
/// It is a directory: S_IFDIR (include/uapi/linux/stat.h), a bit that block devices have, too.
const DIRECTORIES: &[Condition] = &[
    Condition::AnyOf(Value::Mode, 0x4000),
    Condition::NoneOf(Value::Mode, 0xa000),
];

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // open(O_CREAT), and mknod(S_IFREG), which calls vfs_create(): the kernel asks for permission
    // before the file system looks whether the file exists (fs/namei.c, lookup_open()).
    // d_instantiate*() (fs/dcache.c) runs for new inodes only: look-ups call d_splice_alias() and
    // d_add().
    entry(
        Event::Create,
        "security_inode_create",
        &[
            Stack,
            Number(Value::Dentry, "dentry"),
            Number(Value::Parent, "dentry->d_parent"),
            Number(Value::Hash, "dentry->d_name.hash_len"),
            Number(Value::Dev, "dentry->d_sb->s_dev"),
        ],
    )
    .names("dentry"),
    inode(
        "d_instantiate",
        &[
            Number(Value::Dentry, "entry"),
            Number(Value::Ino, "inode->i_ino"),
            Number(Value::Mode, "inode->i_mode"),
            Number(Value::Parent, "entry->d_parent"),
            Number(Value::Hash, "entry->d_name.hash_len"),
            Number(Value::Magic, "entry->d_sb->s_magic"),
        ],
    )
    .filter(FILES),
    inode(
        "d_instantiate_new",
        &[
            Number(Value::Dentry, "entry"),
            Number(Value::Parent, "entry->d_parent"),
            Number(Value::Hash, "entry->d_name.hash_len"),
            Number(Value::Ino, "inode->i_ino"),
            Number(Value::Mode, "inode->i_mode"),
        ],
    ),
    // From Linux 7.0 on, tmpfs and other file systems that are in the dentry cache alone call this
    // instead.
    inode(
        "d_make_persistent",
        &[
            Number(Value::Dentry, "dentry"),
            Number(Value::Parent, "dentry->d_parent"),
            Number(Value::Hash, "dentry->d_name.hash_len"),
            Number(Value::Ino, "inode->i_ino"),
            Number(Value::Mode, "inode->i_mode"),
        ],
    )
    .optional(),
    // fs/overlayfs/dir.c: what calls vfs_create() on a layer, and much else. What overlayfs does for
    // the other events is within calls whose entry and return are recorded.
    carry(Event::Create, "ovl_create"),
    carried(Event::Create, "ovl_create"),
    // fs/namei.c
    entry(
        Event::Mkdir,
        "vfs_mkdir",
        &[
            Stack,
            Number(Value::Dentry, "dentry"),
            Number(Value::Dev, "dentry->d_sb->s_dev"),
            Number(Value::Mode, "mode"),
        ],
    )
    .names("dentry"),
    leave(Event::Mkdir, "vfs_mkdir"),
    entry(
        Event::Mknod,
        "vfs_mknod",
        &[
            Stack,
            Number(Value::Dentry, "dentry"),
            Number(Value::Dev, "dentry->d_sb->s_dev"),
            Number(Value::Mode, "mode"),
            Number(Value::Rdev, "dev"),
        ],
    )
    .names("dentry"),
    leave(Event::Mknod, "vfs_mknod"),
    entry(
        Event::Delete,
        "vfs_unlink",
        &[
            Stack,
            Number(Value::Dev, "dentry->d_sb->s_dev"),
            Number(Value::Ino, "dentry->d_inode->i_ino"),
        ],
    )
    .names("dentry"),
    leave(Event::Delete, "vfs_unlink"),
    // Not vfs_rmdir(): Linux 5.10 calls a part of it that has another name. vfs_rmdir() calls
    // d_delete() (fs/dcache.c) only once the directory is removed.
    entry(
        Event::Rmdir,
        "security_inode_rmdir",
        &[
            Stack,
            Number(Value::Dentry, "dentry"),
            Number(Value::Parent, "dentry->d_parent"),
            Number(Value::Hash, "dentry->d_name.hash_len"),
            Number(Value::Dev, "dentry->d_sb->s_dev"),
            Number(Value::Ino, "dentry->d_inode->i_ino"),
        ],
    )
    .names("dentry"),
    gone(
        Event::Rmdir,
        "d_delete",
        &[
            Number(Value::Dentry, "dentry"),
            Number(Value::Parent, "dentry->d_parent"),
            Number(Value::Hash, "dentry->d_name.hash_len"),
            Number(Value::Mode, "dentry->d_inode->i_mode"),
        ],
    )
    .filter(DIRECTORIES),
    // fs/overlayfs/dir.c: vfs_rmdir() calls this between the two.
    carry(Event::Rmdir, "ovl_rmdir"),
    carried(Event::Rmdir, "ovl_rmdir"),
    // Two hooks, since a record must fit a sub-buffer: two chains of 255-byte names do not.
    entry(
        Event::Rename,
        "vfs_rename",
        &[
            Stack,
            Number(Value::Dev, "rd->new_dentry->d_sb->s_dev"),
            // The inode that has the new name already; 0 if there is none.
            Number(Value::Inode, "rd->new_dentry->d_inode"),
            Number(Value::Ino, "rd->new_dentry->d_inode->i_ino"),
            Number(Value::Mode, "rd->new_dentry->d_inode->i_mode"),
            Number(Value::Flags, "rd->flags"),
        ],
    )
    .names("rd->new_dentry"),
    old(
        Event::Rename,
        "vfs_rename",
        &[
            Stack,
            Number(Value::Inode, "rd->old_dentry->d_inode"),
            Number(Value::Ino, "rd->old_dentry->d_inode->i_ino"),
            Number(Value::Mode, "rd->old_dentry->d_inode->i_mode"),
        ],
    )
    .names("rd->old_dentry"),
    leave(Event::Rename, "vfs_rename"),
    // fs/attr.c: security_inode_setattr() gets the values that will be set, notify_change() those
    // that were asked for.
    entry(
        Event::Attrib,
        "notify_change",
        &[
            Stack,
            Number(Value::Valid, "attr->ia_valid"),
            Number(Value::Dev, "dentry->d_sb->s_dev"),
            Number(Value::Ino, "dentry->d_inode->i_ino"),
            Number(Value::Hashed, "dentry->d_hash.pprev"),
            // The root is fetched since a dentry that is its own parent may be another one: of a
            // file that was opened by handle, or that never had a name (memfd_create(2)).
            Number(Value::Dentry, "dentry"),
            Number(Value::Parent, "dentry->d_parent"),
            Number(Value::Root, "dentry->d_sb->s_root"),
        ],
    )
    .names("dentry")
    .filter(MAY_SET),
    detail(
        Event::Attrib,
        "security_inode_setattr",
        &[
            Number(Value::Valid, "attr->ia_valid"),
            Number(Value::Mode, "attr->ia_mode"),
            Number(Value::Uid, "attr->ia_uid.val"),
            Number(Value::Gid, "attr->ia_gid.val"),
        ],
    )
    .filter(SETS),
    leave(Event::Attrib, "notify_change"),
    entry(
        Event::Symlink,
        "vfs_symlink",
        &[
            Stack,
            Number(Value::Dentry, "dentry"),
            Number(Value::Dev, "dentry->d_sb->s_dev"),
        ],
    )
    .names("dentry"),
    target(
        Event::Symlink,
        "vfs_symlink",
        &[Stack, String(Value::Target, "oldname")],
    ),
    leave(Event::Symlink, "vfs_symlink"),
    entry(
        Event::Link,
        "vfs_link",
        &[
            Stack,
            Number(Value::Dentry, "new_dentry"),
            Number(Value::Dev, "new_dentry->d_sb->s_dev"),
        ],
    )
    .names("new_dentry"),
    old(
        Event::Link,
        "vfs_link",
        &[
            Stack,
            Number(Value::Ino, "old_dentry->d_inode->i_ino"),
            // 0 for a file that has no name yet (O_TMPFILE).
            Number(Value::Nlink, "old_dentry->d_inode->i_nlink"),
            Number(Value::Hashed, "old_dentry->d_hash.pprev"),
        ],
    )
    .names("old_dentry"),
    leave(Event::Link, "vfs_link"),
];
