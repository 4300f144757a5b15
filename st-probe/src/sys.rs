//! Thin wrappers of system calls, and readers of the kernel's file systems below injected roots.

pub mod capabilities;
pub mod clock;
pub mod grace;
pub mod mount;
pub mod namespaces;
pub mod poll;
pub mod proc;
pub mod process;
pub mod signals;
pub mod sysfs;
pub mod uname;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The descriptor that a system call returned, or the error that it left in errno.
///
/// # Safety
///
/// `result` is what a system call returned that makes a descriptor, and nobody else owns that.
#[allow(unsafe_code)]
unsafe fn new_descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(result) {
        // SAFETY: the caller says that the descriptor is new and has no other owner.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
