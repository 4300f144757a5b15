//! The directories of one file system: where each is, by its inode.
//!
//! A directory is a node that knows its parent and its name there, so that renaming it moves
//! all below it at no cost. What events change is kept for a while, so that a path can be
//! told as it was when a call began.

use st_decode::event::Inode;
use st_decode::time::Unix;
use std::collections::{HashMap, HashSet, VecDeque};

/// What begins a path in place of a parent.
const ROOT: u32 = u32::MAX;
const UNKNOWN: u32 = u32::MAX - 1;
/// Several directories have this inode number.
const DOUBTFUL: u32 = u32::MAX - 2;
/// No path has more names: more would be a circle.
const MAX_DEPTH: usize = 1 << 14;
/// How many directories' paths are remembered that no node leads to.
const MAX_PLACES: usize = 1 << 16;

/// Where a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    /// The parent's node, [`ROOT`], [`UNKNOWN`] or [`DOUBTFUL`].
    parent: u32,
    /// The parent's [`Node::generation`].
    generation: u32,
    name: Box<[u8]>,
}

impl Edge {
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
    /// Counts the directories that this node has stood for.
    generation: u32,
    /// Whether every directory below is known too.
    whole: bool,
    edge: Edge,
}

/// What a change undid.
#[derive(Debug)]
enum Undone {
    Edge(u32),
    Node(u64),
}

/// How far a path within a file system is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// From its root.
    Whole(Vec<u8>),
    /// The end of it.
    Tail(Vec<u8>),
}

/// The number that an inode has in a tree: on btrfs made of the subvolume's and its own.
/// `None` if these are too large, which no file system comes near.
pub fn key(inode: Inode) -> Option<u64> {
    match inode.subvolume {
        None => Some(inode.ino),
        Some(subvolume) if subvolume < 1 << 24 && inode.ino < 1 << 40 => {
            Some(subvolume << 40 | inode.ino)
        }
        Some(_) => None,
    }
}

/// A directory's name, and the inode of the one it is in.
#[derive(Debug, Clone, Copy)]
pub struct Spot<'a> {
    /// The parent's inode.
    pub parent: u64,
    /// The name.
    pub name: &'a [u8],
}

/// The directories of a file system.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    by_inode: HashMap<u64, u32>,
    /// Whether several directories may have one inode number: on btrfs, where the kernel
    /// cannot be asked for the subvolume.
    pub repeats: bool,
    /// The btrfs subvolumes that the snapshot met, or that were looked for since.
    pub subvolumes: HashSet<u64>,
    /// Those that events have told of, and that are still to be looked for.
    pub unmet: HashSet<u64>,
    /// Paths of directories that no node leads to, as chains showed them; good until a
    /// directory above is renamed.
    places: HashMap<u64, Box<[u8]>>,
    /// When a directory was last renamed.
    renamed: Unix,
    /// What was undone, oldest first, with when.
    undone: VecDeque<(Unix, Undone)>,
    /// Where renamed directories were until when.
    edges: HashMap<u32, Vec<(Span, Edge)>>,
    /// Removed directories, until when they were there.
    removed: HashMap<u64, Vec<(Span, u32)>>,
}

/// When a change was made: some time from its call's beginning to when it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When the call began.
    pub began: Unix,
    /// When it had succeeded.
    pub ts: Unix,
}

/// An instant to look back at. Of changes under way then, either all or none are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instant {
    Before(Unix),
    After(Unix),
}

impl Instant {
    /// Whether a change was made later.
    fn precedes(self, span: Span) -> bool {
        match self {
            Self::Before(instant) => span.ts > instant,
            Self::After(instant) => span.began > instant,
        }
    }
}

