//! Signals that end tracing, as something to poll for.

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

static PIPE: AtomicI32 = AtomicI32::new(-1);
static ENDINGS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn handle(signal: libc::c_int) {
    if signal != libc::SIGCHLD {
        ENDINGS.fetch_add(1, Ordering::Relaxed);
    }
    let byte = signal as u8;
    // SAFETY: write(2) is async-signal-safe; a full pipe is as good as a written one.
    #[allow(unsafe_code)]
    unsafe {
        libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
    }
}

/// The signals caught so far, through a pipe.
pub struct Signals {
    pipe: File,
}

impl Signals {
    /// Catches SIGINT, SIGTERM, SIGCHLD, and SIGHUP unless it is ignored (nohup(1)).
    ///
    /// They interrupt a write that waits for a reader, so that it can be given up.
    pub fn catch() -> Result<Self> {
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (reader, writer) = nix::unistd::pipe2(flags).context("cannot make a pipe")?;
        PIPE.store(writer.into_raw_fd(), Ordering::Relaxed);
        let action = SigAction::new(
            SigHandler::Handler(handle),
            SaFlags::empty(),
            SigSet::empty(),
        );
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGCHLD,
            Signal::SIGHUP,
        ] {
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
    pub fn take(&mut self) -> Vec<Signal> {
        let mut bytes = [0; 64];
        let count = self.pipe.read(&mut bytes).unwrap_or(0);
        bytes[..count]
            .iter()
            .filter_map(|&byte| Signal::try_from(i32::from(byte)).ok())
            .collect()
    }

    /// Whether a second ending signal says that it is urgent.
    pub fn urgent() -> bool {
        ENDINGS.load(Ordering::Relaxed) > 1
    }

    /// To poll for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
