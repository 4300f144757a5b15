//! Changes of mounts, each as the kernel makes it.

use super::{Namespace, Resolver, WatchedMounts};
use crate::mount::{Attached, MountTable};
use crate::watch::Watches;
use st_decode::time::Monotonic;
use std::time::Duration;

/// How long the table before a change is kept while others follow: a path may be asked for of
/// some time before.
const KEPT: Duration = Duration::from_secs(2);

/// A mount of the host that is new at or above or below a watch.
pub struct NewMount {
    /// Since when.
    pub at: Monotonic,
    /// Its device.
    pub dev: String,
    /// Its mount point.
    pub point: Vec<u8>,
}

impl NewMount {
    /// The mount that a table has with this device and mount point.
    pub(super) fn of(at: Monotonic, (dev, point): (&[u8], &[u8])) -> Self {
        Self {
            at,
            dev: String::from_utf8_lossy(dev).into_owned(),
            point: point.to_vec(),
        }
    }
}

impl Resolver {
    /// Takes a mount that gets its place at an instant.
    pub fn attach(&mut self, at: Monotonic, attached: Attached) {
        let Attached { id, parent, .. } = attached;
        let holds = |namespace: &Namespace| namespace.now.table.holds(parent);
        let has = |namespace: &Namespace| namespace.now.table.has(id);
        let is_host = self.host.as_ref().is_some_and(holds);
        if is_host {
            self.new.push((at, id));
        }
        let namespace = if is_host {
            self.host.as_mut()
        } else {
            // Propagation below a mount moves that mount first, onto one that has no place yet.
            let namespaces = self.others.iter().position(holds);
            match namespaces.or_else(|| self.others.iter().position(has)) {
                Some(other) => Some(&mut self.others[other]),
                None => self.host.as_mut().filter(|host| has(host)),
            }
        };
        let Some(namespace) = namespace else {
            self.loose.table.attach(attached, MountTable::default());
            return;
        };
        namespace.change(at, &self.watches);
        let tree = self.loose.table.take_tree(id);
        self.loose.table.detach(id);
        namespace.now.table.attach(attached, tree);
    }

    /// Takes a mount that is no longer in a namespace.
    pub fn detach(&mut self, at: Monotonic, id: u64) {
        self.loose.table.detach(id);
        for namespace in self.host.iter_mut().chain(&mut self.others) {
            if namespace.now.table.has(id) {
                namespace.change(at, &self.watches);
                namespace.now.table.detach(id);
            }
        }
        // The namespace itself is gone.
        self.others
            .retain(|other| !other.now.table.is_empty() && !other.now.table.is_above(id));
    }

    /// Takes a namespace that was made, with its uppermost mount.
    pub fn made(&mut self, at: Monotonic, ns: u64, root: Attached) {
        if self.host.as_ref().is_some_and(|host| host.ns == ns) {
            return;
        }
        // If there is one of this number, its end is missing.
        self.others.retain(|other| other.ns != ns);
        let tree = self.loose.table.take_tree(root.id);
        let mut table = MountTable::default();
        table.attach(root, tree);
        self.others.push(Namespace {
            ns,
            now: WatchedMounts {
                table,
                ..WatchedMounts::default()
            },
            changed: at,
            first_changed: at,
            before_since: at,
            ..Namespace::default()
        });
    }

    /// Notes that changes may be missing: st-probe reads all tables again, of the namespaces that
    /// are still there.
    pub fn lost(&mut self) {
        self.loose = WatchedMounts::default();
        self.others.retain(|other| other.is_read);
    }

    /// The new mounts of the host since this was asked last.
    pub fn take_new(&mut self) -> Vec<NewMount> {
        let new = std::mem::take(&mut self.new);
        let Some(host) = self.host.as_mut().filter(|_| !new.is_empty()) else {
            return Vec::new();
        };
        host.now.settle(&self.watches);
        let mut mounts = Vec::new();
        for (at, id) in new {
            let tree = self.host.iter().flat_map(|host| host.now.table.tree(id));
            let watched = tree.filter(|(_, point)| !point.is_empty() && self.concerns(point));
            mounts.extend(watched.map(|mount| NewMount::of(at, mount)));
        }
        mounts
    }

    /// Finds the mount points of all namespaces after changes.
    pub(super) fn settle(&mut self) {
        for namespace in self.host.iter_mut().chain(&mut self.others) {
            namespace.now.settle(&self.watches);
        }
        self.loose.settle(&self.watches);
    }

    /// Whether a file may be at a path that is not known, since it is not known where its file system
    /// is mounted.
    pub(super) fn may_be_anywhere(&mut self, dev: &str, fs_path: &[u8]) -> bool {
        let namespaces = self.host.iter_mut().chain(&mut self.others);
        let tables = namespaces.map(|known| &mut known.now);
        let mut tables = tables.chain([&mut self.loose]);
        tables.any(|mounts| {
            if !mounts.table.has_unknown() {
                return false;
            }
            mounts.settle(&self.watches);
            mounts.table.may_show(dev, fs_path)
        })
    }

    /// Whether a watch may want events on a device.
    pub fn watches_device(&self, dev: &str) -> bool {
        let mut namespaces = self.host.iter().chain(&self.others);
        self.watches.is_empty()
            || namespaces.any(|known| known.now.wanted.contains_key(dev.as_bytes()))
    }
}

impl Namespace {
    /// Keeps the table as it is before a change.
    fn change(&mut self, at: Monotonic, watches: &Watches) {
        if self.first_changed.after(KEPT) < at {
            self.now.settle(watches);
            self.before = self.now.clone();
            self.before_since = self.changed;
            self.first_changed = at;
            self.attempts = 0;
        }
        self.attempts += 1;
        self.changed = self.changed.max(at);
    }
}

impl WatchedMounts {
    pub(super) fn settle(&mut self, watches: &Watches) {
        if self.table.settle() {
            self.apply(watches);
        }
    }
}
