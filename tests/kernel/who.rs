//! Who did it, told right however it became who it is: what `process` says of an event is
//! compared with what /proc showed the one who did it, at that moment.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::compare::{self, Got};
use crate::deed::{MEMFD, OPTION};
use crate::files::errno;
use crate::fs::{Kind, Place};
use crate::log::{Expected, Log};
use crate::patience::wait_until;
use crate::program::Program;
use crate::trace::{Trace, below, one, watch};
use crate::{Case, Report};

/// A user who is not root.
const USER: u32 = 1234;
/// How many short-lived processes there are, unless SYSTRACER_PROCESSES says.
const SHORT_LIVED: u32 = 200;
/// A container's id.
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// How many directories somebody else makes.
const OTHERS: u32 = 100;
const CGROUPS: &str = "/sys/fs/cgroup";

impl Expected {
    /// Expects it of the thread that these facts are about.
    fn done_by(&mut self, facts: &Value) -> Result<()> {
        let number = |name: &str| facts[name].as_i64().map(|number| number as i32);
        self.pid = number("pid");
        self.tid = number("tid").context("a thread")?;
        self.comm = facts["comm"].as_str().map(str::to_owned);
        self.who = facts.as_object().context("an object")?.clone();
        Ok(())
    }
}

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("who/deeds", deeds),
        Case::new("who/short-lived", short_lived),
        Case::new("who/before", before),
        Case::new("who/cgroup", cgroup),
        Case::new("who/events", events),
        Case::new("who/command", command),
    ]
}

/// Root, another user, a thread that is another one, a thread that executes, an orphan, one that
/// was adopted, one in namespaces of its own, and programs that are not plain files.
fn deeds(report: &mut Report) -> Result<()> {
    let number = USER.to_string();
    let deeds: [(Option<u32>, &[&str]); 8] = [
        (None, &["make"]),
        (Some(USER), &["make"]),
        (None, &["thread-becomes", &number]),
        (None, &["thread-executes"]),
        (None, &["orphan"]),
        (None, &["adopted"]),
        (None, &["user-namespace", &number]),
        (None, &["pid-namespace"]),
    ];
    traced(report, "deeds", |log, _| {
        for (user, words) in deeds {
            deed(log, Path::new("kernel-tests"), words, user).context(words[0].to_owned())?;
        }
        setuid(log)?;
        script(log)?;
        memfd(log)?;
        executable_gone(log)
    })
}

/// Traces what one thread does in a directory that anybody may write to.
pub fn traced(
    report: &mut Report,
    name: &str,
    work: impl FnOnce(&mut Log, &Trace) -> Result<()>,
) -> Result<()> {
    let place = place(name)?;
    one(report, &place, below([&place.dir]), work)
}

/// A directory that anybody may write to.
pub fn place(name: &str) -> Result<Place> {
    let place = Kind::Tmpfs.place(&format!("who-{name}"))?;
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o1777))?;
    Ok(place)
}

/// A copy of this program in a directory.
fn copy(dir: &Path, name: &str) -> Result<PathBuf> {
    let program = dir.join(name);
    fs::copy(std::env::current_exe()?, &program)?;
    Ok(program)
}

/// Has a deed done: its name and what it is to be told; expects its event, by whom it says.
pub fn deed(log: &mut Log, program: &Path, words: &[&str], user: Option<u32>) -> Result<Value> {
    let mut command = Command::new(program);
    let path = log.path(format!("{}-{}", words[0], log.expected.len()));
    command
        .args([OPTION, words[0]])
        .arg(&path)
        .args(&words[1..]);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    expect(log, &path, command)
}

/// Runs a program that makes a directory and prints who it is.
fn expect(log: &mut Log, path: &Path, mut command: Command) -> Result<Value> {
    let (output, span) = log.run(|| errno(command.stderr(Stdio::inherit()).output()))?;
    let facts: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{command:?} printed {:?}", output.stdout))?;
    log.expect_made(span, "mkdir", path)?.done_by(&facts)?;
    Ok(facts)
}

/// Processes that execute, become somebody, do one thing and are gone.
fn short_lived(report: &mut Report) -> Result<()> {
    let count = match std::env::var("SYSTRACER_PROCESSES") {
        Ok(count) => count.parse().context("SYSTRACER_PROCESSES is no number")?,
        Err(_) => SHORT_LIVED,
    };
    let own = std::process::id();
    traced(report, "short-lived", |log, _| {
        for number in 0..count {
            let user = (10_000 + number).to_string();
            let facts = deed(log, Path::new("kernel-tests"), &["become", &user], None)?;
            anyhow::ensure!(
                facts["ppid"] == own && facts["uid"] == 10_000 + number,
                "{facts}"
            );
        }
        Ok(())
    })
}

