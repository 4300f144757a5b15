//! What `scripts/bench` runs: loads, and meters.
//!
//! ```text
//! bench-load files|directories|links|opens|processes DIR ROUNDS
//! bench-load nothing
//! bench-load latency DIR COUNT TRACER [ARG...]
//! bench-load start DIR DIRECTORIES PROCESSES
//! bench-load usage FILE PROGRAM [ARG...]
//! ```
//!
//! The first repeats one round of operations in DIR and prints, on one line: how many nanoseconds
//! of a CPU a round took, and rounds in all (some precede those that are counted).
//! `latency` prints for COUNT operations in DIR, made one by one at random instants while
//! TRACER runs, how many nanoseconds after each the line about it arrived: one a line.
//! `start` tells how long the parts of the start take: see [`start`].
//! `usage` runs PROGRAM and appends to FILE, on one line: its name, seconds elapsed, CPU
//! seconds as a user and in the kernel, and the largest resident set in KiB.
#![deny(unsafe_code)]

mod latency;
mod load;
mod start;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        // What `processes` executes.
        ["nothing"] => Ok(()),
        ["usage", file, program, ref rest @ ..] => usage(file, program, rest),
        ["latency", dir, count, tracer, ref rest @ ..] => {
            latency::measure(Path::new(dir), count.parse()?, tracer, rest)
        }
        ["start", dir, directories, processes] => {
            start::measure(Path::new(dir), directories.parse()?, processes.parse()?)
        }
        [load, dir, rounds] => load::repeat(load, Path::new(dir), rounds.parse()?),
        _ => bail!("see the head of tests/bench/main.rs"),
    }
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
