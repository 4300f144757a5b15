//! A tree of paths that takes no more than so much memory.

use std::collections::HashMap;
use std::rc::Rc;

/// At most so many nodes ...
const NODES: usize = 1 << 16;
/// ... with so many bytes of names.
const BYTES: usize = 4 << 20;

/// A node's place in the tree.
pub type Id = u32;
/// The uppermost node: `/`, and what is above the first name that is known of a path.
pub const ROOT: Id = 0;

/// Paths, each with a value.
#[derive(Debug)]
pub struct Tree<T> {
    nodes: Vec<Node<T>>,
    /// Nodes that are in no path any more.
    free: Vec<Id>,
    by_name: HashMap<(Id, Rc<[u8]>), Id>,
    bytes: usize,
}

/// A name in a path.
#[derive(Debug)]
pub struct Node<T> {
    /// The node above it.
    pub parent: Id,
    name: Rc<[u8]>,
    /// How many nodes are below it, in one step.
    children: u32,
    /// What is known of the path.
    pub value: T,
}

impl<T: Default> Default for Tree<T> {
    fn default() -> Self {
        let root = Node {
            parent: ROOT,
            name: Rc::from(&b""[..]),
            children: 0,
            value: T::default(),
        };
        Self {
            nodes: vec![root],
            free: Vec::new(),
            by_name: HashMap::new(),
            bytes: 0,
        }
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
}

impl<T: Default> Tree<T> {
    /// A node.
    pub fn node(&mut self, id: Id) -> &mut Node<T> {
        &mut self.nodes[id as usize]
    }

    /// The node of a path, if there is one.
    pub fn find(&self, path: &[u8]) -> Option<Id> {
        names(path).try_fold(ROOT, |id, name| {
            self.by_name.get(&(id, Rc::from(name))).copied()
        })
    }

    /// The node of a path, which is made if there is room, or else that of the nearest directory
    /// above it that has one. True: it is the path's own.
    pub fn make(&mut self, path: &[u8]) -> (Id, bool) {
        let mut id = ROOT;
        for name in names(path) {
            let key = (id, Rc::from(name));
            id = match self.by_name.get(&key) {
                Some(&child) => child,
                None if self.by_name.len() < NODES && self.bytes + name.len() <= BYTES => {
                    self.add(key)
                }
                None => return (id, false),
            };
        }
        (id, true)
    }

    fn add(&mut self, key: (Id, Rc<[u8]>)) -> Id {
        let node = Node {
            parent: key.0,
            name: Rc::clone(&key.1),
            children: 0,
            value: T::default(),
        };
        self.bytes += key.1.len();
        self.nodes[key.0 as usize].children += 1;
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as Id
            }
        };
        self.by_name.insert(key, id);
        id
    }

    fn unlink(&mut self, id: Id) {
        let node = &self.nodes[id as usize];
        let (parent, name) = (node.parent, Rc::clone(&node.name));
        self.bytes -= name.len();
        self.by_name.remove(&(parent, name));
        self.nodes[parent as usize].children -= 1;
    }

    /// Takes a node away, and those above it, as far as nothing is below them and `is_empty`.
    pub fn prune(&mut self, mut id: Id, is_empty: impl Fn(&T) -> bool) {
        while id != ROOT {
            let node = &self.nodes[id as usize];
            if node.children > 0 || !is_empty(&node.value) {
                return;
            }
            let parent = node.parent;
            self.unlink(id);
            self.free.push(id);
            id = parent;
        }
    }

    /// Moves a node with all below it to the place of another one, which must have nothing below
    /// it and not be below the first; the other one goes.
    pub fn replace(&mut self, id: Id, other: Id) {
        let (parent, name) = {
            let node = &self.nodes[other as usize];
            (node.parent, Rc::clone(&node.name))
        };
        self.unlink(id);
        self.nodes[other as usize].value = T::default();
        self.unlink(other);
        self.free.push(other);
        self.bytes += name.len();
        self.nodes[parent as usize].children += 1;
        self.by_name.insert((parent, Rc::clone(&name)), id);
        let node = &mut self.nodes[id as usize];
        (node.parent, node.name) = (parent, name);
    }

    /// Whether anything is below a node.
    pub fn is_leaf(&self, id: Id) -> bool {
        self.nodes[id as usize].children == 0
    }

    /// Whether a node is another one, or below it.
    pub fn is_within(&self, mut id: Id, above: Id) -> bool {
        while id != above && id != ROOT {
            id = self.nodes[id as usize].parent;
        }
        id == above
    }

    /// The path of a node.
    pub fn path(&self, mut id: Id) -> Vec<u8> {
        let mut names = Vec::new();
        while id != ROOT {
            let node = &self.nodes[id as usize];
            names.push(&*node.name);
            id = node.parent;
        }
        names.push(b"");
        names.reverse();
        let path = names.join(&b'/');
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    /// The nodes below each node, in one step; for a tree from which nothing was taken away.
    pub fn children(&self) -> Vec<Vec<Id>> {
        let mut children = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate().skip(1) {
            children[node.parent as usize].push(id as Id);
        }
        children
    }

    /// The values of all nodes, by their places.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = (Id, Id, &T)> + ExactSizeIterator {
        let nodes = self.nodes.iter().enumerate();
        nodes.map(|(id, node)| (id as Id, node.parent, &node.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_gives_back_what_it_was_given() {
        let mut tree = Tree::<u32>::default();
        let (id, is_own) = tree.make(b"/a/b/c");
        assert!(is_own);
        tree.node(id).value = 7;
        assert_eq!(tree.path(id), b"/a/b/c");
        assert_eq!(tree.find(b"a//b/c/"), Some(id));
        assert_eq!((tree.find(b"/a/x"), tree.find(b"/")), (None, Some(ROOT)));
        assert_eq!(tree.path(ROOT), b"/");
        let above = tree.find(b"/a").unwrap();
        assert!(tree.is_within(id, above) && !tree.is_within(above, id));
    }

    #[test]
    fn a_directory_moves_with_all_below_it() {
        let mut tree = Tree::<u32>::default();
        let (file, _) = tree.make(b"/tmp/new/x");
        let directory = tree.find(b"/tmp/new").unwrap();
        let (place, _) = tree.make(b"/srv/app");
        tree.replace(directory, place);
        assert_eq!(tree.path(file), b"/srv/app/x");
        assert_eq!(tree.find(b"/srv/app/x"), Some(file));
        assert_eq!(tree.find(b"/tmp/new"), None);
        tree.prune(file, |value| *value == 0);
        assert_eq!((tree.find(b"/srv"), tree.bytes), (None, 3));
    }

    #[test]
    fn memory_is_bounded() {
        let mut tree = Tree::<u32>::default();
        for number in 0..2 * NODES {
            tree.make(format!("/d/{number}/x").as_bytes());
        }
        assert_eq!(tree.by_name.len(), NODES);
        let (id, is_own) = tree.make(b"/d/new/x");
        assert_eq!((tree.path(id), is_own), (b"/d".to_vec(), false));
        let mut tree = Tree::<u32>::default();
        for number in 0..40 {
            let name = vec![b'a' + number; BYTES / 20];
            tree.make(&name);
        }
        assert!(tree.bytes <= BYTES && tree.by_name.len() == 20);
    }
}
