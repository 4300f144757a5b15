//! What is lost is counted: nothing goes missing without a word.

mod flood;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrIn, connect, setsockopt, shutdown, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;
use serde_json::Value;
use st_probe::vocabulary::Cause;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::fs::Kind;
use crate::patience::{wait_for_all, wait_until};
use crate::program::{Output, Program, stop};
use crate::trace::{Trace, below, says_tracing, watch};
use crate::tracefs::{TRACEFS, instances};
use crate::{Case, Report, sys};
use flood::{Stream, work};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("loss/fast", fast),
        Case::new("loss/unread", unread),
        Case::new("loss/stopped-st-format", |report| {
            stopped(report, "st-format")
        }),
        Case::new("loss/stopped-st-probe", |report| {
            stopped(report, "st-probe")
        }),
        Case::new("loss/returns", returns),
        Case::new("loss/target", target),
        Case::new("loss/switched-off", switched_off),
        Case::new("loss/ends", ends),
    ]
}

/// How long the fast ones work: SYSTRACER_SECONDS.
fn seconds() -> Duration {
    let seconds = std::env::var("SYSTRACER_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(5))
}

/// With the default settings, all stages, and nobody who waits.
fn fast(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("fast")?;
    let recording = PathBuf::from("/var/tmp/fast");
    let mut arguments = vec!["--json".into(), "--record".into(), recording.clone().into()];
    arguments.extend(watch("all", &place.dir));
    let trace = Trace::start(arguments)?;
    let began = Instant::now();
    let work = work(&place.dir, |_| began.elapsed() > seconds())?;
    let output = trace.stop()?;
    let stream = Stream::recorded(&recording, &work.tids)?;
    stream.check(report, &work);
    let events = lines(&output)?;
    let told = events.iter().filter(|event| is_event(event)).count() as u64;
    let whole = 2 * work.files;
    if told > whole || stream.end.lost == 0 && told != whole {
        report
            .problems
            .push(format!("{told} events were told, {whole} happened"));
    }
    let lost = losses(report, &events, &stream);
    if whole.saturating_sub(told) > lost {
        report.problems.push(format!(
            "{} events are missing, {lost} records counted as lost",
            whole.saturating_sub(told),
        ));
    }
    summed_up(report, &output, stream.end.lost > 0, "lost (");
    Ok(())
}

fn lines(output: &Output) -> Result<Vec<Value>> {
    let text = output.out.split(|&byte| byte == b'\n');
    let lines = text.filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).context("a line is no JSON"))
        .collect()
}

/// How many records are counted as lost by such causes.
fn counted(lines: &[Value], cause: impl Fn(&str) -> bool) -> u64 {
    let chosen = (lines.iter()).filter(|line| line["cause"].as_str().is_some_and(&cause));
    chosen.filter_map(|line| line["count"].as_u64()).sum()
}

/// How many records are lost in all: those of which the recording says so must be told with the
/// counts that they have there, and st-decode adds those without their partner.
fn losses(report: &mut Report, lines: &[Value], stream: &Stream) -> u64 {
    let unpaired = |cause: &str| cause == Cause::Unpaired.name();
    let (told, recorded) = (counted(lines, |cause| !unpaired(cause)), stream.counted());
    if told != recorded {
        report
            .problems
            .push(format!("{told} are told as lost, {recorded} recorded"));
    }
    // A gap's count is unknown where the kernel had no room for it; the end counts all.
    stream.end.lost + counted(lines, unpaired)
}

/// Records that are no events have their kind.
fn is_event(line: &Value) -> bool {
    line["t"].is_null()
}

/// Standard error sums up what was lost if something was, and says nothing of it else.
fn summed_up(report: &mut Report, output: &Output, lost: bool, what: &str) {
    if output.err.contains(what) != lost {
        report
            .problems
            .push(format!("of losses was said: {}", output.err));
    }
}

/// A small buffer, in KiB, that a short work fills.
const SMALL: &str = "256";
/// Files that do so by far, with a pipe of 1 MiB behind it.
const MANY: u64 = 4000;

