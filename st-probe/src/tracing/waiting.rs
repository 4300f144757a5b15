//! What st-probe waits for between two cycles, and how long.

use crate::sys::poll::poll;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// How long records gather before they are read, once there are some.
pub const TICK: Duration = Duration::from_millis(10);
/// The same once records have kept coming for [`SUSTAINED`] cycles: each cycle wakes the whole
/// pipeline.
const LONG_TICK: Duration = Duration::from_millis(20);
const SUSTAINED: u32 = 10;
/// How long to wait for records at most: the kernel may forget to tell of one
/// (kernel/trace/ring_buffer.c, ring_buffer_poll_wait).
const DOZE: Duration = Duration::from_secs(1);

/// What is waited for, beside a signal, the going of the reader and a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// Records, mounts and questions.
    News,
    /// The end of a grace period.
    GracePeriod,
    /// Nothing, for so long.
    Tick(Duration),
}

impl Awaited {
    /// How long st-probe waits for it at most.
    pub fn at_most(self) -> Duration {
        match self {
            Self::News => DOZE,
            Self::GracePeriod => LONG_TICK,
            Self::Tick(tick) => tick,
        }
    }
}

/// How many cycles in a row have been busy.
#[derive(Debug, Default)]
pub struct Pace {
    busy: u32,
}

impl Pace {
    /// Notes a cycle that has found something, or has left something to do.
    pub fn busy(&mut self) {
        self.busy = self.busy.saturating_add(1);
    }

    /// Notes a cycle that has found nothing.
    pub fn idle(&mut self) {
        self.busy = 0;
    }

    /// What is waited for while records gather. The end of a grace period can be waited for only
    /// if one was requested.
    pub fn gather(&self, grace_period: bool) -> Awaited {
        if self.busy > SUSTAINED {
            Awaited::Tick(LONG_TICK)
        } else if grace_period {
            Awaited::GracePeriod
        } else {
            Awaited::Tick(TICK)
        }
    }
}

/// What a descriptor tells of when it is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// A signal has come.
    Signals,
    /// The reader of the stream has gone.
    Reader,
    /// Our own mount table has changed.
    MountTable,
    /// There are records in the ring buffer of this index.
    Buffer(usize),
    /// There are questions.
    Questions,
    /// A grace period has ended.
    GracePeriod,
}

impl Watched {
    /// Whether it says that there is something to read for the stream.
    fn is_news(self) -> bool {
        match self {
            Self::MountTable | Self::Buffer(_) | Self::Questions => true,
            Self::Signals | Self::Reader | Self::GracePeriod => false,
        }
    }
}

/// Polls descriptors, for so long at most. Returns which of them tell something, and what.
pub fn poll_all(
    watched: &[(Watched, BorrowedFd<'_>, PollFlags)],
    at_most: Duration,
) -> Result<Vec<(Watched, PollFlags)>> {
    let fds = watched
        .iter()
        .map(|(_, fd, flags)| PollFd::new(*fd, *flags));
    let mut fds: Vec<_> = fds.collect();
    poll(&mut fds, at_most).context("cannot poll")?;
    let mut told = Vec::new();
    for ((what, ..), fd) in watched.iter().zip(&fds) {
        // What nix has no name for is something, too.
        let flags = fd.revents().unwrap_or(PollFlags::POLLIN);
        if !flags.is_empty() {
            told.push((*what, flags));
        }
    }
    Ok(told)
}

/// Whether there are news, and neither a signal nor the going of the reader comes first.
pub fn only_news(told: &[(Watched, PollFlags)]) -> bool {
    let first = |told: &(Watched, PollFlags)| matches!(told.0, Watched::Signals | Watched::Reader);
    !told.iter().any(first) && told.iter().any(|told| told.0.is_news())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::{pipe, write};
    use std::os::fd::AsFd;

    #[test]
    fn waits_for_a_grace_period_until_it_is_busy_for_long() {
        let mut pace = Pace::default();
        for _ in 0..SUSTAINED {
            pace.busy();
            assert_eq!(pace.gather(true), Awaited::GracePeriod);
            assert_eq!(pace.gather(false), Awaited::Tick(TICK));
        }
        pace.busy();
        for grace_period in [true, false] {
            assert_eq!(pace.gather(grace_period), Awaited::Tick(LONG_TICK));
        }
        pace.idle();
        assert_eq!(pace.gather(true), Awaited::GracePeriod);
    }

    #[test]
    fn a_signal_and_the_going_of_the_reader_come_before_news() {
        let told = |watched: &[Watched]| -> Vec<_> {
            (watched.iter().map(|watched| (*watched, PollFlags::POLLIN))).collect()
        };
        assert!(!only_news(&[]));
        for news in [Watched::MountTable, Watched::Buffer(1), Watched::Questions] {
            assert!(only_news(&told(&[news])));
            assert!(!only_news(&told(&[Watched::Signals, news])));
            assert!(!only_news(&told(&[news, Watched::Reader])));
        }
        assert!(!only_news(&told(&[Watched::GracePeriod])));
    }

    #[test]
    fn tells_which_descriptors_are_ready() {
        let (silent, _silent_end) = pipe().unwrap();
        let (spoken, spoken_end) = pipe().unwrap();
        let (ended, ended_end) = pipe().unwrap();
        write(&spoken_end, b"x").unwrap();
        drop(ended_end);
        let watched = [
            (Watched::Signals, silent.as_fd(), PollFlags::POLLIN),
            (Watched::Buffer(5), spoken.as_fd(), PollFlags::POLLIN),
            (Watched::Questions, ended.as_fd(), PollFlags::empty()),
        ];
        let told = poll_all(&watched, Duration::MAX).unwrap();
        let expected = [
            (Watched::Buffer(5), PollFlags::POLLIN),
            (Watched::Questions, PollFlags::POLLHUP),
        ];
        assert_eq!(told, expected);
        assert!(poll_all(&watched[..1], Duration::ZERO).unwrap().is_empty());
    }
}
