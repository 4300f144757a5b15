//! Processes, as proc(5) shows them.

use crate::stream::record::{ARGV, Bytes, Cgroup, Ids, Process, Thread};
use crate::stream::time::{Monotonic, Unix};
use crate::sys::clock;
use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// What the looks at processes have in common.
pub struct Machine {
    /// When it was booted.
    booted: Unix,
    /// Clock ticks a second.
    ticks: u64,
    /// The inode number of our own mount namespace.
    mnt_ns: Option<u64>,
}

impl Machine {
    /// Looks at this one.
    pub fn read() -> Result<Self> {
        let ticks = sysconf(SysconfVar::CLK_TCK).context("cannot tell the clock ticks")?;
        Ok(Self {
            booted: clock::booted()?,
            ticks: ticks.unwrap_or(100).max(1) as u64,
            mnt_ns: namespace("self", "mnt"),
        })
    }
}

/// The inode number of a process's namespace.
fn namespace(pid: impl std::fmt::Display, kind: &str) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok()?.ino())
}

/// Looks at a process, unless it is gone.
pub fn process(machine: &Machine, ts: Monotonic, pid: i32) -> Option<Process<'static>> {
    let file = |name: &str| format!("/proc/{pid}/{name}");
    let (mut ppid, mut first) = (None, false);
    let threads = fs::read_dir(file("task")).ok()?.filter_map(|task| {
        let task = task.ok()?;
        let status = Status::read(task.path().join("status"))?;
        (ppid, first) = (Some(status.ppid), first | (status.innermost == 1));
        Some(Thread {
            tid: task.file_name().to_str()?.parse().ok()?,
            comm: status.comm.into(),
            ids: Some(status.ids),
        })
    });
    let threads: Vec<_> = threads.collect();
    let stat = fs::read(file("stat")).ok();
    let ticks = stat.as_deref().and_then(started);
    let mut process = Process {
        ts,
        pid,
        ppid,
        start: ticks.map(|ticks| {
            machine.booted.after(
                Duration::from_nanos(1_000_000_000 / machine.ticks).saturating_mul(ticks as u32),
            )
        }),
        first,
        threads,
        ..Process::default()
    };
    // Whatever is the answer, the kernel records the attempt.
    let exe = fs::read_link(file("exe")).ok();
    (process.argv, process.argv_cut) = arguments(&file("cmdline"));
    // A kernel thread executes nothing, and most processes may be such.
    if exe.is_none() && process.argv.is_none() {
        return Some(process);
    }
    let ours = machine.mnt_ns.is_some() && namespace(pid, "mnt") == machine.mnt_ns;
    let exe = exe
        .filter(|_| ours)
        .map(|exe| exe.into_os_string().into_vec());
    let exe = exe.map(|exe| undeleted(exe, &file("exe")));
    let (exe, exe_deleted) =
        exe.map_or((None, false), |(exe, deleted)| (Some(exe.into()), deleted));
    let cgroups = fs::read(file("cgroup")).unwrap_or_default();
    process.pid_ns = namespace(pid, "pid");
    (process.exe, process.exe_deleted) = (exe, exe_deleted);
    process.cgroups = (cgroups.split(|&byte| byte == b'\n'))
        .filter_map(cgroup)
        .collect();
    Some(process)
}

/// The interesting part of `/proc/PID/task/TID/status`, proc_pid_status(5).
#[derive(Debug, PartialEq, Eq)]
struct Status {
    comm: Vec<u8>,
    ppid: i32,
    ids: Ids,
    /// Its id in its own pid namespace.
    innermost: i32,
}

impl Status {
    fn read(path: impl AsRef<Path>) -> Option<Self> {
        Self::parse(&fs::read(path).ok()?)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let line = |name: &[u8]| {
            let mut lines = text.split(|&byte| byte == b'\n');
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":\t"))
        };
        let numbers = |name: &[u8]| {
            let words = std::str::from_utf8(line(name)?)
                .ok()?
                .split_ascii_whitespace();
            words
                .map(|word| word.parse().ok())
                .collect::<Option<Vec<u32>>>()
        };
        let (users, groups) = (numbers(b"Uid")?, numbers(b"Gid")?);
        Some(Self {
            comm: unescaped(line(b"Name")?),
            ppid: *numbers(b"PPid")?.first()? as i32,
            ids: Ids {
                uid: *users.first()?,
                gid: *groups.first()?,
                euid: *users.get(1)?,
                egid: *groups.get(1)?,
            },
            // Without CONFIG_PID_NS there is but one.
            innermost: *numbers(b"NSpid").or(numbers(b"Pid"))?.last()? as i32,
        })
    }
}

