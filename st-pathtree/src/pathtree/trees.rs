//! The trees of all file systems.

use crate::tree::Tree;
use foldhash::HashMap;
use st_decode::time::Monotonic;

/// The tree of each file system, by its device.
#[derive(Default)]
pub(super) struct Trees {
    current: HashMap<String, Tree>,
    former: Vec<FormerTree>,
}

/// A tree that is out of date.
struct FormerTree {
    /// The instant until which the tree was right.
    until: Monotonic,
    dev: String,
    tree: Tree,
}

impl Trees {
    /// Forgets all trees.
    pub(super) fn clear(&mut self) {
        self.current.clear();
        self.former.clear();
    }

    /// The current tree of a device.
    pub(super) fn get(&self, dev: &str) -> Option<&Tree> {
        self.current.get(dev)
    }

    /// The current tree of a device.
    pub(super) fn get_mut(&mut self, dev: &str) -> Option<&mut Tree> {
        self.current.get_mut(dev)
    }

    /// The current tree of a device: an empty one if there is none yet.
    pub(super) fn get_or_new(&mut self, dev: &str) -> &mut Tree {
        if !self.current.contains_key(dev) {
            self.current.insert(dev.to_owned(), Tree::default());
        }
        let tree = self.current.get_mut(dev);
        tree.expect("it was there, or has been inserted")
    }

    /// The tree that a device had at an instant, if that tree is a former one now.
    pub(super) fn former(&self, dev: &str, instant: Monotonic) -> Option<&Tree> {
        let mut former = self.former.iter();
        let former = former.find(|former| former.dev == dev && former.until > instant);
        former.map(|former| &former.tree)
    }

    /// The devices that have a current tree.
    pub(super) fn devices(&self) -> Vec<String> {
        self.current.keys().cloned().collect()
    }

    /// Makes the tree of a device a former one.
    pub(super) fn retire(&mut self, dev: &str, until: Monotonic) {
        if let Some((dev, tree)) = self.current.remove_entry(dev) {
            self.former.push(FormerTree { until, dev, tree });
        }
    }

    /// Forgets all current trees.
    pub(super) fn forget_current(&mut self) {
        self.current.clear();
    }

    /// Makes all trees former ones.
    pub(super) fn retire_all(&mut self, until: Monotonic) {
        for (dev, tree) in self.current.drain() {
            self.former.push(FormerTree { until, dev, tree });
        }
    }

    /// Forgets the former trees.
    pub(super) fn forget_former(&mut self) {
        self.former.clear();
    }
}
