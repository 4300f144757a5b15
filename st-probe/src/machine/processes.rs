//! Reads processes: what proc(5) tells of each.

use crate::stream::record::{ARGV, AUDIT_UNSET, Bytes, Cgroup, Process, Thread};
use crate::stream::time::{Monotonic, Unix};
use crate::sys::proc::{Proc, ProcPid};
use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// What the kernel appends to the path of a file that has been removed: fs/d_path.c, d_path.
const DELETED: &[u8] = b" (deleted)";

/// Reads one process after the other.
pub struct ProcessReader {
    proc: Proc,
    /// When the machine was booted.
    booted: Unix,
    /// The unit in which the kernel tells when a process began.
    tick: Duration,
    /// Whether users and groups have the numbers of the initial user namespace.
    knows_ids: bool,
    /// The inode number of our own mount namespace.
    mnt_ns: Option<u64>,
}

impl ProcessReader {
    /// Reads the processes of `proc`, on a machine that was booted at this instant. Their users and
    /// groups are read if `knows_ids`: /proc numbers them as the user namespace of its reader does.
    pub fn open(proc: Proc, booted: Unix, knows_ids: bool) -> Result<Self> {
        let ticks = sysconf(SysconfVar::CLK_TCK).context("cannot read the clock ticks a second")?;
        let ticks = ticks.unwrap_or(100).max(1) as u64;
        Ok(Self {
            booted,
            knows_ids,
            tick: Duration::from_nanos(1_000_000_000 / ticks),
            mnt_ns: proc.this().mnt_ns().ok(),
            proc,
        })
    }

    /// Reads a process; `None` if it is gone. `ts` is an instant just before.
    pub fn read(&self, ts: Monotonic, pid: i32) -> Option<Process<'static>> {
        let folder = self.proc.process(pid);
        let mut process = Process {
            ts,
            pid,
            ..Process::default()
        };
        for tid in folder.tids().ok()? {
            let Some(status) = folder.thread_status(tid) else {
                continue;
            };
            process.ppid = Some(status.ppid);
            process.first |= status.innermost == 1;
            process.threads.push(Thread {
                tid,
                comm: status.comm.into(),
                ids: self.knows_ids.then_some(status.ids),
                loginuid: None,
                session: None,
            });
        }
        let start = folder.stat().ok().and_then(|stat| stat.start());
        process.start = start.map(|ticks| self.instant(ticks));
        // To read this link lets the kernel leave a record of the process, even if it has no
        // executable or the kernel refuses.
        let exe = fs::read_link(folder.path("exe")).ok();
        (process.argv, process.argv_cut) = arguments(&folder.path("cmdline"));
        // It is a kernel thread: it executes no file. Most processes may be such, so no more of
        // their files are read.
        if exe.is_none() && process.argv.is_none() {
            return Some(process);
        }
        for thread in &mut process.threads {
            let number = |file| folder.thread_number(thread.tid, file);
            let set = |number: Option<u32>| number.filter(|&number| number != AUDIT_UNSET);
            thread.loginuid = set(number("loginuid")).filter(|_| self.knows_ids);
            thread.session = set(number("sessionid"));
        }
        let is_ours = self.mnt_ns.is_some() && folder.mnt_ns().ok() == self.mnt_ns;
        if let (Some(exe), true) = (exe, is_ours) {
            let (path, deleted) = undeleted(exe.into_os_string().into_vec(), &folder);
            (process.exe, process.exe_deleted) = (Some(path.into()), deleted);
        }
        let cgroups = fs::read(folder.path("cgroup")).unwrap_or_default();
        let lines = cgroups.split(|&byte| byte == b'\n');
        process.cgroups = lines.filter_map(cgroup).collect();
        process.pid_ns = folder.pid_ns().ok();
        Some(process)
    }

    /// The instant so many clock ticks after the machine was booted.
    fn instant(&self, ticks: u64) -> Unix {
        let nanos = (self.tick.as_nanos() as u64).saturating_mul(ticks);
        self.booted.after(Duration::from_nanos(nanos))
    }
}

