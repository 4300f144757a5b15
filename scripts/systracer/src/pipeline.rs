//! Links the stages by pipes, starts them and waits for them.
//!
//! ```text
//! st-probe | st-decode | st-pathtree | st-filter | st-format    live
//! st-probe | (recorder) | st-decode ...                         with --record
//!     FILE | st-decode ...                                      with --replay
//! ```
//!
//! A signal that is to end tracing goes on to st-probe, which tells what is under way and then
//! ends; the later stages end when their input does. They are started once st-probe has begun to
//! write: if it cannot trace, that is all that there is to say.

use crate::arguments::{self, Invocation};
use crate::children::Children;
use crate::options::Options;
use crate::programs::Programs;
use crate::recorder::Recorder;
use crate::recording::Recording;
use crate::{say, status};
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use st_probe::stage::FAILED;
use st_probe::sys::capabilities;
use st_probe::sys::poll::poll;
use st_probe::sys::signals::Signals;
use std::fs::{self, File};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Runs the pipeline that the options ask for; returns the exit status.
pub fn run(options: &Options) -> Result<u8> {
    match &options.replay {
        Some(path) => replay(options, path),
        None => live(options),
    }
}

/// Shows a recording.
fn replay(options: &Options, path: &Path) -> Result<u8> {
    let stages = Programs::here()?.of(arguments::later(options, None))?;
    let file =
        File::open(path).with_context(|| format!("--replay: cannot read '{}'", path.display()))?;
    let mut pipeline = Pipeline::new()?;
    let started = pipeline.start_later(&stages, file.into(), options);
    pipeline.finish(started)
}

/// Shows this machine.
fn live(options: &Options) -> Result<u8> {
    // The pipe through which st-pathtree asks st-probe; both open it by its path.
    let questions = match options.snapshots()[..] {
        [] => None,
        _ => Some(pipe()?),
    };
    let asked = questions
        .as_ref()
        .map(|(end, _)| path_of(end))
        .transpose()?;
    let programs = Programs::here()?;
    let (probe, program) = programs.locate(arguments::probe(options, asked.as_deref()))?;
    let stages = programs.of(arguments::later(options, asked.as_deref()))?;
    let recording = (options.record.as_deref())
        .map(|path| Recording::create(path, options.overwrite))
        .transpose()?;
    let mut pipeline = Pipeline::new()?;
    let (stream, output) = pipe()?;
    // Only a command reads it.
    let input = if options.command.is_empty() {
        Stdio::null()
    } else {
        Stdio::inherit()
    };
    (pipeline.children).start(&probe, &program, input, output.into())?;
    let traced = pipeline.follow(stream, recording, &stages, options);
    pipeline.finish(traced)
}

/// A pipe: the end to read from and the end to write to.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")
}

/// The path by which other processes can open a descriptor of this one: proc_pid_fd(5). A
/// container may have the /proc of the host, where this process has another id.
fn path_of(fd: &OwnedFd) -> Result<PathBuf> {
    let this = fs::read_link("/proc/self").context("/proc does not show this process")?;
    let fd = fd.as_raw_fd().to_string();
    Ok(Path::new("/proc").join(this).join("fd").join(fd))
}

/// The stages that were started, and what is done until they have ended.
struct Pipeline {
    signals: Signals,
    children: Children,
    recorder: Option<Recorder>,
    /// Whether tracing is to end when nobody reads what is shown, though a recording goes on.
    ends_with_reader: bool,
    /// Whether systracer itself has failed.
    failed: bool,
}

impl Pipeline {
    fn new() -> Result<Self> {
        Ok(Self {
            signals: Signals::catch()?,
            children: Children::default(),
            recorder: None,
            ends_with_reader: false,
            failed: false,
        })
    }

