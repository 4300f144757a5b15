//! The command that runs while st-probe traces.

use crate::sys::signals;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stdout, execvp, fork, pipe2, read, write};
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;

/// A child process that waits to become the command.
pub struct Command {
    /// The child.
    pub pid: Pid,
    /// The child waits until it can read a byte from the other end of this pipe.
    go: Option<OwnedFd>,
    status: Option<u8>,
}

impl Command {
    /// Forks the child, so that a census finds it in /proc before tracing begins. There must be
    /// one thread only.
    ///
    /// Its standard output is st-probe's standard error, since the stream is on st-probe's
    /// standard output. The child has called `identify` when this returns.
    pub fn prepare(words: Vec<OsString>, identify: impl FnOnce() -> Result<Pid>) -> Result<Self> {
        let words = words.into_iter().map(|word| CString::new(word.into_vec()));
        let words: Vec<CString> = words
            .collect::<Result<_, _>>()
            .context("a word of the command holds a NUL")?;
        let pipe = || pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe");
        let ((wait, go), (ready, tell)) = (pipe()?, pipe()?);
        // SAFETY: there is one thread only.
        #[allow(unsafe_code)]
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => {
                drop(tell);
                while read(&ready, &mut [0]) == Err(Errno::EINTR) {}
                Ok(Self {
                    pid: child,
                    go: Some(go),
                    status: None,
                })
            }
            ForkResult::Child => {
                drop(go);
                if let Err(error) = identify() {
                    say!("{error:#}");
                }
                // The parent waits for this pipe's end.
                drop((tell, ready));
                if read(&wait, &mut [0]) != Ok(1) {
                    std::process::exit(1);
                }
                // The Rust runtime ignores SIGPIPE, and a shell makes its background jobs ignore
                // SIGQUIT. A program that is executed expects neither.
                for signal in [Signal::SIGPIPE, Signal::SIGQUIT] {
                    let _ = signals::reset(signal);
                }
                let trouble =
                    dup2_stdout(io::stderr()).and_then(|()| execvp(&words[0], &words).map(|_| ()));
                if let Err(error) = trouble {
                    say!(
                        "cannot run '{}': {}",
                        words[0].to_string_lossy(),
                        error.desc()
                    );
                }
                std::process::exit(127);
            }
        }
    }

    /// Lets the child execute the command.
    pub fn go(&mut self) -> Result<()> {
        let go = self.go.take().context("the command runs already")?;
        write(&go, &[1]).context("the command's process is gone")?;
        Ok(())
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        // It fails if the command has ended meanwhile.
        let _ = kill(self.pid, signal);
    }

    /// The command's exit status, or 128 + the signal that killed it, if it has ended.
    pub fn poll(&mut self) -> Option<u8> {
        self.reap(WaitPidFlag::WNOHANG)
    }

    /// Waits until the command has ended. Returns the same status. A child that still waits ends
    /// without executing the command.
    pub fn wait(&mut self) -> u8 {
        self.go = None;
        loop {
            if let Some(status) = self.reap(WaitPidFlag::empty()) {
                return status;
            }
        }
    }

    fn reap(&mut self, flags: WaitPidFlag) -> Option<u8> {
        if self.status.is_none() {
            self.status = match waitpid(self.pid, Some(flags)) {
                Ok(WaitStatus::Exited(_, status)) => Some(status as u8),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(128 + signal as i32 as u8),
                Ok(_) | Err(nix::errno::Errno::EINTR) => None,
                Err(_) => Some(crate::stream::stage::FAILED),
            };
        }
        self.status
    }
}