/// Nobody reads what st-probe writes until all is over.
fn unread(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("unread")?;
    let mut command = Command::new("st-probe");
    command.args(["--event", "create,delete", "--buffer-size", SMALL]);
    let (probe, mut out) = Program::start_uncollected(&mut command)?;
    probe.wait_err("it said that it is tracing", says_tracing)?;
    let work = work(&place.dir, |files| files >= MANY)?;
    let most = memory(probe.group())?;
    probe.signal(Signal::SIGINT)?;
    let reader = thread::spawn(move || read_all(&mut out));
    let bytes = ended(report, probe, reader)?;
    let stream = Stream::read(&bytes, &work.tids)?;
    stream.check(report, &work);
    if !caused(&stream, Cause::SlowReader) {
        report
            .problems
            .push(format!("the causes are {:?}", stream.lost));
    }
    bounded(report, "st-probe", most);
    Ok(())
}

fn read_all(out: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    out.read_to_end(&mut bytes).map(|_| bytes)
}

/// What `reader` has read of st-probe's output, which must end well.
fn ended(
    report: &mut Report,
    probe: Program,
    reader: thread::JoinHandle<std::io::Result<Vec<u8>>>,
) -> Result<Vec<u8>> {
    wait_until(
        || "its output does not end".to_owned(),
        || Ok(reader.is_finished()),
    )?;
    let bytes = reader.join().expect("it does not panic")?;
    let output = probe.finish()?;
    if !output.status.success() {
        report
            .problems
            .push(format!("st-probe ended: {}: {}", output.status, output.err));
    }
    Ok(bytes)
}

fn caused(stream: &Stream, cause: Cause) -> bool {
    stream.lost.iter().any(|lost| lost.cause == cause)
}

/// The most memory that a process had, in KiB: VmHWM in proc_pid_status(5).
fn memory(pid: Pid) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.context("no VmHWM")?.parse().context("VmHWM")
}

fn bounded(report: &mut Report, name: &str, memory: u64) {
    report.notes.push(format!("{name} {memory} KiB"));
    if memory > 64 << 10 {
        report.problems.push(format!("{name} had {memory} KiB"));
    }
}

/// Somebody stops a stage for a while (SIGSTOP, as Ctrl-Z does).
fn stopped(report: &mut Report, stage: &str) -> Result<()> {
    let place = Kind::Tmpfs.place(&format!("stopped-{stage}"))?;
    let recording = PathBuf::from(format!("/var/tmp/stopped-{stage}"));
    let mut arguments = below([&place.dir]);
    arguments.extend(["--strict", "--buffer-size", SMALL, "--record"].map(Into::into));
    arguments.push(recording.clone().into());
    let trace = Trace::start(arguments)?;
    let pid = trace.program.member(stage)?;
    stop(pid)?;
    // Each pipe holds some.
    let work = work(&place.dir, |files| files >= 2 * MANY)?;
    kill(pid, Signal::SIGCONT)?;
    let after = place.dir.join("after");
    sys::creat(&after, 0o644)?;
    let told = trace.program.wait_out(b"/after\"");
    told.context("it does not go on")?;
    for (pid, name) in trace.program.family()? {
        if name.starts_with("st-") {
            bounded(report, &name, memory(pid)?);
        }
    }
    let output = trace.stop()?;
    if output.status.code() != Some(3) {
        report
            .problems
            .push(format!("it ended: {}: {}", output.status, output.err));
    }
    let stream = Stream::recorded(&recording, &work.tids)?;
    stream.check(report, &work);
    let events = lines(&output)?;
    let told = events.iter().filter(|event| is_event(event)).count() as u64;
    let lost = losses(report, &events, &stream);
    report.notes.push(format!("{told} told"));
    let missing = (2 * work.files + 1).saturating_sub(told);
    if missing > lost || missing == 0 {
        report
            .problems
            .push(format!("{missing} events are missing, {lost} records lost"));
    }
    let cause = if stage == "st-probe" {
        Cause::RingBuffer
    } else {
        Cause::SlowReader
    };
    summed_up(report, &output, true, &format!("lost ({cause})"));
    Ok(())
}

