//! Grace periods of RCU: to wait for one, and to shorten those that the kernel waits for.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

/// Commands of membarrier(2): include/uapi/linux/membarrier.h.
const QUERY: i32 = 0;
const GLOBAL: i32 = 1;

/// The pause between two rounds over the CPUs.
const PAUSE: Duration = Duration::from_millis(2);
/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// Whether [`wait`] works: not on a kernel that was booted with nohz_full=, or has no
/// membarrier(2).
pub fn can_wait() -> bool {
    membarrier(QUERY).is_ok_and(|commands| commands & GLOBAL != 0)
}

/// Waits for a grace period: until each CPU has left every section in which preemption was off
/// when this was called (kernel/sched/membarrier.c, synchronize_rcu). That takes 8 to 20 ms on
/// an idle machine.
pub fn wait() -> io::Result<()> {
    membarrier(GLOBAL).map(drop)
}

#[allow(unsafe_code)]
fn membarrier(command: i32) -> io::Result<i32> {
    // SAFETY: three numbers go in, one comes out.
    match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
        result if result >= 0 => Ok(result as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does `work`, which makes the kernel wait for grace periods, while a thread runs on one CPU
/// after the other.
///
/// A grace period lasts until each CPU has switched tasks, or its tick has found it outside of
/// the kernel (kernel/rcu/tree_plugin.h, rcu_note_context_switch and rcu_flavor_sched_clock_irq);
/// that may take long on a CPU that is busy in the kernel. Linux 5.10 waits for a grace period for
/// each probe that it removes. The thread makes each CPU switch tasks.
pub fn shortened<T>(work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let visitor = thread::Builder::new().spawn_scoped(scope, || {
            while !over.load(Relaxed) && visit_all().is_ok() {
                thread::sleep(PAUSE);
            }
        });
        let result = work();
        over.store(true, Relaxed);
        // Without the thread, the work took longer. The thread is joined, since it may outlive its
        // scope otherwise, and a caller that forks next must be the only thread.
        let _ = visitor.map(ScopedJoinHandle::join);
        result
    })
}

/// Runs once on each CPU that this thread may run on.
fn visit_all() -> nix::Result<()> {
    let allowed = sched_getaffinity(THIS)?;
    for cpu in 0..CpuSet::count() {
        if allowed.is_set(cpu)? {
            let mut one = CpuSet::new();
            one.set(cpu)?;
            // The CPU may have gone offline meanwhile.
            let _ = sched_setaffinity(THIS, &one);
        }
    }
    sched_setaffinity(THIS, &allowed)
}
