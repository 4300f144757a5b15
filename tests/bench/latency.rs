//! How soon a line tells of an operation.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long lines are waited for that have not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures the time from an operation to the tracer's line about it.
pub fn measure(dir: &Path, count: usize, tracer: &str, args: &[&str]) -> Result<()> {
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
