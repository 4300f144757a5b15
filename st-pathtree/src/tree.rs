//! The directories of one file system: the path of each, by its inode.
//!
//! A directory is a node that has a reference to its parent and its name there. So a rename of
//! a directory changes one node, however many directories are below it. What a change replaced
//! is kept for a while, to give paths as they were when a call began.

use foldhash::{HashMap, HashSet};
use st_decode::event::Inode;
use st_decode::time::Monotonic;
use std::collections::VecDeque;
use std::hash::Hash;

/// In place of a parent: the directory is the root.
const ROOT: u32 = u32::MAX;
/// In place of a parent: the parent is not known.
const UNKNOWN: u32 = u32::MAX - 1;
/// In place of a parent: several directories have this inode number.
const DOUBTFUL: u32 = u32::MAX - 2;
/// As many names as most paths have.
const USUAL_DEPTH: usize = 16;
/// The most names that a path may have. Where there are more, the nodes form a circle.
const MAX_DEPTH: usize = 1 << 14;
/// The most directories in [`Tree::chain_paths`].
const MAX_CHAIN_PATHS: usize = 1 << 16;

/// Which entry of which directory a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    /// The parent's node, [`ROOT`], [`UNKNOWN`] or [`DOUBTFUL`].
    parent: u32,
    /// [`Node::generation`] of the parent.
    generation: u32,
    name: Box<[u8]>,
}

impl Edge {
    /// The edge of a directory without a known parent: [`ROOT`], [`UNKNOWN`] or [`DOUBTFUL`].
    fn to(parent: u32) -> Self {
        Self {
            parent,
            generation: 0,
            name: Box::default(),
        }
    }
}

#[derive(Debug)]
struct Node {
    inode: u64,
    /// How many directories this node stood for before. An edge to one of these leads nowhere.
    generation: u32,
    /// Whether all directories below this one are known too.
    whole: bool,
    edge: Edge,
}

/// What a change replaced.
#[derive(Debug)]
enum Replaced {
    /// The edge of a node, because its directory was renamed.
    Edge(u32),
    /// The node of an inode, because its directory was removed.
    Node(u64),
}

/// How far a path within a file system is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The whole path, from the root on.
    Whole(Vec<u8>),
    /// The last names of the path.
    Tail(Vec<u8>),
}

impl Found {
    /// Whether only the last names of the path are known.
    pub fn is_partial(&self) -> bool {
        matches!(self, Self::Tail(_))
    }
}

/// The number of an inode in a [`Tree`]: on btrfs it is made of the subvolume's number and the
/// inode's own. `None` if these are too large, which no real file system comes near.
pub fn key(inode: Inode) -> Option<u64> {
    match inode.subvolume {
        None => Some(inode.ino),
        Some(subvolume) if subvolume < 1 << 24 && inode.ino < 1 << 40 => {
            Some(subvolume << 40 | inode.ino)
        }
        Some(_) => None,
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The key of the directory that the entry is in.
    pub parent: u64,
    /// The name of the entry.
    pub name: &'a [u8],
}

/// The directories of a file system, by their keys.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Nodes that stand for no directory.
    free: Vec<u32>,
    by_inode: HashMap<u64, u32>,
    /// Whether several directories may have the same inode number: on btrfs, if the kernel
    /// cannot be asked for the subvolume.
    pub repeats: bool,
    /// The btrfs subvolumes in which a walk was made or requested.
    pub subvolumes: HashSet<u64>,
    /// The btrfs subvolumes that events have named and that are not in `subvolumes`.
    pub unmet: HashSet<u64>,
    /// Paths of directories whose nodes have no known parent, as the chains of events showed
    /// them. A path is removed when a directory of it is renamed.
    chain_paths: HashMap<u64, Box<[u8]>>,
    /// When a directory was last renamed.
    renamed: Monotonic,
    /// What changes replaced, and when, oldest first.
    replaced: VecDeque<(Monotonic, Replaced)>,
    /// The former edges of nodes, each with the change that replaced it.
    former_edges: HashMap<u32, Vec<(Span, Edge)>>,
    /// The nodes of removed directories, each with the change that removed it.
    removed_nodes: HashMap<u64, Vec<(Span, u32)>>,
}

