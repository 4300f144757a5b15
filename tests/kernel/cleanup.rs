//! What a case must leave as it was, and what a failed case left otherwise: that is taken away, so
//! that the next case begins as if the failed one had not been.

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::fs::{Mount, is_for_all_cases, mounts, run, tmpfs};
use crate::patience::{PAUSE, Patience, wait_until};
use crate::program::{ENDING, Program, look, stop};
use crate::tracefs::{Snapshot, TRACEFS};
use crate::{Case, Report};

/// Switches that cases turn off, all of which are 1 from the boot on.
const SWITCHES: [&str; 3] = [
    "/proc/sys/kernel/ftrace_enabled",
    "/sys/kernel/debug/kprobes/enabled",
    "/sys/devices/system/cpu/cpu1/online",
];
const CGROUPS: &str = "/sys/fs/cgroup";

/// Restores something, and says what had to be restored.
type Step = fn(&Before) -> Result<Vec<String>>;

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![Case::new("cleanup", everything)]
}

/// The machine before a case.
#[derive(Debug, PartialEq, Eq)]
pub struct Before {
    tracefs: Snapshot,
    processes: BTreeSet<i32>,
    mounts: BTreeSet<(u32, PathBuf)>,
    cgroups: BTreeSet<PathBuf>,
    files: (rlim_t, rlim_t),
}

impl Before {
    /// Looks at it.
    pub fn take() -> Result<Self> {
        Ok(Self {
            tracefs: Snapshot::take()?,
            processes: processes()?,
            mounts: (mounts()?.into_iter())
                .map(|mount| (mount.id, mount.at))
                .collect(),
            cgroups: cgroups(Path::new(CGROUPS)),
            files: getrlimit(Resource::RLIMIT_NOFILE)?,
        })
    }

    /// Says what of tracefs is no longer as it was: no case may leave it otherwise.
    pub fn check(&self, problems: &mut Vec<String>) -> Result<()> {
        self.tracefs.check(problems)
    }

    /// Makes everything as it was after a case that failed, and says what it had to do.
    pub fn restore(&self) -> Vec<String> {
        let mut left = Vec::new();
        let steps: [(&str, Step); 6] = [
            ("process", Self::end_processes),
            ("switch", Self::switch_on),
            ("mount", Self::unmount),
            ("tracefs", Self::restore_tracefs),
            ("cgroup", Self::remove_cgroups),
            ("limit", Self::restore_own),
        ];
        for (what, step) in steps {
            match step(self) {
                Ok(found) => left.extend(found.iter().map(|found| format!("{what} {found}"))),
                Err(error) => left.push(format!("{what}, and still is: {error:#}")),
            }
        }
        left
    }

    fn end_processes(&self) -> Result<Vec<String>> {
        let left = || -> Result<Vec<i32>> {
            let now = processes()?;
            Ok(now.difference(&self.processes).copied().collect())
        };
        let found = left()?;
        let names = found.iter().filter_map(|&pid| look(pid));
        let names: Vec<_> = names.map(|(name, ..)| name).collect();
        // Nicely first: whoever has probes takes them down.
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            for pid in left()? {
                send(pid, signal)?;
                send(pid, Signal::SIGCONT)?;
            }
            let mut patience = Patience::of(ENDING);
            while !left()?.is_empty() && patience.lasts() {
                thread::sleep(PAUSE);
            }
        }
        let left = left()?;
        ensure!(left.is_empty(), "{left:?} do not end");
        Ok(names)
    }

    fn switch_on(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for switch in SWITCHES {
            // Without debugfs the second is not there.
            let is_off = fs::read_to_string(switch).is_ok_and(|state| state.trim() != "1");
            if is_off {
                fs::write(switch, "1").context(switch)?;
                found.push(switch.to_owned());
            }
        }
        Ok(found)
    }

    fn unmount(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let is_new = |mount: &Mount| {
            let (id, at) = (mount.id, mount.at.clone());
            !self.mounts.contains(&(id, at)) && !is_for_all_cases(&mount.at)
        };
        // Each takes away what is mounted below it, too.
        while let Some(last) = mounts()?.into_iter().rfind(is_new) {
            let at = last.at.display().to_string();
            umount2(&last.at, MntFlags::MNT_DETACH).with_context(|| at.clone())?;
            found.push(at);
        }
        if !Path::new(TRACEFS).join("kprobe_events").exists() {
            let (kind, none) = (Some("tracefs"), None::<&str>);
            mount(kind, TRACEFS, kind, MsFlags::empty(), none).context("cannot mount tracefs")?;
            found.push(format!("{TRACEFS} was not mounted"));
        }
        Ok(found)
    }

    fn restore_tracefs(&self) -> Result<Vec<String>> {
        // That has been told already.
        self.tracefs.restore()?;
        Ok(Vec::new())
    }

    fn remove_cgroups(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        // The deeper ones come last.
        for dir in cgroups(Path::new(CGROUPS)).into_iter().rev() {
            if self.cgroups.contains(&dir) {
                continue;
            }
            wait_until(
                || format!("{} is busy", dir.display()),
                || match fs::remove_dir(&dir) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
                    result => {
                        result.with_context(|| dir.display().to_string())?;
                        Ok(true)
                    }
                },
            )?;
            found.push(dir.display().to_string());
        }
        Ok(found)
    }

    fn restore_own(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if getrlimit(Resource::RLIMIT_NOFILE)? != self.files {
            setrlimit(Resource::RLIMIT_NOFILE, self.files.0, self.files.1)?;
            found.push("of open files".to_owned());
        }
        env::set_current_dir("/")?;
        Ok(found)
    }
}

