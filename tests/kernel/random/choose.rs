//! Which operation comes next, and by which path.

use nix::fcntl::RenameFlags;

use super::judge::Spot;
use super::op::{Action, Base, Op, Outcome, Route, SLOTS};
use super::plan::{Holder, Plan};
use super::tree::{Id, Kind, Node, Scene};

/// What is to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A regular file.
    Create,
    /// A directory.
    Mkdir,
    /// Directories, one in the other.
    Chain,
    /// A named pipe.
    Fifo,
    /// A symbolic link.
    Symlink,
    /// A further name.
    Link,
    /// Another name for a directory.
    MoveDir,
    /// Another name for something else.
    MoveFile,
    /// Two names exchanged.
    Exchange,
    /// A name removed.
    Unlink,
    /// A directory removed.
    Rmdir,
    /// A directory removed, and all that is in it.
    Prune,
    /// The mode set.
    Chmod,
    /// The owner set.
    Chown,
    /// A directory opened, or changed into.
    Hold,
}

/// Each with how often it is tried.
pub type Wishes = [(usize, Wish)];

/// Of everything.
pub const ANY: &Wishes = &[
    (12, Wish::Create),
    (10, Wish::Mkdir),
    (1, Wish::Chain),
    (3, Wish::Fifo),
    (4, Wish::Symlink),
    (6, Wish::Link),
    (18, Wish::MoveDir),
    (8, Wish::MoveFile),
    (8, Wish::Exchange),
    (10, Wish::Unlink),
    (8, Wish::Rmdir),
    (1, Wish::Prune),
    (6, Wish::Chmod),
    (5, Wish::Chown),
    (8, Wish::Hold),
];
/// Once there is much.
pub const LESS: &Wishes = &[
    (18, Wish::MoveDir),
    (8, Wish::Exchange),
    (30, Wish::Unlink),
    (20, Wish::Rmdir),
    (6, Wish::Prune),
    (4, Wish::Hold),
];
/// To begin with something.
pub const BUILD: &Wishes = &[
    (10, Wish::Create),
    (10, Wish::Mkdir),
    (1, Wish::Chain),
    (1, Wish::Fifo),
    (1, Wish::Symlink),
    (1, Wish::Link),
    (3, Wish::MoveDir),
];
/// Of whole directories.
pub const MOVES: &Wishes = &[(6, Wish::MoveDir), (3, Wish::Exchange), (1, Wish::MoveFile)];

/// How many tries there are before something simple is done instead.
const TRIES: usize = 20;
/// The longest chain of directories at once, and the most files in a directory that is
/// pruned.
const AT_ONCE: usize = 12;

const SHORT: &[u8] = b"abcdefghijkl";
const ODD: [&[u8]; 8] = [
    b"two words",
    b"line\nbreak",
    b"\xff\xfe",
    b"half \xe2\x82",
    "gr\u{fc}n".as_bytes(),
    b"-quote\"back\\slash",
    b"...",
    b"a -> b",
];
const LONGEST: [[u8; 255]; 3] = [[b'n'; 255], [0xe4; 255], [b'"'; 255]];
/// All that a user may set but set-id bits, which other operations take away.
const MODES: [u32; 6] = [0o644, 0o600, 0o755, 0o711, 0o7, 0];
const OWNERS: [Option<u32>; 3] = [None, Some(0), Some(1000)];

impl Plan {
    /// Some operations by one thread in these directories: mostly one, mostly one that
    /// succeeds.
    pub fn ops(&mut self, actor: usize, roots: &[Id], wishes: &Wishes) -> Vec<Op> {
        let scene = self.tree.scene(roots);
        for _ in 0..TRIES {
            let wish = self.random.weighted(wishes);
            let Some(ops) = self.wish(actor, &scene, wish) else {
                continue;
            };
            let fails = |op: &Op| matches!(op.outcome, Outcome::Fails(_));
            if !ops.iter().all(fails) || !ops.is_empty() && self.random.one_in(3) {
                return ops;
            }
        }
        let mode = self.random.pick(&MODES).unwrap_or_default();
        let root = self.route(actor, roots[0], None);
        let outcome = self.tree.chmod(roots[0], mode);
        let op = root.map(|at| op(Action::Chmod(mode), at, None, outcome));
        op.into_iter().collect()
    }

