//! Starts systracer, lets something happen, and compares.

use anyhow::{Context, Error, Result};
use nix::sys::signal::Signal;
use st_probe::compressed::Plain;
use st_probe::wire::Reader;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::Report;
use crate::compare::{self, Got};
use crate::fs::Place;
use crate::log::{self, Expected, Log};
use crate::patience::wait_until;
use crate::program::{Output, Program};

/// A running systracer.
#[derive(Debug)]
pub struct Trace {
    /// The program.
    pub program: Program,
}

impl Trace {
    /// Starts `systracer ARGUMENTS` and waits until it traces.
    pub fn start<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        let mut command = Command::new("systracer");
        command.args(arguments.into_iter().map(Into::into));
        let program = Program::start(&mut command)?;
        program.wait_err("it said that it is tracing", says_tracing)?;
        Ok(Self { program })
    }

    /// Waits until its recording has the snapshot of the directories: paths that are too deep for one
    /// record are whole only then. How long that takes depends on the order in which the file
    /// system lists them.
    pub fn wait_for_snapshot(&self, recording: &Path) -> Result<()> {
        wait_until(
            || "the snapshot is not recorded".to_owned(),
            || has_snapshot(recording),
        )
    }

    /// Ends it as Ctrl-C does. What it has seen by then, it still prints.
    pub fn stop(self) -> Result<Output> {
        self.program.signal_group(Signal::SIGINT)?;
        self.program.finish()
    }

    /// Ends it and returns the events; whatever else is odd is reported as a problem.
    pub fn events(self, problems: &mut Vec<String>) -> Result<Vec<Got>> {
        let output = self.stop()?;
        check_end(&output, problems);
        Ok(compare::parse(&output.out, problems))
    }
}

/// Whether a recording, as far as it has been written, tells of a walk that is done.
fn has_snapshot(recording: &Path) -> Result<bool> {
    let mut input = Plain::new(File::open(recording)?);
    let mut reader = Reader::default();
    loop {
        while let Some(record) = reader.take().map_err(Error::msg)? {
            if record.kind() == "walked" {
                return Ok(true);
            }
        }
        // It is cut as long as it is being written.
        if !reader.fill(&mut input).unwrap_or(false) {
            return Ok(false);
        }
    }
}

/// Whether one line says that tracing has begun. An error may name /sys/kernel/tracing.
pub fn says_tracing(err: &str) -> bool {
    err.lines().any(|line| {
        line.split(|c: char| !c.is_alphanumeric() && c != '/')
            .any(|word| word == "tracing")
    })
}

/// It must end well, and must have had nothing to say but that tracing began.
pub fn check_end(output: &Output, problems: &mut Vec<String>) {
    if !output.status.success() {
        problems.push(format!("systracer ended: {}", output.status));
    }
    for line in output.err.lines() {
        if !says_tracing(line) {
            problems.push(format!("systracer said: {line}"));
        }
    }
}

/// `--watch EVENTS=PATH`.
pub fn watch(events: &str, path: &Path) -> [OsString; 2] {
    let mut watch = OsString::from(format!("{events}="));
    watch.push(path);
    ["--watch".into(), watch]
}

/// The usual options: file events below each of `dirs`, in JSON.
pub fn below<P: AsRef<Path>>(dirs: impl IntoIterator<Item = P>) -> Vec<OsString> {
    let watches = dirs.into_iter().flat_map(|dir| watch("all", dir.as_ref()));
    ["--json".into()].into_iter().chain(watches).collect()
}

/// Traces what four threads do in `place`, each in a directory of its own, which `prepare`
/// fills beforehand, and compares.
pub fn four(
    report: &mut Report,
    place: &Place,
    arguments: Vec<OsString>,
    prepare: impl Fn(&Path) -> Result<()>,
    work: impl Fn(&mut Log) -> Result<()> + Sync,
) -> Result<()> {
    prepare_four(place, prepare)?;
    let trace = Trace::start(arguments)?;
    let expected = worked(report, log::threads(place, work));
    finish(report, trace, &expected)
}

/// The same in several places, traced at once, one after the other.
pub fn four_each(
    report: &mut Report,
    places: &[Place],
    prepare: impl Fn(&Path) -> Result<()>,
    work: impl Fn(&mut Log, usize) -> Result<()> + Sync,
) -> Result<()> {
    for place in places {
        prepare_four(place, &prepare)?;
    }
    let trace = Trace::start(below(places.iter().map(|place| &place.dir)))?;
    let mut expected = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let logs = log::threads(place, |log| work(log, number));
        expected.extend(worked(report, logs));
    }
    finish(report, trace, &expected)
}

fn prepare_four(place: &Place, prepare: impl Fn(&Path) -> Result<()>) -> Result<()> {
    for dir in log::directories(&place.dir) {
        fs::create_dir(&dir)?;
        prepare(&dir).with_context(|| format!("cannot prepare {}", dir.display()))?;
    }
    Ok(())
}

/// Traces what one thread does in `place`.
pub fn one(
    report: &mut Report,
    place: &Place,
    arguments: Vec<OsString>,
    work: impl FnOnce(&mut Log, &Trace) -> Result<()>,
) -> Result<()> {
    let trace = Trace::start(arguments)?;
    let mut log = Log::new(place);
    let result = work(&mut log, &trace);
    let expected = worked(report, vec![(log, result)]);
    finish(report, trace, &expected)
}

/// The events that the logs expect; an error that ended one early is a problem.
pub fn worked(report: &mut Report, logs: Vec<(Log, Result<()>)>) -> Vec<Expected> {
    let mut expected = Vec::new();
    for (log, result) in logs {
        if let Err(error) = result {
            report
                .problems
                .push(format!("the test's own work stopped: {error:#}"));
        }
        expected.extend(log.expected);
    }
    expected
}

/// Ends the tracing and compares.
pub fn finish(report: &mut Report, trace: Trace, expected: &[Expected]) -> Result<()> {
    let got = trace.events(&mut report.problems)?;
    if !got.is_empty() {
        report.notes.push(compare::count(&got));
    }
    compare::compare(expected, &got, &mut report.problems);
    Ok(())
}