/// A program that is root whoever starts it.
fn setuid(log: &mut Log) -> Result<()> {
    let program = copy(Path::new("/var/tmp"), "who-setuid")?;
    chown(&program, Some(0), Some(0))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755))?;
    let facts = deed(log, &program, &["make"], Some(USER))?;
    anyhow::ensure!(facts["uid"] == USER && facts["euid"] == 0, "{facts}");
    Ok(fs::remove_file(&program)?)
}

/// A script is executed by its interpreter.
fn script(log: &mut Log) -> Result<()> {
    let program = Path::new("/var/tmp/who-script");
    fs::write(program, "#!/bin/sh -e\n: >\"$1\"\n")?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    let path = log.path("file");
    let mut command = Command::new(program);
    command.arg(&path);
    let ((), span) = log.run(|| errno(command.status()).map(drop))?;
    let shell = fs::canonicalize("/bin/sh")?;
    let expected = log.expect_made(span, "create", &path)?;
    (expected.pid, expected.tid) = (None, 0);
    expected.comm = Some("who-script".to_owned());
    let words = [
        "/bin/sh",
        "-e",
        "/var/tmp/who-script",
        &path.to_string_lossy(),
    ];
    expected.who.insert("argv".into(), words.as_slice().into());
    expected
        .who
        .insert("exe".into(), shell.to_string_lossy().into());
    Ok(fs::remove_file(program)?)
}

/// A program that never had a name.
fn memfd(log: &mut Log) -> Result<()> {
    let facts = deed(log, Path::new("kernel-tests"), &["memfd"], None)?;
    let exe = facts["exe"].as_str().unwrap_or_default();
    anyhow::ensure!(exe == format!("/memfd:{MEMFD} (deleted)"), "{facts}");
    let who = &mut log.expected.last_mut().context("an event")?.who;
    who.insert("exe".into(), format!("memfd:{MEMFD}").into());
    who.insert("exe_status".into(), "deleted".into());
    Ok(())
}

/// What executes keeps the name that it was executed by.
fn executable_gone(log: &mut Log) -> Result<()> {
    for how in ["removed", "replaced"] {
        let program = copy(Path::new("/var/tmp"), how)?;
        let file = program.to_string_lossy();
        deed(log, &program, &[how, &file], None)?;
    }
    Ok(fs::remove_file("/var/tmp/replaced")?)
}

/// Processes that are there before anything is traced: one whose program is removed by then,
/// one that inherits the orphans below it.
fn before(report: &mut Report) -> Result<()> {
    let place = place("before")?;
    let program = copy(Path::new("/var/tmp"), "who (deleted)")?;
    let removed = waiting(&program, "wait")?;
    let adopting = waiting(Path::new("kernel-tests"), "wait")?;
    fs::remove_file(&program)?;
    one(report, &place, below([&place.dir]), |log, _| {
        for (mut child, words) in [(removed, "make"), (adopting, "orphan")] {
            let who = &mut told(log, &mut child, words)?.who;
            if words == "make" {
                who.insert("exe".into(), program.to_string_lossy().into());
                who.insert("exe_status".into(), "deleted".into());
            }
        }
        Ok(())
    })
}

/// Tells a process that waits for it what to do; expects its event, by whom it says.
pub fn told<'a>(log: &'a mut Log, child: &mut Child, deed: &str) -> Result<&'a mut Expected> {
    let path = log.path(format!("{deed}-{}", log.expected.len()));
    let mut facts = None;
    let ((), span) = log.run(|| {
        facts = Some(crate::deed::tell(child, deed, &path));
        Ok(())
    })?;
    let facts = facts.context("it was told")??;
    let expected = log.expect_made(span, "mkdir", &path)?;
    expected.done_by(&facts)?;
    Ok(expected)
}

