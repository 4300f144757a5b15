//! File systems that show one name for several directories, or show themselves to a few only:
//! btrfs snapshots, private mounts of a namespace; and what is known after a loss.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::mkdir;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compare::{self, Got};
use crate::files::{mode, rename};
use crate::fs::{Kind, run, tmpfs};
use crate::log::{Expected, Log};
use crate::patience::Patience;
use crate::program::{Program, stop};
use crate::trace::{Trace, below, finish, says_tracing, worked};
use crate::{Case, Report, sys};

/// Deeper than any record holds.
const DEEP: &str = "1/2/3/4/5/6/7/8/9/10/11/12";

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("spaces/snapshots", snapshots),
        Case::new("spaces/private", private),
        Case::new("spaces/passing", passing),
        Case::new("spaces/lost", lost),
    ]
}

fn subvolume(command: &str, paths: &[&Path]) -> Result<()> {
    run(Command::new("btrfs")
        .args(["-q", "subvolume", command])
        .args(paths))
}

/// The same is done in a subvolume, in snapshots of it from before, and in one that is made
/// meanwhile. Where the kernel does not tell them apart no path is another's.
fn snapshots(report: &mut Report) -> Result<()> {
    let place = Kind::Btrfs.place("snapshots")?;
    let dirs = ["main", "one", "two", "late"].map(|name| place.dir.join(name));
    subvolume("create", &[&dirs[0]])?;
    fs::create_dir_all(dirs[0].join(DEEP))?;
    for dir in &dirs[1..3] {
        subvolume("snapshot", &[&dirs[0], dir])?;
    }
    let trace = Trace::start(below([&place.dir]))?;
    let mut log = Log::new(&place);
    let result = in_each(&mut log, &dirs);
    let expected = worked(report, vec![(log, result)]);
    if tells_subvolumes() {
        return finish(report, trace, &expected);
    }
    finish_unsure(report, trace, &expected)
}

/// Whether the kernel can be asked for the btrfs subvolume of an inode.
pub fn tells_subvolumes() -> bool {
    Path::new("/sys/kernel/btf/btrfs").exists()
}

/// Ends the tracing of what one thread did where inode numbers repeat: every event is there,
/// and its path is the right one, or the end of it and says so.
pub fn finish_unsure(report: &mut Report, trace: Trace, expected: &[Expected]) -> Result<()> {
    report
        .notes
        .push("this kernel does not tell subvolumes apart".into());
    let got = trace.events(&mut report.problems)?;
    for number in 0..got.len().max(expected.len()) {
        let (got, expected) = (got.get(number), expected.get(number));
        let right = got.zip(expected).is_some_and(|(got, expected)| {
            let path = expected.fields["path"].as_str().unwrap_or_default();
            *got.get("event") == expected.fields["event"] && is_end(got, Path::new(path))
        });
        if !right {
            let got = got.map(|got| Value::Object(got.fields.clone()));
            let expected = expected.map(|expected| Value::Object(expected.fields.clone()));
            let problem = format!("expected {expected:?}, got {got:?}");
            report.problems.push(problem);
        }
    }
    Ok(())
}

/// Whether an event's path is this one, or says that it is the end of it.
fn is_end(got: &Got, path: &Path) -> bool {
    let said = Path::new(got.get("path").as_str().unwrap_or_default());
    match got.get("path_status").as_str() {
        Some("complete" | "ambiguous" | "deleted") => said == path,
        Some("partial") => said.is_relative() && path.ends_with(said),
        _ => false,
    }
}

fn in_each(log: &mut Log, dirs: &[PathBuf; 4]) -> Result<()> {
    for dir in &dirs[..3] {
        in_deep(log, dir, "file")?;
    }
    subvolume("snapshot", &[&dirs[1], &dirs[3]])?;
    for dir in dirs {
        in_deep(log, dir, "again")?;
    }
    // Renamed in one only.
    let (old, new) = (dirs[2].join("1/2"), dirs[2].join("1/other"));
    log.named("rename", &old, &new, || {
        rename(&old, &new, nix::fcntl::RenameFlags::empty())
    })?;
    let rest = Path::new(DEEP).strip_prefix("1/2")?;
    let path = new.join(rest).join("renamed");
    log.made("create", &path, || sys::creat(&path, 0o644))?;
    in_deep(log, &dirs[0], "last")
}

fn in_deep(log: &mut Log, dir: &Path, name: &str) -> Result<()> {
    let path = dir.join(DEEP).join(name);
    log.made("create", &path, || sys::creat(&path, 0o644))?;
    let dir = path.with_extension("dir");
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))
}

