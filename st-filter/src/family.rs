//! Which processes descend from some: by who began whom, whatever became of those between.

use st_pathtree::event::Fork;
use st_pathtree::record::{Header, Process};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// The most generations that are looked through: more would be a circle.
const MAX_GENERATIONS: usize = 1 << 16;

/// A process whose descendants are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// By its id.
    Pid(i32),
    /// The one that st-probe runs its command in; every process, if it runs none.
    Command,
}

impl FromStr for Root {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "command" => Ok(Self::Command),
            Ok(pid) if pid >= 0 => Ok(Self::Pid(pid)),
            _ => Err("not the id of a process, nor the word 'command'".into()),
        }
    }
}

/// Some processes with all that descend from them.
#[derive(Debug, Clone, Default)]
pub struct Family {
    roots: Vec<Root>,
    /// Whether every process is in it.
    all: bool,
    /// The roots, by id.
    first: HashSet<i32>,
    members: HashSet<i32>,
    /// The parents of those that were alive at the start and are not known to be members.
    parents: HashMap<i32, i32>,
}

impl Family {
    /// That of these.
    pub fn new(roots: Vec<Root>) -> Self {
        Self {
            roots,
            ..Self::default()
        }
    }

    /// Takes the header of a stream.
    pub fn begin(&mut self, header: &Header) {
        let pid = |root: &Root| match root {
            Root::Pid(pid) => Some(*pid),
            Root::Command => header.child,
        };
        self.first = self.roots.iter().filter_map(pid).collect();
        self.members = self.first.clone();
        self.all = header.child.is_none() && self.roots.contains(&Root::Command);
        self.parents.clear();
    }

    /// Takes a process that was alive.
    pub fn alive(&mut self, process: &Process) {
        if let Some(ppid) = process.ppid {
            self.parents.insert(process.pid, ppid);
        }
    }

    /// Forgets who is in it but the roots: forks were lost, and the numbers of those that ended
    /// meanwhile may be others' now. Who is alive comes anew.
    pub fn lost(&mut self) {
        self.members.retain(|pid| self.first.contains(pid));
        self.parents.clear();
    }

    /// Takes one that began.
    pub fn fork(&mut self, fork: &Fork) {
        self.parents.remove(&fork.pid);
        let root = self.roots.contains(&Root::Pid(fork.pid));
        if root || self.contains(fork.parent) {
            self.members.insert(fork.pid);
        } else {
            self.members.remove(&fork.pid);
        }
    }

    /// Whether a process is in it.
    pub fn contains(&mut self, pid: i32) -> bool {
        let mut generations = Vec::new();
        let mut next = Some(pid);
        while let Some(pid) = next.filter(|_| generations.len() < MAX_GENERATIONS) {
            if self.all || self.members.contains(&pid) {
                for pid in generations {
                    self.parents.remove(&pid);
                    self.members.insert(pid);
                }
                return true;
            }
            generations.push(pid);
            next = self.parents.get(&pid).copied();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(family: &mut Family, pid: i32, ppid: i32) {
        family.alive(&Process {
            pid,
            ppid: Some(ppid),
            ..Process::default()
        });
    }

    fn fork(family: &mut Family, parent: i32, pid: i32) {
        family.fork(&Fork { ts: 0, parent, pid });
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
        for (pid, ppid) in [(7, 1), (8, 7), (9, 8), (3, 2), (2, 1)] {
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
        alive(&mut family, 8, 7);
        alive(&mut family, 9, 1);
        assert!(family.contains(7) && family.contains(8) && !family.contains(9));
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
