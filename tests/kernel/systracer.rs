//! systracer as a program: signals in a script, recordings, and who says what when it ends.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, stat};
use nix::unistd::mkfifo;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fs::{self as file_systems, Kind, Place};
use crate::patience::wait_until;
use crate::program::{Output, Program};
use crate::trace::{below, check_end, says_tracing, watch};
use crate::tracefs::TRACEFS;
use crate::{Case, Report, sys};

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = ["INT", "TERM", "HUP"]
        .into_iter()
        .map(|signal| {
            Case::new(format!("systracer/background-{signal}"), move |report| {
                background(report, signal)
            })
        })
        .collect();
    cases.push(Case::new(
        "systracer/background-command",
        background_command,
    ));
    cases.push(Case::new("systracer/nohup", nohup));
    cases.push(Case::new("systracer/recording", recording));
    cases.push(Case::new("systracer/recording-goes-on", recording_goes_on));
    cases.push(Case::new("systracer/recording-killed", recording_killed));
    cases.push(Case::new("systracer/recording-disk-full", disk_full));
    cases.push(Case::new("systracer/fatal", fatal));
    for (name, options) in [
        ("reader-goes", &[][..]),
        ("reader-goes-recorded", &["--record"][..]),
    ] {
        cases.push(Case::new(format!("systracer/{name}"), move |report| {
            reader_goes(report, name, options)
        }));
    }
    cases
}

/// Nothing happens any more, and nobody reads: that ends tracing.
fn reader_goes(report: &mut Report, name: &str, options: &[&str]) -> Result<()> {
    let place = Kind::Tmpfs.place(name)?;
    for any_line in [false, true] {
        let mut command = Command::new("systracer");
        command.args(watch("all", &place.dir)).args(options);
        if !options.is_empty() {
            command.arg(format!("/tmp/{name}-{any_line}"));
        }
        let (program, out) = Program::start_uncollected(&mut command)?;
        program.wait_err("it said that it is tracing", says_tracing)?;
        if any_line {
            sys::creat(&place.dir.join("file"), 0o644)?;
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line)?;
            if !line.contains("file") {
                report.problems.push(format!("it told: {line}"));
            }
        } else {
            drop(out);
        }
        check_end(&program.finish()?, &mut report.problems);
    }
    Ok(())
}

/// A shell script's background job, to which SIGINT is ignored from its beginning: a signal ends
/// it, with everything shown that was under way.
fn background(report: &mut Report, signal: &str) -> Result<()> {
    let place = Kind::Tmpfs.place(&format!("background-{signal}"))?;
    let work = |_: &Program| {
        (0..100).try_for_each(|number| {
            sys::creat(&place.dir.join(number.to_string()), 0o644)?;
            Ok(())
        })
    };
    let output = in_background(&place, signal, &[], work)?;
    check_end(&output, &mut report.problems);
    expect_lines(report, &output, 100);
    Ok(())
}

/// The same, while it runs a command: the signal goes on to that, and tracing ends with it.
fn background_command(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("background-command")?;
    let last = place.dir.join("3").to_string_lossy().into_owned();
    let script = format!(
        "cd {}; : >1; : >2; : >3; exec sleep 1000",
        place.dir.display()
    );
    let is_at_work = |program: &Program| program.wait_out(last.as_bytes());
    let output = in_background(&place, "INT", &["--", "sh", "-c", &script], is_at_work)?;
    if output.status.code() != Some(128 + Signal::SIGINT as i32) {
        let problem = format!("it ended: {}: {}", output.status, output.err);
        report.problems.push(problem);
    }
    expect_lines(report, &output, 3);
    Ok(())
}