/// A name without the escapes of newlines and backslashes (fs/proc/array.c, proc_task_name).
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut bytes = name.iter();
    let mut out = Vec::new();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(&other) => other,
                None => byte,
            },
            _ => byte,
        });
    }
    out
}

/// The path that `/proc/PID/exe` is a link to, and whether the file has been removed: then
/// d_path() adds a word to the path that could also be a part of it.
fn undeleted(path: Vec<u8>, link: &str) -> (Vec<u8>, bool) {
    let Some(name) = path.strip_suffix(b" (deleted)") else {
        return (path, false);
    };
    let file = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let whole = std::ffi::OsString::from_vec(path.clone());
    let there = fs::symlink_metadata(whole).ok().map(file);
    if there.is_some() && there == fs::metadata(link).ok().map(file) {
        return (path, false);
    }
    (name.to_vec(), true)
}

/// The arguments in `/proc/PID/cmdline`, and whether there were more.
fn arguments(path: &str) -> (Option<Vec<Bytes<'static>>>, bool) {
    let mut text = Vec::new();
    let read = File::open(path).map(|file| file.take(ARGV as u64 + 1).read_to_end(&mut text));
    if read.is_err() || text.is_empty() {
        return (None, false);
    }
    let cut = text.len() > ARGV;
    text.truncate(ARGV);
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    let words = text
        .split(|&byte| byte == 0)
        .map(|word| word.to_vec().into());
    (Some(words.collect()), cut)
}

/// The fields of `/proc/PID/stat` from the third one on, which follows the name:
/// proc_pid_stat(5).
pub fn fields(stat: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let behind = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[behind + 1..]).ok()?;
    Some(rest.split_ascii_whitespace())
}

/// When a process began, in clock ticks since the machine was booted: field 22.
pub fn started(stat: &[u8]) -> Option<u64> {
    fields(stat)?.nth(22 - 3)?.parse().ok()
}

/// Whether nothing is left of a process but its status.
pub fn has_ended(stat: &[u8]) -> bool {
    let state = fields(stat).and_then(|mut fields| fields.next());
    matches!(state, Some("Z" | "X"))
}

/// The id of a process in its own pid namespace, by the one here.
pub fn innermost_pid(pid: &str) -> Option<i32> {
    Some(Status::read(format!("/proc/{pid}/status"))?.innermost)
}

/// A line of `/proc/PID/cgroup`: the hierarchy, its controllers, the path.
fn cgroup(line: &[u8]) -> Option<Cgroup<'static>> {
    let mut parts = line.splitn(3, |&byte| byte == b':');
    let hierarchy = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let path = parts.nth(1)?.to_vec().into();
    Some(Cgroup { hierarchy, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_status() {
        let text = b"Name:\ta\\nb\\\\\nTgid:\t7\nPid:\t7\nPPid:\t1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nNSpid:\t7\t1\n";
        let ids = Ids {
            uid: 1,
            gid: 5,
            euid: 2,
            egid: 6,
        };
        let expected = Status {
            comm: b"a\nb\\".to_vec(),
            ppid: 1,
            ids,
            innermost: 1,
        };
        assert_eq!(Status::parse(text), Some(expected));
        for cut in 0..text.len() - 1 {
            let _ = Status::parse(&text[..cut]);
        }
    }

    #[test]
    fn a_name_with_parentheses_does_not_hide_when_a_process_began() {
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99";
        assert_eq!(started(stat), Some(4711));
        assert_eq!(started(b"7 (a"), None);
        assert!(!has_ended(stat));
        assert!(has_ended(b"7 (a) b) Z 1"));
    }

    #[test]
    fn a_cgroup_may_have_colons() {
        let line = cgroup(b"4:cpu,cpuacct:/a:b").unwrap();
        assert_eq!((line.hierarchy, &line.path[..]), (4, &b"/a:b"[..]));
        assert_eq!(&cgroup(b"0::/").unwrap().path[..], b"/");
        assert!(cgroup(b"").is_none());
    }
}
