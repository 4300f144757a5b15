//! How long a test waits. A budget is the time that an idle machine would need, generously; a
//! machine that is busy with other work gets as much more time as it is slower.
//!
//! The pace changes while a test waits. So it is measured again and again: each [`SLICE`] of a
//! wait is charged at the pace that is measured at the end of that slice.

use anyhow::{Result, bail};
use nix::unistd::getppid;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// What anything may take on an idle machine: generous, since the machine is emulated.
const BUDGET: Duration = Duration::from_secs(90);
/// How long a wait goes on before the pace is measured.
pub const SLICE: Duration = Duration::from_secs(10);
/// The least time between two looks at a condition.
pub const PAUSE: Duration = Duration::from_millis(5);

/// How many system calls are made to measure the pace, and how long they take in scripts/vm on
/// an idle machine.
const CALLS: u32 = 100_000;
const REFERENCE: Duration = Duration::from_millis(45);

/// How much of the budget of a wait is left.
#[derive(Debug)]
pub struct Patience {
    begun: Instant,
    slice_begun: Instant,
    left: Duration,
    slowness: f64,
}

impl Patience {
    /// The usual budget.
    pub fn new() -> Self {
        Self::of(BUDGET)
    }

    /// A budget of so much time of an idle machine.
    pub fn of(budget: Duration) -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            slice_begun: now,
            left: budget,
            slowness: 1.0,
        }
    }

    /// Whether to wait on. To be called whenever the caller has looked at what it waits for.
    pub fn lasts(&mut self) -> bool {
        let waited = self.slice_begun.elapsed();
        if waited >= SLICE {
            self.slowness = slowness();
            self.left = self.left.saturating_sub(waited.div_f64(self.slowness));
            // The time that the measurement took is not charged.
            self.slice_begun = Instant::now();
        }
        !self.left.is_zero()
    }
}

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waited, slowness) = (self.begun.elapsed().as_secs(), self.slowness);
        write!(
            f,
            "waited {waited} s, the machine is {slowness:.1} times as slow as when idle"
        )
    }
}

/// How many times as long as on an idle machine a fixed piece of work takes now, at least once.
fn slowness() -> f64 {
    let begun = Instant::now();
    for _ in 0..CALLS {
        getppid();
    }
    let took = begun.elapsed().as_secs_f64();
    (took / REFERENCE.as_secs_f64()).max(1.0)
}

/// Waits until a condition holds; fails with `what` if it does not. `holds` only looks, and does not
/// wait itself.
pub fn wait_until(
    what: impl Fn() -> String,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let mut patience = Patience::new();
    loop {
        let begun = Instant::now();
        if holds()? {
            return Ok(());
        }
        if !patience.lasts() {
            bail!("{}: {patience}", what());
        }
        pause(begun);
    }
}

/// Waits until a count has come to `all`, as long as it rises: the budget is for each step.
/// Fails with `what` is counted if it does not rise any more.
pub fn wait_for_all(
    what: &str,
    all: usize,
    mut count: impl FnMut() -> Result<usize>,
) -> Result<()> {
    let (mut most, mut patience) = (0, Patience::new());
    loop {
        let begun = Instant::now();
        let counted = count()?;
        if counted >= all {
            return Ok(());
        }
        if counted > most {
            (most, patience) = (counted, Patience::new());
        }
        if !patience.lasts() {
            bail!("{counted} of {all} {what}, {most} at most: {patience}");
        }
        pause(begun);
    }
}

/// Pauses as long as a look at a condition took that began at `begun`: who waits takes no more
/// than half a CPU from who works.
fn pause(begun: Instant) {
    thread::sleep(begun.elapsed().max(PAUSE));
}
