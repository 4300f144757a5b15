//! What SysTracer must hold, tried on a real kernel: `kernel-tests [FILTER]`.
//!
//! Runs as root inside scripts/vm, and nowhere else, since it mounts, fills and unmounts
//! file systems:
//!
//! ```text
//! scripts/vm --disk --kernel 6.1 --add kernel-tests -- kernel-tests [FILTER]
//! ```
//!
//! Each case traces while it does something, and compares what it did with what was
//! reported, exactly: see [`compare`]. It prints a line a case, `ok NAME` or `FAIL NAME`
//! followed by details, and at the end `N passed, N failed`; it exits with 1 if any failed.
//! With FILTER it runs the cases whose names contain it. After each case, tracefs must be as it
//! was before. What a failed case leaves otherwise is told and taken away: see [`cleanup`].
//! `--inside` is for itself: see [`inside`].
#![deny(unsafe_code)]

mod acls;
mod attributes;
mod cleanup;
mod clock;
mod compare;
mod container;
mod deed;
mod disturb;
mod failures;
mod fastopen;
mod files;
mod fs;
mod full;
mod inside;
mod kills;
mod layers;
mod listening;
mod listing;
mod log;
mod login;
mod loss;
mod moments;
mod mounts;
mod names;
mod namespaces;
mod options;
mod others;
mod overlay;
mod paths;
mod patience;
mod privileges;
mod processes;
mod program;
mod programs;
mod random;
mod replay;
mod sockets;
mod spaces;
mod strace;
#[allow(unsafe_code)]
mod sys;
mod systracer;
mod trace;
mod tracefs;
mod tree;
mod watches;
mod who;
mod witness;

use anyhow::Result;
use nix::sys::stat::{Mode, umask};
use std::path::Path;
use std::process::ExitCode;

use cleanup::Before;

/// How many lines of a failed case are shown.
const DETAILS: usize = 60;

/// What a case found.
#[derive(Debug, Default)]
pub struct Report {
    /// For people: what it did, what this kernel does not have.
    pub notes: Vec<String>,
    /// It has passed if there is none.
    pub problems: Vec<String>,
    /// What a case that failed had left, and was taken away.
    left: Vec<String>,
}

type Run = Box<dyn Fn(&mut Report) -> Result<()>>;

/// One thing that must hold.
pub struct Case {
    name: String,
    run: Run,
    /// Whether tracefs can be looked at afterwards, and must be as before.
    checked: bool,
}

impl Case {
    /// A case, by name.
    pub fn new(name: impl Into<String>, run: impl Fn(&mut Report) -> Result<()> + 'static) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
            checked: true,
        }
    }

    /// One after which nobody can look at tracefs.
    pub fn last(self) -> Self {
        Self {
            checked: false,
            ..self
        }
    }

    fn run(&self) -> Report {
        let mut report = Report::default();
        let before = match Before::take() {
            Ok(before) => before,
            Err(error) => {
                report.problems.push(format!("{error:#}"));
                return report;
            }
        };
        if let Err(error) = (self.run)(&mut report) {
            report.problems.push(format!("{error:#}"));
        }
        if self.checked {
            if let Err(error) = before.check(&mut report.problems) {
                report.problems.push(format!("{error:#}"));
            }
            if !report.problems.is_empty() {
                report.left = before.restore();
            }
        }
        report
    }
}

fn cases() -> Vec<Case> {
    [
        files::cases(),
        overlay::cases(),
        layers::cases(),
        failures::cases(),
        full::cases(),
        sockets::cases(),
        fastopen::cases(),
        listening::cases(),
        names::cases(),
        paths::cases(),
        mounts::cases(),
        spaces::cases(),
        moments::cases(),
        container::cases(),
        programs::cases(),
        listing::cases(),
        random::cases(),
        watches::cases(),
        options::cases(),
        systracer::cases(),
        processes::cases(),
        who::cases(),
        login::cases(),
        replay::cases(),
        disturb::cases(),
        loss::cases(),
        clock::cases(),
        namespaces::cases(),
        others::cases(),
        kills::cases(),
        privileges::cases(),
        cleanup::cases(),
        vec![others::lockdown()],
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let filter = arguments.first().map(|filter| filter.to_string_lossy());
    let filter = filter.unwrap_or_default();
    // What a case runs as a process of its own.
    let part = if filter == inside::OPTION {
        Some(inside::run(&arguments[1..]))
    } else if filter == deed::OPTION {
        Some(deed::run(&arguments[1..]))
    } else if filter == moments::OPTION {
        Some(moments::run(&arguments[1..]))
    } else {
        random::worker(&arguments)
    };
    if let Some(result) = part {
        if let Err(error) = &result {
            eprintln!("kernel-tests: {error:#}");
        }
        return ExitCode::from(u8::from(result.is_err()));
    }
    if !Path::new("/vm/command").exists() {
        eprintln!("kernel-tests: runs inside scripts/vm only");
        return ExitCode::from(2);
    } // The modes that are expected do not hang on whoever started this.
    umask(Mode::from_bits_truncate(0o022));

    // Whoever uses the top-level instance first expands its ring buffer. That is to be no change.
    if let Err(error) = std::fs::write(Path::new(tracefs::TRACEFS).join("current_tracer"), "nop") {
        eprintln!("kernel-tests: cannot use tracefs: {error}");
    }
    let (mut passed, mut failed) = (0, 0);
    for case in cases() {
        if !case.name.contains(&*filter) {
            continue;
        }
        let report = case.run();
        let notes = match report.notes.as_slice() {
            [] => String::new(),
            notes => format!(" ({})", notes.join("; ")),
        };
        if report.problems.is_empty() {
            passed += 1;
            println!("ok {}{notes}", case.name);
            continue;
        }
        failed += 1;
        println!("FAIL {}{notes}", case.name);
        for line in report
            .problems
            .iter()
            .flat_map(|text| text.lines())
            .take(DETAILS)
        {
            println!("    {line}");
        }
        if report.problems.len() > DETAILS {
            println!("    ... {} in all", report.problems.len());
        }
        for left in report.left {
            println!("    left: {left}");
        }
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0 || passed == 0))
}