/// More calls at once than the kernel follows the returns of: 4096 at most
/// (kernel/trace/trace_kprobe.c, KRETPROBE_MAXACTIVE_MAX).
fn returns(report: &mut Report) -> Result<()> {
    const CALLS: usize = 4300;
    let files = getrlimit(Resource::RLIMIT_NOFILE)?;
    let enough = 2 * CALLS as u64;
    setrlimit(Resource::RLIMIT_NOFILE, enough, files.1.max(enough))?;
    // Nobody accepts: once the queue is full, SYNs are dropped, and connect(2) waits.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    sys::listen(listener.as_fd(), 0)?;
    let SocketAddr::V4(address) = listener.local_addr()? else {
        bail!("not IPv4");
    };
    let queued = [tcp_socket()?, tcp_socket()?];
    for socket in &queued {
        setsockopt(socket, sockopt::SendTimeout, &TimeVal::seconds(1))?;
        let _ = connect(socket.as_raw_fd(), &SockaddrIn::from(address));
    }
    wait_until(
        || "the queue is not full".to_owned(),
        || is_queue_full(address),
    )?;
    let sockets: Vec<_> = (0..CALLS).map(|_| tcp_socket()).collect::<Result<_>>()?;
    for socket in &sockets {
        sys::ask_for_hours(socket.as_fd())?;
    }
    let trace = Trace::start(["--json", "--connect"])?;
    let before = threads()?;
    thread::scope(|scope| {
        let _ending = Ending {
            listener: Some(listener),
            sockets: &sockets,
        };
        for socket in &sockets {
            let work = move || {
                // It is to fail at last.
                let _ = connect(socket.as_raw_fd(), &SockaddrIn::from(address));
            };
            let thread = thread::Builder::new().stack_size(64 << 10);
            thread.spawn_scoped(scope, work)?;
        }
        wait_for_all("calls wait", CALLS, || waiting(address))
    })?;
    drop(queued);
    // A thread may be joined before its end is traced (Linux kernel/exit.c, do_exit): without that
    // its call would be one that is still under way.
    wait_until(
        || "the threads do not end".to_owned(),
        || Ok(threads()? <= before),
    )?;
    setrlimit(Resource::RLIMIT_NOFILE, files.0, files.1)?;
    let output = trace.stop()?;
    let events = lines(&output)?;
    let told = events.iter().filter(|event| is_event(event)).count();
    let missed = events
        .iter()
        .filter(|event| event["cause"] == Cause::MissedReturn.name());
    let missed = missed.filter(|event| event["event"] == "connect").count();
    report
        .notes
        .push(format!("{CALLS} connects: {told} told, {missed} missed"));
    if told + missed != CALLS || missed == 0 {
        report
            .problems
            .push(format!("{told} told and {missed} missed of {CALLS}"));
    }
    summed_up(report, &output, true, "lost (missed return)");
    Ok(())
}

/// How many threads this process has.
fn threads() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// Ends the calls of connect(2) that wait when dropped.
struct Ending<'a> {
    listener: Option<TcpListener>,
    sockets: &'a [OwnedFd],
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        // A call that begins only now is refused.
        drop(self.listener.take());
        for socket in self.sockets {
            // Not every one waits, if the case has failed.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

fn tcp_socket() -> Result<OwnedFd> {
    let family = AddressFamily::Inet;
    Ok(socket(family, SockType::Stream, SockFlag::empty(), None)?)
}

/// The lines of proc_net(5)'s tcp that have a state.
fn tcp_in(state: &str) -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let lines = table.lines().map(str::to_owned);
    let has_state = |line: &String| line.split_whitespace().nth(3) == Some(state);
    Ok(lines.filter(has_state).collect())
}

fn in_tcp(address: SocketAddrV4) -> String {
    format!("0100007F:{:04X}", address.port())
}

