//! What exists: names, files and mounts, as the kernel has them.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How many names a path has at most below its file system's root, or below the watched
/// directory.
pub const DEPTH: usize = 4;

/// A node, by its place in the tree's list.
pub type Id = usize;

/// What a name is a name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A named pipe.
    Fifo,
    /// A symbolic link, which leads nowhere.
    Symlink,
}

/// A name of a file.
#[derive(Debug)]
pub struct Node {
    /// The file's kind.
    pub kind: Kind,
    /// The file: all of its names have the same number.
    pub file: usize,
    /// The directory it is in; `None` for the uppermost of a file system.
    pub parent: Option<Id>,
    /// The name; for the uppermost of the first file system an absolute path.
    pub name: Vec<u8>,
    /// The names in a directory.
    pub children: BTreeMap<Vec<u8>, Id>,
    /// Whether it has not been removed.
    pub live: bool,
    /// The file system: the mount that is its first.
    pub fs: usize,
    /// The mount that covers it.
    pub covered: Option<usize>,
}

/// A mount, which is never undone but by name: its place in the list is kept.
#[derive(Debug)]
pub struct Mount {
    /// The directory it shows.
    pub shows: Id,
    /// The directory it covers; `None` for the first file system, which was always there.
    pub on: Option<Id>,
    /// Whether it is still mounted.
    pub live: bool,
}

/// Everything.
#[derive(Debug)]
pub struct Tree {
    /// All names, the removed ones included.
    pub nodes: Vec<Node>,
    /// All mounts. The first is that of the file system that has the watched directory.
    pub mounts: Vec<Mount>,
    /// The watched directory.
    pub dir: Id,
    /// A directory of the same file system that is not watched.
    pub outside: Id,
    files: usize,
}

/// The directories and names that are reachable below some directories.
#[derive(Debug, Default)]
pub struct Scene {
    /// Those themselves and all below. A mounted directory is there instead of the one
    /// that it covers.
    pub dirs: Vec<Id>,
    /// The names in them; of those that are mount points the covered ones.
    pub names: Vec<Id>,
}

