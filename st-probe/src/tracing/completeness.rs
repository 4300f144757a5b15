//! Until when every record is complete.

use crate::stream::time::Monotonic;
use crate::sys::poll::poll;
use crate::sys::{clock, grace};
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// A thread that waits, on request, until records that were begun are complete.
///
/// A record takes its time when it is begun, but can be read only once it is complete: on a
/// virtual CPU that its host does not let run in between, much later. Preemption is off from
/// the one to the other (kernel/trace/ring_buffer.c, ring_buffer_lock_reserve and
/// ring_buffer_unlock_commit), so a grace period of RCU waits for it, for which membarrier(2)
/// waits: 8 to 20 ms on an idle machine.
pub struct Complete {
    requests: SyncSender<()>,
    answer: Arc<Answer>,
}

struct Answer {
    until: AtomicU64,
    /// Readable when there is a new one.
    new: EventFd,
}

impl Complete {
    /// Starts the thread, which takes at least so long to answer; `None` where the kernel does
    /// not do that: with nohz_full=, or where it has no membarrier(2).
    pub fn start(at_least: Duration) -> Result<Option<Self>> {
        if !grace::can_wait() {
            return Ok(None);
        }
        // Of requests that come meanwhile, one is kept.
        let (requests, requested) = sync_channel(1);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let answer = Arc::new(Answer {
            until: AtomicU64::new(0),
            new: EventFd::from_flags(flags).context("cannot make an event descriptor")?,
        });
        let own = Arc::clone(&answer);
        let work = move || -> Option<()> {
            while let Ok(()) = requested.recv() {
                let (began, began_at) = (clock::now().ok()?, Instant::now());
                grace::wait().ok()?;
                thread::sleep(at_least.saturating_sub(began_at.elapsed()));
                own.until.store(began.0, Ordering::Release);
                own.new.write(1).ok()?;
            }
            Some(())
        };
        thread::Builder::new()
            .name("complete".into())
            .spawn(work)
            .context("cannot make a thread")?;
        Ok(Some(Self { requests, answer }))
    }

    /// Asks anew.
    pub fn ask(&self) {
        // Full: it is asked already.
        let _ = self.requests.try_send(());
    }

    /// Waits, for so long at most, until what was begun before `start`, which is
    /// now, is complete.
    pub fn wait(&self, start: Monotonic, at_most: Duration) -> Result<()> {
        let deadline = start.after(at_most);
        let mut now = start;
        // The first answer may be to an earlier request.
        while now < deadline && self.until() < start {
            self.ask();
            let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
            poll(&mut fds, deadline.since(now)).context("cannot poll")?;
            now = clock::now()?;
        }
        Ok(())
    }

    /// Readable when there is an answer that was not taken yet.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.answer.new.as_fd()
    }

    /// Takes the answer: until when all records are
    /// complete.
    pub fn until(&self) -> Monotonic {
        // There may be no new one.
        let _ = self.answer.new.read();
        Monotonic(self.answer.until.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_each_request_with_when_it_began() {
        const AT_LEAST: Duration = Duration::from_millis(5);
        let now = || clock::now().unwrap();
        let complete = Complete::start(AT_LEAST).unwrap();
        let complete = complete.expect("this kernel was booted without nohz_full=");
        assert_eq!(complete.until(), Monotonic(0));
        for _ in 0..2 {
            let asked = now();
            complete.ask();
            let mut fds = [PollFd::new(complete.fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, Duration::MAX), Ok(1));
            let until = complete.until();
            assert!(asked <= until && until.after(AT_LEAST) <= now());
            // It is taken.
            assert_eq!(complete.until(), until);
            assert_eq!(poll(&mut fds, Duration::ZERO), Ok(0));
        }
        let start = now();
        complete.wait(start, Duration::MAX).unwrap();
        assert!(complete.until() >= start);
    }
}
