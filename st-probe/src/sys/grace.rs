//! Grace periods of RCU that do not drag on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

/// How long to wait between two rounds over the CPUs.
const PAUSE: Duration = Duration::from_millis(2);
/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// Does `work`, which makes the kernel wait for grace periods, while a thread visits one CPU
/// after the other.
///
/// A grace period lasts until each CPU has switched tasks, or its tick met it outside of the
/// kernel (kernel/rcu/tree_plugin.h, rcu_note_context_switch and rcu_flavor_sched_clock_irq); a
/// CPU that is busy in the kernel may take long. Linux 5.10 waits for one for each probe that it
/// removes. A visit is a switch.
pub fn shortened<T>(work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let visitor = thread::Builder::new().spawn_scoped(scope, || {
            while !over.load(Relaxed) && visit().is_ok() {
                thread::sleep(PAUSE);
            }
        });
        let result = work();
        over.store(true, Relaxed);
        // If it could not begin, that took longer. It is waited for, since a thread may still be
        // there when its scope is over, and whoever forks next wants to be alone.
        let _ = visitor.map(ScopedJoinHandle::join);
        result
    })
}

/// Runs on each CPU once that this thread may run on.
fn visit() -> nix::Result<()> {
    let allowed = sched_getaffinity(THIS)?;
    for cpu in 0..CpuSet::count() {
        if allowed.is_set(cpu)? {
            let mut one = CpuSet::new();
            one.set(cpu)?;
            // It may have been taken away meanwhile.
            let _ = sched_setaffinity(THIS, &one);
        }
    }
    sched_setaffinity(THIS, &allowed)
}
