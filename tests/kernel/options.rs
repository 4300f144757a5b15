//! What the options of systracer select, and the command that it runs.

use anyhow::Result;
use nix::sys::socket::{SockFlag, SockType, connect};
use serde_json::Value;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::compare::{self, compare};
use crate::fs::{Kind, Place};
use crate::log::Log;
use crate::program::Program;
use crate::sockets::{LOCAL, close};
use crate::trace::{Trace, check_end, watch, worked};
use crate::{Case, Report, sys};

const FILES: &[&str] = &["create", "delete"];
const WATCHED: &[&str] = &["create"];
const CONNECT: &[&str] = &["connect"];
const LISTEN: &[&str] = &["listen", "unlisten"];

/// Options, whether a directory is watched for `create`, and the events that they select.
type Row = (
    &'static str,
    &'static [&'static str],
    bool,
    &'static [&'static [&'static str]],
);

const ROWS: [Row; 6] = [
    ("all", &["--all"], false, &[FILES, CONNECT, LISTEN]),
    ("all-watch", &["--all"], true, &[WATCHED, CONNECT, LISTEN]),
    ("watch", &[], true, &[WATCHED]),
    ("connect", &["--connect"], false, &[CONNECT]),
    ("listen", &["--listen"], false, &[LISTEN]),
    ("listen-watch", &["--listen"], true, &[WATCHED, LISTEN]),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = ROWS
        .into_iter()
        .map(|row| {
            Case::new(format!("options/{}", row.0), move |report: &mut Report| {
                selected(report, row)
            })
        })
        .collect();
    cases.push(Case::new("options/command", command));
    cases.push(Case::new("options/not-root", not_root));
    cases
}

/// Without root it says so, and the documented status.
fn not_root(report: &mut Report) -> Result<()> {
    let output = Command::new("st-probe").uid(65534).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(1) || !said.contains("needs root") || !output.stdout.is_empty()
    {
        report.problems.push(format!("{}: {said}", output.status));
    }
    Ok(())
}

fn selected(report: &mut Report, (name, options, watched, events): Row) -> Result<()> {
    let place = Kind::Tmpfs.place(&format!("options-{name}"))?;
    let mut arguments: Vec<OsString> = vec!["--json".into()];
    arguments.extend(options.iter().map(Into::into));
    if watched {
        arguments.extend(watch("create", &place.dir));
    }
    let trace = Trace::start(arguments)?;
    let mut log = Log::new(&place);
    let result = everything(&mut log);
    let mut expected = worked(report, vec![(log, result)]);
    expected.retain(|expected| {
        let event = expected.fields["event"].as_str().unwrap_or("?");
        events.concat().contains(&event)
    });
    let mut got = trace.events(&mut report.problems)?;
    // Without a watch, all of the machine is seen.
    let pid = Value::from(std::process::id());
    got.retain(|event| *event.process("pid") == pid);
    compare(&expected, &got, &mut report.problems);
    Ok(())
}

/// Something of each sort.
fn everything(log: &mut Log) -> Result<()> {
    let path = log.path("file");
    log.made("create", &path, || sys::creat(&path, 0o644))?;
    let local = LOCAL[0];
    let (server, port) = local.bound(SockType::Stream)?;
    let ((), span) = log.run(|| sys::listen(server.as_fd(), 1))?;
    let mut fields = local.fields(&server, "tcp", port);
    fields["event"] = "listen".into();
    fields["backlog"] = 1.into();
    log.expect(span, fields);
    let client = local.socket(SockType::Stream, SockFlag::empty())?;
    let (fields, address) = (local.fields(&client, "tcp", port), local.port(port)?);
    log.connects(Ok(()), fields, || connect(client.as_raw_fd(), &address))?;
    close(log, &local, server, port)?;
    log.removed("delete", &path, || nix::unistd::unlink(&path))
}

/// `-- COMMAND`: traces while it runs, and ends with its status.
fn command(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("options-command")?;
    for status in [0, 7] {
        let dir = place.dir.join(format!("dir{status}"));
        let script = format!("mkdir {}; exit {status}", dir.display());
        let output = run(&place, &["sh", "-c", &script])?;
        if output.status.code() != Some(status) {
            report
                .problems
                .push(format!("expected status {status}, got {}", output.status));
        }
        if status == 0 {
            check_end(&output, &mut report.problems);
        }
        let got = compare::parse(&output.out, &mut report.problems);
        let got: Vec<_> = got
            .iter()
            .map(|event| (event.get("event").clone(), event.get("path").clone()))
            .collect();
        let expected = vec![("mkdir".into(), dir.to_string_lossy().into())];
        if got != expected {
            report
                .problems
                .push(format!("expected {expected:?}, got {got:?}"));
        }
    }
    Ok(())
}

fn run(place: &Place, words: &[&str]) -> Result<crate::program::Output> {
    let mut command = Command::new("systracer");
    command.arg("--json").args(watch("all", &place.dir));
    command.arg("--").args(words);
    Program::start(&mut command)?.finish()
}
