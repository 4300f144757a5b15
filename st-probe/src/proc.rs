//! What st-probe tells of the machine beside the ring buffer: clocks and processes.

use crate::record::{Process, Thread};
use crate::wire;
use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use std::fs;

/// Now, in nanoseconds of a clock.
pub fn now(clock: ClockId) -> Result<u64> {
    let time = clock_gettime(clock).context("cannot read a clock")?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// CLOCK_MONOTONIC and CLOCK_REALTIME at one instant: the closest of some tries, since we may
/// be held up between two looks.
pub fn clocks() -> Result<(u64, u64)> {
    let mut closest = (u64::MAX, 0, 0);
    for _ in 0..10 {
        let before = now(ClockId::CLOCK_MONOTONIC)?;
        let realtime = now(ClockId::CLOCK_REALTIME)?;
        let after = now(ClockId::CLOCK_MONOTONIC)?;
        closest = closest.min((after - before, before.midpoint(after), realtime));
    }
    Ok((closest.1, closest.2))
}

/// Hands out a `process` record, with its time, for each process alive.
pub fn processes(mut take: impl FnMut(u64, Vec<u8>)) -> Result<()> {
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let Some(pid) = entry
            .ok()
            .and_then(|entry| entry.file_name().to_str()?.parse().ok())
        else {
            continue;
        };
        let ts = now(ClockId::CLOCK_MONOTONIC)?;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        // A thread that ends while we look has a record of its exit in the ring buffer.
        let threads = tasks.filter_map(|task| {
            let task = task.ok()?;
            let comm = fs::read(task.path().join("comm")).ok()?;
            let comm = comm.strip_suffix(b"\n").unwrap_or(&comm).to_vec();
            Some(Thread {
                tid: task.file_name().to_str()?.parse().ok()?,
                comm: comm.into(),
            })
        });
        let process = Process {
            ts,
            pid,
            threads: threads.collect(),
        };
        let mut record = Vec::new();
        wire::write(&process, &mut record);
        take(ts, record);
    }
    Ok(())
}
