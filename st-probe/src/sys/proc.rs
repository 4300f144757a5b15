//! Files of proc(5), below an injected root.

use crate::stream::record::Ids;
use anyhow::{Context, Result};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A proc file system.
#[derive(Debug, Clone)]
pub struct Proc {
    root: PathBuf,
}

/// The one of this machine.
impl Default for Proc {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Proc {
    /// The one that is mounted at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The ids of all processes that can be seen, in the order in which the kernel lists them.
    pub fn pids(&self) -> Result<Vec<i32>> {
        numbers(&self.root).with_context(|| format!("cannot list {}", self.root.display()))
    }

    /// The files of a process.
    pub fn process(&self, pid: i32) -> ProcPid {
        ProcPid {
            folder: self.root.join(pid.to_string()),
        }
    }

    /// The files of this process.
    pub fn this(&self) -> ProcPid {
        ProcPid {
            folder: self.root.join("self"),
        }
    }

    /// The file of a setting, such as `kernel/ftrace_enabled`: proc_sys(5).
    pub fn sysctl(&self, name: &str) -> PathBuf {
        self.root.join("sys").join(name)
    }
}

/// The folder `/proc/PID` of a process, which may go away at any time.
#[derive(Debug, Clone)]
pub struct ProcPid {
    folder: PathBuf,
}

impl ProcPid {
    /// The full path of a file.
    pub fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.folder.join(file)
    }

    /// proc_pid_stat(5).
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(Stat {
            text: fs::read(self.path("stat"))?,
        })
    }

    /// proc_pid_status(5); `None` if the process is gone.
    pub fn status(&self) -> Option<Status> {
        Status::parse(&fs::read(self.path("status")).ok()?)
    }

    /// The ids of the threads.
    pub fn tids(&self) -> io::Result<Vec<i32>> {
        numbers(&self.path("task"))
    }

    /// proc_pid_status(5) of a thread; `None` if the thread is gone.
    pub fn thread_status(&self, tid: i32) -> Option<Status> {
        Status::parse(&fs::read(self.path(format!("task/{tid}/status"))).ok()?)
    }

    /// The number in a file of a thread that holds one: its `loginuid` or its `sessionid`. `None`
    /// if the thread is gone, or the kernel does not keep it (fs/proc/base.c, CONFIG_AUDIT).
    pub fn thread_number(&self, tid: i32, file: &str) -> Option<u32> {
        let text = fs::read_to_string(self.path(format!("task/{tid}/{file}"))).ok()?;
        text.trim_end().parse().ok()
    }

    /// The open descriptors.
    pub fn descriptors(&self) -> io::Result<Vec<i32>> {
        numbers(&self.path("fd"))
    }

    /// proc_pid_mountinfo(5): the mount table of the mount namespace.
    pub fn mountinfo(&self) -> io::Result<Vec<u8>> {
        fs::read(self.path("mountinfo"))
    }

    /// Whether it has, or may have, another root than its mount namespace: chroot(2).
    pub fn is_chrooted(&self) -> bool {
        let root = fs::read_link(self.path("root"));
        root.map_or(true, |root| root != Path::new("/"))
    }

    /// The inode number of the mount namespace.
    pub fn mnt_ns(&self) -> io::Result<u64> {
        self.namespace("mnt")
    }

    /// The inode number of the pid namespace.
    pub fn pid_ns(&self) -> io::Result<u64> {
        self.namespace("pid")
    }

    /// The inode number of the user namespace.
    pub fn user_ns(&self) -> io::Result<u64> {
        self.namespace("user")
    }

    /// The inode number of a namespace: `/proc/PID/ns/KIND` is a link to `KIND:[NUMBER]`,
    /// namespaces(7).
    fn namespace(&self, kind: &str) -> io::Result<u64> {
        let link = fs::read_link(self.path("ns").join(kind))?;
        let number = link.to_str().and_then(|link| {
            let number = link.strip_prefix(kind)?.strip_prefix(":[")?;
            number.strip_suffix(']')?.parse().ok()
        });
        number.ok_or(io::ErrorKind::InvalidData.into())
    }
}

/// The names in a folder that are numbers.
fn numbers(folder: &Path) -> io::Result<Vec<i32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(numbers)
}

/// `/proc/PID/stat`, proc_pid_stat(5).
#[derive(Debug, Clone)]
pub struct Stat {
    text: Vec<u8>,
}

impl Stat {
    /// When the process began, in clock ticks since the machine was booted.
    pub fn start(&self) -> Option<u64> {
        self.field(22)?.parse().ok()
    }

