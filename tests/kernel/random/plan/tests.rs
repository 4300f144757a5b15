//! What must hold of every plan, whatever the kernel does.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{ACTORS, Mode, Plan, Settings, Step};
use crate::random::op::{Action, Base, Op, Outcome, Route, SLOTS};
use crate::random::tree::join;

const SEEDS: u64 = 30;
const OPERATIONS: usize = 1000;

fn plan(mode: Mode, seed: u64) -> Plan {
    Plan::new(&Settings {
        mode,
        seed,
        operations: OPERATIONS,
        dir: "/watched".into(),
        outside: "/outside".into(),
    })
}

/// The paths of one thread's part of a step.
#[derive(Default)]
struct Paths {
    /// All that are followed or reported.
    used: BTreeSet<PathBuf>,
    /// The names that are made, removed or renamed.
    changed: BTreeSet<PathBuf>,
    held: [Vec<u8>; SLOTS],
}

impl Paths {
    fn of(ops: &[Op]) -> Self {
        let mut paths = Self::default();
        ops.iter().for_each(|op| paths.add(op));
        paths
    }

    fn add(&mut self, op: &Op) {
        let mut all = vec![self.follow(&op.at)];
        all.extend(op.old.as_ref().map(|old| self.follow(old)));
        if let Action::Hold(slot) = op.action {
            self.held[slot] = all[0].clone();
        }
        if let Outcome::Told(fields, _) = &op.outcome {
            let told = ["path", "old_path"].map(|name| fields.get(name)?.as_str());
            all.extend(
                told.into_iter()
                    .flatten()
                    .map(|path| path.as_bytes().to_vec()),
            );
        }
        let changes = op.action.makes()
            || matches!(
                op.action,
                Action::Link | Action::Rename(_) | Action::Unlink | Action::Rmdir
            );
        // As they are reported: of two names used here only one can look like that.
        let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned().into();
        let paths: Vec<PathBuf> = all.iter().map(text).collect();
        if changes && !matches!(op.outcome, Outcome::Fails(_)) {
            self.changed.extend(paths.iter().cloned());
        }
        self.used.extend(paths);
    }

    /// The path by which something is reached, or was when it was opened.
    fn follow(&self, route: &Route) -> Vec<u8> {
        let base = match &route.base {
            Base::Root(path) => path,
            Base::Cwd => &self.held[0],
            Base::Held(slot) | Base::Proc(slot) => &self.held[*slot],
        };
        join(base, &route.names)
    }
}

/// A path of one thread that leads through a name that another one changes meanwhile.
fn meeting(step: &Step) -> Option<(PathBuf, PathBuf)> {
    let paths = step.work.each_ref().map(|ops| Paths::of(ops));
    for one in 0..ACTORS {
        for other in (0..ACTORS).filter(|&other| other != one) {
            let used = &paths[other].used;
            for changed in &paths[one].changed {
                let through = used.iter().find(|used| used.starts_with(changed));
                if let Some(through) = through {
                    return Some((changed.clone(), through.clone()));
                }
            }
        }
    }
    None
}

#[test]
fn threads_keep_out_of_each_others_way() {
    for seed in 0..SEEDS {
        for (number, step) in plan(Mode::Parallel, seed).enumerate() {
            let met = meeting(&step);
            assert!(met.is_none(), "seed {seed}, step {number}: {met:?}");
        }
    }
}
