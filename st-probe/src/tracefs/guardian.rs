//! A process that takes the probes down when st-probe cannot do so itself: it was killed.

use crate::machine::processes;
use crate::sys::capabilities;
use crate::tracefs::files::Tracefs;
use crate::tracefs::owner::Owner;
use crate::tracefs::teardown;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, close, dup2_stdin, dup2_stdout, fork, setsid};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::exit;

/// The guarding process. Dropping it ends it.
pub struct Guardian(Pid);

impl Guardian {
    /// Starts it. There must be one thread only.
    pub fn start(owner: &Owner) -> Result<Self> {
        let this = this_process().context("cannot make a pidfd (Linux 5.3)")?;
        // SAFETY: there is one thread only.
        #[allow(unsafe_code)]
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => Ok(Self(child)),
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
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// Waits for the end of a process and takes down what is left of it.
fn guard(owner: &Owner, process: &OwnedFd) -> Result<()> {
    // Whatever ends a pipeline, a terminal or a service is not to end this.
    setsid().context("cannot make a session")?;
    for number in Signal::iterator() {
        if !matches!(number, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: no code of ours runs.
            #[allow(unsafe_code)]
            let _ = unsafe { signal(number, SigHandler::SigIgn) };
        }
    }
    call_itself(c"guardian").context("cannot change its name")?;
    // Who waits for the end of a pipe waits for st-probe, not for this.
    let nothing = File::options().read(true).write(true).open("/dev/null");
    let nothing = nothing.context("cannot open /dev/null")?;
    dup2_stdin(&nothing)
        .and_then(|()| dup2_stdout(&nothing))
        .context("cannot close its pipes")?;
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").context("cannot list its descriptors")? {
        open.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    for fd in open {
        if fd > 2 && fd != process.as_raw_fd() && fd != nothing.as_raw_fd() {
            // That of the listing is closed already.
            let _ = close(fd);
        }
    }
    let tracefs = Tracefs::find()?;
    capabilities::keep(&[])?;
    let mut ended = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    while let Err(error) = poll(&mut ended, PollTimeout::NONE) {
        if error != Errno::EINTR {
            return Err(error).context("cannot wait");
        }
    }
    for error in teardown::take_down(&tracefs, &owner.to_string()) {
        say!("left behind by process {}: {error:#}", owner.pid);
    }
    Ok(())
}

/// Takes another name, in its arguments too: `pkill st-probe` and `kill $(pidof st-probe)` are not
/// meant for it.
fn call_itself(name: &CStr) -> Result<()> {
    nix::sys::prctl::set_name(name)?;
    let stat = fs::read("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // proc_pid_stat(5): arg_start and arg_end, the 48th and 49th field.
    let mut places = processes::fields(&stat).context("no fields")?.skip(48 - 3);
    let mut place = || places.next()?.parse::<usize>().ok();
    let (start, end) = place().zip(place()).context("no arguments")?;
    let name = name.to_bytes();
    if name.len() < end.saturating_sub(start) {
        // SAFETY: these bytes are the arguments that this process was executed with. It is alone
        // in its memory, and nothing here reads them.
        #[allow(unsafe_code)]
        unsafe {
            let arguments = start as *mut u8;
            arguments.write_bytes(0, end - start);
            arguments.copy_from_nonoverlapping(name.as_ptr(), name.len());
        }
    }
    Ok(())
}

/// A descriptor of this process that can be polled for its end: pidfd_open(2).
#[allow(unsafe_code)]
fn this_process() -> io::Result<OwnedFd> {
    // SAFETY: two numbers go in, a new descriptor comes out.
    match unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) } {
        fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}
