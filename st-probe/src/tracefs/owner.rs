//! The owner of an instance and its probes: a process, which their name tells.

use crate::sys::namespaces::INITIAL_PID;
use crate::sys::proc::{Proc, ProcPid};
use anyhow::{Context, Result};
use std::fmt;

/// A process, told from every other one since the machine was booted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its id in its pid namespace.
    pub pid: i32,
    /// When it began, in clock ticks since the machine was booted.
    start: u64,
    /// Its pid namespace: the inode number of `/proc/PID/ns/pid`.
    pid_ns: u64,
}

impl Owner {
    /// This process, as `proc` shows it.
    pub fn this(proc: &Proc) -> Result<Self> {
        let this = proc.this();
        let stat = this.stat().context("cannot read /proc/self/stat")?;
        Ok(Self {
            pid: std::process::id() as i32,
            start: stat.start().context("/proc/self/stat is not as expected")?,
            pid_ns: this.pid_ns().context("cannot read /proc/self/ns/pid")?,
        })
    }

    /// The owner of an instance, or of a group of probes, of this name; `None` if an st-probe did
    /// not make it.
    pub fn of(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix("systracer_")?.split('_');
        let owner = Self {
            pid: numbers.next()?.parse().ok()?,
            start: numbers.next()?.parse().ok()?,
            pid_ns: numbers.next()?.parse().ok()?,
        };
        // A name that st-probe would spell in another way is not from st-probe.
        (owner.to_string() == name).then_some(owner)
    }

    /// Whether the owner may be alive: only from the initial pid namespace, or from its own, can
    /// be seen that it is not. There, `proc` shows it, but not always by its own id: a container
    /// may have the /proc of the host.
    pub fn may_be_alive(&self, proc: &Proc) -> bool {
        let sees = |ns| ns == self.pid_ns || ns == INITIAL_PID;
        match (proc.this().pid_ns().is_ok_and(sees), proc.pids()) {
            (true, Ok(pids)) => pids.into_iter().any(|pid| self.is(&proc.process(pid))),
            _ => true,
        }
    }

    /// Whether this process may be the owner, and has not ended.
    fn is(&self, process: &ProcPid) -> bool {
        // Most processes began at another time: that is asked first. What may not be read of one
        // that began at the same time does not tell that it is another one.
        process
            .stat()
            .is_ok_and(|stat| stat.start() == Some(self.start) && !stat.has_ended())
            && process.pid_ns().ok().is_none_or(|ns| ns == self.pid_ns)
            && process
                .status()
                .is_none_or(|status| status.innermost == self.pid)
    }
}

/// The name of the owner's instance, and of the group of its probes.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systracer_{}_{}_{}", self.pid, self.start, self.pid_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn is_told_by_its_name() {
        let this = Owner::this(&Proc::default()).unwrap();
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
        let proc = Proc::default();
        let this = Owner::this(&proc).unwrap();
        assert!(this.may_be_alive(&proc));
        let predecessor = Owner {
            start: this.start - 1,
            ..this.clone()
        };
        assert!(!predecessor.may_be_alive(&proc));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        let owner = Owner {
            pid,
            start: proc.process(pid).stat().unwrap().start().unwrap(),
            ..this
        };
        // Nobody has reaped it yet.
        while owner.may_be_alive(&proc) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!owner.may_be_alive(&proc));
    }

    const CONTAINER: u64 = 4_026_532_500;

    /// A /proc that a process of this pid namespace sees.
    fn proc(folder: &Folder, pid_ns: u64) -> Proc {
        folder.link("self/ns/pid", format!("pid:[{pid_ns}]"));
        Proc::at(folder.path(""))
    }

    /// A process that began after so many ticks. `pids` are its ids in its pid namespaces.
    fn process(folder: &Folder, pids: &[i32], state: &str, start: u64, pid_ns: u64) {
        let pid = pids[0];
        let zeros = "0 ".repeat(18);
        folder.write(
            format!("{pid}/stat"),
            format!("{pid} (a) {state} {zeros}{start}"),
        );
        let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
        let nspid = pids.join("\t");
        let status =
            format!("Name:\ta\nPPid:\t1\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nNSpid:\t{nspid}\n");
        folder.write(format!("{pid}/status"), status);
        folder.link(format!("{pid}/ns/pid"), format!("pid:[{pid_ns}]"));
    }

    fn owner(pid: i32, start: u64, pid_ns: u64) -> Owner {
        Owner { pid, start, pid_ns }
    }

    #[test]
    fn a_process_that_has_ended_or_has_another_beginning_is_not_the_owner() {
        for pid_ns in [INITIAL_PID, CONTAINER] {
            let folder = Folder::new();
            let proc = proc(&folder, pid_ns);
            process(&folder, &[7], "S", 4711, pid_ns);
            process(&folder, &[8], "Z", 4711, pid_ns);
            assert!(owner(7, 4711, pid_ns).may_be_alive(&proc));
            assert!(!owner(7, 4710, pid_ns).may_be_alive(&proc));
            assert!(!owner(8, 4711, pid_ns).may_be_alive(&proc));
            assert!(!owner(9, 4711, pid_ns).may_be_alive(&proc));
        }
    }

    #[test]
    fn the_initial_pid_namespace_sees_the_owners_of_others() {
        let folder = Folder::new();
        let proc = proc(&folder, INITIAL_PID);
        process(&folder, &[700, 7], "S", 4711, CONTAINER);
        process(&folder, &[800, 8], "Z", 4711, CONTAINER);
        // This one has the number of an owner in the container, but not there.
        process(&folder, &[9], "S", 4711, INITIAL_PID);
        assert!(owner(7, 4711, CONTAINER).may_be_alive(&proc));
        assert!(!owner(700, 4711, CONTAINER).may_be_alive(&proc));
        assert!(!owner(7, 4712, CONTAINER).may_be_alive(&proc));
        assert!(!owner(8, 4711, CONTAINER).may_be_alive(&proc));
        assert!(!owner(9, 4711, CONTAINER).may_be_alive(&proc));
    }

    #[test]
    fn a_container_may_have_the_proc_of_the_host() {
        let folder = Folder::new();
        let proc = proc(&folder, CONTAINER);
        process(&folder, &[700, 7], "S", 4711, CONTAINER);
        process(&folder, &[7], "S", 4000, INITIAL_PID);
        assert!(owner(7, 4711, CONTAINER).may_be_alive(&proc));
        assert!(!owner(7, 4000, CONTAINER).may_be_alive(&proc));
    }

    #[test]
    fn another_pid_namespace_cannot_see_that_an_owner_has_ended() {
        let folder = Folder::new();
        let inside = proc(&folder, CONTAINER);
        process(&folder, &[7], "S", 4711, CONTAINER);
        assert!(owner(7, 4711, INITIAL_PID).may_be_alive(&inside));
        assert!(owner(9, 1, INITIAL_PID).may_be_alive(&inside));
        // Nor can anybody without a /proc.
        let none = Proc::at(folder.path("none"));
        assert!(owner(9, 1, INITIAL_PID).may_be_alive(&none));
    }
}
