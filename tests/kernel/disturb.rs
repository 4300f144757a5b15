//! Nobody is disturbed, and nothing stays behind, however tracing ends.

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::unistd::unlink;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;

use crate::fs::{Kind, Place};
use crate::log::{Expected, Log, directories, threads};
use crate::patience::wait_until;
use crate::program::Program;
use crate::trace::{Trace, below, finish, four, says_tracing, worked};
use crate::tracefs::{TRACEFS, instances};
use crate::{Case, Report, sys};

/// The cases. That tracefs is afterwards as it was before is checked for every case.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("disturb/two", two),
        Case::new("disturb/foreign", foreign),
        Case::new("disturb/no-tracefs", no_tracefs),
    ];
    for program in ["st-probe", "systracer"] {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            for to in [To::Program, To::Group, To::Unready] {
                // st-probe is alone in its group.
                if program == "st-probe" && to == To::Group {
                    continue;
                }
                cases.push(Case::new(
                    format!("ends/{program}/{}-to-{to:?}", signal.as_str()),
                    move |report: &mut Report| {
                        ends(report, program, |command, place| {
                            by_signal(command, place, signal, to)
                        })
                    },
                ));
            }
        }
        cases.push(Case::new(
            format!("ends/{program}/reader-gone"),
            move |report: &mut Report| ends(report, program, reader_gone),
        ));
    }
    cases
}

pub fn make_and_remove(log: &mut Log) -> Result<()> {
    for number in 0..10 {
        let path = log.path(number.to_string());
        log.made("create", &path, || sys::creat(&path, 0o644))?;
        log.removed("delete", &path, || unlink(&path))?;
    }
    Ok(())
}

fn those_in(expected: &[Expected], dir: &Path) -> Vec<Expected> {
    let is_below = |event: &&Expected| {
        let path = event.fields["path"].as_str().unwrap_or_default();
        Path::new(path).starts_with(dir)
    };
    expected.iter().filter(is_below).cloned().collect()
}

/// Two at once, each with its own watch; the second goes on when the first has ended.
fn two(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("two")?;
    let dirs: Vec<PathBuf> = directories(&place.dir).collect();
    for dir in &dirs {
        fs::create_dir(dir)?;
    }
    let first = Trace::start(below([&dirs[0]]))?;
    let second = Trace::start(below([&dirs[1]]))?;
    let mut expected = worked(report, threads(&place, make_and_remove));
    finish(report, first, &those_in(&expected, &dirs[0]))?;
    expected.extend(worked(report, threads(&place, make_and_remove)));
    finish(report, second, &those_in(&expected, &dirs[1]))
}

/// Somebody else's probes and instance: on the same function, and at work all the while.
fn foreign(report: &mut Report) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = Path::new(TRACEFS).join(name);
        let file = fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .with_context(|| format!("cannot write {text} to {}", path.display()))
    };
    let instance = Path::new(TRACEFS).join("instances/foreign");
    write("kprobe_events", "p:foreign/unlinks vfs_unlink\n")?;
    write("kprobe_events", "r:foreign/unlinked vfs_unlink $retval\n")?;
    fs::create_dir(&instance)?;
    write("instances/foreign/trace_clock", "global")?;
    for event in ["unlinks", "unlinked"] {
        write(
            &format!("instances/foreign/events/foreign/{event}/enable"),
            "1",
        )?;
    }
    let before = crate::tracefs::Snapshot::take()?;
    let place = Kind::Tmpfs.place("foreign")?;
    let result = four(
        report,
        &place,
        below([&place.dir]),
        |_| Ok(()),
        make_and_remove,
    );
    before.check(&mut report.problems)?;
    let trace = fs::read_to_string(instance.join("trace"))?;
    for event in ["unlinks:", "unlinked:"] {
        let seen = trace
            .lines()
            .filter(|line| line.contains(event) && line.contains("worker"))
            .count();
        if seen != 40 {
            report.problems.push(format!(
                "the foreign instance has {seen} {event}, expected 40"
            ));
        }
    }
    for (name, expected) in [("trace_clock", "[global]"), ("tracing_on", "1")] {
        let text = fs::read_to_string(instance.join(name))?;
        if !text.contains(expected) {
            report
                .problems
                .push(format!("the foreign instance's {name} is now {text}"));
        }
    }
    for event in ["unlinks", "unlinked"] {
        write(
            &format!("instances/foreign/events/foreign/{event}/enable"),
            "0",
        )?;
    }
    fs::remove_dir(&instance)?;
    write("kprobe_events", "-:foreign/unlinks\n")?;
    write("kprobe_events", "-:foreign/unlinked\n")?;
    result
}

