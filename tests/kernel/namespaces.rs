//! systracer in a PID namespace of its own, as in a container without --pid=host.

use anyhow::{Context, Result};
use nix::unistd::mkdir;
use serde_json::json;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compare::{self, Got, compare};
use crate::files::mode;
use crate::fs::{Kind, Place};
use crate::log::{Expected, Log};
use crate::program::Program;
use crate::trace::{Trace, below, check_end, says_tracing, worked};
use crate::{Case, Report, sys};

/// Deeper than any record holds.
const DEEP: &str = "1/2/3/4/5/6/7/8/9/10/11/12";
/// What it says of its namespace.
const REMARK: &str = "--pid=host";

/// Which /proc is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proc {
    /// That of its own namespace.
    Own,
    /// That of the host.
    Host,
}

impl Proc {
    /// Starts a program in a PID namespace of its own.
    fn run(self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]);
        if self == Self::Own {
            command.arg("--mount-proc");
        }
        command.arg(program);
        command
    }
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, proc) in [("own", Proc::Own), ("host", Proc::Host)] {
        cases.push(Case::new(
            format!("namespaces/{name}-proc"),
            move |report| others(report, name, proc),
        ));
        cases.push(Case::new(
            format!("namespaces/{name}-proc-command"),
            move |report| command(report, name, proc),
        ));
        cases.push(Case::new(
            format!("namespaces/{name}-proc-neighbours"),
            move |report| neighbours(report, name, proc),
        ));
    }
    cases.push(Case::new("namespaces/foreign-proc", foreign));
    cases
}

fn start(mut command: Command, arguments: Vec<OsString>) -> Result<Trace> {
    let program = Program::start(command.args(arguments))?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    Ok(Trace { program })
}

/// Ends the tracing. It must have told of its namespace once, if its /proc is its own.
fn stop(report: &mut Report, trace: Trace, proc: Proc) -> Result<Vec<Got>> {
    let mut output = trace.stop()?;
    let (remarks, others): (Vec<_>, Vec<_>) = output
        .err
        .lines()
        .map(str::to_owned)
        .partition(|line| line.contains(REMARK));
    if remarks.len() != usize::from(proc == Proc::Own) {
        report.problems.push(format!("it said: {}", output.err));
    }
    output.err = others.join("\n");
    check_end(&output, &mut report.problems);
    Ok(compare::parse(&output.out, &mut report.problems))
}

/// What processes do that were there before, and what others do.
fn others(report: &mut Report, name: &str, proc: Proc) -> Result<()> {
    let place = Kind::Ext4.place(&format!("namespaces-{name}"))?;
    fs::create_dir_all(place.dir.join(DEEP))?;
    let trace = start(proc.run("systracer"), below([&place.dir]))?;
    let mut log = Log::new(&place);
    let result = work(&mut log);
    let mut expected = worked(report, vec![(log, result)]);
    if proc == Proc::Own {
        // Of this process, which was there before, its thread's id is known.
        let own = expected.iter_mut().filter(|expected| expected.tid != 0);
        for expected in own {
            (expected.pid, expected.comm) = (None, None);
        }
    }
    // Its stages have begun to read when it has printed something.
    trace.program.wait_out(b"by-another")?;
    let got = stop(report, trace, proc)?;
    compare(&expected, &got, &mut report.problems);
    let own = nix::unistd::gettid().as_raw();
    for got in got.iter().filter(|got| got.tid() == own) {
        let known = ["pid", "comm", "uid", "exe"].map(|name| !got.process(name).is_null());
        if known != [proc == Proc::Host; 4] {
            let problem = format!("it is known: {}", got.get("process"));
            report.problems.push(problem);
        }
    }
    Ok(())
}

fn work(log: &mut Log) -> Result<()> {
    let dir = log.path(DEEP).join("made");
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    let file = dir.join("file");
    log.made("create", &file, || sys::creat(&file, 0o644))?;
    let by_other = dir.join("by-another");
    let (child, span) = log.run(|| {
        let mut child = Command::new("touch").arg(&by_other).spawn();
        let pid = child.as_mut().map_or(0, |child| child.id() as i32);
        let ended = child.and_then(|mut child| child.wait());
        Ok((pid, ended))
    })?;
    let (pid, ended) = child;
    anyhow::ensure!(ended?.success(), "touch failed");
    let expected = log.expect_made(span, "create", &by_other)?;
    expect_other(expected, pid);
    Ok(())
}

