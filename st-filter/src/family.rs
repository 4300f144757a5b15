//! Which processes descend from given ones: the parent that a process began with counts, even if
//! it has ended since and the process has another parent.

use st_pathtree::event::Fork;
use st_pathtree::record::{Header, Process};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// The most generations between a process and its root: if there were more, the parents would
/// form a circle.
const MAX_GENERATIONS: usize = 1 << 12;

/// A process whose descendants are asked for: the root of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// The process with this id.
    Pid(i32),
    /// The process in which st-probe runs its command; every process, if st-probe runs none.
    Command,
}

impl FromStr for Root {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "command" {
            return Ok(Self::Command);
        }
        match text.parse() {
            Ok(pid) if pid >= 0 => Ok(Self::Pid(pid)),
            _ => Err("not the id of a process, nor the word 'command'".into()),
        }
    }
}

/// Some processes, its roots, with all that descend from them.
#[derive(Debug, Clone, Default)]
pub struct Family {
    roots: Vec<Root>,
    /// Whether every process is a member.
    all: bool,
    /// The ids of the roots.
    first: HashSet<i32>,
    /// The ids of those roots that no record has told of. Once one has, a fork that makes a
    /// process of the same id makes another process.
    unmet: HashSet<i32>,
    /// Processes that are known to be members.
    members: HashSet<i32>,
    /// Processes that are known to be none.
    others: HashSet<i32>,
    /// The parents of processes that were alive at the start or after a gap, as long as it is
    /// not known whether those are members.
    parents: HashMap<i32, i32>,
    /// The same by parent.
    children: HashMap<i32, Vec<i32>>,
    /// Whether forks were lost.
    lost: bool,
}

impl Family {
    /// The family of these roots.
    pub fn new(roots: Vec<Root>) -> Self {
        Self {
            roots,
            ..Self::default()
        }
    }

    /// Takes the header of a stream.
    pub fn begin(&mut self, header: &Header) {
        let mut first = HashSet::new();
        for root in &self.roots {
            match root {
                Root::Pid(pid) => first.extend([*pid]),
                Root::Command => first.extend(header.child),
            }
        }
        *self = Self {
            all: header.child.is_none() && self.roots.contains(&Root::Command),
            unmet: first.clone(),
            members: first.clone(),
            first,
            ..Self::new(std::mem::take(&mut self.roots))
        };
    }

    /// Takes a gap: forgets all members but the roots. Forks were lost, and the ids of members
    /// that ended in the gap may be those of other processes now. The records of all processes
    /// that are alive follow.
    pub fn lost(&mut self) {
        self.members = self.first.clone();
        self.others.clear();
        self.parents.clear();
        self.children.clear();
        self.lost = true;
    }

    /// Takes a process that was alive at the start or after a gap.
    pub fn alive(&mut self, process: &Process) {
        self.unmet.remove(&process.pid);
        if self.members.contains(&process.pid) || self.others.contains(&process.pid) {
            return;
        }
        if let Some(ppid) = process.ppid {
            self.parents.insert(process.pid, ppid);
            self.children.entry(ppid).or_default().push(process.pid);
        }
    }

    /// Takes a process that began.
    pub fn fork(&mut self, fork: &Fork) {
        // An earlier process had the same id, and its children are not those of the new one.
        for child in self.children.remove(&fork.pid).unwrap_or_default() {
            self.descends(child);
            self.parents.remove(&child);
        }
        self.parents.remove(&fork.pid);
        self.members.remove(&fork.pid);
        self.others.remove(&fork.pid);
        let descends = if self.unmet.remove(&fork.pid) {
            Some(true)
        } else {
            self.descends(fork.parent)
        };
        self.settle(fork.pid, descends);
    }

    /// Whether a process is a member. If that is not known after a gap, it counts as one.
    pub fn contains(&mut self, pid: i32) -> bool {
        self.all || self.descends(pid).unwrap_or(self.lost)
    }

