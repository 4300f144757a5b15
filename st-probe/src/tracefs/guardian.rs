//! A process that takes the instance and the probes down when st-probe cannot: it was killed.

use crate::sys::poll::poll;
use crate::sys::proc::Proc;
use crate::sys::{capabilities, process, signals};
use crate::tracefs::files::Tracefs;
use crate::tracefs::owner::Owner;
use crate::tracefs::teardown;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, close, dup2_stdin, dup2_stdout, fork, setsid};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::exit;
use std::time::Duration;

/// The guardian process. Dropping this ends the process.
pub struct Guardian {
    pid: Pid,
}

impl Guardian {
    /// Starts it. There must be one thread only.
    pub fn start(owner: &Owner) -> Result<Self> {
        let this = process::pidfd_of_this().context("cannot make a pidfd (Linux 5.3)")?;
        // SAFETY: there is one thread only.
        #[allow(unsafe_code)]
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => Ok(Self { pid: child }),
            ForkResult::Child => {
                if let Err(error) = guard(owner, &this) {
                    say!("nothing will be taken down should this be killed: {error:#}");
                }
                exit(0);
            }
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

/// Waits for the end of the process that `pidfd` refers to, and takes down what it has left.
fn guard(owner: &Owner, pidfd: &OwnedFd) -> Result<()> {
    let proc = Proc::default();
    // The signals that end a pipeline, a terminal's session or a service must not end this.
    setsid().context("cannot make a session")?;
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            // Some belong to the C library, which refuses.
            let _ = signals::ignore(signal);
        }
    }
    let stat = proc.this().stat().context("cannot read /proc/self/stat")?;
    // `pkill st-probe` and `kill $(pidof st-probe)` are not meant for this process.
    // SAFETY: this process has one thread, and reads its arguments no more.
    #[allow(unsafe_code)]
    unsafe { process::rename(&stat, c"guardian") }.context("cannot change its name")?;
    close_others(&proc, pidfd.as_fd())?;
    let tracefs = Tracefs::find()?;
    capabilities::keep(&[])?;
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ended, Duration::MAX).context("cannot wait")?;
    for error in teardown::take_down(&tracefs, &owner.to_string()) {
        say!("left behind by process {}: {error:#}", owner.pid);
    }
    Ok(())
}

/// Closes all descriptors but standard error and `kept`: a reader that waits for the end of a
/// pipe waits for st-probe, not for this process.
fn close_others(proc: &Proc, kept: BorrowedFd) -> Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.context("cannot open /dev/null")?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .context("cannot close its pipes")?;
    let open = proc.this().descriptors();
    for fd in open.context("cannot list its descriptors")? {
        if fd > 2 && fd != kept.as_raw_fd() && fd != null.as_raw_fd() {
            // The descriptor of the listing itself is closed already.
            let _ = close(fd);
        }
    }
    Ok(())
}