    /// Starts the later stages once st-probe has begun to write, and a recording with them.
    fn follow(
        &mut self,
        stream: OwnedFd,
        recording: Option<Recording>,
        stages: &[(Invocation, PathBuf)],
        options: &Options,
    ) -> Result<()> {
        if !self.begins(&stream)? {
            return Ok(());
        }
        let Some(recording) = recording else {
            return self.start_later(stages, stream.into(), options);
        };
        let (input, output) = pipe()?;
        self.recorder = Some(Recorder::new(stream, output, recording.begin()?)?);
        // A command is not to be ended because nobody looks on.
        self.ends_with_reader = options.command.is_empty();
        self.start_later(stages, input.into(), options)
    }

    /// Waits until st-probe writes to `stream`; false if it has ended before.
    fn begins(&mut self, stream: &OwnedFd) -> Result<bool> {
        loop {
            let stream = PollFd::new(stream.as_fd(), PollFlags::POLLIN);
            match self.wait(vec![stream], Duration::MAX)? {
                events if events.contains(PollFlags::POLLIN) => return Ok(true),
                events if events.is_empty() => {}
                _ => return Ok(false),
            }
        }
    }

    /// Starts stages, each reading what the one before it writes, the first one from `input`.
    /// After that this process needs no privilege any more.
    fn start_later(
        &mut self,
        stages: &[(Invocation, PathBuf)],
        mut input: Stdio,
        options: &Options,
    ) -> Result<()> {
        let ((last, program), others) = stages.split_last().context("there are no stages")?;
        for (stage, program) in others {
            let (next, output) = pipe()?;
            let input = mem::replace(&mut input, next.into());
            (self.children).start(stage, program, input, output.into())?;
        }
        (self.children).start(last, program, input, Stdio::inherit())?;
        // St-probe is the same user's, so signals can be sent to it without any.
        if let Err(error) = capabilities::keep(&[]) {
            if options.verbose {
                say(&format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// Waits until all stages have ended; returns the exit status. `begun` is how their
    /// beginning went.
    fn finish(mut self, begun: Result<()>) -> Result<u8> {
        self.give_up_on_error(begun);
        loop {
            self.children.reap()?;
            // It is put back below: whoever polls for it borrows it.
            let recorder = self.recorder.take();
            let awaited = recorder.as_ref().map(Recorder::awaited);
            let awaited = awaited.unwrap_or_default();
            let patience = recorder.as_ref().map_or(Duration::MAX, Recorder::patience);
            if awaited.is_empty() && self.children.are_over() {
                break;
            }
            self.wait(awaited, patience)?;
            self.recorder = recorder;
            let recorded = self.record();
            self.give_up_on_error(recorded);
        }
        let own = self.failed.then_some(FAILED);
        Ok(status::worst(self.children.statuses().chain(own)))
    }

    /// Says what went wrong, and closes the pipes: the stages that were started end then.
    fn give_up_on_error(&mut self, result: Result<()>) {
        if let Err(error) = result {
            self.fail(&format!("{error:#}"));
            self.recorder = None;
        }
    }

    fn fail(&mut self, message: &str) {
        self.failed = true;
        say(message);
    }

    /// Copies what there is to copy.
    fn record(&mut self) -> Result<()> {
        let Some(recorder) = &mut self.recorder else {
            return Ok(());
        };
        recorder.turn()?;
        if self.ends_with_reader && recorder.reader_is_gone() {
            self.ends_with_reader = false;
            self.children.signal_first(Signal::SIGTERM);
        }
        if let Some(trouble) = recorder.take_trouble() {
            self.fail(&trouble);
        }
        Ok(())
    }

    /// Waits for a signal, which goes on to the first stage, or for `others`, for `patience` at
    /// most; returns the events of the first of those.
    fn wait(&mut self, others: Vec<PollFd>, patience: Duration) -> Result<PollFlags> {
        let signals = PollFd::new(self.signals.fd(), PollFlags::POLLIN);
        let mut awaited: Vec<_> = [signals].into_iter().chain(others).collect();
        poll(&mut awaited, patience).context("cannot wait")?;
        let other = awaited.get(1).and_then(PollFd::revents);
        for caught in self.signals.take() {
            if caught.signal != Signal::SIGCHLD {
                self.children.pass_on(caught);
            }
        }
        Ok(other.unwrap_or(PollFlags::empty()))
    }
}