/// The path that the link `exe` of a process leads to, and whether the file has been removed: the
/// word that d_path() then appends to the path could also be a part of it.
fn undeleted(path: Vec<u8>, folder: &ProcPid) -> (Vec<u8>, bool) {
    let Some(name) = path.strip_suffix(DELETED) else {
        return (path, false);
    };
    let exe = fs::metadata(folder.path("exe")).ok();
    let there = fs::symlink_metadata(OsString::from_vec(path.clone())).ok();
    if let (Some(exe), Some(there)) = (exe, there) {
        if (exe.dev(), exe.ino()) == (there.dev(), there.ino()) {
            return (path, false);
        }
    }
    (name.to_vec(), true)
}

/// The arguments in `/proc/PID/cmdline`, and whether there were more than [`ARGV`] bytes.
fn arguments(path: &Path) -> (Option<Vec<Bytes<'static>>>, bool) {
    let mut text = Vec::new();
    let read = File::open(path).map(|file| file.take(ARGV as u64 + 1).read_to_end(&mut text));
    if read.is_err() || text.is_empty() {
        return (None, false);
    }
    let cut = text.len() > ARGV;
    text.truncate(ARGV);
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    let words = text.split(|&byte| byte == 0);
    let words = words.map(|word| word.to_vec().into());
    (Some(words.collect()), cut)
}

