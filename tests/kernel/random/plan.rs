//! All that is done, in steps: a pure function of the settings, so that each process knows
//! it by itself.

use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::choose::{ANY, BUILD, LESS, MOVES, Wishes, op};
use super::judge::Spot;
use super::op::{Action, Op, Outcome, Route, SLOTS};
use super::rng::Random;
use super::tree::{DEPTH, Id, Tree};

#[cfg(test)]
mod tests;

/// How many threads there are: the one that mounts, another one of its process, and two
/// that are processes of their own.
pub const ACTORS: usize = 4;
/// How many operations each thread does at once, while all do some.
const ROUND: usize = 20;
/// From how many names on more is removed than made.
const CROWD: usize = 500;
/// How many names there are before anything is traced, about.
const BEFORE: usize = 100;
/// How many file systems and how many bind mounts there are at most at a time.
const MOUNTS: usize = 3;

/// What the threads do to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One operation at a time, by anyone anywhere.
    Serial,
    /// Rounds, in which each has directories of its own; between them one moves whole
    /// directories and mounts.
    Parallel,
}

impl Mode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Parallel => "parallel",
        }
    }
}

/// What the plan depends on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who does what at once.
    pub mode: Mode,
    /// What the choices depend on.
    pub seed: u64,
    /// How many operations there are, about.
    pub operations: usize,
    /// The watched directory.
    pub dir: PathBuf,
    /// One beside it.
    pub outside: PathBuf,
}

impl Settings {
    /// As arguments of a program.
    pub fn arguments(&self) -> [OsString; 5] {
        [
            self.mode.name().into(),
            self.seed.to_string().into(),
            self.operations.to_string().into(),
            self.dir.clone().into(),
            self.outside.clone().into(),
        ]
    }

    /// From arguments.
    pub fn parse(arguments: &[OsString]) -> Result<Self> {
        let [mode, seed, operations, dir, outside] = arguments else {
            bail!("not the arguments of a worker: {arguments:?}");
        };
        let number = |text: &OsStr| text.to_str().and_then(|text| text.parse().ok());
        Ok(Self {
            mode: match mode.to_str() {
                Some("serial") => Mode::Serial,
                _ => Mode::Parallel,
            },
            seed: number(seed).context("no seed")?,
            operations: number(operations).context("no number")? as usize,
            dir: dir.into(),
            outside: outside.into(),
        })
    }
}

/// What is done before the next step begins.
#[derive(Debug, Default)]
pub struct Step {
    /// Each thread's operations, which it does while the others do theirs.
    pub work: [Vec<Op>; ACTORS],
    /// A name that is to be printed then, before anything else happens: it shows that a
    /// mount has been noticed.
    pub printed: Option<String>,
    /// Whether it comes before anything is traced.
    pub before: bool,
}

/// A directory that a thread has open.
#[derive(Debug, Clone, Copy)]
pub struct Holder {
    /// The directory.
    pub dir: Id,
    /// The mount through which it was opened.
    pub mount: usize,
}

/// The steps, one after the other.
#[derive(Debug)]
pub struct Plan {
    /// What makes the choices.
    pub random: Random,
    /// What there is after the steps so far.
    pub tree: Tree,
    /// What each thread holds.
    pub holders: [[Option<Holder>; SLOTS]; ACTORS],
    mode: Mode,
    left: usize,
    markers: usize,
    before: bool,
    steps: VecDeque<Step>,
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.steps.is_empty() && self.left > 0 {
            match self.mode {
                Mode::Serial => self.serial(),
                Mode::Parallel => self.parallel(),
            }
        }
        self.steps.pop_front()
    }
}

impl Plan {
    /// The plan for these settings.
    pub fn new(settings: &Settings) -> Self {
        let mut plan = Self {
            random: Random::new(settings.seed),
            tree: Tree::new(&settings.dir, &settings.outside),
            holders: [[None; SLOTS]; ACTORS],
            mode: settings.mode,
            left: usize::MAX,
            markers: 0,
            before: true,
            steps: VecDeque::new(),
        };
        plan.prepare();
        plan.before = false;
        plan.left = settings.operations;
        plan
    }

    fn tops(&self) -> [Id; 2] {
        [self.tree.dir, self.tree.outside]
    }

    fn push(&mut self, work: [Vec<Op>; ACTORS]) {
        let counted = work.iter().flatten().filter(|op| op.action.counts());
        self.left = self.left.saturating_sub(counted.count());
        let before = self.before;
        self.steps.push_back(Step {
            work,
            before,
            printed: None,
        });
    }

    fn push_one(&mut self, actor: usize, ops: Vec<Op>) {
        let mut work = <[Vec<Op>; ACTORS]>::default();
        work[actor] = ops;
        self.push(work);
    }

