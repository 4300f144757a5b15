//! What each process of the pipeline may do.

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::fs::Kind;
use crate::patience::wait_until;
use crate::program::Program;
use crate::trace::{Trace, below, says_tracing};
use crate::{Case, Report, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("privileges/stages", stages),
        Case::new("privileges/command", command),
        Case::new("privileges/environment", environment),
    ]
}

/// What `/proc/PID/status` says of privileges: proc_pid_status(5).
const FIELDS: [&str; 9] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "NoNewPrivs",
    "Seccomp",
];

type Status = BTreeMap<String, String>;

fn status(text: &str) -> Status {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let wanted = lines.filter(|(name, _)| FIELDS.contains(name));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    wanted
        .map(|(name, value)| (name.to_owned(), words(value)))
        .collect()
}

/// CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_KILL, CAP_SYS_PTRACE: capabilities(7).
const PROBE: &str = "000000000008002c";
const NONE: &str = "0000000000000000";

/// What a process of the pipeline may do.
fn expected(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "st-probe" => &[
            ("CapPrm", PROBE),
            ("CapEff", PROBE),
            ("CapBnd", PROBE),
            ("NoNewPrivs", "1"),
        ],
        "guardian" | "systracer" => &[
            ("CapPrm", NONE),
            ("CapEff", NONE),
            ("CapBnd", NONE),
            ("NoNewPrivs", "1"),
        ],
        _ => &[
            ("Uid", "65534 65534 65534 65534"),
            ("Gid", "65534 65534 65534 65534"),
            ("Groups", ""),
            ("CapInh", NONE),
            ("CapPrm", NONE),
            ("CapEff", NONE),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ],
    }
}

fn stages(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("privileges")?;
    let trace = Trace::start(below([&place.dir]))?;
    let mut problems = Vec::new();
    // They are started, and give up what they do not need, while it traces already.
    let waited = wait_until(
        || "not everything is given up".to_owned(),
        || {
            problems = excesses(&trace)?;
            Ok(problems.is_empty())
        },
    );
    report.problems.extend(problems);
    waited?;
    trace.events(&mut report.problems)?;
    Ok(())
}

/// Who is missing, and who may do what he should not.
fn excesses(trace: &Trace) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut seen = Vec::new();
    for (pid, name) in trace.program.family()? {
        let path = format!("/proc/{pid}/status");
        let status = status(&fs::read_to_string(&path).context(path)?);
        for (field, value) in expected(&name) {
            let is = status.get(*field).map_or("(not told)", String::as_str);
            if is != *value {
                problems.push(format!("{name} has {field} {is}, expected {value}"));
            }
        }
        seen.push(name);
    }
    seen.sort();
    let expected = [
        "guardian",
        "st-decode",
        "st-format",
        "st-pathtree",
        "st-probe",
        "systracer",
    ];
    if seen != expected {
        problems.push(format!("the processes are {seen:?}"));
    }
    Ok(problems)
}

/// No stage gets what it was not asked to have of systracer's environment; a command gets all.
fn environment(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("environment")?;
    let mut command = Command::new("systracer");
    command
        .args(below([&place.dir]))
        .envs([("TERM", "dumb"), ("SECRET", "1")]);
    let program = Program::start(&mut command)?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    sys::creat(&place.dir.join("file"), 0o644)?;
    program.wait_out(b"\n")?;
    for (pid, name) in program.family()? {
        let environment = fs::read(format!("/proc/{pid}/environ"))?;
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let expected = match name.as_str() {
            "systracer" => continue,
            "st-format" => "TERM=dumb\0",
            _ => "",
        };
        if environment != expected {
            let problem = format!("{name} has the environment {environment:?}");
            report.problems.push(problem);
        }
    }
    program.signal_group(Signal::SIGINT)?;
    program.finish()?;

    let output = Command::new("systracer")
        .args(["--listen", "--", "env"])
        .env("SECRET", "1")
        .output()?;
    let err = String::from_utf8_lossy(&output.stderr);
    let own = std::env::vars().map(|(name, value)| format!("{name}={value}"));
    for variable in own.chain(["SECRET=1".to_owned()]) {
        if !err.lines().any(|line| line == variable) {
            let problem = format!("the command has no {variable}: {err}");
            report.problems.push(problem);
        }
    }
    Ok(())
}

/// A command that is traced keeps all that root may do.
fn command(report: &mut Report) -> Result<()> {
    let own = status(&fs::read_to_string("/proc/self/status")?);
    let output = Command::new("systracer")
        .args(["--listen", "--", "cat", "/proc/self/status"])
        .output()?;
    let err = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("systracer ended: {}: {err}", output.status);
    }
    let its = status(&err);
    if its != own {
        report
            .problems
            .push(format!("the command may {its:?}, not {own:?}"));
    }
    Ok(())
}