impl Tree {
    /// Two empty directories.
    pub fn new(dir: &Path, outside: &Path) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            mounts: Vec::new(),
            dir: 0,
            outside: 1,
            files: 0,
        };
        tree.mounts.push(Mount {
            shows: tree.dir,
            on: None,
            live: true,
        });
        for path in [dir, outside] {
            tree.push(Kind::Dir, None, path.as_os_str().as_bytes().to_vec(), 0);
        }
        tree
    }

    fn push(&mut self, kind: Kind, parent: Option<Id>, name: Vec<u8>, fs: usize) -> Id {
        self.files += 1;
        self.nodes.push(Node {
            kind,
            file: self.files,
            parent,
            name,
            children: BTreeMap::new(),
            live: true,
            fs,
            covered: None,
        });
        self.nodes.len() - 1
    }

    /// The child of that name.
    pub fn child(&self, dir: Id, name: &[u8]) -> Option<Id> {
        self.nodes[dir].children.get(name).copied()
    }

    /// Makes a new file.
    pub fn add(&mut self, dir: Id, name: &[u8], kind: Kind) -> Id {
        let id = self.push(kind, Some(dir), name.to_vec(), self.nodes[dir].fs);
        self.nodes[dir].children.insert(name.to_vec(), id);
        id
    }

    /// Makes a further name of a file.
    pub fn link(&mut self, old: Id, dir: Id, name: &[u8]) {
        let id = self.add(dir, name, self.nodes[old].kind);
        self.nodes[id].file = self.nodes[old].file;
    }

    /// Removes a name.
    pub fn remove(&mut self, id: Id) {
        self.nodes[id].live = false;
        self.detach(id);
    }

    /// Gives it another place, where there is none of that name.
    pub fn place(&mut self, id: Id, dir: Id, name: &[u8]) {
        self.detach(id);
        self.nodes[id].parent = Some(dir);
        self.nodes[id].name = name.to_vec();
        self.nodes[dir].children.insert(name.to_vec(), id);
    }

    /// Exchanges two names.
    pub fn exchange(&mut self, one: Id, two: Id) {
        let at = |tree: &Self, id: Id| {
            let node = &tree.nodes[id];
            (
                node.parent.expect("no uppermost is exchanged"),
                node.name.clone(),
            )
        };
        let (first, second) = (at(self, one), at(self, two));
        self.detach(one);
        self.detach(two);
        self.place(one, second.0, &second.1);
        self.place(two, first.0, &first.1);
    }

    fn detach(&mut self, id: Id) {
        let node = &self.nodes[id];
        let (parent, name) = (node.parent, node.name.clone());
        if let Some(parent) = parent {
            let children = &mut self.nodes[parent].children;
            if children.get(&name) == Some(&id) {
                children.remove(&name);
            }
        }
    }

    /// Mounts a new file system.
    pub fn mount(&mut self, on: Id) -> usize {
        let mount = self.mounts.len();
        let root = self.push(Kind::Dir, None, Vec::new(), mount);
        self.cover(on, root);
        mount
    }

    /// Mounts the directory `shows`.
    pub fn cover(&mut self, on: Id, shows: Id) {
        self.nodes[on].covered = Some(self.mounts.len());
        self.mounts.push(Mount {
            shows,
            on: Some(on),
            live: true,
        });
    }

    /// Moves a mount.
    pub fn move_mount(&mut self, mount: usize, on: Id) {
        if let Some(before) = self.mounts[mount].on.replace(on) {
            self.nodes[before].covered = None;
        }
        self.nodes[on].covered = Some(mount);
    }

    /// Unmounts; returns the directory that was covered.
    pub fn unmount(&mut self, mount: usize) -> Option<Id> {
        self.mounts[mount].live = false;
        let on = self.mounts[mount].on?;
        self.nodes[on].covered = None;
        if !self.is_bind(mount) {
            let root = self.mounts[mount].shows;
            self.nodes[root].live = false;
        }
        Some(on)
    }

    /// Whether it shows a directory that is also shown elsewhere.
    pub fn is_bind(&self, mount: usize) -> bool {
        self.nodes[self.mounts[mount].shows].fs != mount
    }

    /// The numbers of the mounts that there are, the first one left out.
    pub fn live_mounts(&self) -> impl Iterator<Item = usize> {
        (1..self.mounts.len()).filter(|&mount| self.mounts[mount].live)
    }

    /// The directories above a name within its file system, itself first.
    pub fn ancestors(&self, id: Id) -> impl Iterator<Item = Id> {
        std::iter::successors(Some(id), |&id| self.nodes[id].parent)
    }

    /// Whether it is `above` or below that in the same file system.
    pub fn within(&self, id: Id, above: Id) -> bool {
        self.ancestors(id).any(|at| at == above)
    }

    /// The names that lead from `above` to it, through mounts too; `None` if it is not
    /// there or below.
    pub fn names(&self, id: Id, above: Id) -> Option<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let mut at = id;
        while at != above {
            let node = &self.nodes[at];
            at = match node.parent {
                Some(parent) => {
                    names.push(node.name.clone());
                    parent
                }
                None => self.mounts[node.fs].on?,
            };
        }
        names.reverse();
        Some(names)
    }

    /// Whether one of them is the other or is below it, through mounts too.
    pub fn nested(&self, one: Id, other: Id) -> bool {
        self.names(one, other).is_some() || self.names(other, one).is_some()
    }

    /// Whether a second path to a directory, or to something below it, leads through
    /// `above`: that changes if something in `above` is moved.
    pub fn leads(&self, above: Id, dir: Id) -> bool {
        self.live_mounts().any(|mount| {
            let Mount { shows, on, .. } = self.mounts[mount];
            self.is_bind(mount)
                && self.nested(shows, dir)
                && on.is_some_and(|on| self.names(on, above).is_some())
        })
    }

    /// The uppermost directory of the first file system through which it is reached.
    pub fn top(&self, id: Id) -> Id {
        let root = self.ancestors(id).last().unwrap_or(id);
        match self.mounts[self.nodes[root].fs].on {
            Some(on) => self.top(on),
            None => root,
        }
    }

    /// The path through the first mount of its file system.
    pub fn path(&self, id: Id) -> Vec<u8> {
        let top = self.top(id);
        let names = self.names(id, top).unwrap_or_default();
        join(&self.nodes[top].name, &names)
    }

    /// The mount that shows a directory that it is in a second time.
    pub fn bind_of(&self, id: Id) -> Option<usize> {
        self.live_mounts()
            .find(|&mount| self.is_bind(mount) && self.within(id, self.mounts[mount].shows))
    }

    /// Whether its first path is at or below the watched directory.
    pub fn inside(&self, id: Id) -> bool {
        self.top(id) == self.dir
    }

    /// The path that is to be reported, and whether it is watched: that through the mount
    /// that was made first, unless only another leads below the watched directory.
    pub fn shown(&self, id: Id) -> (Vec<u8>, bool) {
        if !self.inside(id) {
            let bind = self.bind_of(id).map(|mount| &self.mounts[mount]);
            if let Some(Mount {
                shows,
                on: Some(on),
                ..
            }) = bind
            {
                if self.inside(*on) {
                    let names = self.names(id, *shows).unwrap_or_default();
                    return (join(&self.path(*on), &names), true);
                }
            }
        }
        (self.path(id), self.inside(id))
    }

    /// How many names lead to it from the uppermost of its file system.
    pub fn depth(&self, id: Id) -> usize {
        self.ancestors(id).count() - 1
    }

    /// How many names the deepest path below it has.
    pub fn height(&self, id: Id) -> usize {
        let children = self.nodes[id].children.values();
        children
            .map(|&child| 1 + self.height(child))
            .max()
            .unwrap_or(0)
    }

    /// Whether a mount covers it or something below it.
    pub fn has_mount_point(&self, id: Id) -> bool {
        self.live_mounts()
            .filter_map(|mount| self.mounts[mount].on)
            .any(|on| self.within(on, id))
    }

    /// Whether it or something below it is shown a second time.
    pub fn has_source(&self, id: Id) -> bool {
        self.live_mounts()
            .any(|mount| self.is_bind(mount) && self.within(self.mounts[mount].shows, id))
    }

    /// What can be reached from these directories.
    pub fn scene(&self, roots: &[Id]) -> Scene {
        let mut scene = Scene::default();
        let mut open = roots.to_vec();
        while let Some(dir) = open.pop() {
            scene.dirs.push(dir);
            for &child in self.nodes[dir].children.values() {
                scene.names.push(child);
                match self.nodes[child].covered {
                    Some(mount) if self.is_bind(mount) => {}
                    Some(mount) => open.push(self.mounts[mount].shows),
                    None if self.nodes[child].kind == Kind::Dir => open.push(child),
                    None => {}
                }
            }
        }
        scene
    }
}

/// A path and names below it.
pub fn join(path: &[u8], names: &[Vec<u8>]) -> Vec<u8> {
    let mut path = path.to_vec();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}