/// Runs systracer as a shell script's background job, and sends it a signal when it traces and
/// `work` is done.
fn in_background(
    place: &Place,
    signal: &str,
    more: &[&str],
    work: impl FnOnce(&Program) -> Result<()>,
) -> Result<Output> {
    let gate = place.dir.with_extension("gate");
    mkfifo(&gate, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let script = r#"
        signal=$1 gate=$2
        shift 2
        systracer "$@" &
        read line <"$gate"
        kill -"$signal" $!
        wait $!"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", signal]).arg(&gate);
    let program = Program::start(command.args(below([&place.dir])).args(more))?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    work(&program)?;
    fs::write(&gate, "go\n")?;
    let output = program.finish()?;
    fs::remove_file(gate)?;
    Ok(output)
}

fn expect_lines(report: &mut Report, output: &Output, expected: usize) {
    let lines = output.out.iter().filter(|&&byte| byte == b'\n').count();
    if lines != expected {
        let problem = format!("{lines} lines of {expected}: {}", output.err);
        report.problems.push(problem);
    }
}

/// nohup(1) has SIGHUP ignored: so it is then, by all of the pipeline.
fn nohup(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("nohup")?;
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap '' HUP; exec systracer "$@""#, "sh"]);
    let program = Program::start(command.args(below([&place.dir])))?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    for name in ["before", "between", "after"] {
        let seen = program.seen();
        sys::creat(&place.dir.join(name), 0o644)?;
        program.wait_out_after(seen, name.as_bytes())?;
        program.signal_group(Signal::SIGHUP)?;
    }
    program.signal_group(Signal::SIGTERM)?;
    let output = program.finish()?;
    check_end(&output, &mut report.problems);
    expect_lines(report, &output, 3);
    Ok(())
}

/// Runs a command that makes the directory `name`, recorded to `file`.
fn record(place: &Place, name: &str, file: &Path, more: &[&str]) -> Result<Output> {
    let mut command = Command::new("systracer");
    command.args(below([&place.dir])).arg("--record").arg(file);
    command
        .args(more)
        .args(["--", "mkdir"])
        .arg(place.dir.join(name));
    Program::start(&mut command)?.finish()
}

