//! Who did it: process, thread and name, however short they live.

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::unistd::mkdir;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::files::{errno, mode};
use crate::fs::Kind;
use crate::log::{Log, Span};
use crate::trace::{Trace, below, finish, four, one, worked};
use crate::{Case, Report, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("processes/short-lived", |report| {
            let place = Kind::Tmpfs.place("short-lived")?;
            four(report, &place, below([&place.dir]), |_| Ok(()), short_lived)
        }),
        Case::new("processes/shell", shell),
        Case::new("processes/alive-before", alive_before),
        Case::new("processes/thread-names", |report| {
            let place = Kind::Tmpfs.place("thread-names")?;
            four(report, &place, below([&place.dir]), |_| Ok(()), named)
        }),
        Case::new("processes/thread-before", thread_before),
    ]
}

/// Each event by a process that has come and gone within a moment.
fn short_lived(log: &mut Log) -> Result<()> {
    for number in 0..5 {
        let name = number.to_string();
        let (span, pid) = script(log, &format!("exec mkdir {name}"))?;
        let path = log.path(name);
        let expected = log.expect_made(span, "mkdir", &path)?;
        expected.pid = Some(pid);
        expected.tid = pid;
        expected.comm = Some("mkdir".to_owned());
    }
    Ok(())
}

/// A shell's own doing, its child's, and what it becomes: that keeps the process.
fn shell(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("shell")?;
    one(report, &place, below([&place.dir]), |log, _| {
        let (span, pid) = script(log, ": >file; mkdir child; exec mkdir became")?;
        for (event, name, by, comm) in [
            ("create", "file", Some(pid), "sh"),
            ("mkdir", "child", None, "mkdir"),
            ("mkdir", "became", Some(pid), "mkdir"),
        ] {
            let path = log.path(name);
            let expected = log.expect_made(span, event, &path)?;
            expected.pid = by;
            expected.tid = by.unwrap_or(0);
            expected.comm = Some(comm.to_owned());
        }
        Ok(())
    })
}

/// Runs a script in the log's directory; when, and the shell's process.
fn script(log: &Log, script: &str) -> Result<(Span, i32)> {
    let mut child = None;
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(&log.dir);
    let ((), span) = log.run(|| {
        child = Some(command.spawn().and_then(|mut child| {
            child.wait()?;
            Ok(child.id() as i32)
        }));
        Ok(())
    })?;
    Ok((span, child.context("it ran")??))
}

/// A process that had its name long before anything was traced.
fn alive_before(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("alive-before")?;
    let mut shell = Command::new("sh")
        .current_dir(&place.dir)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run sh")?;
    let pid = shell.id() as i32;
    one(report, &place, below([&place.dir]), |log, _| {
        let mut input = shell.stdin.take().context("it is piped")?;
        let ((), span) = log.run(|| {
            errno(input.write_all(b": >file\nexit\n"))?;
            errno(shell.wait()).map(drop)
        })?;
        let path = log.path("file");
        let expected = log.expect_made(span, "create", &path)?;
        expected.pid = Some(pid);
        expected.tid = pid;
        expected.comm = Some("sh".to_owned());
        Ok(())
    })
}

/// Threads that change their names while they are traced.
fn named(log: &mut Log) -> Result<()> {
    for name in [
        c"first",
        c"second name",
        c"fifteen-letters",
        c"cut-after-fifteen-letters",
    ] {
        prctl::set_name(name)?;
        log.renamed_thread();
        let path = log.path("dir");
        log.made("mkdir", &path, || mkdir(&path, mode(0o755)))?;
        log.removed("rmdir", &path, || errno(fs::remove_dir(&path)))?;
    }
    Ok(())
}

/// A thread that is there before, and has its own name.
fn thread_before(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("thread-before")?;
    let (begin, begun) = mpsc::channel::<()>();
    let at = place.clone();
    let thread = std::thread::Builder::new()
        .name("was here before".to_owned())
        .spawn(move || {
            let mut log = Log::new(&at);
            let result = begun.recv().map_err(Into::into).and_then(|()| {
                let path = log.path("file");
                log.made("create", &path, || sys::creat(&path, 0o644))
                    .map(drop)
            });
            (log, result)
        })?;
    let trace = Trace::start(below([&place.dir]))?;
    begin.send(())?;
    let done = thread.join().ok().context("the thread panicked")?;
    let expected = worked(report, vec![done]);
    finish(report, trace, &expected)
}