/// A line of `/proc/PID/cgroup`, cgroups(7): the hierarchy, its controllers, the path.
fn cgroup(line: &[u8]) -> Option<Cgroup<'static>> {
    let mut parts = line.splitn(3, |&byte| byte == b':');
    let hierarchy = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let path = parts.nth(1)?.to_vec().into();
    Some(Cgroup { hierarchy, path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::record::Ids;
    use crate::testing::Folder;

    const BOOTED: Unix = Unix(1_000_000_000_000_000_000);
    const MNT_NS: &str = "mnt:[4026531841]";

    /// A /proc of this process alone.
    fn folder() -> Folder {
        let folder = Folder::new();
        folder.link("self/ns/mnt", MNT_NS);
        folder
    }

    fn status(folder: &Folder, pid: i32, tid: i32, comm: &str, nspid: &str) {
        let text = format!(
            "Name:\t{comm}\nPid:\t{tid}\nPPid:\t3\nUid:\t1\t2\t1\t1\nGid:\t4\t5\t4\t4\nNSpid:\t{nspid}\n"
        );
        folder.write(format!("{pid}/task/{tid}/status"), text);
    }

    /// Process 7, which has begun 250 ticks after the machine was booted.
    fn process(folder: &Folder) {
        status(folder, 7, 7, "main", "7\t1");
        let stat = "7 (main) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 250 99";
        folder.write("7/stat", stat);
        folder.write("7/cmdline", "/bin/main\0\0x y\0");
        folder.link("7/exe", "/bin/main");
        folder.link("7/ns/mnt", MNT_NS);
        folder.link("7/ns/pid", "pid:[4026531836]");
        folder.write("7/cgroup", "4:cpu,cpuacct:/a:b\n0::/\n");
    }

    fn read(folder: &Folder) -> Option<Process<'static>> {
        let reader = ProcessReader::open(Proc::at(folder.path("")), BOOTED, true).unwrap();
        reader.read(Monotonic(5), 7)
    }

    #[test]
    fn reads_a_process_and_its_threads() {
        let folder = folder();
        process(&folder);
        status(&folder, 7, 8, "worker", "8\t2");
        for (tid, loginuid, session) in [(7, "1000", "3"), (8, "4294967295", "4294967295")] {
            folder.write(format!("7/task/{tid}/loginuid"), loginuid);
            folder.write(format!("7/task/{tid}/sessionid"), session);
        }
        let mut process = read(&folder).unwrap();
        assert_eq!((process.ts, process.pid), (Monotonic(5), 7));
        assert_eq!((process.ppid, process.first), (Some(3), true));
        let start = BOOTED.after(Duration::from_millis(2500));
        assert_eq!(process.start, Some(start));
        assert_eq!(process.exe.as_deref(), Some(&b"/bin/main"[..]));
        assert!(!process.exe_deleted);
        let argv = process.argv.unwrap();
        let argv: Vec<_> = argv.iter().map(|word| &word[..]).collect();
        assert_eq!(argv, [&b"/bin/main"[..], b"", b"x y"]);
        assert!(!process.argv_cut);
        assert_eq!(process.pid_ns, Some(4_026_531_836));
        let cgroups = process.cgroups.iter();
        let cgroups: Vec<_> = cgroups
            .map(|group| (group.hierarchy, &group.path[..]))
            .collect();
        assert_eq!(cgroups, [(4, &b"/a:b"[..]), (0, b"/")]);
        process.threads.sort_by_key(|thread| thread.tid);
        let threads = process.threads.iter();
        let threads: Vec<_> = threads
            .map(|thread| (thread.tid, &thread.comm[..]))
            .collect();
        assert_eq!(threads, [(7, &b"main"[..]), (8, b"worker")]);
        let ids = Ids {
            uid: 1,
            gid: 4,
            euid: 2,
            egid: 5,
        };
        assert_eq!(process.threads[0].ids, Some(ids));
        let logins = process.threads.iter();
        let logins: Vec<_> = logins
            .map(|thread| (thread.loginuid, thread.session))
            .collect();
        assert_eq!(logins, [(Some(1000), Some(3)), (None, None)]);
    }

    #[test]
    fn a_process_that_is_gone_is_not_told() {
        assert!(read(&folder()).is_none());
    }

    #[test]
    fn a_process_that_goes_meanwhile_is_told_as_far_as_it_was_read() {
        let folder = folder();
        folder.directory("7/task/7");
        let process = read(&folder).unwrap();
        assert_eq!((process.ppid, process.start), (None, None));
        assert!(process.threads.is_empty() && process.argv.is_none());
    }

    #[test]
    fn a_kernel_thread_has_neither_arguments_nor_a_file() {
        let folder = folder();
        process(&folder);
        folder.remove("7/exe");
        folder.write("7/cmdline", "");
        let process = read(&folder).unwrap();
        assert!(process.exe.is_none() && process.argv.is_none());
        assert!(process.cgroups.is_empty() && process.pid_ns.is_none());
        assert_eq!(process.threads.len(), 1);
    }

    #[test]
    fn the_file_of_another_mount_namespace_has_no_path_here() {
        let folder = folder();
        process(&folder);
        folder.remove("7/ns/mnt");
        folder.link("7/ns/mnt", "mnt:[4026532999]");
        let process = read(&folder).unwrap();
        assert!(process.exe.is_none() && !process.exe_deleted);
        assert!(process.argv.is_some());
    }

    #[test]
    fn a_removed_file_is_told_from_one_that_is_called_so() {
        let folder = folder();
        process(&folder);
        folder.remove("7/exe");
        let file = folder.path("program (deleted)");
        folder.link("7/exe", &file);
        let deleted = read(&folder).unwrap();
        let name = folder.path("program").into_os_string().into_vec();
        assert_eq!(deleted.exe.as_deref(), Some(&name[..]));
        assert!(deleted.exe_deleted);
        folder.write("program (deleted)", "");
        let there = read(&folder).unwrap();
        let name = file.into_os_string().into_vec();
        assert_eq!(there.exe.as_deref(), Some(&name[..]));
        assert!(!there.exe_deleted);
    }

    #[test]
    fn long_arguments_are_cut() {
        let folder = folder();
        process(&folder);
        for (length, cut) in [(ARGV - 1, false), (ARGV, true)] {
            let text = ["x".repeat(length), String::new()].join("\0");
            folder.write("7/cmdline", text);
            let process = read(&folder).unwrap();
            assert_eq!(process.argv_cut, cut);
            let argv = process.argv.unwrap();
            assert_eq!((argv.len(), argv[0].len()), (1, length));
        }
    }

    #[test]
    fn a_machine_may_be_up_for_years() {
        let reader = ProcessReader::open(Proc::at("/proc"), Unix(0), true).unwrap();
        let per_second = Duration::from_secs(1).as_nanos() / reader.tick.as_nanos();
        let ten_years = 10 * 365 * 24 * 3600;
        let start = reader.instant(ten_years * per_second as u64);
        assert_eq!(start, Unix(0).after(Duration::from_secs(ten_years)));
    }

    #[test]
    fn a_cgroup_may_have_colons() {
        let line = cgroup(b"4:cpu,cpuacct:/a:b").unwrap();
        assert_eq!((line.hierarchy, &line.path[..]), (4, &b"/a:b"[..]));
        assert_eq!(&cgroup(b"0::/").unwrap().path[..], b"/");
        assert!(cgroup(b"").is_none());
    }
}