    /// Whether a process is a root or descends from one, if that is known.
    fn descends(&mut self, pid: i32) -> Option<bool> {
        let mut generations = Vec::new();
        let mut next = pid;
        let found = loop {
            if self.members.contains(&next) {
                break Some(true);
            }
            if next == 0 || self.others.contains(&next) {
                break Some(false);
            }
            generations.push(next);
            match self.parents.get(&next) {
                Some(ppid) if generations.len() < MAX_GENERATIONS => next = *ppid,
                _ => break None,
            }
        };
        if found.is_some() {
            for pid in generations {
                self.parents.remove(&pid);
                self.settle(pid, found);
            }
        }
        found
    }

    /// Notes whether a process is a member, if that is known.
    fn settle(&mut self, pid: i32, descends: Option<bool>) {
        match descends {
            Some(true) => self.members.insert(pid),
            Some(false) => self.others.insert(pid),
            None => false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use st_pathtree::time::Unix;

    fn alive(family: &mut Family, pid: i32, ppid: i32) {
        family.alive(&Process {
            pid,
            ppid: Some(ppid),
            ..Process::default()
        });
    }

    fn fork(family: &mut Family, parent: i32, pid: i32) {
        family.fork(&Fork {
            ts: Unix::default(),
            parent,
            pid,
        });
    }

    fn family(root: &str, child: Option<i32>) -> Family {
        let mut family = Family::new(vec![root.parse().unwrap()]);
        family.begin(&Header {
            child,
            ..Header::default()
        });
        family
    }

    #[test]
    fn descendants_of_before_and_since() {
        let mut family = family("7", None);
        for (pid, ppid) in [(1, 0), (7, 1), (8, 7), (9, 8), (3, 2), (2, 1)] {
            alive(&mut family, pid, ppid);
        }
        fork(&mut family, 9, 10);
        fork(&mut family, 3, 11);
        let members: Vec<i32> = (0..12).filter(|&pid| family.contains(pid)).collect();
        assert_eq!(members, [7, 8, 9, 10]);
    }

    #[test]
    fn one_whose_parent_has_ended_still_descends() {
        let mut family = family("7", None);
        fork(&mut family, 7, 8);
        fork(&mut family, 8, 9);
        // The number of its parent is another's now.
        fork(&mut family, 1, 8);
        assert!(family.contains(9) && !family.contains(8));
    }

    #[test]
    fn after_a_loss_only_what_is_still_below_the_roots_descends() {
        let mut family = family("7", None);
        fork(&mut family, 7, 8);
        fork(&mut family, 7, 9);
        family.lost();
        assert!(family.contains(8) && family.contains(9), "they may");
        for (pid, ppid) in [(1, 0), (8, 7), (9, 1)] {
            alive(&mut family, pid, ppid);
        }
        assert!(family.contains(7) && family.contains(8) && !family.contains(9));
    }

    #[test]
    fn a_number_used_again_takes_no_children_with_it() {
        let mut family = family("7", None);
        for (pid, ppid) in [(1, 0), (3, 1), (4, 3), (7, 1), (8, 7), (9, 8)] {
            alive(&mut family, pid, ppid);
        }
        // 3 and 8 have ended.
        fork(&mut family, 7, 3);
        fork(&mut family, 1, 8);
        assert!(family.contains(3) && !family.contains(4));
        assert!(!family.contains(8) && family.contains(9));
        // So has the root.
        fork(&mut family, 1, 7);
        assert!(!family.contains(7) && family.contains(9));
    }

    #[test]
    fn the_command_is_the_one_in_the_header() {
        let mut family = family("command", Some(7));
        fork(&mut family, 7, 8);
        assert!(family.contains(7) && family.contains(8) && !family.contains(1));
        let mut family = self::family("command", None);
        assert!(family.contains(1), "there was none: nothing is left out");
    }

    #[test]
    fn a_circle_has_an_end() {
        let mut family = family("7", None);
        alive(&mut family, 3, 4);
        alive(&mut family, 4, 3);
        assert!(!family.contains(3));
    }

    #[test]
    fn roots_are_numbers_or_the_command() {
        assert_eq!("12".parse(), Ok(Root::Pid(12)));
        assert_eq!("command".parse(), Ok(Root::Command));
        for text in ["", "-1", "make"] {
            assert!(text.parse::<Root>().is_err(), "{text}");
        }
    }
}
