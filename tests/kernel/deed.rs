//! The programs of [`crate::who`]: each becomes somebody, makes a directory, and prints who
//! /proc says that it was, as an object of the fields that `process` is to have.

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::unistd::{ForkResult, Gid, Uid, getppid, mkdir, setresgid, setresuid};
use serde_json::{Map, Value, json};
use std::ffi::{CString, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Child;
use std::thread;

use crate::files::mode;
use crate::sys;

/// The option that makes this program one of these; the deed's name, the directory and perhaps
/// a number follow.
pub const OPTION: &str = "--deed";

/// The file by which a process says who logged in, and that by which a thread does.
const LOGIN: &str = "/proc/self/loginuid";
const THREAD_LOGIN: &str = "/proc/thread-self/loginuid";
/// Who has logged in in a process that is there before anything is traced.
const BEFORE: u32 = 2345;

/// What a memfd is called.
pub const MEMFD: &str = "nameless";

/// Does a deed.
pub fn run(words: &[OsString]) -> Result<()> {
    if *words == ["wait"] {
        return wait();
    }
    if *words == ["wait-logged-in"] {
        return wait_logged_in();
    }
    let [deed, path, rest @ ..] = words else {
        bail!("a deed and a path are needed");
    };
    let path = Path::new(path);
    let number = || -> Result<u32> {
        Ok(rest
            .first()
            .context("a number")?
            .to_string_lossy()
            .parse()?)
    };
    match &*deed.to_string_lossy() {
        "make" => make(path, &[]),
        "become" => {
            become_user(number()?)?;
            make(path, &[])
        }
        "thread-becomes" => {
            let user = number()?;
            in_thread(|| {
                prctl::set_name(c"another")?;
                sys::become_user_alone(user)?;
                make(path, &[])
            })
        }
        "thread-executes" => in_thread(|| execute_again(path)),
        "log-in" => {
            log_in(LOGIN, number()?)?;
            make(path, &[])
        }
        "log-in-and-fork" => {
            log_in(LOGIN, number()?)?;
            if let ForkResult::Child = sys::fork()? {
                return make(path, &[]);
            }
            wait_for_children()
        }
        "log-in-and-execute" => {
            log_in(LOGIN, number()?)?;
            execute_again(path)
        }
        "log-in-and-become" => {
            let user = number()?;
            log_in(LOGIN, user)?;
            become_user(user)?;
            // Once set it takes a privilege to set it again. The file is the user's own.
            prctl::set_dumpable(true)?;
            if log_in(LOGIN, user + 1).is_ok() {
                bail!("a user without privileges has logged in again");
            }
            make(path, &[])
        }
        "log-in-again" => {
            let user = number()?;
            log_in(LOGIN, user)?;
            log_in(LOGIN, user + 1)?;
            make(path, &[])
        }
        "log-out" => {
            log_in(LOGIN, number()?)?;
            log_in(LOGIN, u32::MAX)?;
            make(path, &[])
        }
        "log-in-before-thread" => {
            log_in(LOGIN, number()?)?;
            in_thread(|| make(path, &[]))
        }
        "thread-logs-in" => {
            let user = number()?;
            in_thread(|| {
                log_in(THREAD_LOGIN, user)?;
                make(path, &[])
            })
        }
        "log-in-beside-thread" => {
            let user = number()?;
            in_thread(|| log_in(THREAD_LOGIN, user))?;
            make(path, &[])
        }
        "thread-logs-in-and-executes" => {
            let user = number()?;
            in_thread(|| {
                log_in(THREAD_LOGIN, user)?;
                execute_again(path)
            })
        }
        "orphan" => orphan(|| make(path, &[])),
        "adopted" => {
            prctl::set_child_subreaper(true)?;
            if let ForkResult::Child = sys::fork()? {
                return orphan(|| make(path, &[]));
            }
            wait_for_children()
        }
        "user-namespace" => {
            let user = number()?;
            become_user(user)?;
            // Or its files in /proc were root's.
            prctl::set_dumpable(true)?;
            unshare(CloneFlags::CLONE_NEWUSER)?;
            fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
            // As this namespace sees it, the user is 0.
            make(path, &[("uid", user.into()), ("gid", user.into())])
        }
        "pid-namespace" => {
            unshare(CloneFlags::CLONE_NEWPID)?;
            if let ForkResult::Child = sys::fork()? {
                // The first process there, which inherits the orphan.
                if let ForkResult::Child = sys::fork()? {
                    return orphan(|| make(path, &[]));
                }
            }
            wait_for_children()
        }
        "into-cgroup" => {
            let cgroup = fs::File::open(rest.first().context("a cgroup")?)?;
            if let ForkResult::Child = sys::fork_into_cgroup(&cgroup)? {
                return make(path, &[]);
            }
            wait_for_children()
        }
        "memfd" => {
            let program = fs::read("/proc/self/exe")?;
            let file = memfd_create(MEMFD, MFdFlags::MFD_CLOEXEC)?;
            let mut file = fs::File::from(file);
            file.write_all(&program)?;
            let words = ["memfd", OPTION, "make"].map(|word| CString::new(word).expect("no NUL"));
            let path = CString::new(path.as_os_str().as_bytes())?;
            let words = [&words[..], &[path]].concat();
            let environment: [CString; 0] = [];
            let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
            nix::unistd::execveat(&file, c"", &words, &environment, flags)?;
            Ok(())
        }
        // Its file is given to it: it is removed, or another one takes its place.
        "removed" | "replaced" => {
            let file = rest.first().context("the program")?;
            fs::remove_file(file)?;
            if deed == "replaced" {
                fs::write(file, "another")?;
            }
            make(path, &[("exe", file.to_string_lossy().into())])
        }
        deed => bail!("no such deed: {deed}"),
    }
}

/// Makes the directory, and prints who did it; `known` is what /proc does not say so.
fn make(path: &Path, known: &[(&str, Value)]) -> Result<()> {
    let mut facts = facts()?;
    facts.extend(
        known
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    mkdir(path, mode(0o755))?;
    println!("{}", Value::Object(facts));
    Ok(())
}

/// Who the thread is, as the host's /proc shows it.
fn facts() -> Result<Map<String, Value>> {
    let own = fs::read_link("/proc/thread-self")?;
    let own = own.to_string_lossy();
    let ids: Vec<&str> = own.split('/').collect();
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.with_context(|| format!("no {name} in a status"))
    };
    let number = |name: &str, at: usize| -> Result<u32> {
        let word = line(name)?.split_ascii_whitespace().nth(at);
        Ok(word.context("a number")?.parse()?)
    };
    let exe = fs::read_link("/proc/self/exe")?;
    let exe = exe.to_string_lossy().into_owned();
    let argv = fs::read("/proc/self/cmdline")?;
    let argv = String::from_utf8(argv)?;
    let argv: Vec<&str> = argv.trim_end_matches('\0').split('\0').collect();
    let cgroup = fs::read_to_string("/proc/self/cgroup")?;
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let mut facts = json!({
        "pid": ids[0].parse::<i32>()?,
        "tid": ids[2].parse::<i32>()?,
        "ppid": number("PPid:", 0)?,
        "uid": number("Uid:", 0)?,
        "gid": number("Gid:", 0)?,
        "comm": line("Name:\t")?,
        "exe": exe,
        "argv": argv,
        "cgroup": cgroup,
    });
    let facts = facts.as_object_mut().context("an object")?;
    for (name, file) in [("loginuid", "loginuid"), ("session", "sessionid")] {
        let number = fs::read_to_string(Path::new("/proc/thread-self").join(file))?;
        let number: u32 = number.trim_end().parse()?;
        // The kernel's number of nobody.
        if number != u32::MAX {
            facts.insert(name.into(), number.into());
        }
    }
    for (name, id, line) in [("euid", "uid", "Uid:"), ("egid", "gid", "Gid:")] {
        let effective = Value::from(number(line, 1)?);
        if facts[id] != effective {
            facts.insert(name.into(), effective);
        }
    }
    Ok(facts.clone())
}

/// Says who logged in, as login(1) does.
fn log_in(file: &str, user: u32) -> Result<()> {
    fs::write(file, user.to_string()).with_context(|| format!("cannot write {user} to {file}"))
}

fn become_user(user: u32) -> Result<()> {
    let (gid, uid) = (Gid::from_raw(user), Uid::from_raw(user));
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

fn in_thread(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    thread::scope(|scope| scope.spawn(work).join())
        .ok()
        .context("the thread panicked")?
}

/// Becomes this program once more, for the deed `make`.
fn execute_again(path: &Path) -> Result<()> {
    let words = ["again", OPTION, "make"].map(|word| CString::new(word).expect("no NUL"));
    let path = CString::new(path.as_os_str().as_bytes())?;
    nix::unistd::execv(c"/proc/self/exe", &[&words[..], &[path]].concat())?;
    Ok(())
}

/// Works in a process whose parent has ended.
fn orphan(work: impl FnOnce() -> Result<()>) -> Result<()> {
    let parent = nix::unistd::getpid();
    if let ForkResult::Child = sys::fork()? {
        while getppid() == parent {
            thread::yield_now();
        }
        return work();
    }
    Ok(())
}

fn wait_for_children() -> Result<()> {
    loop {
        match nix::sys::wait::wait() {
            Ok(_) => {}
            Err(nix::errno::Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits to be told a deed and a path, having become the heir of the orphans below it.
fn wait() -> Result<()> {
    prctl::set_child_subreaper(true)?;
    println!();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let words: Vec<OsString> = line.split_ascii_whitespace().map(Into::into).collect();
    if let ForkResult::Child = sys::fork()? {
        // Not this process itself: its parent is the one that is known from before.
        return run(&words);
    }
    wait_for_children()
}

/// Logs in, and waits to be told a deed and a path, which it does itself. A second thread of it has
/// logged in as somebody else.
fn wait_logged_in() -> Result<()> {
    log_in(LOGIN, BEFORE)?;
    let (ready, other) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let (go, told) = std::sync::mpsc::channel::<String>();
        let worker = scope.spawn(move || -> Result<()> {
            log_in(THREAD_LOGIN, BEFORE + 1)?;
            ready.send(())?;
            let path = told.recv()?;
            make(Path::new(&path), &[])
        });
        other.recv()?;
        println!();
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        let (deed, path) = line
            .trim_end()
            .split_once(' ')
            .context("a deed and a path")?;
        if deed == "by-thread" {
            go.send(path.to_owned())?;
        } else {
            make(Path::new(path), &[])?;
        }
        drop(go);
        match worker.join().ok().context("the thread panicked")? {
            // It was not told anything.
            Err(_) if deed != "by-thread" => Ok(()),
            result => result,
        }
    })
}

/// Waits until a process is ready to be told something.
pub fn await_ready(child: &mut Child) -> Result<()> {
    let out = child.stdout.as_mut().context("it is piped")?;
    Ok(out.read_exact(&mut [0])?)
}

/// Tells it what to do, and returns who it says did it.
pub fn tell(child: &mut Child, deed: &str, path: &Path) -> Result<Value> {
    let mut input = child.stdin.take().context("it is piped")?;
    writeln!(input, "{deed} {}", path.display())?;
    let mut facts = String::new();
    let out = child.stdout.as_mut().context("it is piped")?;
    out.read_to_string(&mut facts)?;
    child.wait()?;
    serde_json::from_str(&facts).with_context(|| format!("it printed {facts}"))
}
