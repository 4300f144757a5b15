//! What the stages after st-probe give up before they read their first byte.
//!
//! They read what comes from the kernel and from everybody's file names, and need nothing but
//! their open descriptors and memory. So no file, no network, no process is theirs to reach
//! afterwards, whoever started them, even if somebody should find out how to make one of them
//! run his code.

use crate::stream::arch::Arch;
use std::io;

/// The user and the group that own nothing: `nobody`, as the kernel's overflow id has it
/// (kernel/sys.c).
const NOBODY: libc::uid_t = 65534;

/// The system calls that are left: input, output, memory, locks, time, signals, the end.
const ALLOWED: [libc::c_long; 30] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
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

/// Gives up root, new privileges, and all system calls but a few. Returns what could not be
/// given up, for people.
pub fn confine() -> Vec<String> {
    let steps = [
        ("new privileges", no_new_privileges()),
        ("root", nobody()),
        ("system calls", few_system_calls()),
    ];
    let failed = steps.into_iter().filter_map(|(what, result)| {
        let error = result.err()?;
        Some(format!("cannot give up {what}: {error}"))
    });
    failed.collect()
}

#[allow(unsafe_code)]
fn no_new_privileges() -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

/// Becomes nobody if this is root; with that go all capabilities.
#[allow(unsafe_code)]
fn nobody() -> io::Result<()> {
    // SAFETY: numbers and no groups.
    unsafe {
        if libc::geteuid() != 0 && libc::getuid() != 0 {
            return Ok(());
        }
        check(libc::setgroups(0, std::ptr::null()).into())?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY).into())?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY).into())
    }
}

/// Lets the kernel refuse (EPERM) all system calls but [`ALLOWED`].
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
    // From each to the last statement, and from the last one to the refusal before that.
    filter.extend(
        ALLOWED
            .iter()
            .rev()
            .enumerate()
            .rev()
            .map(|(after, call)| libc::sock_filter {
                jt: after as u8 + 1,
                ..statement(equal, *call as u32)
            }),
    );
    filter.push(statement(libc::BPF_RET, refuse));
    filter.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives until then.
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
