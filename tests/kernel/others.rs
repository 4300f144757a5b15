//! Others who trace, switch and restrict: what they may do to us is borne or told.

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::sys::utsname::uname;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::container::{IMAGE, make_image, podman};
use crate::disturb::make_and_remove;
use crate::fs::{Kind, Place, run};
use crate::patience::wait_until;
use crate::program::Program;
use crate::trace::{Trace, below, four, says_tracing};
use crate::tracefs::TRACEFS;
use crate::{Case, Report, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("others/trace-cmd", trace_cmd),
        Case::new("others/trace-cmd-reset", trace_cmd_reset),
        Case::new("others/bpftrace", bpftrace),
        Case::new("others/perf", perf),
        Case::new("others/probes", many_probes),
        Case::new("others/switches", switches),
        Case::new("others/cpu", cpu),
        Case::new("others/itself", itself),
        Case::new("others/full-disk", full_disk),
        Case::new("others/read-only", read_only),
        Case::new("others/hidden", hidden),
        Case::new("others/inside-container", inside_container),
    ]
}

/// Traces what four threads do, exactly, and meanwhile something else happens again and again.
fn meanwhile(
    report: &mut Report,
    place: &Place,
    something: impl Fn() -> Result<()> + Sync,
) -> Result<()> {
    four(
        report,
        place,
        below([&place.dir]),
        |_| Ok(()),
        |log| {
            make_and_remove(log)?;
            something()?;
            make_and_remove(log)
        },
    )
}

/// trace-cmd(1) records meanwhile, the same functions among others.
fn trace_cmd(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("trace-cmd")?;
    let file = Path::new("/var/tmp/trace.dat");
    let number = std::sync::atomic::AtomicU32::new(0);
    meanwhile(report, &place, || {
        // There is but one top-level instance.
        if number.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            return Ok(());
        }
        run(Command::new("trace-cmd")
            .args(["record", "-q", "-e", "sched", "-p", "function"])
            .args(["-l", "vfs_*", "-o"])
            .arg(file)
            .args(["sleep", "0.1"]))
    })?;
    fs::remove_file(file)?;
    reset()
}

/// Runs `trace-cmd reset`.
fn reset() -> Result<()> {
    let clock = Path::new(TRACEFS).join("trace_clock");
    let clocks = fs::read_to_string(&clock)?;
    run(Command::new("trace-cmd").arg("reset"))?;
    // It sets the usual one, but the kernel may have chosen another.
    let chosen = clocks
        .split(['[', ']'])
        .nth(1)
        .context("no clock is chosen")?;
    fs::write(&clock, chosen).context("cannot choose a clock")
}

/// `trace-cmd reset` removes everybody's probes: that ends tracing, with a word.
fn trace_cmd_reset(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("trace-cmd-reset")?;
    let trace = Trace::start(below([&place.dir]))?;
    sys::creat(&place.dir.join("before"), 0o644)?;
    // What the reset does to records that nobody has read is not what is tried.
    trace.program.wait_out(b"/before\"")?;
    reset()?;
    let output = trace.program.finish()?;
    if output.status.code() != Some(1) {
        report.problems.push(format!("it ended: {}", output.status));
    }
    for what in ["somebody has removed our probes", "lost (switched off)"] {
        if !output.err.contains(what) {
            report.problems.push(format!("it said: {}", output.err));
        }
    }
    let out = String::from_utf8_lossy(&output.out);
    for what in ["/before\"", "\"cause\":\"switched off\""] {
        if !out.contains(what) {
            report.problems.push(format!("no {what} in: {out}"));
        }
    }
    Ok(())
}