/// A tmpfs that only a namespace shows, and a directory that it has in another place.
fn private(report: &mut Report) -> Result<()> {
    let place = Kind::Ext4.place("private")?;
    let dir = &place.dir;
    fs::create_dir_all(dir.join("bound"))?;
    fs::create_dir_all(dir.join("own").join(DEEP))?;
    let trace = Trace::start(below([dir]))?;
    let script = "set -e
        mount -t tmpfs none own
        mkdir -p own/$1; touch own/$1/early
        readlink /proc/self/ns/mnt; read wait || :
        touch own/$1/late; mv own/1 own/one; touch own/one/${1#1/}/last
        mount --bind bound own/one
        touch own/one/shown";
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", DEEP])
        .current_dir(dir)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    // What is printed is known: its mounts, too.
    let early = dir.join("own").join(DEEP).join("early");
    let told = trace.program.wait_out(early.as_os_str().as_encoded_bytes());
    report
        .problems
        .extend(told.err().map(|error| format!("{error:#}")));
    drop(child.stdin.take());
    let output = child.wait_with_output()?;
    if !output.status.success() {
        report
            .problems
            .push(format!("the script failed: {}", output.status));
    }
    // The host's directory below is untouched, and shown as its own.
    let below = dir.join("own").join(DEEP).join("host");
    sys::creat(&below, 0o644)?;

    let said = String::from_utf8(output.stdout)?;
    let ns: u64 = said
        .trim()
        .trim_start_matches("mnt:[")
        .trim_end_matches(']')
        .parse()?;
    if fs::metadata("/proc/self/ns/mnt")?.ino() == ns {
        report
            .problems
            .push("it has no namespace of its own".into());
    }
    let got = trace.events(&mut report.problems)?;
    let mut expected: Vec<(String, &str, Option<u64>)> = Vec::new();
    let mut dir_path = PathBuf::from("own");
    for name in DEEP.split('/') {
        dir_path.push(name);
        expected.push((dir_path.display().to_string(), "mkdir", Some(ns)));
    }
    for (path, event, ns) in [
        ("own/1/2/3/4/5/6/7/8/9/10/11/12/early", "create", Some(ns)),
        ("own/1/2/3/4/5/6/7/8/9/10/11/12/late", "create", Some(ns)),
        ("own/one", "rename", Some(ns)),
        ("own/one/2/3/4/5/6/7/8/9/10/11/12/last", "create", Some(ns)),
        ("bound/shown", "create", None),
        ("own/1/2/3/4/5/6/7/8/9/10/11/12/host", "create", None),
    ] {
        expected.push((path.into(), event, ns));
    }
    for (number, (path, event, ns)) in expected.iter().enumerate() {
        let path = dir.join(path);
        let right = got.get(number).is_some_and(|got| {
            // Two mounts begin so close together that which came first is not known.
            got.get("path").as_str() == path.to_str()
                && got.get("event").as_str() == Some(event)
                && got.get("mnt_ns").as_u64() == *ns
                && ["complete", "ambiguous"]
                    .map(Value::from)
                    .contains(got.get("path_status"))
        });
        if !right {
            let got = got.get(number).map(|got| Value::Object(got.fields.clone()));
            let problem = format!("expected {event} {} {ns:?}, got {got:?}", path.display());
            report.problems.push(problem);
        }
    }
    for got in got.iter().skip(expected.len()) {
        let fields = Value::Object(got.fields.clone());
        report.problems.push(format!("extra: {fields}"));
    }
    Ok(())
}

/// A deep directory comes from where nobody looked, and goes faster than anybody can look:
/// what was done in it meanwhile is told, by the right path or the end of it.
fn passing(report: &mut Report) -> Result<()> {
    let place = Kind::Ext4.place("passing")?;
    let (watched, outside) = (place.dir.join("watched"), place.dir.join("outside"));
    fs::create_dir(&watched)?;
    fs::create_dir_all(outside.join(DEEP))?;
    let trace = Trace::start(below([&watched]))?;
    let mut paths = Vec::new();
    for number in 0..20 {
        let guest = watched.join(format!("guest{number}"));
        let path = guest.join(DEEP).join(format!("file{number}"));
        fs::rename(&outside, &guest)?;
        sys::creat(&path, 0o644)?;
        fs::rename(&guest, &outside)?;
        paths.extend([guest.clone(), path, outside.clone()]);
    }
    let got = trace.events(&mut report.problems)?;
    let whole = got
        .iter()
        .filter(|got| got.get("path_status").as_str() == Some("complete"));
    report.notes.push(format!(
        "{} of {} paths are whole",
        whole.count(),
        got.len()
    ));
    for (number, path) in paths.iter().enumerate() {
        if !got.get(number).is_some_and(|got| is_end(got, path)) {
            let got = got.get(number).map(|got| Value::Object(got.fields.clone()));
            report
                .problems
                .push(format!("expected {}, got {got:?}", path.display()));
        }
    }
    if got.len() > paths.len() {
        report
            .problems
            .push(format!("{} more", got.len() - paths.len()));
    }
    Ok(())
}

/// Makes one file after the other, each once the event of the one before is printed, until
/// something holds then: the number of the file after which it does.
fn make_until(
    program: &Program,
    dir: &Path,
    name: &str,
    holds: impl Fn(&Path) -> bool,
) -> Result<Option<u32>> {
    let mut patience = Patience::new();
    for number in 0.. {
        let seen = program.seen();
        let path = dir.join(format!("{name}{number}"));
        sys::creat(&path, 0o644)?;
        program.wait_out_after(seen, format!("{name}{number}\"").as_bytes())?;
        if holds(&path) {
            return Ok(Some(number));
        }
        if !patience.lasts() {
            break;
        }
    }
    Ok(None)
}

/// Directories are renamed while st-probe cannot follow: afterwards no path is the old one,
/// and once it has looked again they are whole.
fn lost(report: &mut Report) -> Result<()> {
    let place = Kind::Ext4.place("lost")?;
    let dir = place.dir.display().to_string();
    let deep_before = place.dir.join("before").join(DEEP);
    fs::create_dir_all(&deep_before)?;
    tmpfs(&place.dir.join("before/mount"), None)?;
    let script = "st-probe --buffer-size 64 --event create,mkdir,rmdir,rename --snapshot $1 |
        st-decode | st-pathtree --watch all=$1 | st-format --output json";
    let program = Program::start(Command::new("sh").args(["-c", script, "sh", &dir]))?;
    program.wait_err("it said that it is tracing", says_tracing)?;
    let known = deep_before.join("known");
    sys::creat(&known, 0o644)?;
    let printed = |path: &Path| program.wait_out(path.as_os_str().as_encoded_bytes());
    if let Err(error) = printed(&known) {
        report
            .problems
            .push(format!("not even a path of before is known: {error:#}"));
    }

    let probe = program.member("st-probe")?;
    stop(probe)?;
    let after = place.dir.join("after");
    let flood = |number| sys::creat(&place.dir.join(format!("flood{number}")), 0o644);
    // The page that st-probe has begun to read is not overwritten: fill it first.
    (0..500).try_for_each(|number| flood(number).map(drop))?;
    fs::rename(place.dir.join("before"), &after)?;
    (500..5500).try_for_each(|number| flood(number).map(drop))?;
    nix::sys::signal::kill(probe, Signal::SIGCONT)?;

    // One file after the other, until one is known by its whole path.
    let deep = after.join(DEEP);
    let whole = make_until(&program, &deep, "file", |path| {
        program.has_out(path.as_os_str().as_encoded_bytes())
    })?;
    report.notes.push(format!("whole from file {whole:?} on"));
    // And until it is known whose doing it is. Looking at the processes takes no event.
    let own = Value::from(std::process::id());
    let is_known = |got: &Got| !got.process("pid").is_null();
    let known_again = make_until(&program, &deep, "later", |_| {
        compare::parse(&program.out(), &mut Vec::new())
            .last()
            .is_some_and(is_known)
    })?;
    report
        .notes
        .push(format!("known again from {known_again:?} on"));
    let mounted = after.join("mount/mounted");
    sys::creat(&mounted, 0o644)?;
    if let Err(error) = printed(&mounted) {
        report.problems.push(format!(
            "where the mount is was never known again: {error:#}"
        ));
    }
    program.signal_group(Signal::SIGINT)?;
    let output = program.finish()?;
    let mut problems = Vec::new();
    let got = compare::parse(&output.out, &mut problems);
    // The loss has a line of its own.
    let is_lost = |line: &&String| line.contains("\"lost\"");
    if problems.iter().filter(is_lost).count() == 0 {
        report
            .problems
            .push("nothing was lost: this tests nothing".into());
    }
    if whole.is_none() {
        report
            .problems
            .push("the path was never known again".into());
    }
    // Nobody is known until st-probe has looked again, and nobody is guessed.
    for got in got.iter().filter(|got| is_known(got)) {
        if *got.process("pid") != own || *got.process("uid") != 0 {
            let fields = Value::Object(got.fields.clone());
            report.problems.push(format!("WRONG PROCESS: {fields}"));
        }
    }
    if known_again.is_none() {
        report
            .problems
            .push("the process was never known again".into());
    }
    for got in &got {
        let path = Path::new(got.get("path").as_str().unwrap_or_default());
        let name = path.file_name().context("a name")?.to_string_lossy();
        let right = match name.as_ref() {
            "known" => path == known,
            "mounted" => path == mounted,
            name if ["file", "later"]
                .iter()
                .any(|begin| name.starts_with(begin)) =>
            {
                is_end(got, &deep.join(name))
            }
            _ => true,
        };
        if !right {
            let fields = Value::Object(got.fields.clone());
            report.problems.push(format!("WRONG PATH: {fields}"));
        }
    }
    Ok(())
}
