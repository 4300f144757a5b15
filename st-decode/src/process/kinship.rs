//! Whose child a process is, and who inherits the children of one that ended.

use super::{PidNamespace, ProcessState, ProcessTable};

/// How many generations are searched for the process that inherits.
const MAX_GENERATIONS: usize = 1 << 10;

impl ProcessTable {
    /// Makes a process the child of another one, or of whoever inherits the children of that one
    /// if it has ended.
    pub(super) fn set_parent(&mut self, pid: i32, ppid: Option<i32>) {
        let has_ended = |ppid: &i32| self.processes.get(ppid).is_some_and(|it| it.ended);
        let ppid = match ppid.filter(has_ended) {
            // The init of the namespace may have ended, too.
            Some(ended) => self.find_new_reaper(ended).filter(|heir| !has_ended(heir)),
            None => ppid,
        };
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let former = std::mem::replace(&mut process.ppid, ppid);
        if former != ppid {
            self.changes_as_ancestor(pid);
        }
        if let Some(former) = former {
            self.remove_child(former, pid);
        }
        if let Some(ppid) = ppid {
            self.children.entry(ppid).or_default().insert(pid);
        }
    }

    /// Takes a process out of the list of its parent's children.
    fn remove_child(&mut self, parent: i32, child: i32) {
        if let Some(children) = self.children.get_mut(&parent) {
            children.remove(&child);
            if children.is_empty() {
                self.children.remove(&parent);
            }
        }
    }

    /// Gives the children of a process that has just ended to whoever inherits them.
    pub(super) fn reparent_children_of_ended(&mut self, pid: i32) {
        // The process keeps its parent, but is no child whose parent can change any more.
        if let Some(ppid) = self.processes.get(&pid).and_then(|process| process.ppid) {
            self.remove_child(ppid, pid);
        }
        if !self.children.contains_key(&pid) {
            return;
        }
        // Where the stream does not tell when processes end, other threads of this one may run.
        let heir = if self.tells_process_ends {
            self.find_new_reaper(pid)
        } else {
            None
        };
        self.reparent_children(pid, heir);
    }

    /// Makes the children of a process those of another one, or of an unknown one.
    pub(super) fn reparent_children(&mut self, pid: i32, heir: Option<i32>) {
        for child in self.children.remove(&pid).unwrap_or_default() {
            self.set_parent(child, heir);
        }
    }

    /// The init process of the pid namespace that a process is in.
    fn init(&self, process: &ProcessState) -> Option<i32> {
        match process.pid_namespace {
            PidNamespace::Unknown => None,
            PidNamespace::Init(pid) => Some(pid),
            PidNamespace::Inode(inode) => self.inits.get(&inode).copied(),
        }
    }

    /// Who inherits the children of a process, if that is known: kernel/exit.c
    /// find_new_reaper().
    fn find_new_reaper(&self, pid: i32) -> Option<i32> {
        let process = self.processes.get(&pid)?;
        let init = self.init(process)?;
        let mut next = process.ppid?;
        // All other processes of a namespace end with its init process.
        if pid == init {
            return None;
        }
        for _ in 0..MAX_GENERATIONS {
            // The parent of the init process is in another namespace.
            if next == init || next == 0 {
                return Some(init);
            }
            let ancestor = self.processes.get(&next)?;
            if self.init(ancestor)? != init {
                return Some(init);
            }
            if ancestor.subreaper? && !ancestor.ended {
                return Some(next);
            }
            next = ancestor.ppid?;
        }
        None
    }
}
