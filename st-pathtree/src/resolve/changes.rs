//! Changes of mounts, each as the kernel makes it.

use super::{Namespace, Resolver, WatchedMounts};
use crate::mount::{Attached, MountTable};
use crate::watch::Watches;
use st_decode::time::Monotonic;
use std::time::Duration;

/// How long the table before a change is kept while others follow: a path may be asked for of
/// some time before, but not of longer ago.
const KEPT: Duration = Duration::from_secs(2);

impl Resolver {
    /// Takes a mount that gets its place at an instant. Returns the devices and mount points of the
    /// host's mounts that are new there and at, above or below a watch.
    pub fn attach(&mut self, at: Monotonic, attached: Attached) -> Vec<(String, Vec<u8>)> {
        let id = attached.id;
        let parent = attached.parent;
        let host = self.host.as_ref();
        let is_host = host.is_some_and(|host| host.now.table.holds(parent));
        let holds = |other: &&mut Namespace| other.now.table.holds(parent);
        let namespace = if is_host {
            self.host.as_mut()
        } else {
            self.others.iter_mut().find(holds)
        };
        let Some(namespace) = namespace else {
            self.loose.attach(attached, MountTable::default());
            return Vec::new();
        };
        namespace.change(at, &self.watches);
        let tree = self.loose.take_tree(id);
        self.loose.detach(id);
        namespace.now.table.attach(attached, tree);
        if !is_host {
            return Vec::new();
        }
        namespace.settle(&self.watches);
        let Some(host) = &self.host else {
            return Vec::new();
        };
        let new = host.now.table.tree(id).into_iter();
        let watched = new.filter(|(_, point)| self.concerns(point));
        watched
            .map(|(dev, point)| (String::from_utf8_lossy(dev).into_owned(), point.to_vec()))
            .collect()
    }

    /// Takes a mount that is no longer in a namespace.
    pub fn detach(&mut self, at: Monotonic, id: u64) {
        self.loose.detach(id);
        let watches = &self.watches;
        for namespace in self.host.iter_mut().chain(&mut self.others) {
            if namespace.now.table.has(id) {
                namespace.change(at, watches);
                namespace.now.table.detach(id);
            }
        }
        // The namespace itself is gone.
        self.others
            .retain(|other| !other.now.table.is_empty() && !other.now.table.is_above(id));
    }

    /// Takes a namespace that was made, with its uppermost mount.
    pub fn made(&mut self, at: Monotonic, ns: u64, root: Attached) {
        let mut known = self.host.iter().chain(&self.others);
        if known.any(|known| known.ns == ns) {
            return;
        }
        let tree = self.loose.take_tree(root.id);
        let mut table = MountTable::default();
        table.attach(root, tree);
        self.others.push(Namespace {
            ns,
            now: WatchedMounts {
                table,
                is_stale: true,
                ..WatchedMounts::default()
            },
            changed: at,
            ..Namespace::default()
        });
    }

    /// Notes that changes may be missing: st-probe reads all tables again, of the namespaces that
    /// are still there.
    pub fn lost(&mut self) {
        self.loose = MountTable::default();
        self.others.retain(|other| other.is_read);
    }

    /// Finds what has changed by the changes so far. Called before paths are resolved.
    pub fn settle(&mut self) {
        for namespace in self.host.iter_mut().chain(&mut self.others) {
            namespace.settle(&self.watches);
        }
    }

    /// Whether a file system may be mounted anywhere: a mount point of it is not known.
    pub(super) fn is_unplaced(&self, dev: &str) -> bool {
        let mut namespaces = self.host.iter().chain(&self.others);
        self.loose.has_device(dev) || namespaces.any(|known| known.now.table.is_unplaced(dev))
    }
}

impl Namespace {
    /// Keeps the table as it is before a change.
    fn change(&mut self, at: Monotonic, watches: &Watches) {
        if self.first_changed.after(KEPT) < at {
            self.settle(watches);
            self.before = self.now.clone();
            self.first_changed = at;
            self.attempts = 0;
        }
        self.attempts += 1;
        self.changed = self.changed.max(at);
        self.now.is_stale = true;
    }

    pub(super) fn settle(&mut self, watches: &Watches) {
        if std::mem::take(&mut self.now.is_stale) {
            self.now.table.settle();
            self.now.apply(watches);
        }
    }
}
