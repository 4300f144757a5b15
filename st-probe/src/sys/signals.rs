//! Signals that end tracing, as something to poll for.

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicUsize, Ordering};

static PIPE: AtomicI32 = AtomicI32::new(-1);
static ENDINGS: AtomicUsize = AtomicUsize::new(0);
static LAST: AtomicI64 = AtomicI64::new(i64::MIN);

/// Signals this close together are one: a Ctrl-C may come from the terminal and from
/// systracer, which passes it on. Milliseconds.
const TOGETHER: i64 = 500;

/// `si_code` of a signal that the kernel sends by itself: include/uapi/asm-generic/siginfo.h.
const SI_KERNEL: libc::c_int = 0x80;
/// What is added to the number of a signal in the pipe if a key has sent it.
const BY_KEY: u8 = 0x80;

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands over what sigaction(2) describes.
    #[allow(unsafe_code)]
    let sent_by_kernel = unsafe { (*info).si_code } == SI_KERNEL;
    let byte = match signal {
        libc::SIGINT | libc::SIGQUIT if sent_by_kernel => signal as u8 | BY_KEY,
        _ => signal as u8,
    };
    // SAFETY: clock_gettime(2) and write(2) are async-signal-safe; a full pipe is as good as
    // a written one.
    #[allow(unsafe_code)]
    let now = unsafe {
        libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
        now.tv_sec as i64 * 1000 + now.tv_nsec as i64 / 1_000_000
    };
    if signal != libc::SIGCHLD && now.saturating_sub(LAST.swap(now, Ordering::Relaxed)) > TOGETHER {
        ENDINGS.fetch_add(1, Ordering::Relaxed);
    }
}

const CAUGHT: [Signal; 9] = [
    Signal::SIGCHLD,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGXCPU,
];

/// A signal that was caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// Which one.
    pub signal: Signal,
    /// Whether a key of the terminal has sent it (Ctrl-C, Ctrl-\), and so to all of the foreground
    /// process group: isig() in drivers/tty/n_tty.c.
    pub by_key: bool,
}

/// The signals caught so far, through a pipe.
pub struct Signals {
    pipe: File,
}

impl Signals {
    /// Catches SIGCHLD and every signal that people or the system send to end a program;
    /// not SIGHUP if it is ignored (nohup(1)).
    ///
    /// They interrupt a write that waits for a reader, so that it can be given up.
    pub fn catch() -> Result<Self> {
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (reader, writer) = nix::unistd::pipe2(flags).context("cannot make a pipe")?;
        PIPE.store(writer.into_raw_fd(), Ordering::Relaxed);
        let action = SigAction::new(
            SigHandler::SigAction(handle),
            SaFlags::SA_SIGINFO,
            SigSet::empty(),
        );
        for signal in CAUGHT {
            // SAFETY: the handler only does what is async-signal-safe.
            #[allow(unsafe_code)]
            let old = unsafe { sigaction(signal, &action) }.context("cannot catch signals")?;
            if signal == Signal::SIGHUP && old.handler() == SigHandler::SigIgn {
                // SAFETY: restores what was there.
                #[allow(unsafe_code)]
                unsafe { sigaction(signal, &old) }.context("cannot ignore SIGHUP")?;
            }
        }
        Ok(Self {
            pipe: reader.into(),
        })
    }

    /// The signals that came since the last call.
    pub fn take(&mut self) -> Vec<Caught> {
        let mut bytes = [0; 64];
        let count = self.pipe.read(&mut bytes).unwrap_or(0);
        bytes[..count]
            .iter()
            .filter_map(|&byte| {
                Some(Caught {
                    signal: Signal::try_from(i32::from(byte & !BY_KEY)).ok()?,
                    by_key: byte & BY_KEY != 0,
                })
            })
            .collect()
    }

    /// Whether they have come again.
    pub fn urgent() -> bool {
        ENDINGS.load(Ordering::Relaxed) > 1
    }

    /// To poll for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
