//! The clocks of the machine: clock_gettime(2).

use crate::stream::time::{Monotonic, Unix};
use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// How often two clocks are read, to find two readings that are close together.
const TRIES: u32 = 10;

/// The present instant of CLOCK_MONOTONIC.
pub fn now() -> Result<Monotonic> {
    read(ClockId::CLOCK_MONOTONIC).map(Monotonic)
}

/// CLOCK_MONOTONIC and CLOCK_REALTIME at one instant.
pub fn both() -> Result<(Monotonic, Unix)> {
    let (monotonic, realtime) = with_realtime(ClockId::CLOCK_MONOTONIC)?;
    Ok((Monotonic(monotonic), realtime))
}

/// When the machine was booted.
pub fn booted() -> Result<Unix> {
    let (since_boot, realtime) = with_realtime(ClockId::CLOCK_BOOTTIME)?;
    Ok(Unix(realtime.0.saturating_sub(since_boot)))
}

/// A clock in nanoseconds.
fn read(clock: ClockId) -> Result<u64> {
    let time = clock_gettime(clock).context("cannot read a clock")?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// A clock and CLOCK_REALTIME at one instant: the closest readings of some, since the scheduler
/// may stop this thread between two of them.
fn with_realtime(clock: ClockId) -> Result<(u64, Unix)> {
    let mut closest = (u64::MAX, 0, Unix(0));
    for _ in 0..TRIES {
        let before = read(clock)?;
        let realtime = Unix(read(ClockId::CLOCK_REALTIME)?);
        let after = read(clock)?;
        closest = closest.min((after - before, before.midpoint(after), realtime));
    }
    let (_, at, realtime) = closest;
    Ok((at, realtime))
}
