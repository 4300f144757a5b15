//! Whose child a process is, and who inherits it.

use super::{Process, Processes, Space};

/// How many generations are looked through for an heir.
const MAX_GENERATIONS: usize = 1 << 10;

impl Processes {
    /// Makes a process another one's child; if that has just ended, its heir's.
    pub(super) fn adopt(&mut self, pid: i32, ppid: Option<i32>) {
        let ended = |ppid: &i32| self.processes.get(ppid).is_some_and(|it| it.ended);
        let ppid = match ppid.filter(ended) {
            Some(ended) => self.heir(ended),
            None => ppid,
        };
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if let Some(former) = std::mem::replace(&mut process.ppid, ppid) {
            self.leave(pid, former);
        }
        if let Some(ppid) = ppid {
            self.children.entry(ppid).or_default().insert(pid);
        }
    }

    /// Takes a process from its parent.
    pub(super) fn leave(&mut self, pid: i32, ppid: i32) {
        if let Some(siblings) = self.children.get_mut(&ppid) {
            siblings.remove(&pid);
            if siblings.is_empty() {
                self.children.remove(&ppid);
            }
        }
    }

    /// Makes the children of a process another one's.
    pub(super) fn hand_on(&mut self, pid: i32, heir: Option<i32>) {
        for child in self.children.remove(&pid).unwrap_or_default() {
            self.adopt(child, heir);
        }
    }

    /// The first process of a process's pid namespace.
    fn reaper(&self, process: &Process) -> Option<i32> {
        match process.space {
            Space::Unknown => None,
            Space::Of(pid) => Some(pid),
            Space::Numbered(number) => self.reapers.get(&number).copied(),
        }
    }

    /// Who inherits the children of a process: kernel/exit.c find_new_reaper().
    pub(super) fn heir(&self, pid: i32) -> Option<i32> {
        let process = self.processes.get(&pid)?;
        let reaper = self.reaper(process)?;
        let mut next = process.ppid?;
        // With the first process of a namespace all others there end.
        if pid == reaper {
            return None;
        }
        for _ in 0..MAX_GENERATIONS {
            // The parent of the first process is in the namespace around.
            if next == reaper || next == 0 {
                return Some(reaper);
            }
            let ancestor = self.processes.get(&next)?;
            if self.reaper(ancestor)? != reaper {
                return Some(reaper);
            }
            if ancestor.subreaper? && !ancestor.ended {
                return Some(next);
            }
            next = ancestor.ppid?;
        }
        None
    }
}