/// Sends a signal to a process that may have ended.
fn send(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context(format!("cannot signal process {pid}")),
    }
}

/// The processes that have not ended; none of the kernel's own.
fn processes() -> Result<BTreeSet<i32>> {
    /// kthreadd, the parent of the kernel's own.
    const KERNEL: i32 = 2;
    let mut processes = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some((_, parent, _)) = look(pid) {
            if pid != KERNEL && parent != KERNEL {
                processes.insert(pid);
            }
        }
    }
    Ok(processes)
}

/// All below one, each before those below it.
fn cgroups(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    // One that goes meanwhile is none; nor is anything without control groups.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(cgroups(&entry.path()));
            found.insert(entry.path());
        }
    }
    found
}

/// All that can be left is told and taken away.
fn everything(report: &mut Report) -> Result<()> {
    let before = Before::take()?;
    let (tracefs, debugfs) = (Path::new(TRACEFS), Path::new("/sys/kernel/debug"));
    run(Command::new("mount")
        .args(["-t", "debugfs", "debugfs"])
        .arg(debugfs))?;
    tmpfs(Path::new("/mnt/left"), None)?;
    tmpfs(Path::new("/mnt/left/below"), None)?;
    let cgroup = Path::new(CGROUPS).join("left/below");
    fs::create_dir_all(&cgroup)?;
    // It has a file of the instance open, and is in the control group.
    let script = "echo $$ >$1/cgroup.procs; exec 3<$2/instances/left/trace_pipe
        sleep 1000 & echo; wait";
    fs::create_dir(tracefs.join("instances/left"))?;
    let probes = ["p:left/one vfs_unlink", "r:left/two vfs_unlink"];
    fs::write(tracefs.join("kprobe_events"), probes.join("\n"))?;
    for path in [
        "events/left/one/enable",
        "instances/left/events/left/two/enable",
    ] {
        fs::write(tracefs.join(path), "1")?;
    }
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", script, "sh"]).arg(&cgroup).arg(tracefs);
    let shell = Program::start(shell)?;
    shell.wait_out(b"\n")?;
    stop(shell.group())?;
    for switch in SWITCHES {
        // Some kernels have no choice.
        let _ = fs::write(switch, "0");
    }
    let (name, others) = ("trace_clock", "mono");
    fs::write(tracefs.join(name), others)?;
    setrlimit(Resource::RLIMIT_NOFILE, before.files.0 / 2, before.files.1)?;

    let mut said = Vec::new();
    before.check(&mut said)?;
    said.extend(before.restore());
    let said = said.join("\n");
    for what in [
        "left/one",
        "left/two",
        "instances",
        name,
        "process sh",
        "process sleep",
        "switch /sys/devices/system/cpu/cpu1/online",
        "mount /mnt/left/below",
        "mount /mnt/left",
        "mount /sys/kernel/debug",
        "cgroup /sys/fs/cgroup/left",
        "limit of open files",
    ] {
        if !said.contains(what) {
            report.problems.push(format!("{what} is not in: {said}"));
        }
    }
    let after = Before::take()?;
    if after != before {
        report.problems.push(format!(
            "{before:?}\nis now: {after:?}\nit was said: {said}"
        ));
    }
    Ok(())
}