/// Where tracefs is not mounted, it still is not when tracing has ended.
fn no_tracefs(report: &mut Report) -> Result<()> {
    umount2(TRACEFS, MntFlags::MNT_DETACH).context("cannot unmount tracefs")?;
    let table = || fs::read_to_string("/proc/self/mounts");
    let before = table()?;
    let place = Kind::Tmpfs.place("no-tracefs")?;
    let result = four(
        report,
        &place,
        below([&place.dir]),
        |_| Ok(()),
        |log| {
            if table()? != before {
                bail!("something was mounted: {}", table()?);
            }
            make_and_remove(log)
        },
    );
    if table()? != before {
        report.problems.push(format!("mounts left: {}", table()?));
    }
    let none = None::<&str>;
    mount(
        Some("tracefs"),
        TRACEFS,
        Some("tracefs"),
        MsFlags::empty(),
        none,
    )
    .context("cannot mount tracefs again")?;
    result
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// The program alone, as by kill(1).
    Program,
    /// Its process group, as by Ctrl-C or the end of a terminal.
    Group,
    /// The program, while it is still putting its probes in place.
    Unready,
}

/// What a program could leave behind apart from tracefs.
fn traces() -> Result<Vec<(&'static str, String)>> {
    let mut traces = vec![("mounts", fs::read_to_string("/proc/self/mounts")?)];
    for dir in ["/tmp", "/run", "/dev/shm", "/var/tmp", "/root"] {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        traces.push((dir, names.join(" ")));
    }
    Ok(traces)
}

/// For a directory of each case's own.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Starts a program, lets `end` end it, and looks for what it left behind.
fn ends(
    report: &mut Report,
    program: &str,
    end: impl Fn(&mut Command, &Place) -> Result<Vec<String>>,
) -> Result<()> {
    let place = Kind::Tmpfs.place(&format!("ends-{}", NUMBER.fetch_add(1, Relaxed)))?;
    let (before, untraced) = (traces()?, instances()?);
    let mut command = Command::new(program);
    if program == "systracer" {
        command.args(below([&place.dir]));
    } else {
        command.args(["--event", "create"]);
    }
    report.problems.extend(end(&mut command, &place)?);
    if instances()? != untraced {
        report
            .problems
            .push(format!("instances left: {:?}", instances()?));
    }
    for ((what, before), (_, after)) in before.iter().zip(traces()?) {
        if *before != after {
            report
                .problems
                .push(format!("{what} was: {before}\n{what} is: {after}"));
        }
    }
    Ok(())
}

/// Sends a signal. What has happened before that is still told, all of it.
fn by_signal(command: &mut Command, place: &Place, signal: Signal, to: To) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let probes = Path::new(TRACEFS).join("kprobe_events");
    let before = fs::read(&probes)?;
    let running = Program::start(command)?;
    if to == To::Unready {
        wait_until(
            || format!("it makes no probes: {}", running.err()),
            || {
                if running.has_ended() {
                    bail!("it made no probes: {}", running.err());
                }
                Ok(fs::read(&probes)? != before)
            },
        )?;
        running.signal(signal)?;
        let output = running.finish()?;
        // Whether it had begun by then, or not, is for it to say.
        let killed = output.status.code() == Some(128 + signal as i32);
        if !output.status.success() && !killed && output.status.signal().is_none() {
            problems.push(format!("it ended: {}: {}", output.status, output.err));
        }
        return Ok(problems);
    }

    running.wait_err("it said that it is tracing", says_tracing)?;
    let name = "the-last-file";
    sys::creat(&place.dir.join(name), 0o644)?;
    match to {
        To::Group => running.signal_group(signal)?,
        _ => running.signal(signal)?,
    }
    let output = running.finish()?;
    if !output.status.success() {
        problems.push(format!("it ended: {}: {}", output.status, output.err));
    }
    let contains = |bytes: &[u8]| {
        output
            .out
            .windows(bytes.len())
            .any(|window| window == bytes)
    };
    if !contains(name.as_bytes()) {
        problems.push("what had just happened was not told".to_owned());
    }
    // st-probe's last record, {"t": "end", ...}, in MessagePack.
    if !contains(b"\xa1t\xa3end") && !output.out.starts_with(b"{") {
        problems.push("there is no end record".to_owned());
    }
    Ok(problems)
}

/// Reads a little of its output, then no more: it must notice.
fn reader_gone(command: &mut Command, place: &Place) -> Result<Vec<String>> {
    let (running, mut out) = Program::start_uncollected(command)?;
    running.wait_err("it said that it is tracing", says_tracing)?;
    let path = place.dir.join("file");
    let something_happens = || -> Result<()> {
        sys::creat(&path, 0o644)?;
        unlink(&path)?;
        Ok(())
    };
    let (send, received) = mpsc::channel();
    std::thread::spawn(move || {
        let read = out.read(&mut [0; 64]);
        drop(out);
        // The other end waits, or has given up already.
        let _ = send.send(read);
    });
    wait_until(
        || "nothing was printed".to_owned(),
        || {
            something_happens()?;
            match received.try_recv() {
                Ok(count) => Ok(count? > 0),
                Err(mpsc::TryRecvError::Empty) => Ok(false),
                Err(error) => Err(error.into()),
            }
        },
    )?;
    wait_until(
        || format!("it goes on: {}", running.err()),
        || {
            something_happens()?;
            Ok(running.has_ended())
        },
    )?;
    let output = running.finish()?;
    Ok(if output.status.success() {
        Vec::new()
    } else {
        vec![format!("it ended: {}: {}", output.status, output.err)]
    })
}