/// bpftrace(8) has probes at the same functions; it sees what is to be seen.
fn bpftrace(report: &mut Report) -> Result<()> {
    // The work is to begin only once both have counted.
    let script = "
        kprobe:vfs_unlink {
            if (strncmp(comm, \"worker\", 6) == 0) { @entries = count(); }
            else { printf(\"entered\\n\"); }
        }
        kretprobe:vfs_unlink {
            if (strncmp(comm, \"worker\", 6) == 0) { @returns = count(); }
            else { printf(\"returned\\n\"); }
        }";
    let other = Program::start(Command::new("bpftrace").args(["-e", script]))?;
    let place = Kind::Tmpfs.place("bpftrace")?;
    remove_until(&place, &other, || {
        let out = other.out();
        let said = |what: &[u8]| out.windows(what.len()).any(|out| out == what);
        Ok(said(b"entered") && said(b"returned"))
    })?;
    meanwhile(report, &place, || Ok(()))?;
    other.signal(Signal::SIGINT)?;
    let output = other.finish()?;
    let out = String::from_utf8_lossy(&output.out);
    let mut all = vec!["@entries: 80\n"];
    // Else no more returns are awaited at once than there are CPUs, unless one asks for more
    // (kernel/kprobes.c, register_kretprobe), and bpftrace cannot: it misses some when alone, too.
    let preemptible = uname()?.version().to_string_lossy().contains("PREEMPT");
    if preemptible {
        all.push("@returns: 80\n");
    }
    for counted in all {
        if !out.contains(counted) {
            report.problems.push(format!("no {counted:?} in: {out}"));
        }
    }
    Ok(())
}

/// Removes a file again and again, until another tracer has noticed.
fn remove_until(place: &Place, other: &Program, noticed: impl Fn() -> Result<bool>) -> Result<()> {
    let file = place.dir.join("file");
    wait_until(
        || format!("it does not trace: {}", other.err()),
        || {
            if other.has_ended() {
                bail!("it has ended: {}", other.err());
            }
            sys::creat(&file, 0o644)?;
            fs::remove_file(&file)?;
            noticed()
        },
    )
}

/// perf(1) defines a probe of its own at the same function, and counts.
fn perf(report: &mut Report) -> Result<()> {
    let perf = |arguments: &[&str]| run(Command::new("perf").args(arguments));
    perf(&["probe", "-q", "--add", "unlinks=vfs_unlink"])?;
    let count = ["stat", "-a", "-e", "probe:unlinks"];
    let other = Program::start(Command::new("perf").args(count))?;
    let place = Kind::Tmpfs.place("perf")?;
    let profile = Path::new(TRACEFS).join("kprobe_profile");
    let hits = || -> Result<u64> {
        let text = fs::read_to_string(&profile)?;
        let line = text.lines().find(|line| line.contains("unlinks"));
        let hits = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        hits.context("no such probe")
    };
    remove_until(&place, &other, || Ok(hits()? > 0))?;
    let before = hits()?;
    meanwhile(report, &place, || Ok(()))?;
    let after = hits()?;
    if after < before + 80 {
        let problem = format!("perf: {before}, then {after}");
        report.problems.push(problem);
    }
    other.signal(Signal::SIGINT)?;
    other.finish()?;
    perf(&["probe", "-q", "--del", "probe:unlinks"])
}

/// Somebody has many probes.
fn many_probes(report: &mut Report) -> Result<()> {
    let probes = Path::new(TRACEFS).join("kprobe_events");
    let define = |text: &str| -> Result<()> {
        let mut file = fs::OpenOptions::new().append(true).open(&probes)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).context("kprobe_events")
    };
    for number in 0..100 {
        define(&format!("p:many/probe{number} vfs_unlink\n"))?;
    }
    let before = crate::tracefs::Snapshot::take()?;
    let place = Kind::Tmpfs.place("probes")?;
    let result = meanwhile(report, &place, || Ok(()));
    before.check(&mut report.problems)?;
    for number in 0..100 {
        define(&format!("-:many/probe{number}\n"))?;
    }
    result
}

/// Somebody switches off what stops everybody's probes, where the kernel lets him.
fn switches(report: &mut Report) -> Result<()> {
    let debugfs = "/sys/kernel/debug";
    run(Command::new("mount").args(["-t", "debugfs", "debugfs", debugfs]))?;
    for (name, file) in [
        ("ftrace", "/proc/sys/kernel/ftrace_enabled"),
        ("kprobes", "/sys/kernel/debug/kprobes/enabled"),
    ] {
        let place = Kind::Tmpfs.place(&format!("switches-{name}"))?;
        let trace = Trace::start(below([&place.dir]))?;
        if fs::write(file, "0").is_err() {
            report.notes.push(format!("{name} cannot be switched off"));
            trace.stop()?;
            continue;
        }
        let told = trace.program.wait_out(b"\"switched off\"");
        fs::write(file, "1")?;
        told.with_context(|| format!("{name}: it does not notice"))?;
        sys::creat(&place.dir.join("after"), 0o644)?;
        let told = trace.program.wait_out(b"/after\"");
        told.with_context(|| format!("{name}: it does not go on"))?;
        trace.stop()?;
    }
    run(Command::new("umount").arg(debugfs))
}

/// A CPU goes and comes again.
fn cpu(report: &mut Report) -> Result<()> {
    let online = Path::new("/sys/devices/system/cpu/cpu1/online");
    let place = Kind::Tmpfs.place("cpu")?;
    let turn = |state: &str| fs::write(online, state).context("cannot turn a CPU off or on");
    let result = meanwhile(report, &place, || {
        turn("0")?;
        turn("1")
    });
    turn("1")?;
    result
}

/// Its own output and recording go to where it watches: that makes no events, but for those of
/// their beginning.
fn itself(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("itself")?;
    let (out, recording) = (place.dir.join("out"), place.dir.join("recording"));
    let script = r#"exec systracer --json --watch all="$1" --record "$1/recording" >"$1/out""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&place.dir);
    let program = crate::program::Program::start(&mut command)?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    for number in 0..100 {
        sys::creat(&place.dir.join(number.to_string()), 0o644)?;
    }
    program.signal_group(nix::sys::signal::Signal::SIGINT)?;
    let output = program.finish()?;
    if !output.status.success() {
        report
            .problems
            .push(format!("it ended: {}: {}", output.status, output.err));
    }
    let lines = fs::read_to_string(&out)?.lines().count();
    if lines != 100 {
        report.problems.push(format!("{lines} events of 100"));
    }
    if fs::metadata(&recording)?.len() == 0 {
        report.problems.push("the recording is empty".to_owned());
    }
    Ok(())
}

/// The disk is full that the output goes to: that ends tracing, with a word.
fn full_disk(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("full-disk")?;
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"exec systracer --json --watch all="$1" >/dev/full"#,
        "sh",
    ]);
    command.arg(&place.dir);
    let program = crate::program::Program::start(&mut command)?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    let file = place.dir.join("file");
    // Each stage notices at its next record that the one after it is gone.
    wait_until(
        || format!("it goes on: {}", program.err()),
        || {
            sys::creat(&file, 0o644)?;
            fs::remove_file(&file)?;
            Ok(program.has_ended())
        },
    )?;
    let output = program.finish()?;
    if output.status.code() != Some(1) || !output.err.contains("No space left on device") {
        report
            .problems
            .push(format!("it ended: {}: {}", output.status, output.err));
    }
    Ok(())
}

/// Runs st-probe by a shell in a mount namespace of its own, after `prepare`, as a container
/// would: it must fail and say what it cannot do.
fn refused(report: &mut Report, prepare: &str, probe: &str, expected: &[&str]) -> Result<()> {
    let script = format!("set -e; {prepare}; {probe} --duration 1 | cat >/dev/null");
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-o", "pipefail", "-c", &script]);
    must_refuse(report, &mut command, expected)
}

/// It ends with 1 and says in one line what is expected.
fn must_refuse(report: &mut Report, command: &mut Command, expected: &[&str]) -> Result<()> {
    let output = command.output()?;
    let err = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(1) || !expected.iter().all(|what| err.contains(what)) {
        report.problems.push(format!("{}: {err}", output.status));
    }
    let lines = err.lines().count();
    if lines != 1 {
        report.problems.push(format!("{lines} lines were said"));
    }
    Ok(())
}

/// tracefs is there, but read-only.
fn read_only(report: &mut Report) -> Result<()> {
    let prepare = format!("mount --bind {TRACEFS} {TRACEFS}; mount -o remount,bind,ro {TRACEFS}");
    refused(
        report,
        &prepare,
        "st-probe",
        &["Read-only file system", TRACEFS],
    )
}

/// tracefs is not there, and cannot be had: no capabilities.
fn hidden(report: &mut Report) -> Result<()> {
    // debugfs would mount it as soon as somebody looks there.
    let debugfs = "umount -l /sys/kernel/debug 2>/dev/null || true";
    let prepare = format!("umount -l {TRACEFS}; {debugfs}");
    let probe = "setpriv --bounding-set=-all --inh-caps=-all st-probe";
    refused(
        report,
        &prepare,
        probe,
        &["cannot mount tracefs", "Operation not permitted"],
    )
}

/// Within a container, with the system calls, capabilities and mounts that podman leaves it: there
/// tracefs is missing. And with all of them, but tracefs read-only.
fn inside_container(report: &mut Report) -> Result<()> {
    make_image()?;
    let read_only = format!("--volume={TRACEFS}:{TRACEFS}:ro");
    let rows: [(&[&str], _); 2] = [
        (&[], ["cannot mount tracefs", "Operation not permitted"]),
        (
            &["--privileged", &read_only],
            ["Read-only file system", TRACEFS],
        ),
    ];
    for (options, expected) in rows {
        let mut command = podman();
        command
            .args(["run", "--rm", "--pull=never", "--network=none"])
            .arg("--volume=/usr/local/bin/st-probe:/st-probe:ro")
            .args(options)
            .args([IMAGE, "/st-probe", "--duration", "1"]);
        must_refuse(report, &mut command, &expected)?;
    }
    Ok(())
}

/// In a locked-down kernel nobody traces: kernel_lockdown(7). That lasts until the next boot, so
/// this comes last.
pub fn lockdown() -> Case {
    Case::new("others/lockdown", |report: &mut Report| {
        let place = PathBuf::from("/sys/kernel/security");
        run(Command::new("mount")
            .args(["-t", "securityfs", "securityfs"])
            .arg(&place))?;
        fs::write(place.join("lockdown"), "confidentiality").context("cannot lock the kernel")?;
        let probe = "st-probe";
        let result = refused(report, ":", probe, &["locked down", "kernel_lockdown(7)"]);
        run(Command::new("umount").arg(&place))?;
        result
    })
    .last()
}
