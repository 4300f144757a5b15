//! The realtime clock is set while operations are made: each event has the time that the clock
//! showed, and paths are right, though time goes back.

use anyhow::{Context, Result};
use nix::fcntl::RenameFlags;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use nix::unistd::mkdir;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compare::{self, compare_order};
use crate::files::{mode, rename};
use crate::fs::Kind;
use crate::log::Log;
use crate::mounts::create;
use crate::trace::{Trace, below, worked};
use crate::{Case, Report, sys};

const HOUR: i64 = 3600;
/// How many directories are below each other: more than a record of the kernel names.
const DEPTH: usize = 20;

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("clock/forth-and-back", |report| {
            set(report, "forth", &[HOUR, -2 * HOUR, HOUR])
        }),
        Case::new("clock/back-and-forth", |report| {
            set(report, "back", &[-HOUR, -HOUR, 2 * HOUR])
        }),
    ]
}

fn read(clock: ClockId) -> Result<TimeSpec> {
    clock_gettime(clock).context("a clock")
}

/// The realtime clock, which has its right time again in the end.
struct Clock {
    /// What it showed, less CLOCK_BOOTTIME.
    offset: TimeSpec,
}

impl Clock {
    fn new() -> Result<Self> {
        let (realtime, boot) = (ClockId::CLOCK_REALTIME, ClockId::CLOCK_BOOTTIME);
        Ok(Self {
            offset: read(realtime)? - read(boot)?,
        })
    }

    /// Sets it forth by so many seconds.
    fn step(&self, seconds: i64) -> Result<()> {
        let step = TimeSpec::new(seconds, 0);
        let now = read(ClockId::CLOCK_REALTIME)? + step;
        clock_settime(ClockId::CLOCK_REALTIME, now).context("cannot set the clock")
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let boot = read(ClockId::CLOCK_BOOTTIME).expect("it was there before");
        let _ = clock_settime(ClockId::CLOCK_REALTIME, boot + self.offset);
    }
}

/// Sets the clock by these steps one after the other, with operations before, between and after
/// them that need all that st-pathtree knows.
fn set(report: &mut Report, name: &str, steps: &[i64]) -> Result<()> {
    let mut place = Kind::Ext4.place(&format!("clock-{name}"))?;
    place.dev = None;
    let level = |dir: PathBuf, level: usize| dir.join(level.to_string());
    let bottom = (0..DEPTH).fold(place.dir.join("top"), level);
    fs::create_dir_all(&bottom)?;
    let trace = Trace::start(below([&place.dir]))?;
    let mut log = Log::new(&place);
    let result = across(&mut log, &trace, steps);
    let expected = worked(report, vec![(log, result)]);
    let got = trace.events(&mut report.problems)?;
    report.notes.push(compare::count(&got));
    compare_order(&expected, &got, &mut report.problems);
    for other in expected.iter().filter(|expected| expected.tid == 0) {
        let mut got = got.iter();
        let got = got.find(|got| got.get("path") == &other.fields["path"]);
        let start = got.and_then(|got| got.process("start").as_u64());
        let span = other.span;
        if start.is_none_or(|start| start < span.before || start > span.after) {
            let problem = format!(
                "start: expected {} to {}, got {start:?}",
                span.before, span.after
            );
            report.problems.push(problem);
        }
    }
    Ok(())
}

fn across(log: &mut Log, trace: &Trace, steps: &[i64]) -> Result<()> {
    let top = log.path("top");
    operations(log, &top, "before")?;
    let clock = Clock::new()?;
    for (number, step) in steps.iter().enumerate() {
        clock.step(*step)?;
        operations(log, &top, &format!("right-after-{number}"))?;
        begun(log, &format!("by-another-{number}"))?;
        // Once that is printed, the setting is known: two within 20 ms are one.
        let told = log.path(format!("told-{number}"));
        create(log, trace, &told)?;
    }
    Ok(())
}

/// The path of the deepest directory below `top`.
fn deepest(top: &Path) -> Result<PathBuf> {
    let mut dir = top.to_owned();
    loop {
        let entries = fs::read_dir(&dir)?;
        let paths = entries.map(|entry| Ok(entry?.path()));
        let paths: Vec<PathBuf> = paths.collect::<Result<_>>()?;
        match paths.into_iter().find(|path| path.is_dir()) {
            Some(below) => dir = below,
            None => return Ok(dir),
        }
    }
}

/// Makes a file and a directory at the bottom, renames a directory far above them, and does the
/// same again, below its new name.
fn operations(log: &mut Log, top: &Path, name: &str) -> Result<()> {
    for round in ["old", "new"] {
        let bottom = deepest(top)?;
        let file = bottom.join(format!("{name}-{round}"));
        log.made("create", &file, || sys::creat(&file, 0o644))?;
        let dir = bottom.join(format!("{name}-{round}-dir"));
        log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
        // The second level from the top.
        let upper = (fs::read_dir(top)?.next().context("a directory")??).path();
        let renamed = top.join(format!("{name}-{round}"));
        log.named("rename", &upper, &renamed, || {
            rename(&upper, &renamed, RenameFlags::empty())
        })?;
    }
    Ok(())
}

/// Another program makes a file: it has begun at that time.
fn begun(log: &mut Log, name: &str) -> Result<()> {
    let path = log.path(name);
    let (status, span) = log.run(|| Ok(Command::new("touch").arg(&path).status()))?;
    anyhow::ensure!(status?.success(), "touch failed");
    let expected = log.expect_made(span, "create", &path)?;
    (expected.pid, expected.tid) = (None, 0);
    expected.comm = Some("touch".into());
    Ok(())
}
