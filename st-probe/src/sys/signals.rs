//! Signals: those that end tracing, as a descriptor to poll, and their dispositions.

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};
use nix::unistd::pipe2;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

/// Where the handler writes the number of each signal.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// How many requests to end have come.
static REQUESTS: AtomicUsize = AtomicUsize::new(0);
/// When the last signal of such a request came: milliseconds of CLOCK_MONOTONIC.
static LAST: AtomicI64 = AtomicI64::new(i64::MIN);

/// How often SIGCONT has come.
static CONTINUED: AtomicUsize = AtomicUsize::new(0);

/// Signals this close together are one request: a Ctrl-C may come from the terminal and from
/// systracer, which passes it on.
const TOGETHER: Duration = Duration::from_millis(500);

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
    // SAFETY: clock_gettime(2) and write(2) are async-signal-safe. If the pipe is full, it wakes
    // its reader without this byte, too.
    #[allow(unsafe_code)]
    let now = unsafe {
        libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
        now.tv_sec as i64 * 1000 + now.tv_nsec as i64 / 1_000_000
    };
    if signal == libc::SIGCHLD {
        return;
    }
    let since_last = now.saturating_sub(LAST.swap(now, Ordering::Relaxed));
    if since_last > TOGETHER.as_millis() as i64 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
    }
}

extern "C" fn note_continued(_: libc::c_int) {
    CONTINUED.fetch_add(1, Ordering::Relaxed);
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

/// The signals that were caught, through a pipe.
pub struct Signals {
    pipe: File,
}

impl Signals {
    /// Catches SIGCHLD and every signal that a user or the system sends to end a program;
    /// SIGHUP only if it is not ignored: nohup(1) ignores it.
    ///
    /// They interrupt a write that waits for its reader, so that the writer can give up. SIGCONT is
    /// counted.
    pub fn catch() -> Result<Self> {
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (reader, writer) = pipe2(flags).context("cannot make a pipe")?;
        PIPE.store(writer.into_raw_fd(), Ordering::Relaxed);
        let action = SigAction::new(
            SigHandler::SigAction(handle),
            SaFlags::SA_SIGINFO,
            SigSet::empty(),
        );
        for signal in CAUGHT {
            // SAFETY: the handler calls only what is async-signal-safe.
            #[allow(unsafe_code)]
            let old = unsafe { sigaction(signal, &action) }.context("cannot catch signals")?;
            if signal == Signal::SIGHUP && old.handler() == SigHandler::SigIgn {
                ignore(signal).context("cannot ignore SIGHUP")?;
            }
        }
        let action = SigAction::new(
            SigHandler::Handler(note_continued),
            SaFlags::SA_RESTART,
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing but count.
        #[allow(unsafe_code)]
        unsafe { sigaction(Signal::SIGCONT, &action) }.context("cannot catch SIGCONT")?;
        Ok(Self {
            pipe: reader.into(),
        })
    }

    /// The signals that have come since the last call.
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

    /// Whether a second request to end has come: the user does not want to wait.
    pub fn urgent() -> bool {
        REQUESTS.load(Ordering::Relaxed) > 1
    }

    /// How often somebody has let this process go on who had stopped it.
    pub fn continued() -> usize {
        CONTINUED.load(Ordering::Relaxed)
    }

    /// Readable when signals have come that [`Signals::take`] has not returned yet.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Ignores a signal.
pub fn ignore(number: Signal) -> nix::Result<()> {
    // SAFETY: no code of this program runs when the signal comes.
    #[allow(unsafe_code)]
    unsafe { signal(number, SigHandler::SigIgn) }.map(drop)
}

/// Lets a signal do what it does by default: signal(7).
pub fn reset(number: Signal) -> nix::Result<()> {
    // SAFETY: no code of this program runs when the signal comes.
    #[allow(unsafe_code)]
    unsafe { signal(number, SigHandler::SigDfl) }.map(drop)
}
