//! Who logged in: what `process` says of an event is what /proc showed the one who did it.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

use crate::compare::{self, Got};
use crate::fs::Kind;
use crate::log::{self, Log};
use crate::trace::{Trace, below, four, one, worked};
use crate::who::{deed, place, told, traced, waiting};
use crate::{Case, Report};

/// How many processes each thread starts that log in at once.
const AT_ONCE: u32 = 25;

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("login/deeds", deeds),
        Case::new("login/before", before),
        Case::new("login/forks-at-once", forks_at_once),
        Case::new("login/at-once", at_once),
    ]
}

/// Processes and threads that log in, once, twice and in vain, and those that they make and become.
fn deeds(report: &mut Report) -> Result<()> {
    let deeds: [(&str, Option<u32>); 11] = [
        ("make", None),
        ("log-in", Some(0)),
        ("log-in-and-fork", Some(0)),
        ("log-in-and-execute", Some(0)),
        ("log-in-and-become", Some(0)),
        ("log-in-again", Some(1)),
        ("log-out", None),
        ("log-in-before-thread", Some(0)),
        ("thread-logs-in", Some(0)),
        ("log-in-beside-thread", None),
        ("thread-logs-in-and-executes", Some(0)),
    ];
    let mut sessions = HashSet::new();
    traced(report, "logins", |log, _| {
        for (at, (words, more)) in (3000..).step_by(10).zip(deeds) {
            let words = [words, &at.to_string()];
            let facts = deed(log, Path::new("kernel-tests"), &words, None)?;
            // The comparison is with these: they must be what the deed says.
            let loginuid = more.map_or(Value::Null, |more| (at + more).into());
            ensure!(facts["loginuid"] == loginuid, "{words:?}: {facts}");
            let session = facts["session"].as_u64();
            ensure!(session.is_some() == more.is_some(), "{words:?}: {facts}");
            if let Some(session) = session {
                ensure!(sessions.insert(session), "{words:?}: {facts}");
            }
        }
        Ok(())
    })
}

/// Threads that had logged in before anything was traced.
fn before(report: &mut Report) -> Result<()> {
    let place = place("logins-before")?;
    let program = Path::new("kernel-tests");
    let mut first = waiting(program, "wait-logged-in")?;
    let mut second = waiting(program, "wait-logged-in")?;
    one(report, &place, below([&place.dir]), |log, _| {
        for (child, deed, loginuid) in [
            (&mut first, "by-itself", 2345),
            (&mut second, "by-thread", 2346),
        ] {
            let who = &told(log, child, deed)?.who;
            ensure!(who["loginuid"] == loginuid, "{who:?}");
        }
        Ok(())
    })
}

/// Many log in at once: of those that they make, everything is known.
fn forks_at_once(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("logins-forks")?;
    let work = |log: &mut Log| many(log, "log-in-and-fork");
    four(report, &place, below([&place.dir]), |_| Ok(()), work)
}

/// Of themselves everything but the session, which is right or absent.
fn at_once(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("logins")?;
    for dir in log::directories(&place.dir) {
        std::fs::create_dir(dir)?;
    }
    let trace = Trace::start(below([&place.dir]))?;
    let logs = log::threads(&place, |log| many(log, "log-in"));
    let mut expected = worked(report, logs);
    let got = trace.events(&mut report.problems)?;
    let is_told = |tid: i32| {
        let of = got.iter().filter(|got| got.tid() == tid);
        of.map(|got: &Got| got.process("session"))
            .any(|it| !it.is_null())
    };
    let mut absent = 0;
    for expected in &mut expected {
        if !is_told(expected.tid) {
            expected.who.remove("session");
            absent += 1;
        }
    }
    report.notes.push(format!(
        "{} logins, {absent} without their session",
        expected.len()
    ));
    if absent == expected.len() {
        (report.problems).push("no login has a session: this tests nothing".to_owned());
    }
    compare::compare(&expected, &got, &mut report.problems);
    Ok(())
}

fn many(log: &mut Log, words: &str) -> Result<()> {
    for number in 0..AT_ONCE {
        let user = (4000 + number).to_string();
        deed(log, Path::new("kernel-tests"), &[words, &user], None)?;
    }
    Ok(())
}