/// The time in which a change was made: an unknown instant between two others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When the call began.
    pub began: Monotonic,
    /// When the call had succeeded.
    pub ts: Monotonic,
}

/// A state of the tree at an instant, with or without all changes that were under way then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before(Monotonic),
    After(Monotonic),
}

impl State {
    /// Whether a change was made after this state.
    fn precedes(self, span: Span) -> bool {
        match self {
            Self::Before(instant) => span.ts > instant,
            Self::After(instant) => span.began > instant,
        }
    }
}

impl Tree {
    /// Learns the path of a directory, `parent`, from the path of a file in it.
    pub fn learn(&mut self, began: Monotonic, parent: u64, fs_path: &[u8]) {
        let Some(slash) = fs_path.iter().rposition(|&byte| byte == b'/') else {
            return;
        };
        if fs_path[0] != b'/' || fs_path.len() == 1 {
            return;
        }
        if let Some(&node) = self.by_inode.get(&parent) {
            if self.nodes[node as usize].edge.parent != UNKNOWN {
                return;
            }
        }
        if slash == 0 {
            let root = self.node(parent);
            self.nodes[root as usize].edge = Edge::to(ROOT);
        } else if began >= self.renamed && !self.chain_paths.contains_key(&parent) {
            if self.chain_paths.len() >= MAX_CHAIN_PATHS {
                self.chain_paths.clear();
            }
            self.chain_paths.insert(parent, fs_path[..slash].into());
        }
    }

    /// Learns that a walk has met the root.
    pub fn root(&mut self, inode: u64) {
        self.met(inode, Edge::to(ROOT));
    }

    /// Learns that a walk has met a directory. The walk meets the directories below it too.
    pub fn seen(&mut self, inode: u64, entry: DirEntry) {
        let edge = self.edge(entry);
        self.met(inode, edge);
    }

    fn met(&mut self, inode: u64, edge: Edge) {
        let node = self.node(inode);
        let node = &mut self.nodes[node as usize];
        let other =
            ![UNKNOWN, edge.parent].contains(&node.edge.parent) || node.edge.name != edge.name;
        node.edge = if self.repeats && node.edge.parent != UNKNOWN && other {
            Edge::to(DOUBTFUL)
        } else {
            edge
        };
        node.whole = true;
    }

    /// Learns of a new directory.
    pub fn made(&mut self, span: Span, inode: u64, entry: DirEntry) {
        // The removal of an earlier directory with this inode number may be missing.
        if !self.repeats {
            self.gone(span, inode);
        }
        self.seen(inode, entry);
    }

    /// Learns that a directory was removed, and which entry it was until then.
    pub fn removed(&mut self, span: Span, inode: u64, entry: DirEntry) {
        self.seen(inode, entry);
        self.gone(span, inode);
    }

    /// Learns that a directory was removed.
    pub fn gone(&mut self, span: Span, inode: u64) {
        self.chain_paths.remove(&inode);
        if self.repeats {
            let node = self.node(inode);
            self.nodes[node as usize].edge = Edge::to(DOUBTFUL);
        } else if let Some(node) = self.by_inode.remove(&inode) {
            self.removed_nodes
                .entry(inode)
                .or_default()
                .push((span, node));
            self.replaced.push_back((span.ts, Replaced::Node(inode)));
        }
    }

    /// Learns that a directory was renamed.
    pub fn moved(&mut self, span: Span, inode: u64, from: DirEntry, to: DirEntry) {
        let old = self.edge(from);
        let new = self.edge(to);
        self.forget_chain_paths(&old);
        self.renamed = span.ts;
        let node = self.node(inode);
        // The node may stand for another directory with the same inode number.
        self.nodes[node as usize].edge = if self.repeats {
            Edge::to(DOUBTFUL)
        } else {
            new
        };
        self.former_edges.entry(node).or_default().push((span, old));
        self.replaced.push_back((span.ts, Replaced::Edge(node)));
    }

