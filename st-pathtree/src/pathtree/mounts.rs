//! Follows what is mounted where.

use super::{PathTree, Turn};
use crate::event::InputEvent;
use crate::mount::{Attached, DirRename};
use crate::resolve::NewMount;
use crate::tree::Found;
use st_decode::event::{Attach, Detach, FsPath, Namespace};
use st_decode::record::Mounts;
use st_decode::time::Monotonic;
use st_decode::vocabulary::Event;

impl PathTree {
    /// Takes a mount table.
    pub(super) fn mounts(&mut self, mounts: &Mounts) {
        let new = self.resolver.mounted(mounts);
        self.request_below(new);
    }

    /// Requests walks below the mounts that are new.
    pub(super) fn request_below_new(&mut self) {
        let new = self.resolver.take_new();
        self.request_below(new);
    }

    fn request_below(&mut self, new: Vec<NewMount>) {
        for NewMount { at, dev, point } in new {
            if self.snapshot.is_taken() {
                self.snapshot.request(point, &dev, at);
            }
        }
    }

    /// Takes a mount that got its place, unless a walk that is still to come may tell where that
    /// is.
    pub(super) fn attach(&mut self, attach: &Attach, may_wait: bool) -> Turn {
        if !self.follows_mounts {
            return Turn::Done;
        }
        let root = self.whole(attach.at, attach.dev, &attach.root);
        let place = self.whole(attach.at, attach.parent_dev, &attach.point);
        let may_be_watched =
            |dev: &str, path: &Option<_>| path.is_none() && self.resolver.watches_device(dev);
        let matters =
            may_be_watched(attach.dev, &root) || may_be_watched(attach.parent_dev, &place);
        if matters && may_wait && self.snapshot.is_pending() {
            return Turn::MustWait;
        }
        let attached = Attached {
            id: attach.mount,
            parent: attach.parent,
            root,
            place,
            device: attach.dev.into(),
            kind: attach.fstype.as_deref().map(<[u8]>::to_vec),
        };
        self.resolver.attach(attach.at, attached);
        Turn::Done
    }

    /// Takes a mount that is no longer in a namespace.
    pub(super) fn detach(&mut self, detach: &Detach) {
        if self.follows_mounts {
            self.resolver.detach(detach.at, detach.mount);
        }
    }

    /// Takes a mount namespace that was made.
    pub(super) fn made(&mut self, namespace: &Namespace) {
        if !self.follows_mounts {
            return;
        }
        let root = Attached {
            id: namespace.mount,
            parent: namespace.mount,
            root: self.whole(namespace.at, namespace.dev, &namespace.root),
            place: Some(b"/".to_vec()),
            device: namespace.dev.into(),
            kind: namespace.fstype.as_deref().map(<[u8]>::to_vec),
        };
        self.resolver.made(namespace.at, namespace.ns, root);
    }

    /// The whole path within a file system, if it is known.
    fn whole(&self, at: Monotonic, dev: &str, fs_path: &FsPath) -> Option<Vec<u8>> {
        match self.find(at, dev, fs_path) {
            Found::Whole(path) => Some(path),
            Found::Tail(_) => None,
        }
    }

    /// Moves the mount points that are below a directory if an event renames one.
    pub(super) fn follow_renames(&mut self, event: &InputEvent) {
        let moves_dir = event.unresolved.dir.is_some() || event.unresolved.other_dir.is_some();
        if event.event != Event::Rename || !moves_dir {
            return;
        }
        let dev = event.dev.unwrap_or_default();
        let whole = |fs_path: &Option<FsPath>| self.whole(event.began(), dev, fs_path.as_ref()?);
        let old = whole(&event.unresolved.old_fs_path);
        let new = whole(&event.unresolved.fs_path);
        let mut renames = Vec::new();
        if let Some(from) = &old {
            let to = new.as_deref();
            renames.push(DirRename { from, to });
        }
        if let (Some(from), true) = (&new, event.exchange) {
            let to = old.as_deref();
            renames.push(DirRename { from, to });
        }
        self.resolver.renamed(event.at(), dev, &renames);
    }
}
