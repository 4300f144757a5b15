//! What `scripts/bench` runs: loads, a latency meter, and a meter of what a program uses.
//!
//! ```text
//! bench-load files|dirs|opens|processes DIR SECONDS
//! bench-load nothing
//! bench-load latency DIR COUNT TRACER [ARG...]
//! bench-load usage FILE PROGRAM [ARG...]
//! bench-load tree DIR COUNT
//! bench-load walk DIR
//! ```
//!
//! The first repeats one cycle of operations in DIR and prints, on one line: cycles timed,
//! the nanoseconds they took, and cycles in all (some precede the timed ones).
//! `latency` prints for COUNT operations in DIR, made one by one at random instants while
//! TRACER runs, how many nanoseconds after each the line about it arrived: one a line.
//! `usage` runs PROGRAM and appends to FILE, on one line: its name, seconds elapsed, CPU
//! seconds as a user and in the kernel, and the largest resident set in KiB.
//! `tree` makes COUNT directories below DIR; `walk` looks at all directories below DIR as
//! st-probe does, with nobody to record it, and prints how many, and the seconds it took.
#![deny(unsafe_code)]

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, gettid};
use st_probe::machine::walker::{Purpose, Walker};
use st_probe::record::Walked;
use st_probe::wire;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a load runs before its cycles are timed.
const WARM_UP: Duration = Duration::from_millis(100);
/// Cycles between two looks at the clock.
const BATCH: u64 = 16;
/// How long the latency meter waits for lines that have not come.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        // What `processes` executes.
        ["nothing"] => Ok(()),
        ["usage", file, program, ref rest @ ..] => usage(file, program, rest),
        ["latency", dir, count, tracer, ref rest @ ..] => {
            latency(Path::new(dir), count.parse()?, tracer, rest)
        }
        ["tree", dir, count] => tree(Path::new(dir), count.parse()?),
        ["walk", dir] => walk(Path::new(dir)),
        [load, dir, seconds] => {
            let seconds = Duration::from_secs_f64(seconds.parse()?);
            repeat(load, Path::new(dir), seconds)
        }
        _ => bail!("see the head of tests/bench/main.rs"),
    }
}

/// Makes directories, some dozen in each, as deep as that takes.
fn tree(dir: &Path, count: usize) -> Result<()> {
    let mut dirs = vec![dir.to_owned()];
    for number in 0..count {
        let new = dirs[number / 12].join(format!("component-{number}"));
        fs::create_dir(&new)?;
        dirs.push(new);
    }
    Ok(())
}

/// Walks at its own pace.
fn walk(dir: &Path) -> Result<()> {
    let walker = Walker::start(usize::MAX, || Ok(gettid()))?;
    let start = Instant::now();
    walker.walk(vec![dir.to_owned()], Purpose::Snapshot)?;
    walker.allow();
    let (_, record) = walker.wait()?;
    let seconds = start.elapsed().as_secs_f64();
    let walked: Walked = wire::read(&record)?;
    println!("{} {seconds:.3}", walked.directories);
    Ok(())
}

/// Repeats the cycle of a load for so long.
fn repeat(load: &str, dir: &Path, time: Duration) -> Result<()> {
    let (one, other) = (dir.join("one"), dir.join("other"));
    let mut cycle: Box<dyn FnMut() -> std::io::Result<()>> = match load {
        "files" => Box::new(|| {
            File::create(&one)?;
            fs::remove_file(&one)
        }),
        "dirs" => Box::new(|| {
            fs::create_dir(&one)?;
            fs::rename(&one, &other)?;
            fs::set_permissions(&other, Permissions::from_mode(0o700))?;
            fs::remove_dir(&other)
        }),
        "opens" => {
            let existing = dir.join("existing");
            File::options().create(true).append(true).open(&existing)?;
            Box::new(move || File::open(&existing).map(drop))
        }
        "processes" => {
            let mut nothing = Command::new(std::env::current_exe()?);
            nothing.arg("nothing");
            Box::new(move || nothing.status().map(drop))
        }
        _ => bail!("no such load: '{load}'"),
    };
    let mut run = |time: Duration| -> Result<(u64, Duration)> {
        let begin = Instant::now();
        for batch in 1.. {
            for _ in 0..BATCH {
                cycle().with_context(|| format!("cannot work in {}", dir.display()))?;
            }
            let elapsed = begin.elapsed();
            if elapsed >= time {
                return Ok((batch * BATCH, elapsed));
            }
        }
        unreachable!("the clock stands still")
    };
    let (before, _) = run(WARM_UP)?;
    let (timed, elapsed) = run(time)?;
    println!("{timed} {} {}", elapsed.as_nanos(), before + timed);
    Ok(())
}

/// Measures the time from an operation to the tracer's line about it.
fn latency(dir: &Path, count: usize, tracer: &str, args: &[&str]) -> Result<()> {
    let mut child = Command::new(tracer)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {tracer}"))?;
    let lines = BufReader::new(child.stdout.take().context("no output")?);
    let mut messages = BufReader::new(child.stderr.take().context("no messages")?);
    // The tracer says when it has begun.
    let mut message = String::new();
    messages.read_line(&mut message)?;
    if message.is_empty() {
        bail!("{tracer} did not begin");
    }
    thread::spawn(move || std::io::copy(&mut messages, &mut std::io::stderr()));
    let reader = thread::spawn(move || {
        let mut arrived = HashMap::new();
        for line in lines.lines().map_while(Result::ok) {
            let now = Instant::now();
            let name = line
                .split_whitespace()
                .find_map(|word| word.split_once("/latency-"));
            if let Some(number) = name.and_then(|(_, number)| number.parse::<usize>().ok()) {
                // The first line about a file tells of its creation.
                arrived.entry(number).or_insert(now);
            }
        }
        arrived
    });
    thread::sleep(Duration::from_millis(500));
    let mut random = std::process::id() as u64 | 1;
    let mut done = Vec::new();
    for number in 0..count {
        // Xorshift: any phase to the stages' clocks will do.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        thread::sleep(Duration::from_micros(50_000 + random % 50_000));
        File::create(dir.join(format!("latency-{number}")))?;
        done.push(Instant::now());
    }
    thread::sleep(PATIENCE);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)?;
    child.wait()?;
    let arrived = reader.join().ok().context("the reader failed")?;
    for (number, done) in done.iter().enumerate() {
        fs::remove_file(dir.join(format!("latency-{number}")))?;
        let arrived = arrived
            .get(&number)
            .with_context(|| format!("no line about operation {number}"))?;
        println!("{}", arrived.saturating_duration_since(*done).as_nanos());
    }
    Ok(())
}

/// Runs a program and notes what it used.
fn usage(file: &str, program: &str, args: &[&str]) -> Result<()> {
    let begin = Instant::now();
    let status = Command::new(program)
        .args(args)
        .status()
        .with_context(|| format!("cannot run {program}"))?;
    let elapsed = begin.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let (user, system) = (seconds(usage.user_time()), seconds(usage.system_time()));
    let name = Path::new(program).file_name().unwrap_or_default();
    let line = format!(
        "{} {elapsed:.4} {user:.4} {system:.4} {}\n",
        name.to_string_lossy(),
        usage.max_rss()
    );
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)?
        .write_all(line.as_bytes())?;
    if !status.success() {
        bail!("{program} failed: {status}");
    }
    Ok(())
}