    /// What is there before anything is traced: deep directories, and mounts.
    fn prepare(&mut self) {
        for top in self.tops() {
            for long in [false, true] {
                let ops = self.chain(0, top, DEPTH, long);
                self.push_one(0, ops);
            }
            self.widen(top);
        }
        for _ in 0..BEFORE {
            let ops = self.ops(0, &self.tops(), BUILD);
            self.push_one(0, ops);
        }
        self.mount_tmpfs();
        self.bind();
    }

    /// Makes some directories right in this one.
    fn widen(&mut self, top: Id) {
        for _ in 0..ACTORS {
            let ops = self.chain(0, top, 2, false);
            self.push_one(0, ops);
        }
    }

    fn wishes(&self) -> &'static Wishes {
        let names = self.tree.scene(&self.tops()).names;
        if names.len() > CROWD { LESS } else { ANY }
    }

    fn serial(&mut self) {
        if self.random.one_in(40) {
            self.change_mounts();
        }
        let actor = self.random.below(ACTORS);
        let wishes = self.wishes();
        let tops = self.tops();
        let roots = if self.random.one_in(2) {
            &tops[..1]
        } else {
            &tops
        };
        let ops = self.ops(actor, roots, wishes);
        self.push_one(actor, ops);
    }

    fn parallel(&mut self) {
        for _ in 0..2 + self.random.below(6) {
            let ops = self.ops(0, &self.tops(), MOVES);
            self.push_one(0, ops);
        }
        for top in self.tops() {
            if self.tree.nodes[top].children.len() < ACTORS {
                self.widen(top);
            }
        }
        if self.random.one_in(2) {
            self.change_mounts();
        }
        let wishes = self.wishes();
        let owned = self.deal();
        let mut work = <[Vec<Op>; ACTORS]>::default();
        for (actor, owned) in owned.iter().enumerate() {
            while !owned.is_empty() && work[actor].len() < ROUND {
                let ops = self.ops(actor, owned, wishes);
                work[actor].extend(ops);
            }
            work[actor].push(self.release(actor));
        }
        self.push(work);
    }

    /// Gives each thread some directories, of which none is in another. A bind mount's path to
    /// one does not lead through those of another thread either, which may move what is above
    /// the mount point.
    fn deal(&mut self) -> [Vec<Id>; ACTORS] {
        let mut owned = <[Vec<Id>; ACTORS]>::default();
        let mut dirs = self.tree.scene(&self.tops()).dirs;
        dirs.retain(|dir| !self.tops().contains(dir));
        // The first one large and watched, the others anywhere.
        for (depth, anywhere) in [(2, false), (DEPTH, true), (DEPTH, true)] {
            for actor in 0..ACTORS {
                let tree = &self.tree;
                let fits = |&&dir: &&Id| {
                    let apart = |owner: usize, other: Id| {
                        !tree.nested(dir, other)
                            && (owner == actor
                                || !tree.leads(dir, other) && !tree.leads(other, dir))
                    };
                    let mut owned = owned.iter().enumerate();
                    tree.depth(dir) <= depth
                        && (anywhere || tree.inside(dir))
                        && owned.all(|(owner, all)| all.iter().all(|&other| apart(owner, other)))
                };
                let fitting: Vec<Id> = dirs.iter().filter(fits).copied().collect();
                owned[actor].extend(self.random.pick(&fitting));
            }
        }
        owned
    }

    /// Lets a thread let go of all that it holds.
    fn release(&mut self, actor: usize) -> Op {
        self.holders[actor] = Default::default();
        let at = self.first_route(self.tree.dir);
        op(Action::Release, at, None, Outcome::Untold)
    }

    /// The same for each thread that holds something like this.
    fn release_where(&mut self, is: impl Fn(&Tree, Holder) -> bool) {
        for actor in 0..ACTORS {
            let mut held = self.holders[actor].iter().flatten();
            if held.any(|&holder| is(&self.tree, holder)) {
                let op = self.release(actor);
                self.push_one(actor, vec![op]);
            }
        }
    }

    /// Mounts or unmounts something.
    fn change_mounts(&mut self) {
        match self.random.below(6) {
            0 | 1 => self.mount_tmpfs(),
            2 => self.bind(),
            3 => self.move_mount(),
            _ => self.unmount(),
        }
    }

    fn mounted(&self, binds: bool) -> usize {
        let mounts = self.tree.live_mounts();
        mounts
            .filter(|&mount| self.tree.is_bind(mount) == binds)
            .count()
    }

    /// Directories that may be mount points, mostly watched ones. None in a directory that
    /// is shown twice: a mount is on one of its paths only.
    fn mount_points(&mut self) -> Vec<Id> {
        let anywhere = self.random.one_in(3);
        let tree = &self.tree;
        let mut dirs = tree.scene(&self.tops()).dirs;
        dirs.retain(|&dir| {
            (anywhere || tree.inside(dir))
                && tree.nodes[dir].parent.is_some()
                && tree.depth(dir) < DEPTH
                && !tree.has_mount_point(dir)
                && !tree.has_source(dir)
                && tree.bind_of(dir).is_none()
        });
        dirs
    }

    fn mount_tmpfs(&mut self) {
        let points = self.mount_points();
        let Some(on) = self.random.pick(&points) else {
            return;
        };
        if self.mounted(false) == MOUNTS {
            return;
        }
        self.release_where(|tree, held| tree.within(held.dir, on));
        let at = self.first_route(on);
        self.push_one(0, vec![op(Action::Mount, at, None, Outcome::Untold)]);
        let mount = self.tree.mount(on);
        let root = self.tree.mounts[mount].shows;
        self.mark(root);
        let length = if self.before {
            DEPTH
        } else {
            1 + self.random.below(DEPTH)
        };
        let long = self.random.one_in(8);
        let ops = self.chain(0, root, length, long);
        self.push_one(0, ops);
    }

    fn bind(&mut self) {
        let tree = &self.tree;
        let mut sources = tree.scene(&self.tops()).dirs;
        sources.retain(|&dir| {
            !tree.has_mount_point(dir) && !tree.has_source(dir) && tree.bind_of(dir).is_none()
        });
        let Some(source) = self.random.pick(&sources) else {
            return;
        };
        let mut points = self.mount_points();
        points.retain(|&on| !self.tree.within(on, source) && !self.tree.within(source, on));
        // Mostly one of the two is watched and the other is not.
        if !self.random.one_in(3) {
            let inside = self.tree.inside(source);
            points.retain(|&on| self.tree.inside(on) != inside);
        }
        let Some(on) = self.random.pick(&points) else {
            return;
        };
        if self.mounted(true) == MOUNTS {
            return;
        }
        self.release_where(|tree, held| tree.within(held.dir, on));
        let (at, old) = (self.first_route(on), self.first_route(source));
        self.push_one(0, vec![op(Action::Bind, at, Some(old), Outcome::Untold)]);
        self.tree.cover(on, source);
        // In what is shown anew a path would be ambiguous.
        self.mark(self.tree.dir);
    }

    fn move_mount(&mut self) {
        let mounts: Vec<_> = self.tree.live_mounts().collect();
        let Some(mount) = self.random.pick(&mounts) else {
            return;
        };
        let mut points = self.mount_points();
        let shows = self.tree.mounts[mount].shows;
        points.retain(|&on| self.tree.names(on, shows).is_none());
        let (Some(before), Some(on)) = (self.tree.mounts[mount].on, self.random.pick(&points))
        else {
            return;
        };
        self.release_where(|tree, held| tree.within(held.dir, on));
        let (at, old) = (self.first_route(on), self.first_route(before));
        self.push_one(
            0,
            vec![op(Action::MoveMount, at, Some(old), Outcome::Untold)],
        );
        self.tree.move_mount(mount, on);
        self.mark(self.tree.dir);
    }

    fn unmount(&mut self) {
        let mut mounts = self.innermost();
        mounts.retain(|&mount| {
            self.tree.is_bind(mount) || !self.tree.has_source(self.tree.mounts[mount].shows)
        });
        let Some(mount) = self.random.pick(&mounts) else {
            return;
        };
        let bind = self.tree.is_bind(mount);
        self.release_where(|tree, held| {
            held.mount == mount || !bind && tree.nodes[held.dir].fs == mount
        });
        let at: Option<Route> = self.tree.mounts[mount].on.map(|on| self.first_route(on));
        let ops = at.map(|at| op(Action::Unmount, at, None, Outcome::Untold));
        self.push_one(0, ops.into_iter().collect());
        if let Some(on) = self.tree.unmount(mount) {
            self.mark(on);
        }
    }

    /// Unmounts everything, what is mounted in others first.
    pub fn unmount_all(&mut self) -> Vec<Op> {
        let mut ops = vec![self.release(0)];
        while let Some(mount) = self.innermost().first().copied() {
            let at = self.tree.mounts[mount].on.map(|on| self.first_route(on));
            ops.extend(at.map(|at| op(Action::Unmount, at, None, Outcome::Untold)));
            self.tree.unmount(mount);
        }
        ops
    }

    /// The mounts in which nothing is mounted.
    fn innermost(&self) -> Vec<usize> {
        let tree = &self.tree;
        let empty =
            |&mount: &usize| tree.is_bind(mount) || !tree.has_mount_point(tree.mounts[mount].shows);
        tree.live_mounts().filter(empty).collect()
    }

    /// Makes a file, if possible in this directory, that is to be printed next.
    fn mark(&mut self, dir: Id) {
        let dir = if self.tree.inside(dir) && self.tree.depth(dir) < DEPTH {
            dir
        } else {
            self.tree.dir
        };
        self.markers += 1;
        let name = format!("marker{}", self.markers);
        let route = self.first_route(dir).to(name.as_bytes());
        let spot = Spot {
            dir,
            name: name.clone().into(),
            route,
        };
        let op = self.make(spot, Action::Create(0o600, true));
        self.push_one(0, op.into_iter().collect());
        if let Some(step) = self.steps.back_mut() {
            step.printed = Some(name);
        }
    }
}
