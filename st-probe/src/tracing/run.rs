//! Tracing: from the ring buffers to the stream, until something ends it.

use crate::stream::arch::Arch;
use crate::stream::stage::FAILED;
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::{Event, Service, Subject, Why};
use crate::sys::capabilities;
use crate::sys::clock::now;
use crate::sys::signals::Signals;
use crate::sys::uname::Uname;
use crate::tracefs::files::Tracefs;
use crate::tracefs::session::Session;
use crate::tracing::command::Command;
use crate::tracing::pump::Pump;
use crate::tracing::walks::Walks;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// How long the end waits for the snapshot.
const FINISH: Duration = Duration::from_secs(2);

/// What to trace.
pub struct Options {
    /// Events, by name.
    pub events: Vec<Event>,
    /// When to end by itself.
    pub duration: Option<Duration>,
    /// KiB of ring buffer a CPU.
    pub buffer_kb: u64,
    /// Directories to look at all directories below.
    pub snapshot: Vec<PathBuf>,
    /// The named pipe through which further ones come.
    pub answer: Option<PathBuf>,
    /// Whether to end with the process that started this one.
    pub die_with_parent: bool,
    /// The command to run meanwhile; empty: none.
    pub command: Vec<OsString>,
}

/// Where probes are set, if we are root.
pub fn tracefs() -> Result<Tracefs> {
    if !nix::unistd::geteuid().is_root() {
        bail!("tracing needs root: run st-probe (or systracer) as root");
    }
    Tracefs::find()
}

/// Opens a session on this machine.
pub fn open(options: &Options) -> Result<Session> {
    let tracefs = tracefs()?;
    let machine = Uname::read()?.machine;
    let arch = Arch::of(&machine)
        .with_context(|| format!("st-probe does not know the architecture {machine}"))?;
    Session::open(
        tracefs,
        arch,
        &options.events,
        options.buffer_kb,
        !options.snapshot.is_empty() || options.answer.is_some(),
    )
}

/// Traces until something ends it; returns the exit status.
pub fn trace(options: Options) -> Result<u8> {
    let mut signals = Signals::catch()?;
    let parent = getppid();
    if options.die_with_parent {
        // It may be gone already: then the signal would never come.
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).context("cannot watch the parent")?;
        if getppid() != parent {
            return Ok(FAILED);
        }
    }
    let mut command = (!options.command.is_empty())
        .then(|| Command::prepare(options.command.clone()))
        .transpose()?;
    let mut session = open(&options)?;
    for unavailable in &session.unavailable {
        say!("cannot trace {}: {}", unavailable.event, unavailable.why);
    }
    for absent in session.absent.iter().filter(|absent| absent.matters()) {
        say!("{absent}");
    }
    // What is left to do needs no more than these of what root may.
    capabilities::keep(&[
        capabilities::DAC_READ_SEARCH,
        capabilities::FOWNER,
        capabilities::KILL,
        capabilities::SYS_PTRACE,
    ])?;
    let walks = Walks::start(
        &session,
        options.snapshot,
        options.answer.as_deref(),
        options.buffer_kb,
    )?;
    let mut pump = Pump::new(&session, walks)?;
    pump.header(&session, command.as_ref())?;
    // Whoever does something is known by then.
    session.enable(|subject| subject == Subject::Service(Service::Process))?;
    let mut interrupted = false;
    while pump.census.is_busy() && !pump.reader_gone && !interrupted {
        pump.cycle(&mut session, now()?)?;
        let signals = signals.take();
        interrupted = (signals.iter()).any(|caught| caught.signal != Signal::SIGCHLD);
    }
    let mut failure = None;
    let why = if interrupted {
        Why::Signal
    } else {
        let later = [Service::Process, Service::Alive, Service::Directory].map(Subject::Service);
        session.enable(|subject| !later.contains(&subject))?;
        pump.walks.begin();
        say!("tracing; Ctrl-C ends it");
        if let Some(command) = &mut command {
            command.go()?;
        }
        let deadline = match options.duration {
            Some(duration) => now()?.after(duration),
            None => Monotonic::MAX,
        };
        let ended = run(
            &mut pump,
            &mut session,
            &mut signals,
            command.as_mut(),
            deadline,
            parent,
        );
        ended.unwrap_or_else(|error| {
            failure = Some(error);
            Why::Failure
        })
    };
    // It may be for want of probes that it failed.
    pump.check(&session, now()?)?;
    let removed = pump.health.probes_removed();
    session.disable()?;
    pump.end(&session, why)?;
    // Their files keep the instance busy.
    drop(pump);
    drop(session);
    if removed {
        bail!("somebody has removed our probes (`trace-cmd reset` does): start again");
    }
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(command.map_or(0, |mut command| command.wait()))
}

/// Turns the wheel until something ends tracing; tells what. What is being looked at for the
/// snapshot then is waited for, since paths hang on it: as long as it takes after a command,
/// for [`FINISH`] else, and no longer than until the next signal.
fn run(
    pump: &mut Pump,
    session: &mut Session,
    signals: &mut Signals,
    mut command: Option<&mut Command>,
    deadline: Monotonic,
    parent: Pid,
) -> Result<Why> {
    let mut busy = true;
    let mut ending: Option<(Why, Monotonic)> = None;
    loop {
        let until = ending.map_or(deadline, |(_, until)| until);
        pump.wait(signals, until, busy)?;
        let mut why = None;
        for caught in signals.take() {
            match (&mut command, caught.signal) {
                (_, Signal::SIGCHLD) => {}
                // A terminal sends Ctrl-C to the command as well; tracing ends with it.
                (Some(_), _) if caught.by_key && ending.is_none() => {}
                (Some(command), signal) if !Signals::urgent() && ending.is_none() => {
                    command.signal(signal)
                }
                _ => why = Some(Why::Signal),
            }
        }
        let start = now()?;
        busy = pump.cycle(session, start)?;
        if pump.reader_gone {
            return Ok(Why::Reader);
        }
        if pump.health.probes_removed() {
            return Ok(Why::Failure);
        }
        if let Some((why_first, until)) = ending {
            let urgent = why.is_some() && Signals::urgent();
            if urgent || start >= until || !pump.walks.may_be_asked(start) {
                return Ok(why_first);
            }
            busy = true;
            continue;
        }
        let over = |command: &mut Command| command.poll().is_some();
        let finish = start.after(FINISH);
        ending = if command.as_mut().is_some_and(|command| over(command)) {
            Some((Why::Command, Monotonic::MAX))
        } else if start >= deadline {
            Some((Why::Duration, finish))
        } else {
            why.map(|why| (why, finish))
        };
        if ending.is_some() {
            // Whoever ends because its parent was killed is to leave at once.
            if getppid() == parent {
                pump.walks.ending(start);
            }
            busy = true;
        }
    }
}
