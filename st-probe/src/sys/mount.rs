//! Mounts that are in no mount namespace.

use super::new_descriptor;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Mounts a file system of this type without attaching it anywhere: fsopen(2), fsconfig(2),
/// fsmount(2), Linux 5.2. The mount ends when the descriptor, which is its root, is closed.
#[allow(unsafe_code)]
pub fn mount_detached(kind: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads a string that lives until the call returns; the descriptor is new.
    let context = unsafe {
        let fd = libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC);
        new_descriptor(fd)?
    };
    let null = std::ptr::null::<u8>();
    // SAFETY: FSCONFIG_CMD_CREATE takes neither a key nor a value.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            libc::FSCONFIG_CMD_CREATE,
            null,
            null,
            0,
        )
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the arguments are numbers; the descriptor is new.
    unsafe {
        let flags = libc::FSMOUNT_CLOEXEC;
        let fd = libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), flags, 0);
        new_descriptor(fd)
    }
}