    /// Forgets the chain paths of a directory that is renamed, by its old edge, and of those
    /// below it.
    fn forget_chain_paths(&mut self, old: &Edge) {
        if self.chain_paths.is_empty() {
            return;
        }
        match self.path_now(old) {
            Found::Whole(path) => self.chain_paths.retain(|_, known| {
                let rest = known.strip_prefix(&path[..]);
                rest.is_none_or(|rest| rest.first().is_some_and(|&byte| byte != b'/'))
            }),
            Found::Tail(_) => self.chain_paths.clear(),
        }
    }

    /// The current path of a directory if a directory below it may be unknown, else `None`.
    pub fn unknown_below(&self, inode: u64) -> Option<Found> {
        let node = &self.nodes[*self.by_inode.get(&inode)? as usize];
        (!node.whole).then(|| self.path_now(&node.edge))
    }

    fn path_now(&self, edge: &Edge) -> Found {
        let mut names = vec![&edge.name[..]];
        let above = self.climb(edge, State::After(Monotonic::MAX), &mut names);
        join(above, &names)
    }

    /// The path of a file when a call began. `tail` is the end of the path that a chain showed;
    /// it begins with the name of the directory `top`.
    pub fn path(&self, began: Monotonic, top: u64, tail: &[u8]) -> Found {
        let cut = tail.iter().position(|&byte| byte == b'/');
        let (name, rest) = tail.split_at(cut.unwrap_or(tail.len()));
        let mut longest = None;
        let overlapping = self.replaced.back().is_some_and(|(ts, _)| *ts > began);
        for state in [State::Before(began), State::After(began)] {
            if let Some(found) = self.path_at(state, top, name, rest) {
                if matches!(found, Found::Whole(_)) {
                    return found;
                }
                longest = Some(found);
            }
            if !overlapping {
                break;
            }
        }
        match self.chain_path(top, began) {
            Some(path) if path.rsplit(|&byte| byte == b'/').next() == Some(name) => {
                Found::Whole([path, rest].concat())
            }
            _ => longest.unwrap_or_else(|| Found::Tail(tail.to_vec())),
        }
    }

    fn path_at(&self, state: State, top: u64, name: &[u8], rest: &[u8]) -> Option<Found> {
        let edge = self.edge_at(self.node_at(top, state)?, state);
        if [UNKNOWN, DOUBTFUL].contains(&edge.parent) || *edge.name != *name {
            return None;
        }
        let mut names = Vec::with_capacity(USUAL_DEPTH);
        names.extend([rest.get(1..), Some(name)].into_iter().flatten());
        let above = self.climb(edge, state, &mut names);
        Some(join(above, &names))
    }

    /// The path of a directory that a chain showed, if the directory had it at an instant.
    fn chain_path(&self, inode: u64, instant: Monotonic) -> Option<&[u8]> {
        let path = self.chain_paths.get(&inode)?;
        (instant >= self.renamed).then_some(path)
    }

    /// Forgets what changes before an instant replaced. No path may be requested any more as it
    /// was before that instant.
    pub fn settle(&mut self, before: Monotonic) {
        while self.replaced.front().is_some_and(|(ts, _)| *ts < before) {
            match self.replaced.pop_front() {
                Some((_, Replaced::Edge(node))) => {
                    take_first(&mut self.former_edges, node);
                }
                Some((_, Replaced::Node(inode))) => {
                    if let Some((_, node)) = take_first(&mut self.removed_nodes, inode) {
                        let removed = &mut self.nodes[node as usize];
                        removed.generation = removed.generation.wrapping_add(1);
                        removed.edge = Edge::to(UNKNOWN);
                        self.free.push(node);
                    }
                }
                None => {}
            }
        }
    }