    fn wish(&mut self, actor: usize, scene: &Scene, wish: Wish) -> Option<Vec<Op>> {
        let op = match wish {
            Wish::Create | Wish::Mkdir | Wish::Fifo | Wish::Symlink => {
                let action = self.making(wish);
                let spot = self.new_spot(actor, scene, None)?;
                self.make(spot, action)?
            }
            Wish::Chain => {
                let dir = self.pick_dir(actor, scene)?;
                let length = 2 + self.random.below(AT_ONCE);
                let long = self.random.one_in(8);
                return Some(self.chain(actor, dir, length, long));
            }
            Wish::Link => {
                let old = self.pick_name(scene, is_file, 10)?;
                let old = self.spot_of(actor, old, None)?;
                let new = self.new_spot(actor, scene, Some(old.route.mount))?;
                let outcome = self.tree.make_link(&old, &new)?;
                op(Action::Link, new.route, Some(old.route), outcome)
            }
            Wish::MoveDir => self.move_to(actor, scene, is_dir)?,
            Wish::MoveFile => self.move_to(actor, scene, is_file)?,
            Wish::Exchange => (0..TRIES).find_map(|_| self.try_exchange(actor, scene))?,
            Wish::Unlink => {
                let id = self.pick_name(scene, is_file, 20)?;
                let spot = self.spot_of(actor, id, None)?;
                let outcome = self.tree.unlink(&spot)?;
                op(Action::Unlink, spot.route, None, outcome)
            }
            Wish::Rmdir => {
                let id = self.pick_name(scene, is_empty, 20)?;
                self.rmdir(actor, id)?
            }
            Wish::Prune => {
                let id = self.pick_name(scene, is_dir, 0)?;
                return self.prune(actor, id);
            }
            Wish::Chmod => {
                let id =
                    self.pick_file(scene, |node| is_file(node) && node.kind != Kind::Symlink)?;
                let mode = self.random.pick(&MODES)?;
                let how = [Action::Chmod, Action::ChmodOpen, Action::ChmodProc];
                let action = self.random.pick(&how)?(mode);
                let outcome = self.tree.chmod(id, mode);
                op(action, self.route_of(actor, id)?, None, outcome)
            }
            Wish::Chown => {
                let id = self.pick_file(scene, is_file)?;
                let (uid, gid) = (self.random.pick(&OWNERS)?, self.random.pick(&OWNERS)?);
                let outcome = self.tree.chown(id, uid, gid);
                op(
                    Action::Chown(uid, gid),
                    self.route_of(actor, id)?,
                    None,
                    outcome,
                )
            }
            Wish::Hold => {
                let dir = self.random.pick(&scene.dirs)?;
                let at = self.route(actor, dir, None)?;
                let slot = self.random.below(SLOTS);
                self.holders[actor][slot] = Some(Holder {
                    dir,
                    mount: at.mount,
                });
                op(Action::Hold(slot), at, None, Outcome::Untold)
            }
        };
        Some(vec![op])
    }

    fn making(&mut self, wish: Wish) -> Action {
        let mode = self.random.pick(&MODES).unwrap_or_default();
        match wish {
            Wish::Mkdir => Action::Mkdir(mode),
            Wish::Fifo => Action::Fifo(mode),
            Wish::Symlink => Action::Symlink([b"nowhere/", &self.some_name()[..]].concat()),
            _ if self.random.one_in(3) => Action::Mknod(mode),
            _ => Action::Create(mode, self.random.one_in(2)),
        }
    }

    /// Makes something.
    pub fn make(&mut self, spot: Spot, action: Action) -> Option<Op> {
        let outcome = self.tree.make(&spot, &action)?;
        Some(op(action, spot.route, None, outcome))
    }

    fn rename(&mut self, old: Spot, new: Spot, flags: RenameFlags) -> Option<Op> {
        let outcome = self.tree.rename(&old, &new, flags)?;
        Some(op(
            Action::Rename(flags),
            new.route,
            Some(old.route),
            outcome,
        ))
    }

    fn move_to(&mut self, actor: usize, scene: &Scene, is: fn(&Node) -> bool) -> Option<Op> {
        // Most deep directories have no room.
        (0..TRIES).find_map(|_| self.try_move(actor, scene, is))
    }

    fn try_move(&mut self, actor: usize, scene: &Scene, is: fn(&Node) -> bool) -> Option<Op> {
        let moved = self.pick_name(scene, is, 0)?;
        let old = self.spot_of(actor, moved, None)?;
        let mount = Some(old.route.mount);
        let new = if self.random.one_in(4) {
            let replaced = if is_dir(&self.tree.nodes[moved]) {
                is_empty
            } else {
                is
            };
            let there = self.pick_name(scene, replaced, 10)?;
            self.spot_of(actor, there, mount)?
        } else {
            self.new_spot(actor, scene, mount)?
        };
        let flags = match self.random.one_in(8) {
            true => RenameFlags::RENAME_NOREPLACE,
            false => RenameFlags::empty(),
        };
        self.rename(old, new, flags)
    }

