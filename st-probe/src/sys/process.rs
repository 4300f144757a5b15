//! What a process does with itself.

use super::new_descriptor;
use super::proc::Stat;
use anyhow::{Context, Result};
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;

/// A descriptor of this process, which can be polled for its end: pidfd_open(2), Linux 5.3.
#[allow(unsafe_code)]
pub fn pidfd_of_this() -> io::Result<OwnedFd> {
    let pid = std::process::id();
    // SAFETY: two numbers go in, a new descriptor comes out.
    unsafe { new_descriptor(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }
}

/// Gives this process another name, in its arguments too, if these have room for it. `stat` is
/// its own.
///
/// # Safety
///
/// No other thread uses this process's memory, and nobody reads the arguments afterwards.
#[allow(unsafe_code)]
pub unsafe fn rename(stat: &Stat, name: &CStr) -> Result<()> {
    nix::sys::prctl::set_name(name)?;
    let arguments = stat.arguments().context("no addresses of the arguments")?;
    let name = name.to_bytes();
    if name.len() < arguments.len() {
        let start = arguments.start as *mut u8;
        // SAFETY: the kernel says that it has put the arguments there, the caller that they are
        // not read meanwhile.
        unsafe {
            start.write_bytes(0, arguments.len());
            start.copy_from_nonoverlapping(name.as_ptr(), name.len());
        }
    }
    Ok(())
}
