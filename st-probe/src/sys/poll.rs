//! poll(2).

use nix::Result;
use nix::errno::Errno;
use nix::poll::{PollFd, PollTimeout};
use std::time::{Duration, Instant};

/// Waits until a descriptor has an event, for `timeout` at most; [`Duration::MAX`] is without an
/// end. Returns how many descriptors have one. A signal does not end the wait.
pub fn poll(fds: &mut [PollFd], timeout: Duration) -> Result<i32> {
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let left = match deadline {
            Some(deadline) => milliseconds(deadline.saturating_duration_since(Instant::now())),
            None => PollTimeout::NONE,
        };
        match nix::poll::poll(fds, left) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// A duration in the unit of poll(2), rounded up: 24 days at most.
fn milliseconds(duration: Duration) -> PollTimeout {
    let milliseconds = duration.as_micros().div_ceil(1000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::poll::PollFlags;
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    use nix::unistd::{getpid, gettid, pipe2, write};
    use std::fs;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    static SIGNALS: AtomicU32 = AtomicU32::new(0);

    extern "C" fn count(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn rounds_up_to_milliseconds() {
        for (micros, expected) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            let expected = PollTimeout::from(expected as u16);
            assert_eq!(milliseconds(Duration::from_micros(micros)), expected);
        }
        assert_eq!(milliseconds(Duration::MAX), PollTimeout::MAX);
    }

    #[test]
    fn a_signal_does_not_end_the_wait() {
        let action = SigAction::new(
            SigHandler::Handler(count),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler counts, and nothing else.
        #[allow(unsafe_code)]
        unsafe { sigaction(Signal::SIGURG, &action) }.unwrap();
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (tell, told) = channel();
        let waiter = thread::spawn(move || {
            tell.send(gettid()).unwrap();
            let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, Duration::ZERO), Ok(0));
            poll(&mut fds, Duration::MAX)
        });
        let tid = told.recv().unwrap().as_raw();
        let status = format!("/proc/self/task/{tid}/status");
        let sleeps = || {
            let status = fs::read_to_string(&status).unwrap();
            status.contains("\nState:\tS ")
        };
        for sent in 1..=3 {
            while !sleeps() {
                thread::yield_now();
            }
            // SAFETY: numbers go in.
            #[allow(unsafe_code)]
            let result =
                unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), tid, libc::SIGURG) };
            assert_eq!(result, 0);
            while SIGNALS.load(Ordering::SeqCst) < sent {
                thread::yield_now();
            }
        }
        write(&writer, b"x").unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(1));
    }
}