/// A process that waits to be told something.
pub fn waiting(program: &Path, deed: &str) -> Result<Child> {
    let mut command = Command::new(program);
    command.args([OPTION, deed]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    crate::deed::await_ready(&mut child)?;
    Ok(child)
}

/// Into a cgroup that is a container's, by being moved there and by beginning there.
fn cgroup(report: &mut Report) -> Result<()> {
    let cgroup = Path::new(CGROUPS).join(format!("who/docker-{ID}.scope"));
    fs::create_dir_all(&cgroup)?;
    let result = traced(report, "cgroup", |log, _| {
        let mut command = Command::new("sh");
        let path = log.path("moved");
        let move_there = format!("echo $$ >{}/cgroup.procs", cgroup.display());
        command.args(["-c", &format!("{move_there} && exec \"$@\"")]);
        command
            .args(["sh", "kernel-tests", OPTION, "make"])
            .arg(&path);
        expect(log, &path, command)?;
        deed(
            log,
            Path::new("kernel-tests"),
            &["into-cgroup", &cgroup.to_string_lossy()],
            None,
        )?;
        for expected in &mut log.expected {
            let there = Value::from(format!("/who/docker-{ID}.scope"));
            anyhow::ensure!(expected.who["cgroup"] == there, "{:?}", expected.who);
            expected.who.insert("container".into(), ID.into());
        }
        Ok(())
    });
    fs::remove_dir(&cgroup)?;
    fs::remove_dir(Path::new(CGROUPS).join("who"))?;
    result
}

/// exec and exit, as events of their own.
fn events(report: &mut Report) -> Result<()> {
    let trace = Trace::start(["--json", "--exec", "--exit"])?;
    let mut expected = Vec::new();
    for (script, end, value) in [
        ("exit 0", "status", 0),
        ("exit 3", "status", 3),
        ("kill -9 $$", "signal", 9),
        ("kill -6 $$", "signal", 6),
    ] {
        let mut child = Command::new("sh").args(["-c", script]).spawn()?;
        child.wait()?;
        expected.push((child.id(), script, end, value));
    }
    let got = trace.events(&mut report.problems)?;
    let shell = fs::canonicalize("/bin/sh")?;
    for (pid, script, end, value) in expected {
        let own: Vec<&Got> = got
            .iter()
            .filter(|got| *got.process("pid") == pid)
            .collect();
        let kinds: Vec<_> = own.iter().map(|got| got.get("event")).collect();
        if kinds != ["exec", "exit"] {
            report.problems.push(format!("{script}: {kinds:?}"));
            continue;
        }
        let (exec, exit) = (own[0], own[1]);
        let argv = serde_json::json!(["sh", "-c", script]);
        let told = [
            (exec.get("path"), Value::from(shell.to_string_lossy())),
            (exec.get("path_status"), "complete".into()),
            (exec.process("argv"), argv),
            (exec.process("uid"), 0.into()),
            (exit.get(end), value.into()),
        ];
        for (got, expected) in told {
            if *got != expected {
                report
                    .problems
                    .push(format!("{script}: expected {expected}, got {got}"));
            }
        }
    }
    report.notes.push(compare::count(&got));
    Ok(())
}

/// With a command, what that and its descendants do is shown, and nobody else's doings.
fn command(report: &mut Report) -> Result<()> {
    let place = place("command")?;
    let path = |name: &str| place.dir.join(name).to_string_lossy().into_owned();
    // What it leaves behind does something when it has ended already, but not systracer.
    let script = format!(
        "mkdir {}; (kernel-tests {OPTION} orphan {} >/dev/null &)
        until [ -d {} ] && [ -d {} ]; do sleep 0.05; done; mkdir {}",
        path("own"),
        path("orphan"),
        path("orphan"),
        path(&format!("other-{}", OTHERS - 1)),
        path("done"),
    );
    let mut systracer = Command::new("systracer");
    systracer
        .args(["--json", "--all"])
        .args(watch("mkdir", &place.dir))
        .args(["--", "sh", "-c", &script]);
    let systracer = Program::start(&mut systracer)?;
    // Somebody else works meanwhile.
    wait_until(
        || format!("the command does not work: {}", systracer.err()),
        || Ok(place.dir.join("own").exists()),
    )?;
    for number in 0..OTHERS {
        fs::create_dir(place.dir.join(format!("other-{number}")))?;
    }
    let output = systracer.finish()?;
    let got = compare::parse(&output.out, &mut report.problems);
    let names: Vec<_> = got
        .iter()
        .map(|got| got.get("path").as_str().unwrap_or("?"))
        .collect();
    let expected = ["own", "orphan", "done"].map(path);
    if names != expected || !output.status.success() {
        report
            .problems
            .push(format!("{}: {names:?}", output.status));
    }
    Ok(())
}
