//! File systems that are not walked.

/// Names and super block magic numbers of file systems that have no directories of their own, or
/// whose directories belong to another machine or program, which may keep a walk waiting:
/// include/uapi/linux/magic.h; the last ones fs/smb/client, fs/ceph, fs/fuse, fs/nfs, fs/9p.
const NOT_WALKED: [(&str, u32); 26] = [
    ("proc", 0x9fa0),
    ("sysfs", 0x6265_6572),
    ("cgroup", 0x0027_e0eb),
    ("cgroup2", 0x6367_7270),
    ("debugfs", 0x6462_6720),
    ("tracefs", 0x7472_6163),
    ("securityfs", 0x7363_6673),
    ("selinuxfs", 0xf97c_ff8c),
    ("bpf", 0xcafe_4a11),
    ("pstore", 0x6165_676c),
    ("efivarfs", 0xde5e_81e4),
    ("configfs", 0x6265_6570),
    ("devpts", 0x1cd1),
    ("mqueue", 0x1980_0202),
    ("binfmt_misc", 0x4249_4e4d),
    ("fusectl", 0x6573_5543),
    ("hugetlbfs", 0x9584_58f6),
    ("rpc_pipefs", 0x6759_6969),
    ("autofs", 0x0187),
    ("nfs", 0x6969),
    ("cifs", 0xff53_4d42),
    ("smb2", 0xfe53_4d42),
    ("ceph", 0x00c3_6400),
    ("9p", 0x0102_1997),
    ("fuse", 0x6573_5546),
    ("afs", 0x5346_414f),
];

/// The name of a file system that is not walked, by its magic number.
pub fn not_walked(magic: u32) -> Option<&'static str> {
    let found = NOT_WALKED.iter().find(|(_, not)| *not == magic);
    found.map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::statfs;

    #[test]
    fn knows_file_systems_by_their_magic_numbers() {
        assert_eq!(not_walked(statfs::PROC_SUPER_MAGIC.0 as u32), Some("proc"));
        assert_eq!(
            not_walked(statfs::SELINUX_MAGIC.0 as u32),
            Some("selinuxfs")
        );
        assert_eq!(not_walked(statfs::FUSE_SUPER_MAGIC.0 as u32), Some("fuse"));
        for walked in [
            statfs::EXT4_SUPER_MAGIC,
            statfs::TMPFS_MAGIC,
            statfs::OVERLAYFS_SUPER_MAGIC,
        ] {
            assert_eq!(not_walked(walked.0 as u32), None);
        }
        for (at, (name, magic)) in NOT_WALKED.iter().enumerate() {
            assert_eq!(not_walked(*magic), Some(*name), "{at}");
        }
    }
}
