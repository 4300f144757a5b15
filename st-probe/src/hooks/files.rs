//! What happens to files.

use super::Fetch::{Names, Number, Stack, String};
use super::Point::Enter;
use super::{Hook, INODE, Role, entry, hook, leave};

/// ATTR_MODE, ATTR_UID, ATTR_GID: include/linux/fs.h.
const SETS: &str = "valid & 0x7";
/// The same, and ATTR_KILL_SUID, ATTR_KILL_SGID, ATTR_KILL_PRIV, which notify_change() may
/// turn into ATTR_MODE.
const MAY_SET: &str = "valid & 0x5807";
/// Not the inodes of pipe(2), socket(2) and anonymous files, which are made all the time:
/// PIPEFS_MAGIC, SOCKFS_MAGIC, ANON_INODE_FS_MAGIC of include/uapi/linux/magic.h.
const FILES: &str = "magic != 0x50495045 && magic != 0x534f434b && magic != 0x09041934";
/// S_IFDIR: include/uapi/linux/stat.h. Block devices have its bit too.
const DIRECTORIES: &str = "mode & 0x4000 && !(mode & 0xa000)";

/// The rows.
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
];
