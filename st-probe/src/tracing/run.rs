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
use crate::tracing::ending::{Phase, Reaction, Seen};
use crate::tracing::pump::Pump;
use crate::tracing::walks::Walks;
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the process that is to run the command tells its id with.
const COMMAND: &str = "command";

/// The records that begin first: of processes, since each is to be known before what it does is
/// recorded; of the clock, since they have times; and of mounts, before the mount tables are read.
const FIRST: [Subject; 5] = [
    Subject::Service(Service::Process),
    Subject::Service(Service::Clock),
    Subject::Service(Service::Attach),
    Subject::Service(Service::Detach),
    Subject::Service(Service::Namespace),
];

/// What to trace.
pub struct Options {
    /// The events.
    pub events: Vec<Event>,
    /// After which time to end; `None`: never.
    pub duration: Option<Duration>,
    /// The size of each CPU's ring buffer, in KiB.
    pub buffer_kb: u64,
    /// Roots: all directories below these are walked.
    pub snapshot: Vec<PathBuf>,
    /// The named pipe through which further roots come.
    pub answer: Option<PathBuf>,
    /// Whether to end with the process that started this one.
    pub die_with_parent: bool,
    /// The command to run meanwhile; empty: none.
    pub command: Vec<OsString>,
}

/// The tracefs in which probes are defined. Fails if this is not root.
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
    let session = Session::open(
        tracefs,
        arch,
        &options.events,
        options.buffer_kb,
        !options.snapshot.is_empty() || options.answer.is_some(),
    )?;
    for remark in session.namespaces.remarks() {
        say!("{remark}");
    }
    Ok(session)
}

/// Traces until something ends it. Returns the exit status: that of the command, if there is one.
pub fn trace(options: Options) -> Result<u8> {
    let signals = Signals::catch()?;
    let parent = getppid();
    if options.die_with_parent {
        // The parent may be gone already: then the signal would never come.
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).context("cannot watch the parent")?;
        if getppid() != parent {
            return Ok(FAILED);
        }
    }
    let session = open(&options)?;
    let (mut command, mut child) = (None, None);
    if !options.command.is_empty() {
        let marker = session.marker()?;
        let prepared = Command::prepare(options.command.clone(), move || marker.leave(COMMAND))?;
        child = Some(session.marked(COMMAND, prepared.pid)?);
        command = Some(prepared);
    }
    for unavailable in &session.unavailable {
        say!("cannot trace {}: {}", unavailable.event, unavailable.why);
    }
    for absent in session.absent.iter().filter(|absent| absent.matters()) {
        say!("{absent}");
    }
    // What is left to do needs no other capabilities.
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
    let run = Run {
        pump: Pump::open(&session, walks)?,
        session,
        signals,
        command,
        child,
        parent,
    };
    run.trace(options.duration)
}

/// One run, from the first record to the last.
struct Run {
    /// It has files of the session's instance open, which keep the instance busy: it is to be
    /// dropped before the session.
    pump: Pump,
    session: Session,
    signals: Signals,
    command: Option<Command>,
    /// The process that runs the command, as the kernel's records have it.
    child: Option<Pid>,
    /// The process that started this one.
    parent: Pid,
}

impl Run {
    fn trace(mut self, duration: Option<Duration>) -> Result<u8> {
        self.session.enable(|subject| FIRST.contains(&subject))?;
        self.pump.begin(&self.session, self.child)?;
        let mut failure = None;
        let why = if self.first_census_is_interrupted()? {
            Why::Signal
        } else {
            let deadline = self.begin(duration)?;
            self.follow(deadline).unwrap_or_else(|error| {
                failure = Some(error);
                Why::Failure
            })
        };
        // It may have failed because somebody has removed the probes.
        self.pump.check(&self.session, now()?)?;
        let removed = self.pump.probes_removed();
        self.session.disable()?;
        self.pump.end(&self.session, why)?;
        drop(self.pump);
        drop(self.session);
        if removed {
            bail!("somebody has removed our probes (`trace-cmd reset` does): start again");
        }
        if let Some(error) = failure {
            return Err(error);
        }
        Ok(self.command.map_or(0, |mut command| command.wait()))
    }

    /// Takes the first census. Returns whether a signal came meanwhile.
    fn first_census_is_interrupted(&mut self) -> Result<bool> {
        while self.pump.takes_census() && !self.pump.reader_gone() {
            self.pump.cycle(&mut self.session, now()?)?;
            let mut signals = self.signals.take().into_iter();
            if signals.any(|caught| caught.signal != Signal::SIGCHLD) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets the records of operations begin, and the command. Returns when tracing is to end.
    fn begin(&mut self, duration: Option<Duration>) -> Result<Monotonic> {
        let followed = [Service::Alive, Service::Directory].map(Subject::Service);
        (self.session)
            .enable(|subject| !FIRST.contains(&subject) && !followed.contains(&subject))?;
        self.pump.begin_walks();
        say!("tracing; Ctrl-C ends it");
        if let Some(command) = &mut self.command {
            command.go()?;
        }
        match duration {
            Some(duration) => Ok(now()?.after(duration)),
            None => Ok(Monotonic::MAX),
        }
    }

    /// Goes from cycle to cycle until tracing is over. Returns why it is.
    fn follow(&mut self, deadline: Monotonic) -> Result<Why> {
        let mut phase = Phase::Tracing(deadline);
        // The first walk begins in the first cycle.
        let mut busy = true;
        loop {
            self.pump.wait(&self.signals, phase.until(), busy)?;
            let signal = self.react_to_signals(phase);
            let start = now()?;
            busy = self.pump.cycle(&mut self.session, start)?;
            let seen = Seen {
                reader_gone: self.pump.reader_gone(),
                probes_removed: self.pump.probes_removed(),
                command_ended: (self.command.as_mut())
                    .is_some_and(|command| command.poll().is_some()),
                signal,
                may_be_asked: self.pump.may_be_asked(start),
            };
            let next = phase.next(start, seen);
            match (phase, next) {
                (_, Phase::Over(why)) => return Ok(why),
                // If tracing ends because the parent was killed, nobody asks any more.
                (Phase::Tracing(_), Phase::Finishing(..)) if getppid() == self.parent => {
                    self.pump.ending(start);
                }
                _ => {}
            }
            // Nothing wakes st-probe at the time from which on no question may come.
            busy |= matches!(next, Phase::Finishing(..));
            phase = next;
        }
    }

    /// Sends the command the signals that it is to get. Returns whether a signal came that ends
    /// tracing.
    fn react_to_signals(&mut self, phase: Phase) -> bool {
        let mut ends = false;
        for caught in self.signals.take() {
            match (
                phase.react(caught, Signals::urgent(), self.command.is_some()),
                &self.command,
            ) {
                (Reaction::PassOn, Some(command)) => command.signal(caught.signal),
                (Reaction::End, _) => ends = true,
                (Reaction::PassOn | Reaction::Ignore, _) => {}
            }
        }
        ends
    }
}
