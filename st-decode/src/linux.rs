//! Numbers of Linux that the records contain, under the names that Linux gives them.

use std::ops::RangeInclusive;

/// The child has the same parent as the caller of clone(2): include/uapi/linux/sched.h.
pub const CLONE_PARENT: i64 = 0x8000;
/// The child is a thread of the caller's process: include/uapi/linux/sched.h.
pub const CLONE_THREAD: i64 = 0x10000;
/// The child is the first process of a new pid namespace: include/uapi/linux/sched.h.
pub const CLONE_NEWPID: i64 = 0x2000_0000;
/// The child begins in another cgroup than its parent's: include/uapi/linux/sched.h.
pub const CLONE_INTO_CGROUP: i64 = 0x2_0000_0000;

/// All threads of a process end together, with one status: include/linux/sched/signal.h.
pub const SIGNAL_GROUP_EXIT: i64 = 4;

/// The hierarchy of cgroup v2 in `/proc/PID/cgroup`: cgroups(7).
pub const CGROUP2_HIERARCHY: u32 = 0;

/// The two names are exchanged: include/uapi/linux/fs.h.
pub const RENAME_EXCHANGE: u32 = 2;

/// A whiteout takes the old name: include/uapi/linux/fs.h.
pub const RENAME_WHITEOUT: u32 = 4;

/// notify_change() sets the mode: include/linux/fs.h.
pub const ATTR_MODE: i64 = 1;
/// notify_change() sets the owner: include/linux/fs.h.
pub const ATTR_UID: i64 = 2;
/// notify_change() sets the group: include/linux/fs.h.
pub const ATTR_GID: i64 = 4;

/// BTRFS_SUPER_MAGIC: include/uapi/linux/magic.h.
pub const BTRFS_SUPER_MAGIC: i64 = 0x9123_683e;

/// The largest errno that a return value can carry: include/linux/err.h.
const MAX_ERRNO: i64 = 4095;
/// Whether a return value is an error: include/linux/err.h, IS_ERR_VALUE().
pub fn is_error(value: i64) -> bool {
    (-MAX_ERRNO..0).contains(&value)
}

/// EINTR: include/uapi/asm-generic/errno-base.h.
pub const EINTR: i32 = 4;
/// The return values -ERESTART_RESTARTBLOCK to -ERESTARTSYS: a signal came while the call
/// waited. The call either returns EINTR to the process or is started again
/// (include/linux/errno.h).
pub const RESTARTS: RangeInclusive<i64> = -516..=-512;

/// AF_INET: include/linux/socket.h.
pub const AF_INET: i64 = 2;
/// AF_INET6: include/linux/socket.h.
pub const AF_INET6: i64 = 10;
/// The least length of an address that connect(2) takes for AF_INET: the size of struct
/// sockaddr_in, include/uapi/linux/in.h.
pub const SOCKADDR_IN_LENGTH: i64 = 16;
/// The least length for AF_INET6: SIN6_LEN_RFC2133, include/net/ipv6.h.
pub const SIN6_LEN_RFC2133: i64 = 24;
/// SOCK_RAW: include/linux/net.h.
pub const SOCK_RAW: i64 = 3;

/// The bits of a mode that are the type of the file, and some types: inode(7).
const S_IFMT: u32 = 0o170_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;

/// Whether a mode is that of a directory.
pub fn is_directory(mode: u32) -> bool {
    mode & S_IFMT == S_IFDIR
}

/// Whether a mode is that of a regular file.
pub fn is_regular(mode: u32) -> bool {
    mode & S_IFMT == S_IFREG
}

/// Whether a mode is that of a device.
pub fn is_device(mode: u32) -> bool {
    matches!(mode & S_IFMT, S_IFBLK | S_IFCHR)
}

/// How many bits of a dev_t of the kernel are the minor number: MINORBITS,
/// include/linux/kdev_t.h.
const MINORBITS: u32 = 20;

/// A dev_t of the kernel as `major:minor`.
pub fn device_number(dev: u32) -> String {
    let minor = dev & ((1 << MINORBITS) - 1);
    let (mut major, mut digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (major, minor) = (major.format(dev >> MINORBITS), digits.format(minor));
    let mut number = String::with_capacity(major.len() + 1 + minor.len());
    number.push_str(major);
    number.push(':');
    number.push_str(minor);
    number
}

/// The usual name of a protocol of IPv4 or IPv6: include/uapi/linux/in.h. `None` if it is not
/// one of the protocols that sockets usually have.
pub fn protocol_name(protocol: i64) -> Option<&'static str> {
    Some(match protocol {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        262 => "mptcp",
        _ => return None,
    })
}

/// How a process ended, by its wait status: wait(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an exit status.
    Exited(u8),
    /// By a signal.
    Killed(u8),
}

impl Ending {
    /// The signal is in the low seven bits, the exit status in the second byte.
    pub fn of(wait_status: i32) -> Self {
        match (wait_status & 0x7f) as u8 {
            0 => Self::Exited((wait_status >> 8) as u8),
            signal => Self::Killed(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_an_exit_status_or_a_signal() {
        assert_eq!(Ending::of(0x300), Ending::Exited(3));
        assert_eq!(Ending::of(9), Ending::Killed(9));
        // With a core dump.
        assert_eq!(Ending::of(0x8b), Ending::Killed(11));
    }

    #[test]
    fn a_device_number_has_a_minor_of_20_bits() {
        assert_eq!(device_number(0x0080_0001), "8:1");
        assert_eq!(device_number(0x000f_ffff), "0:1048575");
    }
}
