//! How long the parts of the start take, on a machine of many directories and processes.
//!
//! It prints one figure a line. Times are seconds since the program was started or since the part
//! before was done:
//!
//! | figure | |
//! |---|---|
//! | `systracer` | from the start of `systracer --watch all=DIR` until it says that it traces |
//! | `btf` | from the start of `st-probe --snapshot DIR` until the kernel's types are read: then it makes its instance |
//! | `probes` | until its first record: all probes are defined, those of processes and mounts on |
//! | `mounts` | until the mount tables are read |
//! | `processes` | until the last process is looked at |
//! | `on` | until it says that it traces: all probes are on |
//! | `snapshot` | how long it walked over the directories after that |
//! | `memory` | how many bytes st-pathtree needed at most to remember them |

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use st_probe::record::{Header, Mounts, Process, Walked};
use st_probe::time::{Monotonic, Unix};
use st_probe::vocabulary::{Class, Event};
use st_probe::wire::Reader;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::Duration;

/// What did not change for so long is done.
const IDLE: Duration = Duration::from_millis(500);
/// Where st-probe makes its instance.
const INSTANCES: &str = "/sys/kernel/tracing/instances";

/// Makes the directories below `dir`, starts the processes, and measures. Runs in a VM.
pub fn measure(dir: &Path, directories: usize, processes: usize) -> Result<()> {
    tree(dir, directories)?;
    let sleepers = (0..processes).map(|_| Command::new("sleep").arg("1000000").spawn());
    let sleepers = sleepers.collect::<Result<Vec<_>, _>>()?;
    whole(dir)?;
    parts(dir)?;
    for mut sleeper in sleepers {
        sleeper.kill()?;
        sleeper.wait()?;
    }
    Ok(())
}

/// Makes directories, a dozen in each, as deep as that takes.
fn tree(dir: &Path, count: usize) -> Result<()> {
    let mut dirs = vec![dir.to_owned()];
    for number in 0..count {
        let new = dirs[number / 12].join(format!("component-{number}"));
        fs::create_dir(&new)?;
        dirs.push(new);
    }
    Ok(())
}

/// Measures systracer.
fn whole(dir: &Path) -> Result<()> {
    let mut watch = OsString::from("all=");
    watch.push(dir);
    let mut command = Command::new("systracer");
    command.arg("--watch").arg(watch).stdout(Stdio::null());
    let started = now()?;
    let mut tracer = Tracer::start(command)?;
    println!("systracer {:.3}", since(now()?, started));
    // The later stages may come after that.
    thread::sleep(IDLE);
    let pathtree = process("st-pathtree")?;
    settle(|| Ok(fs::read_to_string(pathtree.join("schedstat"))?))?;
    let status = fs::read_to_string(pathtree.join("status"))?;
    let peak = (status.lines()).find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.trim().strip_suffix("kB"));
    let peak: u64 = peak.context("no VmHWM")?.trim().parse()?;
    println!("memory {}", peak * 1024);
    tracer.end()
}

/// Measures the parts of st-probe.
fn parts(dir: &Path) -> Result<()> {
    // The stream tells when what was done.
    let stream = dir.with_extension("stream");
    let mut command = Command::new("st-probe");
    // As systracer asks it.
    let files = (Event::ALL.iter().copied()).filter(|event| event.class() == Class::File);
    let files: Vec<&str> = files.map(Event::name).collect();
    command.arg("--event").arg(files.join(","));
    command.arg("--snapshot").arg(dir);
    command.stdout(File::create(&stream)?);
    let started = now()?;
    let mut tracer = Tracer::start(command)?;
    let tracing = now()?;
    let mut instances = fs::read_dir(INSTANCES)?;
    let instance = instances.next().context("no instance")??.metadata()?;
    let instance = Unix((instance.mtime() * 1_000_000_000 + instance.mtime_nsec()) as u64);
    settle(|| Ok(fs::metadata(&stream)?.len()))?;
    tracer.end()?;

    let mut input = File::open(&stream)?;
    let mut reader = Reader::default();
    let latest = |latest: Monotonic, new| if new < tracing { new } else { latest };
    let mut header = None;
    let mut walked = None;
    let (mut mounts, mut processes) = (Monotonic::default(), Monotonic::default());
    loop {
        while let Some(record) = reader.take().map_err(|error| anyhow!("{error}"))? {
            match record.kind() {
                "header" => header = Some(record.read::<Header>()?),
                "mounts" => mounts = latest(mounts, record.read::<Mounts>()?.ts),
                "process" => processes = latest(processes, record.read::<Process>()?.ts),
                "walked" => {
                    let record = record.read::<Walked>()?;
                    walked = Some(since(record.ts, record.since));
                }
                _ => {}
            }
        }
        if !reader.fill(&mut input)? {
            break;
        }
    }
    fs::remove_file(stream)?;
    let header = header.context("no header")?;
    // The clock of the file system is a tick behind at most.
    let before = Duration::from_nanos(header.realtime.0.saturating_sub(instance.0));
    let instance = header.monotonic.before(before);
    println!("btf {:.3}", since(instance, started));
    println!("probes {:.3}", since(header.monotonic, instance));
    println!("mounts {:.3}", since(mounts, header.monotonic));
    println!("processes {:.3}", since(processes, mounts));
    println!("on {:.3}", since(tracing, processes));
    println!("snapshot {:.3}", walked.context("no walk was done")?);
    Ok(())
}

/// A tracer that runs.
struct Tracer {
    child: Child,
    messages: BufReader<ChildStderr>,
}

impl Tracer {
    /// Starts one, and waits until it traces.
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let mut messages = BufReader::new(child.stderr.take().context("no messages")?);
        let mut message = String::new();
        messages.read_line(&mut message)?;
        if !message.contains("tracing") {
            bail!("the tracer did not begin: {message}");
        }
        Ok(Self { child, messages })
    }

    fn end(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT)?;
        self.child.wait()?;
        io::copy(&mut self.messages, &mut io::stderr())?;
        Ok(())
    }
}

/// Waits until something does not change any more.
fn settle<T: PartialEq>(mut state: impl FnMut() -> Result<T>) -> Result<()> {
    let mut before = state()?;
    loop {
        thread::sleep(IDLE);
        let after = state()?;
        if after == before {
            return Ok(());
        }
        before = after;
    }
}

/// The folder of the process of this name in proc(5).
fn process(name: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // Others end meanwhile.
        let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            return Ok(path);
        }
    }
    bail!("{name} does not run")
}

fn now() -> Result<Monotonic> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(Monotonic(
        (time.tv_sec() * 1_000_000_000 + time.tv_nsec()) as u64,
    ))
}

/// Seconds from one instant to a later one.
fn since(later: Monotonic, earlier: Monotonic) -> f64 {
    later.since(earlier).as_secs_f64()
}
