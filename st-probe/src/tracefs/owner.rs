//! Whose an instance and its probes are: their name tells.

use anyhow::{Context, Result};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The inode number of the initial pid namespace, which sees every process: PROC_PID_INIT_INO,
/// include/linux/proc_ns.h.
const INITIAL: u64 = 0xefff_fffc;

/// A process, told from every other one since the machine was booted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its id in its pid namespace.
    pub pid: i32,
    /// When it began, in clock ticks since boot.
    start: u64,
    /// Its pid namespace: the inode number of `/proc/PID/ns/pid`.
    pid_ns: u64,
}

impl Owner {
    /// This process.
    pub fn this() -> Result<Self> {
        let stat = fs::read("/proc/self/stat").context("cannot read /proc/self/stat")?;
        Ok(Self {
            pid: std::process::id() as i32,
            start: crate::machine::processes::started(&stat)
                .context("/proc/self/stat is not as expected")?,
            pid_ns: namespace("self").context("cannot look at /proc/self/ns/pid")?,
        })
    }

    /// The one of an instance, or of a group of probes, of this name.
    pub fn of(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix("systracer_")?.split('_');
        let owner = Self {
            pid: numbers.next()?.parse().ok()?,
            start: numbers.next()?.parse().ok()?,
            pid_ns: numbers.next()?.parse().ok()?,
        };
        // What is not spelled as we do is somebody else's.
        (owner.to_string() == name).then_some(owner)
    }

    /// Whether it lives, for all that can be seen: from within a pid namespace, the processes
    /// of others cannot.
    pub fn is_alive(&self) -> bool {
        match namespace("self") {
            Some(ns) if ns == self.pid_ns => self.is(&self.pid.to_string()),
            Some(INITIAL) => {
                let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
                let mut names = processes.filter_map(|entry| entry.file_name().into_string().ok());
                names.any(|pid| {
                    let innermost =
                        || crate::machine::processes::innermost_pid(&pid) == Some(self.pid);
                    namespace(&pid) == Some(self.pid_ns) && innermost() && self.is(&pid)
                })
            }
            _ => true,
        }
    }

    /// Whether a process of our own `/proc` began when this one did, and has not ended.
    fn is(&self, pid: &str) -> bool {
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        crate::machine::processes::started(&stat) == Some(self.start)
            && !crate::machine::processes::has_ended(&stat)
    }
}

/// The name of its instance, and of the group of its probes.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systracer_{}_{}_{}", self.pid, self.start, self.pid_ns)
    }
}

fn namespace(pid: &str) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/pid")).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_by_its_name() {
        let this = Owner::this().unwrap();
        assert_eq!(Owner::of(&this.to_string()), Some(this));
        for name in [
            "systracer",
            "systracer_1",
            "systracer_1_2",
            "systracer_1_2_3_4",
            "systracer_1_2_x",
            "systracer_01_2_3",
            "Systracer_1_2_3",
            "other_1_2_3",
        ] {
            assert_eq!(Owner::of(name), None, "{name}");
        }
    }

    #[test]
    fn lives_as_long_as_its_process() {
        let this = Owner::this().unwrap();
        assert!(this.is_alive());
        let predecessor = Owner {
            start: this.start - 1,
            ..this.clone()
        };
        assert!(!predecessor.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let stat = fs::read(format!("/proc/{}/stat", child.id())).unwrap();
        let owner = Owner {
            pid: child.id() as i32,
            start: crate::machine::processes::started(&stat).unwrap(),
            ..this
        };
        // Nobody has asked for its status yet.
        while owner.is_alive() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!owner.is_alive());
    }
}
