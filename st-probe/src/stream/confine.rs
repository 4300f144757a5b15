//! The privileges and system calls that the stages after st-probe give up before they read their
//! first byte.
//!
//! These stages read bytes from the kernel and names of files that any user may have made. They
//! need only their open descriptors and memory. So they can reach no file, no network and no
//! other process afterwards, whoever started them, even if an attacker finds a way to run code in
//! one of them.

use crate::stream::arch::Arch;
use std::io;

/// The user and the group `nobody`, which own nothing: the kernel's overflow id (kernel/sys.c).
const NOBODY: libc::uid_t = 65534;

/// The system calls that a stage keeps: for input, output, memory, locks, time, signals and exit.
const ALLOWED: [libc::c_long; 31] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Gives up root, new privileges, and all system calls but [`ALLOWED`]. Returns a message for
/// each of these that could not be given up.
pub fn confine() -> Vec<String> {
    let steps = [
        ("new privileges", no_new_privileges()),
        ("root", nobody()),
        ("system calls", few_system_calls()),
    ];
    let mut messages = Vec::new();
    for (what, result) in steps {
        if let Err(error) = result {
            messages.push(format!("cannot give up {what}: {error}"));
        }
    }
    messages
}

#[allow(unsafe_code)]
fn no_new_privileges() -> io::Result<()> {
    // SAFETY: prctl(2) takes numbers only here.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

/// Changes to the user and the group `nobody` if this process is root's; so it loses all
/// capabilities.
#[allow(unsafe_code)]
fn nobody() -> io::Result<()> {
    // SAFETY: the calls take numbers only: the list of groups is empty.
    unsafe {
        if libc::geteuid() != 0 && libc::getuid() != 0 {
            return Ok(());
        }
        check(libc::setgroups(0, std::ptr::null()).into())?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY).into())?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY).into())
    }
}

/// Lets the kernel refuse all system calls but [`ALLOWED`], with EPERM: seccomp(2).
#[allow(unsafe_code)]
fn few_system_calls() -> io::Result<()> {
    // The filter is for this program, which may be one of 32 bits on a kernel of 64.
    let Some(arch) = Arch::of(std::env::consts::ARCH) else {
        return Err(io::Error::other("no filter for this architecture"));
    };
    // Offsets in struct seccomp_data: the number and the architecture.
    const NUMBER: u32 = 0;
    const ARCHITECTURE: u32 = 4;
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = vec![
        statement(load, ARCHITECTURE),
        libc::sock_filter {
            jt: 1,
            ..statement(equal, arch.audit)
        },
        statement(libc::BPF_RET, refuse),
        statement(load, NUMBER),
    ];
    // Each comparison that holds jumps to the last statement, which allows. After the last
    // comparison comes the statement that refuses.
    for (at, call) in ALLOWED.iter().enumerate() {
        filter.push(libc::sock_filter {
            jt: (ALLOWED.len() - at) as u8,
            ..statement(equal, *call as u32)
        });
    }
    filter.push(statement(libc::BPF_RET, refuse));
    filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program before the call returns.
    check(
        unsafe {
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
        }
        .into(),
    )
}

fn check(result: i64) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
