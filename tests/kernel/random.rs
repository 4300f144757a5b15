//! Thousands of operations chosen at random, by several threads and processes: all that
//! they do is reported, and nothing else, wherever directories have been moved to.
//!
//! What is done is a pure function of a seed, see [`plan`]: each process computes all of it
//! and does its own part when its turn comes. The environment variable SYSTRACER_SEED
//! repeats a run, SYSTRACER_OPERATIONS makes a long one, and with SYSTRACER_SHOW it tells
//! what it does:
//!
//! ```text
//! scripts/vm ... -- env SYSTRACER_SEED=1 SYSTRACER_OPERATIONS=20000 kernel-tests random
//! ```

mod actor;
mod choose;
mod crew;
mod judge;
mod op;
mod plan;
mod rng;
mod tree;

use anyhow::{Context, Result};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::str::FromStr;
use std::thread;

use self::crew::Crew;
pub use self::crew::worker;
use self::plan::{Mode, Plan, Settings};
use self::rng::Random;
use crate::fs::{Kind, Place};
use crate::log::now;
use crate::spaces::tells_subvolumes;
use crate::trace::{Trace, finish, watch};
use crate::{Case, Report, sys};

/// The operations of a case, if the environment does not say.
const OPERATIONS: u64 = 1000;
/// How many characters of a line are shown if it fails, and how many of the same in a row.
const LINE: usize = 2000;
const RUN: usize = 10;

/// The cases.
pub fn cases() -> Vec<Case> {
    [Mode::Parallel, Mode::Serial]
        .into_iter()
        .map(|mode| {
            Case::new(
                format!("random/{}", mode.name()),
                move |report: &mut Report| random(report, mode),
            )
        })
        .collect()
}

/// A number in the environment.
fn number(name: &str) -> Result<Option<u64>> {
    match env::var(name) {
        Ok(text) => {
            let number = u64::from_str(&text).with_context(|| format!("{name}={text}"))?;
            Ok(Some(number))
        }
        Err(_) => Ok(None),
    }
}

/// Half of the operations on ext4, half on another file system.
fn random(report: &mut Report, mode: Mode) -> Result<()> {
    let seed = number("SYSTRACER_SEED")?.unwrap_or_else(now);
    let operations = number("SYSTRACER_OPERATIONS")?.unwrap_or(OPERATIONS);
    let mut others = vec![Kind::Tmpfs, Kind::Xfs, Kind::Overlay];
    // Where inode numbers repeat, paths say that they may be others.
    if tells_subvolumes() {
        others.push(Kind::Btrfs);
    }
    let other = others[Random::new(seed).below(others.len())];
    report.notes.push(format!("seed {seed}"));
    for (number, kind) in [Kind::Ext4, other].into_iter().enumerate() {
        report.notes.push(kind.name().to_owned());
        let place = kind.place(&format!("random-{}", mode.name()))?;
        let mut outside = place.dir.clone().into_os_string();
        outside.push("-outside");
        fs::create_dir(&outside)?;
        let settings = Settings {
            mode,
            seed: seed ^ (number as u64).reverse_bits(),
            operations: operations as usize / 2,
            dir: place.dir.clone(),
            outside: outside.into(),
        };
        let mut found = Report::default();
        // In a thread with a working directory of its own.
        let result = thread::scope(|scope| {
            let coordinator = scope.spawn(|| coordinate(&mut found, &settings, &place));
            coordinator.join().expect("the coordinator does not panic")
        });
        report.notes.append(&mut found.notes);
        found
            .problems
            .extend(result.err().map(|error| format!("{error:#}")));
        if !found.problems.is_empty() {
            report.problems.push(format!(
                "on {}, with SYSTRACER_SEED={seed} SYSTRACER_OPERATIONS={operations}:",
                kind.name()
            ));
            let problems = found.problems.iter().map(|text| readable(text));
            report.problems.extend(problems);
        }
    }
    Ok(())
}

/// A problem, of which each line is cut, as are the longest names.
fn readable(text: &str) -> String {
    let (mut line, mut run, mut last) = (0, 0, None);
    let mut short = String::new();
    for c in text.chars() {
        run = if last == Some(c) { run + 1 } else { 0 };
        line = if c == '\n' { 0 } else { line + 1 };
        last = Some(c);
        if run < RUN && line < LINE {
            short.push(c);
        }
    }
    short
}

/// Runs the plan.
fn coordinate(report: &mut Report, settings: &Settings, place: &Place) -> Result<()> {
    sys::unshare_working_directory()?;
    let show = env::var_os("SYSTRACER_SHOW").is_some();
    let mut plan = Plan::new(settings);
    let mut crew = Crew::start(settings)?;
    let mut trace = None;
    let mut expected = Vec::new();
    let result = plan.by_ref().try_for_each(|step| {
        if trace.is_none() && !step.before {
            let mut arguments: Vec<OsString> = vec!["--json".into()];
            arguments.extend(watch("all", &place.dir));
            trace = Some(Trace::start(arguments)?);
        }
        for (number, op) in step.work.iter().enumerate().filter(|_| show) {
            op.iter().for_each(|op| eprintln!("{number} {op}"));
        }
        let seen = trace.as_ref().map(|trace| trace.program.seen());
        let mut told = Vec::new();
        let result = crew.perform(&step, place, &mut told);
        let (Some(trace), Some(seen)) = (&trace, seen) else {
            return result;
        };
        expected.extend(told);
        result?;
        match &step.printed {
            Some(name) => trace.program.wait_out_after(seen, name.as_bytes()),
            None => Ok(()),
        }
    });
    // What was done until then is compared even so.
    let stopped = result.map_err(|error| report.problems.push(format!("{error:#}")));
    if let Some(trace) = trace {
        finish(report, trace, &expected)?;
    }
    if stopped.is_err() {
        return Ok(());
    }
    crew.dismiss()?;
    crew.perform_all(&plan.unmount_all())?;
    for dir in [&settings.dir, &settings.outside] {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}
