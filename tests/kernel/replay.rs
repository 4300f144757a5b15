//! A recording, replayed with the same options, gives the bytes that the live run gave, to
//! a user without rights too.

use anyhow::{Result, bail};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::files::{Can, operations};
use crate::fs::Kind;
use crate::log::{directories, threads};
use crate::program::{Output, Program};
use crate::trace::{Trace, check_end, watch, worked};
use crate::{Case, Report};

/// The cases.
pub fn cases() -> Vec<Case> {
    [
        ("json", &["--json", "--all"][..]),
        ("text", &["--all"][..]),
        ("watch-only", &["--json"][..]),
    ]
    .into_iter()
    .map(|(name, options)| {
        Case::new(format!("replay/{name}"), move |report: &mut Report| {
            replay(report, name, options)
        })
    })
    .collect()
}

fn replay(report: &mut Report, name: &str, options: &[&str]) -> Result<()> {
    let place = Kind::Ext4.place(&format!("replay-{name}"))?;
    let can = Can::probe(&place)?;
    for dir in directories(&place.dir) {
        fs::create_dir(dir)?;
    }
    let recording = format!("/tmp/recording-{name}");
    let mut arguments: Vec<OsString> = options.iter().map(Into::into).collect();
    arguments.extend(watch("all", &place.dir));
    let with = |option: &str| {
        let mut arguments = arguments.clone();
        arguments.extend([option.into(), OsString::from(&recording)]);
        arguments
    };

    let trace = Trace::start(with("--record"))?;
    let logs = threads(&place, |log| {
        log.dir = log.path("r");
        operations(log, &can)
    });
    let expected = worked(report, logs);
    let live = trace.stop()?;
    check_end(&live, &mut report.problems);
    let lines = live.out.iter().filter(|&&byte| byte == b'\n').count();
    report.notes.push(format!("{lines} lines"));
    if lines != expected.len() {
        report
            .problems
            .push(format!("expected {} lines, got {lines}", expected.len()));
    }

    fs::set_permissions(&recording, Permissions::from_mode(0o644))?;
    for user in [0, 65534] {
        let mut command = Command::new("systracer");
        command.args(with("--replay")).uid(user).current_dir("/");
        let replayed = Program::start(&mut command)?.finish()?;
        if !replayed.status.success() {
            bail!("as user {user}: {}: {}", replayed.status, replayed.err);
        }
        same(&live, &replayed, user, &mut report.problems);
    }
    fs::remove_file(recording)?;
    Ok(())
}

fn same(live: &Output, replayed: &Output, user: u32, problems: &mut Vec<String>) {
    if live.out == replayed.out {
        return;
    }
    let lines = |output: &Output| -> Vec<String> {
        let text = String::from_utf8_lossy(&output.out);
        text.lines().map(str::to_owned).collect()
    };
    let (live, replayed) = (lines(live), lines(replayed));
    problems.push(format!(
        "replayed by user {user}: {} lines live, {} replayed",
        live.len(),
        replayed.len()
    ));
    if let Some((live, replayed)) = live.iter().zip(&replayed).find(|(a, b)| a != b) {
        problems.push(format!("live:     {live}\nreplayed: {replayed}"));
    }
}