    fn try_exchange(&mut self, actor: usize, scene: &Scene) -> Option<Op> {
        let old = self.pick_name(scene, |_| true, 0)?;
        let new = self.pick_name(scene, |_| true, 0)?;
        let old = self.spot_of(actor, old, None)?;
        let new = self.spot_of(actor, new, Some(old.route.mount))?;
        self.rename(old, new, RenameFlags::RENAME_EXCHANGE)
    }

    fn rmdir(&mut self, actor: usize, id: Id) -> Option<Op> {
        let spot = self.spot_of(actor, id, None)?;
        let outcome = self.tree.rmdir(&spot)?;
        Some(op(Action::Rmdir, spot.route, None, outcome))
    }

    /// Directories one in the other, as many as there is room for, and a file in the last;
    /// if `long`, half of them with the longest names.
    pub fn chain(&mut self, actor: usize, mut dir: Id, length: usize, long: bool) -> Vec<Op> {
        let mut ops = Vec::new();
        for left in (0..length).rev() {
            let name = match long && self.random.one_in(2) {
                true => LONGEST[self.random.below(LONGEST.len())].to_vec(),
                false => self.free_name(dir),
            };
            let Some(spot) = self.spot(actor, dir, name, None) else {
                break;
            };
            let action = match left {
                0 => Action::Create(0o644, true),
                _ => Action::Mkdir(0o755),
            };
            let name = spot.name.clone();
            let Some(op) = self.make(spot, action) else {
                break;
            };
            let made = !matches!(op.outcome, Outcome::Fails(_));
            ops.push(op);
            match self.tree.child(dir, &name) {
                Some(child) if made && left > 0 => dir = child,
                _ => break,
            }
        }
        ops
    }

    /// Removes a directory with all that is in it, if that is not much.
    fn prune(&mut self, actor: usize, id: Id) -> Option<Vec<Op>> {
        if self.tree.has_mount_point(id) || self.tree.has_source(id) {
            return None;
        }
        let mut all = self.tree.scene(&[id]).names;
        if all.len() > AT_ONCE {
            return None;
        }
        // The deepest first.
        all.sort_by_key(|&id| std::cmp::Reverse(self.tree.depth(id)));
        all.push(id);
        let mut ops = Vec::new();
        for id in all {
            ops.push(if self.tree.nodes[id].kind == Kind::Dir {
                self.rmdir(actor, id)?
            } else {
                let spot = self.spot_of(actor, id, None)?;
                let outcome = self.tree.unlink(&spot)?;
                op(Action::Unlink, spot.route, None, outcome)
            });
        }
        Some(ops)
    }

    fn some_name(&mut self) -> Vec<u8> {
        match self.random.below(40) {
            0 => LONGEST[self.random.below(LONGEST.len())].to_vec(),
            1..4 => ODD[self.random.below(ODD.len())].to_vec(),
            _ => vec![SHORT[self.random.below(SHORT.len())]],
        }
    }

    /// A name that is not there, if that is found.
    fn free_name(&mut self, dir: Id) -> Vec<u8> {
        let mut name = self.some_name();
        for _ in 0..SHORT.len() {
            if self.tree.child(dir, &name).is_none() {
                break;
            }
            name = self.some_name();
        }
        name
    }

    /// A directory, the deep ones more often; now and then one below those that this thread
    /// holds, or one that was removed meanwhile.
    fn pick_dir(&mut self, actor: usize, scene: &Scene) -> Option<Id> {
        if self.random.one_in(3) {
            let held: Vec<_> = self.holders[actor].iter().flatten().collect();
            let held = self.random.pick(&held).map(|held| held.dir);
            if let Some(held) = held {
                let below = |dir: &&Id| self.tree.names(**dir, held).is_some();
                let below: Vec<_> = scene.dirs.iter().filter(below).copied().collect();
                return match self.tree.nodes[held].live {
                    true => self.random.pick(&below),
                    false => Some(held),
                };
            }
        }
        let tries = 1 + self.random.below(3);
        (0..tries)
            .filter_map(|_| self.random.pick(&scene.dirs))
            .max_by_key(|&dir| self.tree.depth(dir))
    }