    /// Whether the process has ended, and only its exit status is left for its parent.
    pub fn has_ended(&self) -> bool {
        matches!(self.field(3), Some("Z" | "X"))
    }

    /// The addresses of the arguments in the memory of the process.
    pub fn arguments(&self) -> Option<Range<usize>> {
        let (start, end) = (self.field(48)?, self.field(49)?);
        Some(start.parse().ok()?..end.parse().ok()?)
    }

    /// A field by its number in the man page, from 3 on: the second one is the name, which may
    /// hold spaces and parentheses.
    fn field(&self, number: usize) -> Option<&str> {
        let name_end = self.text.iter().rposition(|&byte| byte == b')')?;
        let fields = std::str::from_utf8(&self.text[name_end + 1..]).ok()?;
        fields.split_ascii_whitespace().nth(number - 3)
    }
}

/// The part of `/proc/PID/status` or `/proc/PID/task/TID/status` that is of interest,
/// proc_pid_status(5).
#[derive(Debug, PartialEq, Eq)]
pub struct Status {
    /// The name of the thread.
    pub comm: Vec<u8>,
    /// The id of the parent process; 0 if there is none.
    pub ppid: i32,
    /// Users and groups.
    pub ids: Ids,
    /// The thread's id in the innermost pid namespace that it is in.
    pub innermost: i32,
}

impl Status {
    fn parse(text: &[u8]) -> Option<Self> {
        let (users, groups) = (numbers_of(text, b"Uid")?, numbers_of(text, b"Gid")?);
        // A kernel without CONFIG_PID_NS has one pid namespace, and no line for the others.
        let pids = numbers_of(text, b"NSpid").or(numbers_of(text, b"Pid"))?;
        Some(Self {
            comm: unescaped(line(text, b"Name")?),
            ppid: *numbers_of(text, b"PPid")?.first()? as i32,
            ids: Ids {
                uid: *users.first()?,
                gid: *groups.first()?,
                euid: *users.get(1)?,
                egid: *groups.get(1)?,
            },
            innermost: *pids.last()? as i32,
        })
    }
}

/// What follows a name in a status.
fn line<'a>(status: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = status.split(|&byte| byte == b'\n');
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":\t"))
}

/// The numbers that follow a name in a status.
fn numbers_of(status: &[u8], name: &[u8]) -> Option<Vec<u32>> {
    let words = std::str::from_utf8(line(status, name)?).ok()?;
    let numbers = words.split_ascii_whitespace().map(|word| word.parse().ok());
    numbers.collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use std::os::unix::fs::MetadataExt;

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
        let without_namespaces = text.strip_suffix(b"NSpid:\t7\t1\n").unwrap();
        assert_eq!(Status::parse(without_namespaces).unwrap().innermost, 7);
    }

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_fields_behind_it() {
        let stat = |text: &[u8]| Stat {
            text: text.to_vec(),
        };
        let running = stat(b"7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99");
        assert_eq!(running.start(), Some(4711));
        assert!(!running.has_ended());
        assert_eq!(running.arguments(), None);
        assert_eq!(stat(b"7 (a").start(), None);
        assert_eq!(stat(b"").start(), None);
        assert!(stat(b"7 (a) b) Z 1").has_ended());
    }

    #[test]
    fn knows_where_the_arguments_are() {
        let stat = Proc::default().this().stat().unwrap();
        let arguments = stat.arguments().unwrap();
        let words = fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(arguments.len(), words.len());
    }

    #[test]
    fn lists_processes_only() {
        let folder = Folder::new();
        for name in ["1", "70", "self", "sys", "70x", "4294967296"] {
            folder.directory(name);
        }
        let proc = Proc::at(folder.path(""));
        let mut pids = proc.pids().unwrap();
        pids.sort();
        assert_eq!(pids, [1, 70]);
        let error = Proc::at(folder.path("none")).pids().unwrap_err();
        assert!(error.to_string().starts_with("cannot list "), "{error}");
    }

    #[test]
    fn a_namespace_is_an_inode_number() {
        let this = Proc::default().this();
        let ns = fs::metadata("/proc/self/ns/mnt").unwrap();
        assert_eq!(this.mnt_ns().unwrap(), ns.ino());
        let folder = Folder::new();
        folder.link("7/ns/mnt", "mnt:[4026531841]");
        folder.link("7/ns/pid", "mnt:[4026531836]");
        let process = Proc::at(folder.path("")).process(7);
        assert_eq!(process.mnt_ns().unwrap(), 4_026_531_841);
        let error = process.pid_ns().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = Proc::at(folder.path("")).process(8).mnt_ns().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
