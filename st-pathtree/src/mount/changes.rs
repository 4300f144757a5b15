//! Changes of a mount table: one mount after the other.

use super::{Mount, MountTable};
use foldhash::HashSet;

/// A mount that gets its place.
#[derive(Debug, Clone, Default)]
pub struct Attached {
    /// Its id.
    pub id: u64,
    /// The id of the mount that the mount point is on; its own if there is none.
    pub parent: u64,
    /// The path within its file system of the directory (or file) that it shows, if known.
    pub root: Option<Vec<u8>>,
    /// The path of the mount point within the file system that it is on, if known.
    pub place: Option<Vec<u8>>,
    /// Its device.
    pub device: Vec<u8>,
    /// The type of its file system, if known.
    pub kind: Option<Vec<u8>>,
}

impl MountTable {
    /// Whether a mount is in the table, or one that the uppermost mounts are on.
    pub fn holds(&self, id: u64) -> bool {
        self.has(id) || self.is_above(id)
    }

    /// Whether a mount is in the table.
    pub fn has(&self, id: u64) -> bool {
        self.ids.contains(&id)
    }

    /// Whether the uppermost mounts are on a mount, which a process does not see.
    pub fn is_above(&self, id: u64) -> bool {
        self.above.contains(&id)
    }

    /// Whether the table has no mounts.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// Puts a mount into its place: it is new, or it moves with all that is on it. `tree` are the
    /// mounts that were on it before it was in the table. A mount may come where another one still
    /// is, which goes elsewhere next: pivot_root(2), and propagation below a mount, end so.
    pub fn attach(&mut self, attached: Attached, tree: Self) {
        self.is_stale = true;
        let Attached { id, parent, .. } = attached;
        let known = self.position(id);
        if known.is_some_and(|known| self.mounts[known].device != attached.device) {
            // It was removed, and its id given to another one.
            self.detach(id);
        }
        if let Some(kind) = attached.kind {
            self.types.insert(attached.device.clone(), kind);
        }
        self.types.extend(tree.types);
        self.ids.extend(tree.ids);
        self.ids.insert(id);
        let at = self.position(id).unwrap_or_else(|| {
            self.mounts.push(Mount {
                id,
                device: attached.device,
                ..Mount::default()
            });
            self.mounts.len() - 1
        });
        self.mounts.extend(tree.mounts);
        let is_above = self.is_above(parent) || parent == id;
        let holds_parent = is_above || self.has(parent);
        self.has_unknown |= attached.place.is_none() || !holds_parent;
        let mount = &mut self.mounts[at];
        mount.parent_id = parent;
        if let Some(root) = attached.root {
            mount.root = root;
        }
        self.has_unknown |= mount.root.is_empty();
        // On a mount of the table, its mount point is found when the table settles.
        mount.point = attached
            .place
            .clone()
            .filter(|_| is_above)
            .unwrap_or_default();
        mount.place = attached.place;
    }

    fn position(&self, id: u64) -> Option<usize> {
        if !self.has(id) {
            return None;
        }
        self.mounts.iter().position(|mount| mount.id == id)
    }

    /// Removes a mount, and all that is on it.
    pub fn detach(&mut self, id: u64) {
        self.take_tree(id);
        if self.ids.remove(&id) {
            self.is_stale = true;
            self.mounts.retain(|mount| mount.id != id);
        }
    }

    /// Removes the mounts that another table has.
    pub fn remove_those_of(&mut self, other: &Self) {
        self.is_stale = true;
        self.mounts.retain(|mount| !other.has(mount.id));
        self.ids.retain(|id| !other.has(*id));
    }

    /// Takes the mounts that are on a mount, which may be in the table or not.
    pub fn take_tree(&mut self, id: u64) -> Self {
        let mut ids = HashSet::from_iter([id]);
        let mut taken = Self::default();
        if !self.mounts.iter().any(|mount| mount.parent_id == id) {
            return taken;
        }
        self.is_stale = true;
        loop {
            let on_it = |mount: &Mount| ids.contains(&mount.parent_id) && mount.id != id;
            let mounts = std::mem::take(&mut self.mounts).into_iter();
            let (found, left): (Vec<_>, Vec<_>) = mounts.partition(on_it);
            self.mounts = left;
            if found.is_empty() {
                break;
            }
            ids.extend(found.iter().map(|mount| mount.id));
            taken.mounts.extend(found);
        }
        for mount in &taken.mounts {
            self.ids.remove(&mount.id);
            taken.ids.insert(mount.id);
            if let Some(kind) = self.types.get(&mount.device) {
                taken.types.insert(mount.device.clone(), kind.clone());
            }
        }
        taken
    }
}
