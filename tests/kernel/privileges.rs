//! What each process of the pipeline may do.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::fs::Kind;
use crate::trace::{Trace, below};
use crate::{Case, Report};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("privileges/stages", stages),
        Case::new("privileges/command", command),
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

fn stages(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("privileges")?;
    let trace = Trace::start(below([&place.dir]))?;
    let mut seen = Vec::new();
    for (pid, name) in trace.program.family()? {
        let path = format!("/proc/{pid}/status");
        let status = status(&fs::read_to_string(&path).context(path)?);
        let expected: &[(&str, &str)] = match name.as_str() {
            "st-probe" => &[
                ("CapPrm", PROBE),
                ("CapEff", PROBE),
                ("CapBnd", PROBE),
                ("NoNewPrivs", "1"),
            ],
            "guardian" => &[
                ("CapPrm", NONE),
                ("CapEff", NONE),
                ("CapBnd", NONE),
                ("NoNewPrivs", "1"),
            ],
            "systracer" => continue,
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
        };
        for (field, value) in expected {
            let is = status.get(*field).map_or("(not told)", String::as_str);
            if is != *value {
                let problem = format!("{name} has {field} {is}, expected {value}");
                report.problems.push(problem);
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
    ];
    if seen != expected {
        report.problems.push(format!("the processes are {seen:?}"));
    }
    trace.events(&mut report.problems)?;
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
