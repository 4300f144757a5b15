//! Until when all records have been committed.

use crate::stream::time::Monotonic;
use crate::sys::poll::poll;
use crate::sys::{clock, grace};
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// A thread that waits for a grace period on request.
///
/// A record takes its time when its room is reserved, but can be read only once it is committed:
/// on a virtual CPU that its host does not let run in between, much later. Preemption is off from
/// the one to the other (kernel/trace/ring_buffer.c, ring_buffer_lock_reserve and
/// ring_buffer_unlock_commit), so a grace period of RCU waits for the commit, and membarrier(2)
/// waits for a grace period: 8 to 20 ms on an idle machine.
pub struct GracePeriods {
    requests: SyncSender<()>,
    answer: Arc<Answer>,
}

/// What the thread has found.
struct Answer {
    /// When the last grace period that has ended was requested: nanoseconds of CLOCK_MONOTONIC.
    until: AtomicU64,
    /// Readable when there is a new one.
    new: EventFd,
}

impl GracePeriods {
    /// Starts the thread, which takes at least so long for one request. `None` where the kernel
    /// cannot be asked for a grace period: with nohz_full=, or without membarrier(2).
    pub fn start(at_least: Duration) -> Result<Option<Self>> {
        if !grace::can_wait() {
            return Ok(None);
        }
        // One request is kept of those that come while the thread waits.
        let (requests, requested) = sync_channel(1);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let answer = Arc::new(Answer {
            until: AtomicU64::new(0),
            new: EventFd::from_flags(flags).context("cannot make an event descriptor")?,
        });
        let own = Arc::clone(&answer);
        thread::Builder::new()
            .name("complete".into())
            .spawn(move || own.serve(&requested, at_least))
            .context("cannot make a thread")?;
        Ok(Some(Self { requests, answer }))
    }

    /// Requests another grace period, unless one is requested that has not begun.
    pub fn request(&self) {
        // It fails if the channel is full: then there is a request already.
        let _ = self.requests.try_send(());
    }

    /// Waits until all records have been committed whose room was reserved before `start`, which
    /// is now, but no longer than `at_most`.
    pub fn wait(&self, start: Monotonic, at_most: Duration) -> Result<()> {
        let deadline = start.after(at_most);
        let mut now = start;
        // The first answer may be to an earlier request.
        while now < deadline && self.complete_until() < start {
            self.request();
            let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
            poll(&mut fds, deadline.since(now)).context("cannot poll")?;
            now = clock::now()?;
        }
        Ok(())
    }

    /// Readable when a grace period has ended since the last call of
    /// [`GracePeriods::complete_until`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.answer.new.as_fd()
    }

    /// The instant up to which all records have been committed.
    pub fn complete_until(&self) -> Monotonic {
        // There may be no new answer.
        let _ = self.answer.new.read();
        Monotonic(self.answer.until.load(Ordering::Acquire))
    }
}

impl Answer {
    /// Waits for a grace period at each request, until nobody can make one. `None` if it cannot.
    fn serve(&self, requested: &Receiver<()>, at_least: Duration) -> Option<()> {
        while let Ok(()) = requested.recv() {
            let (began, began_at) = (clock::now().ok()?, Instant::now());
            grace::wait().ok()?;
            thread::sleep(at_least.saturating_sub(began_at.elapsed()));
            self.until.store(began.0, Ordering::Release);
            self.new.write(1).ok()?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_each_request_with_the_time_of_its_beginning() {
        const AT_LEAST: Duration = Duration::from_millis(5);
        let now = || clock::now().unwrap();
        let grace_periods = GracePeriods::start(AT_LEAST).unwrap();
        let grace_periods = grace_periods.expect("this kernel was booted without nohz_full=");
        assert_eq!(grace_periods.complete_until(), Monotonic(0));
        for _ in 0..2 {
            let requested = now();
            grace_periods.request();
            let mut fds = [PollFd::new(grace_periods.fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, Duration::MAX), Ok(1));
            let until = grace_periods.complete_until();
            assert!(requested <= until && until.after(AT_LEAST) <= now());
            // The answer is taken, and holds.
            assert_eq!(grace_periods.complete_until(), until);
            assert_eq!(poll(&mut fds, Duration::ZERO), Ok(0));
        }
        let start = now();
        grace_periods.wait(start, Duration::MAX).unwrap();
        assert!(grace_periods.complete_until() >= start);
    }
}
