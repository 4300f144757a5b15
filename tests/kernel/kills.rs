//! SIGKILL, of one process of the pipeline or of all at once, while it works: nobody hangs,
//! what was printed is whole lines, and tracefs is as before.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, unlink};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::fs::Kind;
use crate::patience::wait_until;
use crate::program::{Program, look};
use crate::trace::{Trace, below, says_tracing};
use crate::tracefs::{self, TRACEFS};
use crate::{Case, Report, sys};

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// A process of the pipeline, by its name.
    One(&'static str),
    /// All but the guardian, which is not in their process group.
    All,
    /// All and the guardian.
    Everybody,
}

const VICTIMS: [(&str, Victim); 8] = [
    ("systracer", Victim::One("systracer")),
    ("st-probe", Victim::One("st-probe")),
    ("st-decode", Victim::One("st-decode")),
    ("st-pathtree", Victim::One("st-pathtree")),
    ("st-format", Victim::One("st-format")),
    ("guardian", Victim::One("guardian")),
    ("all", Victim::All),
    ("everybody", Victim::Everybody),
];

/// How often each is killed: SYSTRACER_KILLS.
fn rounds() -> u32 {
    let rounds = std::env::var("SYSTRACER_KILLS").ok();
    rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let case = |(name, victim)| {
        Case::new(format!("kills/{name}"), move |report: &mut Report| {
            let mut slowest = Duration::ZERO;
            for _ in 0..rounds() {
                slowest = slowest.max(killed(report, victim)?);
            }
            if slowest > Duration::ZERO {
                let millis = slowest.as_millis();
                report
                    .notes
                    .push(format!("tracefs as before after {millis} ms"));
            }
            Ok(())
        })
    };
    VICTIMS.into_iter().map(case).collect()
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Kills once; returns how long it took until tracefs was as before, where nobody had to ask.
fn killed(report: &mut Report, victim: Victim) -> Result<Duration> {
    let before = tracefs::Snapshot::take()?;
    let place = Kind::Tmpfs.place(&format!("kills-{}", NUMBER.fetch_add(1, Relaxed)))?;
    let trace = Trace::start(below([&place.dir]))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let working = scope.spawn(|| work(&place.dir, &stop));
        let took = kill_and_wait(report, victim, trace, &before);
        stop.store(true, Relaxed);
        working.join().expect("it does not panic")?;
        took
    })
}

/// Makes and removes files until told to stop.
fn work(dir: &Path, stop: &AtomicBool) -> Result<()> {
    let file = dir.join("file");
    while !stop.load(Relaxed) {
        sys::creat(&file, 0o644)?;
        unlink(&file)?;
    }
    Ok(())
}

fn kill_and_wait(
    report: &mut Report,
    victim: Victim,
    trace: Trace,
    before: &tracefs::Snapshot,
) -> Result<Duration> {
    let Trace { program } = trace;
    program.wait_out(b"\n")?;
    let all = program.family()?;
    let one = |victim: &str| {
        let found = all.iter().find(|(_, name)| name == victim);
        let (pid, _) = found.with_context(|| format!("there is no {victim} among {all:?}"))?;
        kill(*pid, Signal::SIGKILL).with_context(|| format!("cannot kill {victim}"))
    };
    let began = Instant::now();
    match victim {
        Victim::One(victim) => one(victim)?,
        Victim::All => program.signal_group(Signal::SIGKILL)?,
        Victim::Everybody => {
            one("guardian")?;
            program.signal_group(Signal::SIGKILL)?;
        }
    }
    if victim == Victim::One("guardian") {
        program.signal_group(Signal::SIGINT)?;
    }
    let output = program.finish()?;
    let mut took = Duration::ZERO;
    match victim {
        Victim::One("guardian") => {}
        Victim::Everybody => sweep(report, before)?,
        _ => {
            let left = || -> Vec<_> {
                let left = all.iter().filter(|(pid, name)| is_there(*pid, name));
                left.collect()
            };
            wait_until(
                || format!("these are left: {:?}, or their probes", left()),
                || Ok(!before.differs()? && left().is_empty()),
            )?;
            took = began.elapsed();
        }
    }
    if output.out.last() != Some(&b'\n') {
        let last = output.out.rsplit(|&byte| byte == b'\n').next();
        let last = String::from_utf8_lossy(last.unwrap_or_default()).into_owned();
        report
            .problems
            .push(format!("the last line is cut: {last}"));
    }
    // Nobody is left to name systracer, and the guardian is no child of its.
    let named = match victim {
        Victim::One(name) if name.starts_with("st-") => {
            Some(format!("systracer: {name} was killed by SIGKILL"))
        }
        _ => None,
    };
    let is_named = |line: &&str| Some(*line) == named.as_deref();
    if output.err.lines().filter(is_named).count() != usize::from(named.is_some()) {
        let problem = format!("whoever was killed is not named once:\n{}", output.err);
        report.problems.push(problem);
    }
    for line in output.err.lines() {
        // Whoever is left without input says so; so does st-probe when it is told to end.
        let fine = says_tracing(line) || line.contains("input") || is_named(&line);
        if !fine {
            report.problems.push(format!("it was said: {line}"));
        }
    }
    Ok(took)
}

/// Whoever traces next takes down what even the guardian could not, and `--cleanup` does; what
/// lives or is somebody else's stays.
fn sweep(report: &mut Report, before: &tracefs::Snapshot) -> Result<()> {
    if !before.differs()? {
        bail!("there is nothing to take down");
    }
    let place = Kind::Tmpfs.place(&format!("kills-{}", NUMBER.fetch_add(1, Relaxed)))?;
    let other = Program::start(Command::new("systracer").args(below([&place.dir])))?;
    other.wait_err("it said that it is tracing", says_tracing)?;
    if !other.err().contains("was killed") {
        report
            .problems
            .push(format!("nothing was taken down: {}", other.err()));
    }
    // A second one, of which nothing is to be left, beside the first, which lives.
    let second = Trace::start(below([&place.dir]))?;
    kill(second.program.member("guardian")?, Signal::SIGKILL)?;
    second.program.signal_group(Signal::SIGKILL)?;
    second.program.finish()?;
    let foreign = Path::new(TRACEFS).join("instances/systracer_1_x");
    fs::create_dir(&foreign)?;
    let output = Command::new("st-probe").arg("--cleanup").output()?;
    let out = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || out.lines().count() != 1 {
        let err = String::from_utf8_lossy(&output.stderr);
        report
            .problems
            .push(format!("--cleanup: {}: {out}{err}", output.status));
    }
    fs::remove_dir(&foreign).context("somebody else's instance is gone")?;
    let seen = other.seen();
    sys::creat(&place.dir.join("after"), 0o644)?;
    if let Err(error) = other.wait_out_after(seen, b"after") {
        report
            .problems
            .push(format!("the living one was disturbed: {error:#}"));
    }
    other.signal_group(Signal::SIGINT)?;
    other.finish()?;
    Ok(())
}

fn is_there(pid: Pid, name: &str) -> bool {
    look(pid.as_raw()).is_some_and(|found| found.0 == name)
}