impl Tree {
    /// Learns from a path: `parent` is the inode of the directory that it is in.
    pub fn learn(&mut self, began: Unix, parent: u64, fs_path: &[u8]) {
        let Some(slash) = fs_path.iter().rposition(|&byte| byte == b'/') else {
            return;
        };
        if fs_path[0] != b'/' || fs_path.len() == 1 {
            return;
        }
        let known = |tree: &Self| {
            let node = tree.by_inode.get(&parent)?;
            Some(tree.nodes[*node as usize].edge.parent != UNKNOWN)
        };
        if known(self) == Some(true) {
            return;
        }
        if slash == 0 {
            let root = self.node(parent);
            self.nodes[root as usize].edge = Edge::to(ROOT);
        } else if began >= self.renamed && !self.places.contains_key(&parent) {
            if self.places.len() >= MAX_PLACES {
                self.places.clear();
            }
            self.places.insert(parent, fs_path[..slash].into());
        }
    }

    /// Learns where a directory is, the root if nowhere; those in it will be learned too.
    pub fn seen(&mut self, inode: u64, spot: Option<Spot>) {
        let edge = spot.map_or(Edge::to(ROOT), |spot| self.edge(spot));
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
    pub fn made(&mut self, span: Span, inode: u64, spot: Spot) {
        // One that was removed unseen.
        if !self.repeats {
            self.gone(span, inode, None);
        }
        self.seen(inode, Some(spot));
    }

    /// Forgets a directory, which was there until now.
    pub fn gone(&mut self, span: Span, inode: u64, spot: Option<Spot>) {
        self.places.remove(&inode);
        if let Some(spot) = spot {
            self.seen(inode, Some(spot));
        }
        if self.repeats {
            let node = self.node(inode);
            self.nodes[node as usize].edge = Edge::to(DOUBTFUL);
        } else if let Some(node) = self.by_inode.remove(&inode) {
            self.removed.entry(inode).or_default().push((span, node));
            self.undone.push_back((span.ts, Undone::Node(inode)));
        }
    }

    /// Learns that a directory was renamed.
    pub fn moved(&mut self, span: Span, inode: u64, from: Spot, to: Spot) {
        let old = self.edge(from);
        let new = self.edge(to);
        self.forget_places(&old);
        self.renamed = span.ts;
        let node = self.node(inode);
        // It may have been another one of that number.
        self.nodes[node as usize].edge = if self.repeats {
            Edge::to(DOUBTFUL)
        } else {
            new
        };
        self.edges.entry(node).or_default().push((span, old));
        self.undone.push_back((span.ts, Undone::Edge(node)));
    }

    /// Forgets the paths below a directory that is being renamed.
    fn forget_places(&mut self, old: &Edge) {
        if self.places.is_empty() {
            return;
        }
        let mut names = vec![&old.name[..]];
        let parent = self.climb(old, Instant::After(Unix::MAX), &mut names);
        match join(parent, &names) {
            Found::Whole(path) => self.places.retain(|_, place| {
                let rest = place.strip_prefix(&path[..]);
                rest.is_none_or(|rest| rest.first().is_some_and(|&byte| byte != b'/'))
            }),
            Found::Tail(_) => self.places.clear(),
        }
    }

    /// Where a directory is now, unless every directory below is known.
    pub fn unknown_below(&self, inode: u64) -> Option<Found> {
        let node = &self.nodes[*self.by_inode.get(&inode)? as usize];
        let mut names = vec![&node.edge.name[..]];
        let above = self.climb(&node.edge, Instant::After(Unix::MAX), &mut names);
        (!node.whole).then(|| join(above, &names))
    }

    /// The path of what a chain showed when a call began: `tail` begins with the name of the
    /// directory whose inode is `top`.
    pub fn path(&self, began: Unix, top: u64, tail: &[u8]) -> Found {
        let cut = tail.iter().position(|&byte| byte == b'/');
        let (name, rest) = tail.split_at(cut.unwrap_or(tail.len()));
        let mut longest = Found::Tail(tail.to_vec());
        let overlapping = self.undone.back().is_some_and(|(ts, _)| *ts > began);
        for instant in [Instant::Before(began), Instant::After(began)] {
            if let Some(found) = self.path_at(instant, top, name, rest) {
                if matches!(found, Found::Whole(_)) {
                    return found;
                }
                longest = found;
            }
            if !overlapping {
                break;
            }
        }
        match self.place(top, began) {
            Some(place) if place.rsplit(|&byte| byte == b'/').next() == Some(name) => {
                Found::Whole([place, rest].concat())
            }
            _ => longest,
        }
    }

    fn path_at(&self, instant: Instant, top: u64, name: &[u8], rest: &[u8]) -> Option<Found> {
        let edge = self.edge_at(self.find(top, instant)?, instant);
        if [UNKNOWN, DOUBTFUL].contains(&edge.parent) || *edge.name != *name {
            return None;
        }
        let mut names = vec![name];
        let above = self.climb(edge, instant, &mut names);
        Some(match join(above, &names) {
            Found::Whole(path) => Found::Whole([&path, rest].concat()),
            Found::Tail(path) => Found::Tail([&path, rest].concat()),
        })
    }

    /// The path of a directory that no node leads to, if it was that at an instant.
    fn place(&self, inode: u64, instant: Unix) -> Option<&[u8]> {
        let place = self.places.get(&inode)?;
        (instant >= self.renamed).then_some(place)
    }

    /// Forgets what changed before an instant: no call that began then is still to be told.
    pub fn settle(&mut self, before: Unix) {
        while self.undone.front().is_some_and(|(ts, _)| *ts < before) {
            match self.undone.pop_front() {
                Some((_, Undone::Edge(node))) => drop(drop_first(&mut self.edges, node)),
                Some((_, Undone::Node(inode))) => {
                    if let Some((_, node)) = drop_first(&mut self.removed, inode) {
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

    fn find(&self, inode: u64, instant: Instant) -> Option<u32> {
        let removed = || {
            let removed = self.removed.get(&inode)?;
            removed.iter().find(|(span, _)| instant.precedes(*span))
        };
        match removed() {
            Some((_, node)) => Some(*node),
            None => self.by_inode.get(&inode).copied(),
        }
    }

    fn edge_at(&self, node: u32, instant: Instant) -> &Edge {
        let old = || {
            let edges = self.edges.get(&node)?;
            edges.iter().find(|(span, _)| instant.precedes(*span))
        };
        old().map_or(&self.nodes[node as usize].edge, |(_, edge)| edge)
    }

    /// Collects the names above an edge. Returns the path of what they are in: empty for
    /// the root, `None` if that is not known.
    fn climb<'a>(
        &'a self,
        mut edge: &'a Edge,
        instant: Instant,
        names: &mut Vec<&'a [u8]>,
    ) -> Option<&'a [u8]> {
        let own = names.len();
        while edge.parent < DOUBTFUL {
            let parent = &self.nodes[edge.parent as usize];
            if parent.generation != edge.generation || names.len() > MAX_DEPTH {
                names.truncate(own);
                return None;
            }
            edge = self.edge_at(edge.parent, instant);
            match edge.parent {
                ROOT => break,
                UNKNOWN => {
                    let (Instant::Before(instant) | Instant::After(instant)) = instant;
                    return self.place(parent.inode, instant);
                }
                DOUBTFUL => break,
                _ => names.push(&edge.name),
            }
        }
        (edge.parent == ROOT).then_some(b"")
    }

    fn edge(&mut self, spot: Spot) -> Edge {
        let parent = self.node(spot.parent);
        Edge {
            parent,
            generation: self.nodes[parent as usize].generation,
            name: spot.name.into(),
        }
    }

    /// The node of an inode: a new one if it has none.
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

/// Joins names, the innermost first, to the path that they are in.
fn join(above: Option<&[u8]>, names: &[&[u8]]) -> Found {
    let mut path = above.unwrap_or_default().to_vec();
    for name in names.iter().rev() {
        if above.is_some() || !path.is_empty() {
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

fn drop_first<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, Vec<V>>, key: K) -> Option<V> {
    let list = map.get_mut(&key)?;
    let first = (!list.is_empty()).then(|| list.remove(0));
    if list.is_empty() {
        map.remove(&key);
    }
    first
}
