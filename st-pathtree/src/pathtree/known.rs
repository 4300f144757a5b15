//! Tells st-probe that the names above a file's own need not be recorded, since the directories are
//! known.
//!
//! That is so where each directory that a watch may be about was met by a walk or made since, its
//! file system lets no directory change in another way, and all mounts and namespaces show the same
//! directories at the paths of the watches. st-probe and the kernel go back to all names by
//! themselves when a directory is renamed, something is mounted or unmounted, or records are lost.

use super::PathTree;
use crate::event::InputEvent;
use st_decode::event::FsPath;
use st_decode::record::Header;
use st_decode::time::Monotonic;
use st_decode::vocabulary::{Event, Role};
use std::time::Duration;

/// How long after one look at what is known the next one is.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether st-probe can leave names out, and when it was told so.
#[derive(Debug, Default)]
pub(super) struct Known {
    may_be_relied_on: bool,
    looked: Monotonic,
}

impl Known {
    pub(super) fn of(header: &Header) -> Self {
        let may_be_relied_on = header.hooks.iter().any(|hook| hook.role == Role::Names);
        Self {
            may_be_relied_on,
            ..Self::default()
        }
    }
}

impl PathTree {
    /// Whether the names above the file's own were left out of a path.
    pub(super) fn lacks_names(&self, fs_path: &FsPath) -> bool {
        self.known.may_be_relied_on
            && fs_path.parent.is_some()
            && fs_path.top.is_none()
            && !fs_path.path.is_empty()
            && !fs_path.path.contains(&b'/')
    }

    /// Tells st-probe what it may leave out, if an event has it and it is not needed.
    pub(super) fn tell_known(&mut self, event: &InputEvent) {
        let at = event.at();
        if !self.known.may_be_relied_on || at < self.known.looked.after(PAUSE) {
            return;
        }
        let path = event
            .unresolved
            .fs_path
            .as_ref()
            .map(|fs_path| &fs_path.path);
        let has_names = path.is_some_and(|path| path.contains(&b'/'));
        // A link has its names in any case.
        if !has_names || event.event == Event::Link || !self.waiting.is_empty() {
            return;
        }
        self.known.looked = at;
        if self.knows_all(at) {
            self.snapshot.tell_known(at);
        }
    }

    /// Whether the path of every file that a watch may want is found by its directory's inode.
    fn knows_all(&mut self, at: Monotonic) -> bool {
        if !self.follows || !self.follows_mounts || self.snapshot.is_pending() {
            return false;
        }
        let Some(dev) = self.resolver.plain_device(at) else {
            return false;
        };
        self.snapshot.moved().is_empty() && self.is_steady(&dev) && self.is_outside(&dev, at)
    }
}