    /// A name for which that holds; any name once in `odd`, if that is not 0.
    fn pick_name(&mut self, scene: &Scene, is: fn(&Node) -> bool, odd: usize) -> Option<Id> {
        let any = odd > 0 && self.random.one_in(odd);
        let fits = |id: &&Id| any || is(&self.tree.nodes[**id]);
        let names: Vec<_> = scene.names.iter().filter(fits).copied().collect();
        self.random.pick(&names)
    }

    /// A directory, or another file for which that holds.
    fn pick_file(&mut self, scene: &Scene, is: fn(&Node) -> bool) -> Option<Id> {
        match self.random.one_in(2) {
            true => self.random.pick(&scene.dirs),
            false => self.pick_name(scene, is, 0),
        }
    }

    /// A place for something new.
    fn new_spot(&mut self, actor: usize, scene: &Scene, mount: Option<usize>) -> Option<Spot> {
        let dir = self.pick_dir(actor, scene)?;
        let name = match self.random.one_in(10) {
            true => self.some_name(),
            false => self.free_name(dir),
        };
        self.spot(actor, dir, name, mount)
    }

    fn spot_of(&mut self, actor: usize, id: Id, mount: Option<usize>) -> Option<Spot> {
        let node = &self.tree.nodes[id];
        let (dir, name) = (node.parent?, node.name.clone());
        self.spot(actor, dir, name, mount)
    }

    /// A name in a directory, with a path to it, if possible on that mount.
    pub fn spot(
        &mut self,
        actor: usize,
        dir: Id,
        name: Vec<u8>,
        mount: Option<usize>,
    ) -> Option<Spot> {
        let route = self.route(actor, dir, mount)?.to(&name);
        Some(Spot { dir, name, route })
    }

    /// A path to a file itself.
    fn route_of(&mut self, actor: usize, id: Id) -> Option<Route> {
        if self.tree.nodes[id].kind == Kind::Dir {
            return self.route(actor, id, None);
        }
        Some(self.spot_of(actor, id, None)?.route)
    }

    fn route(&mut self, actor: usize, dir: Id, mount: Option<usize>) -> Option<Route> {
        let mut routes = self.routes(actor, dir);
        if routes.iter().any(|route| Some(route.mount) == mount) && !self.random.one_in(20) {
            routes.retain(|route| Some(route.mount) == mount);
        }
        self.random.pick(&routes)
    }

    /// All paths that this thread knows to a directory.
    fn routes(&self, actor: usize, dir: Id) -> Vec<Route> {
        let tree = &self.tree;
        let mut routes = Vec::new();
        let own = tree.nodes[dir].fs;
        if tree.nodes[dir].live {
            routes.push(self.first_route(dir));
            if let Some(mount) = tree.bind_of(dir) {
                let shows = tree.mounts[mount].shows;
                if let Some(on) = tree.mounts[mount].on {
                    let mut route = self.first_route(on);
                    route
                        .names
                        .extend(tree.names(dir, shows).into_iter().flatten());
                    routes.push(Route { mount, ..route });
                }
            }
        }
        for (slot, held) in self.holders[actor].iter().enumerate() {
            let Some(held) = held else { continue };
            let Some(names) = tree.names(dir, held.dir) else {
                continue;
            };
            // What is mounted on a directory is not so where a bind mount shows it.
            let by_bind = tree.is_bind(held.mount);
            if by_bind && own != tree.nodes[held.dir].fs || dir != held.dir && !tree.nodes[dir].live
            {
                continue;
            }
            let bases = match slot {
                0 => vec![Base::Cwd],
                _ => vec![Base::Held(slot), Base::Proc(slot)],
            };
            routes.extend(bases.into_iter().map(|base| Route {
                base,
                names: names.clone(),
                mount: if by_bind { held.mount } else { own },
            }));
        }
        routes
    }

    /// The path through the first mount of each file system.
    pub fn first_route(&self, dir: Id) -> Route {
        let top = self.tree.top(dir);
        Route {
            base: Base::Root(self.tree.nodes[top].name.clone()),
            names: self.tree.names(dir, top).unwrap_or_default(),
            mount: self.tree.nodes[dir].fs,
        }
    }
}

fn is_dir(node: &Node) -> bool {
    node.kind == Kind::Dir
}

fn is_file(node: &Node) -> bool {
    !is_dir(node)
}

fn is_empty(node: &Node) -> bool {
    is_dir(node) && node.children.is_empty()
}

/// An operation.
pub fn op(action: Action, at: Route, old: Option<Route>, outcome: Outcome) -> Op {
    Op {
        action,
        at,
        old,
        outcome,
    }
}