/// By a process that began while systracer traced.
fn expect_other(expected: &mut Expected, pid: i32) {
    (expected.pid, expected.tid) = (Some(pid), 0);
    expected.comm = Some("touch".into());
    let ids = [("uid", json!(0)), ("gid", json!(0))];
    expected.who = ids
        .map(|(name, id)| (name.to_owned(), id))
        .into_iter()
        .collect();
    expected.who.insert("exe".into(), json!("/usr/bin/touch"));
}

/// Of a command that it runs, what that does is told. Of a process of which nothing is known, it
/// cannot be said that the command did not start it.
fn command(report: &mut Report, name: &str, proc: Proc) -> Result<()> {
    let place = Kind::Ext4.place(&format!("namespaces-command-{name}"))?;
    let outside = place.dir.join("outside");
    let inside = place.dir.join("inside");
    let script = format!("touch {0}/1; (touch {0}/2); sleep 1000", inside.display());
    fs::create_dir(&outside)?;
    fs::create_dir(&inside)?;
    let mut arguments = below([&place.dir]);
    arguments.extend(["--", "sh", "-c", &script].map(OsString::from));
    let trace = start(proc.run("systracer"), arguments)?;
    sys::creat(&outside.join("file"), 0o644)?;
    let last = inside.join("2");
    trace
        .program
        .wait_out(last.as_os_str().as_encoded_bytes())?;
    let output = trace.stop()?;
    let got = compare::parse(&output.out, &mut report.problems);
    let told: Vec<_> = got.iter().map(|got| got.get("path").as_str()).collect();
    let mut expected = Vec::new();
    if proc == Proc::Own {
        expected.push(outside.join("file"));
    }
    expected.extend(["1", "2"].map(|name| inside.join(name)));
    let expected: Vec<_> = expected.iter().map(|path| path.to_str()).collect();
    // The command may be faster than this process.
    let sorted = |mut paths: Vec<Option<&str>>| {
        paths.sort_unstable();
        paths
            .into_iter()
            .map(|path| path.map(str::to_owned))
            .collect::<Vec<_>>()
    };
    if sorted(told.clone()) != sorted(expected) {
        report.problems.push(format!("told: {told:?}"));
    }
    Ok(())
}

/// Another one in the same namespace, and one on the host, leave it alone.
fn neighbours(report: &mut Report, name: &str, proc: Proc) -> Result<()> {
    let place = Kind::Tmpfs.place(&format!("namespaces-neighbours-{name}"))?;
    let trace = start(proc.run("systracer"), below([&place.dir]))?;
    let probe = trace.program.member("st-probe")?;
    let check = |command: &mut Command| -> Result<Option<String>> {
        let output = command.arg("st-probe").arg("--cleanup").output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok((!output.status.success() || !said.is_empty()).then_some(said))
    };
    let mut inside = Command::new("nsenter");
    inside.args(["--target", &probe.to_string(), "--pid", "--mount"]);
    let mut outside = Command::new("env");
    for command in [&mut inside, &mut outside] {
        report.problems.extend(check(command)?);
    }
    made(&trace, &place)?;
    let got = stop(report, trace, proc)?;
    if got.len() != 1 {
        report.problems.push(format!("told: {got:?}"));
    }
    Ok(())
}

fn made(trace: &Trace, place: &Place) -> Result<()> {
    let path = place.dir.join("file");
    sys::creat(&path, 0o644)?;
    trace.program.wait_out(path.as_os_str().as_encoded_bytes())
}

/// In the mount namespace of a container alone, /proc does not show st-probe.
fn foreign(report: &mut Report) -> Result<()> {
    let mut container = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .args(["sh", "-c", "echo; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = [0];
    let mut said = container.stdout.take().context("its output")?;
    std::io::Read::read_exact(&mut said, &mut line)?;
    let first = fs::read_to_string(children(container.id()))?;
    let output = Command::new("nsenter")
        .args(["--target", first.trim(), "--mount", "st-probe", "--check"])
        .output()?;
    container.kill()?;
    container.wait()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(1) || !said.contains("mount -t proc") {
        report.problems.push(format!("{}: {said}", output.status));
    }
    Ok(())
}

/// The file that has the ids of a process's children.
fn children(pid: u32) -> PathBuf {
    Path::new("/proc").join(format!("{pid}/task/{pid}/children"))
}
