//! The capabilities of root that this process keeps, and how it gives up the others:
//! capabilities(7).

use anyhow::{Context, Result};
use std::io;

/// Reads and searches every directory and file. The number is from
/// include/uapi/linux/capability.h, like those of the others.
pub const DAC_READ_SEARCH: u32 = 2;
/// Opens the directories of other users without a change of their access times.
pub const FOWNER: u32 = 3;
/// Sends signals to the processes of other users.
pub const KILL: u32 = 5;
/// Reads the processes of other users in /proc.
pub const SYS_PTRACE: u32 = 19;

/// _LINUX_CAPABILITY_VERSION_3: a set of capabilities is two words.
const VERSION: u32 = 0x2008_0522;
/// More capabilities than any kernel has: two words of 32 bits hold no more.
const COUNT: u32 = 64;

#[repr(C)]
struct Header {
    version: u32,
    /// The thread; 0 is the calling one.
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up all capabilities but `kept`, for good: this thread, the threads that it makes and the
/// programs that they execute will have no others. `kept` are numbers below 32.
pub fn keep(kept: &[u32]) -> Result<()> {
    nix::sys::prctl::set_no_new_privs().context("cannot give up new privileges")?;
    for capability in 0..COUNT {
        // The kernel refuses the first number that it has no capability for.
        if !kept.contains(&capability) && !drop_from_bounding_set(capability) {
            break;
        }
    }
    let mask = kept
        .iter()
        .fold(0, |mask, capability| mask | 1 << capability);
    restrict(mask).context("cannot give up capabilities")
}

/// Drops a capability from the bounding set, from which executed programs take theirs; false if
/// the kernel refuses.
#[allow(unsafe_code)]
fn drop_from_bounding_set(capability: u32) -> bool {
    // SAFETY: prctl(2) takes numbers only.
    unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == 0 }
}

/// Keeps only those permitted capabilities that are in `mask`, and makes them effective.
#[allow(unsafe_code)]
fn restrict(mask: u32) -> io::Result<()> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut sets = [Data::default(); 2];
    // SAFETY: the structures are as capget(2) wants them for this version.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let permitted = sets[0].permitted & mask;
    let low = Data {
        effective: permitted,
        permitted,
        inheritable: 0,
    };
    sets = [low, Data::default()];
    // SAFETY: the structures are as capset(2) wants them for this version.
    if unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
