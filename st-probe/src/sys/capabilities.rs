//! What root may do that this process will not: capabilities(7).

use anyhow::{Context, Result};
use std::io;

/// Reads and searches whatever there is. From include/uapi/linux/capability.h, like the others.
pub const DAC_READ_SEARCH: u32 = 2;
/// Opens other people's directories without a trace in their access times.
pub const FOWNER: u32 = 3;
/// Sends signals to anybody's processes.
pub const KILL: u32 = 5;
/// Looks at anybody's processes in /proc.
pub const SYS_PTRACE: u32 = 19;

/// _LINUX_CAPABILITY_VERSION_3: two words of flags a set.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up all capabilities but these, for good: neither this thread and those that it makes,
/// nor what they execute, will have others.
#[allow(unsafe_code)]
pub fn keep(kept: &[u32]) -> Result<()> {
    nix::sys::prctl::set_no_new_privs().context("cannot give up new privileges")?;
    // SAFETY: prctl(2) with numbers only. It refuses those that the kernel does not have.
    let dropped =
        |capability: &u32| unsafe { libc::prctl(libc::PR_CAPBSET_DROP, *capability, 0, 0, 0) } == 0;
    (0..64u32)
        .filter(|capability| !kept.contains(capability))
        .take_while(dropped)
        .for_each(drop);
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut sets = [Data::default(); 2];
    let mask = |set, capability: &u32| set | 1u32 << capability;
    let mask = kept.iter().fold(0, mask);
    // SAFETY: the structures are as capget(2) wants them for this version.
    let done = unsafe {
        libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) == 0 && {
            let permitted = sets[0].permitted & mask;
            let low = Data {
                effective: permitted,
                permitted,
                inheritable: 0,
            };
            sets = [low, Data::default()];
            libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) == 0
        }
    };
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error()).context("cannot give up capabilities")
    }
}