    /// The node that an inode had in a state.
    fn node_at(&self, inode: u64, state: State) -> Option<u32> {
        if self.removed_nodes.is_empty() {
            return self.by_inode.get(&inode).copied();
        }
        let removed = self.removed_nodes.get(&inode);
        match removed.and_then(|removed| first_after(removed, state)) {
            Some(node) => Some(*node),
            None => self.by_inode.get(&inode).copied(),
        }
    }

    /// The edge that a node had in a state.
    fn edge_at(&self, node: u32, state: State) -> &Edge {
        if self.former_edges.is_empty() {
            return &self.nodes[node as usize].edge;
        }
        let former = self.former_edges.get(&node);
        let former = former.and_then(|edges| first_after(edges, state));
        former.unwrap_or(&self.nodes[node as usize].edge)
    }

    /// Appends the names of the directories above an edge, from the nearest one on. Returns the
    /// path of the directory in which the last of them is: empty for the root, `None` if that
    /// is not known.
    fn climb<'a>(
        &'a self,
        mut edge: &'a Edge,
        state: State,
        names: &mut Vec<&'a [u8]>,
    ) -> Option<&'a [u8]> {
        let own = names.len();
        while edge.parent < DOUBTFUL {
            let parent = &self.nodes[edge.parent as usize];
            if parent.generation != edge.generation || names.len() > MAX_DEPTH {
                names.truncate(own);
                return None;
            }
            edge = self.edge_at(edge.parent, state);
            match edge.parent {
                UNKNOWN => {
                    let (State::Before(instant) | State::After(instant)) = state;
                    return self.chain_path(parent.inode, instant);
                }
                ROOT | DOUBTFUL => break,
                _ => names.push(&edge.name),
            }
        }
        (edge.parent == ROOT).then_some(b"")
    }

    fn edge(&mut self, entry: DirEntry) -> Edge {
        let parent = self.node(entry.parent);
        Edge {
            parent,
            generation: self.nodes[parent as usize].generation,
            name: entry.name.into(),
        }
    }

    /// The node of an inode: a new one if the inode has none yet.
    fn node(&mut self, inode: u64) -> u32 {
        if let Some(node) = self.by_inode.get(&inode) {
            return *node;
        }
        let node = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node {
                inode,
                generation: 0,
                whole: false,
                edge: Edge::to(UNKNOWN),
            });
            self.nodes.len() as u32 - 1
        });
        self.nodes[node as usize].inode = inode;
        self.nodes[node as usize].whole = false;
        self.by_inode.insert(inode, node);
        node
    }
}

/// The path of what is named last: `names` has the innermost name first, and `above` is the
/// path of the directory in which the outermost one is, if that is known.
fn join(above: Option<&[u8]>, names: &[&[u8]]) -> Found {
    let above_length = above.map_or(0, <[u8]>::len);
    let length = names.iter().map(|name| 1 + name.len()).sum::<usize>();
    let mut path = Vec::with_capacity(above_length + length);
    path.extend_from_slice(above.unwrap_or_default());
    for (place, name) in names.iter().rev().enumerate() {
        if above.is_some() || place > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    match above {
        Some(_) if path.is_empty() => Found::Whole(b"/".to_vec()),
        Some(_) => Found::Whole(path),
        None => Found::Tail(path),
    }
}

/// What the first change after a state replaced.
fn first_after<T>(changes: &[(Span, T)], state: State) -> Option<&T> {
    let change = changes.iter().find(|(span, _)| state.precedes(*span));
    change.map(|(_, replaced)| replaced)
}

/// Removes the first value of a list in a map, and the list if that was its only one.
fn take_first<K: Hash + Eq, V>(map: &mut HashMap<K, Vec<V>>, key: K) -> Option<V> {
    let list = map.get_mut(&key)?;
    let first = if list.is_empty() {
        None
    } else {
        Some(list.remove(0))
    };
    if list.is_empty() {
        map.remove(&key);
    }
    first
}