/// A recording is its owner's alone, and is never what somebody else has put there.
fn recording(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("recording")?;
    let folder = PathBuf::from("/tmp/recordings");
    fs::create_dir(&folder)?;
    let file = folder.join("file");
    let first = record(&place, "first", &file, &[])?;
    check_end(&first, &mut report.problems);
    let mode = stat(&file)?.st_mode & 0o7777;
    if mode != 0o600 {
        report.problems.push(format!("its mode is {mode:o}"));
    }
    let recorded = fs::read(&file)?;

    let link = folder.join("link");
    symlink("file", &link)?;
    for (path, more, expected) in [
        (&file, &[][..], "--overwrite"),
        (&link, &[], "no regular file"),
        (&link, &["--overwrite"], "no regular file"),
    ] {
        let refused = record(&place, "refused", path, more)?;
        let said = &refused.err;
        if refused.status.code() != Some(1)
            || said.lines().count() != 1
            || !said.starts_with("systracer: --record: ")
            || !said.contains(expected)
        {
            let problem = format!("{}: {}: {said}", path.display(), refused.status);
            report.problems.push(problem);
        }
    }
    if fs::read(&file)? != recorded || place.dir.join("refused").exists() {
        let problem = "what was refused has begun nevertheless";
        report.problems.push(problem.to_owned());
    }

    let second = record(&place, "second", &file, &["--overwrite"])?;
    check_end(&second, &mut report.problems);
    let replayed = replay(&place, &file)?;
    if second.out != replayed.out || first.out == replayed.out {
        report
            .problems
            .push("the second recording is not what was shown".to_owned());
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

fn replay(place: &Place, file: &Path) -> Result<Output> {
    let mut command = Command::new("systracer");
    command.args(below([&place.dir])).arg("--replay").arg(file);
    Program::start(&mut command)?.finish()
}

/// When nobody reads what is shown any more, tracing ends; the recording is whole.
fn recording_goes_on(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("recording-goes-on")?;
    let file = PathBuf::from("/tmp/recording-goes-on");
    let mut command = Command::new("systracer");
    command.args(below([&place.dir])).arg("--record").arg(&file);
    let (program, out) = Program::start_uncollected(&mut command)?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    drop(out);
    let mut made = 0;
    // Each stage notices at its next record that the one after it is gone.
    wait_until(
        || format!("it goes on: {}", program.err()),
        || {
            sys::creat(&place.dir.join(made.to_string()), 0o644)?;
            made += 1;
            Ok(program.has_ended())
        },
    )?;
    let output = program.finish()?;
    check_end(&output, &mut report.problems);
    let replayed = replay(&place, &file)?;
    check_end(&replayed, &mut report.problems);
    let shown = replayed.out.iter().filter(|&&byte| byte == b'\n').count();
    if shown == 0 || shown > made {
        report.problems.push(format!("{shown} events of {made}"));
    }
    fs::remove_file(file)?;
    Ok(())
}

/// What has happened is soon in the recording, though nothing follows, and stays there however
/// systracer ends.
fn recording_killed(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("recording-killed")?;
    let file = PathBuf::from("/tmp/recording-killed");
    let mut command = Command::new("systracer");
    command.args(below([&place.dir])).arg("--record").arg(&file);
    let program = Program::start(&mut command)?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    sys::creat(&place.dir.join("made"), 0o644)?;
    program.wait_out(b"made")?;
    let shown = program.out();
    wait_until(
        || "the recording does not get what is shown".to_owned(),
        || Ok(replay(&place, &file)?.out == shown),
    )?;
    program.signal_group(Signal::SIGKILL)?;
    program.finish()?;
    let replayed = replay(&place, &file)?;
    let cut = "the compressed input is cut at byte";
    if replayed.out != shown || replayed.status.code() != Some(4) || !replayed.err.contains(cut) {
        let problem = format!("{}: {}", replayed.status, replayed.err);
        report.problems.push(problem);
    }
    fs::remove_file(file)?;
    Ok(())
}

/// The disk is full that the recording goes to: that is said, and all is shown.
fn disk_full(report: &mut Report) -> Result<()> {
    let place = Kind::Tmpfs.place("recording-disk-full")?;
    let tiny = Path::new("/mnt/tiny-recording");
    file_systems::tmpfs(tiny, Some("size=4k"))?;
    let file = tiny.join("file");
    let output = record(&place, "made", &file, &[])?;
    let kept = fs::metadata(&file)?.len();
    file_systems::unmount(tiny)?;
    let said = output.err.lines().filter(|line| !says_tracing(line));
    let said: Vec<_> = said.collect();
    let is_told = matches!(said[..], [line] if line.starts_with("systracer: ")
        && line.contains("/mnt/tiny-recording/file")
        && line.contains("No space left on device"));
    if output.status.code() != Some(1) || !is_told {
        report.problems.push(format!("{}: {said:?}", output.status));
    }
    if kept == 0 {
        report.problems.push("what was recorded is gone".to_owned());
    }
    expect_lines(report, &output, 1);
    Ok(())
}

/// If st-probe cannot trace, that alone is said, and nothing is recorded.
fn fatal(report: &mut Report) -> Result<()> {
    let folder = PathBuf::from("/tmp/fatal");
    fs::create_dir(&folder)?;
    let script = format!(
        "mount --bind {TRACEFS} {TRACEFS} && mount -o remount,bind,ro {TRACEFS} && \
         exec systracer --record \"$1\" \"$2\" \"$3\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command
        .arg(folder.join("file"))
        .args(watch("all", Path::new("/tmp")));
    let output = Program::start(&mut command)?.finish()?;
    let said = &output.err;
    if output.status.code() != Some(1)
        || said.lines().count() != 1
        || !said.starts_with("st-probe: ")
        || !said.contains("Read-only file system")
    {
        report.problems.push(format!("{}: {said}", output.status));
    }
    // Nor is there an empty recording.
    fs::remove_dir(&folder).context("something was left")?;
    Ok(())
}