/// How many sockets wait for an answer from there: SYN_SENT.
fn waiting(address: SocketAddrV4) -> Result<usize> {
    let remote = in_tcp(address);
    let to = |line: &&String| line.split_whitespace().nth(2) == Some(&remote);
    Ok(tcp_in("02")?.iter().filter(to).count())
}

/// Whether a connection waits to be accepted there: a listener's receive queue.
fn is_queue_full(address: SocketAddrV4) -> Result<bool> {
    let local = in_tcp(address);
    let listeners = tcp_in("0A")?;
    let is_it = |line: &&String| line.split_whitespace().nth(1) == Some(&local);
    let listener = listeners.iter().find(is_it).context("no listener")?;
    let queues = listener.split_whitespace().nth(4).context("no queues")?;
    Ok(!queues.ends_with(":00000000"))
}

/// A symbolic link whose content does not fit the kernel's record.
fn target(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("target")?;
    let trace = Trace::start(below([&place.dir]))?;
    let link = place.dir.join("link");
    symlink("x".repeat(4095), &link)?;
    symlink("x", place.dir.join("short"))?;
    let output = trace.stop()?;
    let events = lines(&output)?;
    let at = |name: &str| {
        events
            .iter()
            .find(|event| event["path"] == *place.dir.join(name).to_string_lossy())
    };
    let (long, short) = (
        at("link").context("no event")?,
        at("short").context("no event")?,
    );
    if !long["target"].is_null() || short["target"] != "x" {
        report.problems.push(format!("{long}\n{short}"));
    }
    let lost: Vec<_> = events.iter().filter(|event| event["t"] == "lost").collect();
    let right = |lost: &&&Value| {
        lost["cause"] == Cause::TooLarge.name() && lost["event"] == "symlink" && lost["count"] == 1
    };
    if lost.len() != 1 || lost.iter().filter(right).count() != 1 {
        report.problems.push(format!("lost: {lost:?}"));
    }
    summed_up(report, &output, true, "1 record was lost (too large)");
    Ok(())
}

/// Somebody switches our instance off.
fn switched_off(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("switched-off")?;
    let before = instances()?;
    let trace = Trace::start(below([&place.dir]))?;
    let ours = instances()?.into_iter().find(|name| !before.contains(name));
    let ours = Path::new(TRACEFS)
        .join("instances")
        .join(ours.context("no instance")?);
    // The one that everybody uses is no matter.
    let global = Path::new(TRACEFS).join("tracing_on");
    fs::write(&global, "0")?;
    sys::creat(&place.dir.join("before"), 0o644)?;
    let told = trace.program.wait_out(b"/before\"");
    fs::write(&global, "1")?;
    told.context("the global switch switches us off")?;
    fs::write(ours.join("tracing_on"), "0")?;
    sys::creat(&place.dir.join("unseen"), 0o644)?;
    let told = trace.program.wait_out(b"\"switched off\"");
    told.context("it does not notice")?;
    sys::creat(&place.dir.join("after"), 0o644)?;
    let told = trace.program.wait_out(b"/after\"");
    told.context("it does not go on")?;
    let output = trace.stop()?;
    let lost = lines(&output)?;
    let lost = lost.iter().filter(|event| event["t"] == "lost").count();
    if lost != 1 {
        report.problems.push(format!("{lost} losses were told"));
    }
    summed_up(
        report,
        &output,
        true,
        "some records were lost (switched off)",
    );
    Ok(())
}

/// Tracing begins and ends while others work: the calls that were under way then are not lost.
fn ends(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("ends")?;
    let over = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        let working = scope.spawn(|| {
            // What the stages cannot keep up with is lost, and rightly said to be.
            sys::give_way()?;
            work(&place.dir, |_| over.load(Ordering::Relaxed))
        });
        let output = (|| {
            let trace = Trace::start(below([&place.dir]))?;
            trace.program.wait_out(b"\n")?;
            trace.stop()
        })();
        over.store(true, Ordering::Relaxed);
        working.join().expect("it does not panic")?;
        output
    })?;
    summed_up(report, &output, false, "lost (");
    Ok(())
}
