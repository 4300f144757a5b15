//! Finds the paths of an event's files.

use super::{BTRFS, PathTree};
use crate::event::{InputEvent, Status};
use crate::resolve::{Question, Resolved};
use crate::tree::{Found, Tree, key};
use st_decode::event::FsPath;
use st_decode::time::Monotonic;
use st_decode::vocabulary::Event;

/// The types of file systems whose directories keep their inode numbers. A directory that no
/// walk has met is then none that a walk should have met.
const STEADY: [&[u8]; 9] = [
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"tmpfs",
    b"devtmpfs",
    b"f2fs",
    b"ramfs",
    b"rootfs",
];

/// The paths of an event.
pub(super) struct Located {
    pub(super) new: Resolved,
    pub(super) old: Option<Resolved>,
}

impl Located {
    /// Whether a watch wants the event at one of its paths.
    pub(super) fn is_wanted(&self) -> bool {
        self.new.wanted || self.old.as_ref().is_some_and(|old| old.wanted)
    }
}

impl PathTree {
    /// Resolves the paths of an event. `None` if a walk that is still to come may tell them, and
    /// the event may wait for it.
    pub(super) fn locate(&mut self, event: &InputEvent, may_wait: bool) -> Option<Located> {
        let files = &event.unresolved;
        // The path of an event is empty if the file's own name could not be read.
        let nameless = FsPath::default();
        let new_path = files.fs_path.as_ref().unwrap_or(&nameless);
        let old_path = files.old_fs_path.as_ref();
        let dev = event.dev.unwrap_or_default();
        // As it was when the event's call began.
        let new = self.find(event.began(), dev, new_path);
        let old = old_path.map(|path| self.find(event.began(), dev, path));
        let any_partial = new.is_partial() || old.as_ref().is_some_and(Found::is_partial);
        if any_partial && may_wait && self.snapshot.is_pending() && !files.deleted {
            return None;
        }
        let question = Question {
            event: event.event,
            at: event.at(),
            dev,
            named: !matches!(event.event, Event::Attrib | Event::Exec),
            outside: any_partial && self.is_outside(dev, event.at()),
        };
        let mut new = self.resolve(question, new_path, &new, None);
        let mut old = old_path
            .zip(old)
            .map(|(path, found)| self.resolve(question, path, &found, new.mount));
        if files.deleted {
            // A file that is in no directory, such as a memfd, has no path but its name.
            let whole = new_path.parent.is_none() && old_path.is_none();
            let named = old.as_mut().unwrap_or(&mut new);
            if named.status == Status::Complete || whole {
                named.status = Status::Deleted;
            }
        }
        Some(Located { new, old })
    }

    /// Finds a path within the file system of a device, as it was at an instant.
    pub(super) fn find(&self, at: Monotonic, dev: &str, fs_path: &FsPath) -> Found {
        let path = &fs_path.path;
        if path.first() == Some(&b'/') {
            return Found::Whole(path.to_vec());
        }
        let tree = self.tree(dev, at);
        match tree.zip(fs_path.top.and_then(key)) {
            Some((tree, top)) => tree.path(at, top, path),
            None => Found::Tail(path.to_vec()),
        }
    }

    /// The tree of a device at an instant, unless records since then are missing.
    fn tree(&self, dev: &str, instant: Monotonic) -> Option<&Tree> {
        if let Some(former) = self.trees.former(dev, instant) {
            return Some(former);
        }
        if instant < self.snapshot.trusted_since() {
            return None;
        }
        self.trees.get(dev)
    }

    /// Resolves a path that was found from `fs_path`.
    fn resolve(
        &mut self,
        question: Question,
        fs_path: &FsPath,
        found: &Found,
        like: Option<usize>,
    ) -> Resolved {
        let mut resolved = self.resolver.resolve(question, found, like);
        // On btrfs, directories of two subvolumes may have the same inode number. It matters
        // where the kernel's chain was not whole and did not tell the subvolume.
        let whole = fs_path.path.first() == Some(&b'/');
        let repeats = fs_path.top.is_some_and(|top| top.subvolume.is_none())
            && self.resolver.kind(question.dev) == Some(BTRFS);
        if resolved.status == Status::Complete && !whole && repeats {
            resolved.status = Status::Ambiguous;
        }
        resolved
    }

    /// Whether a file cannot be below a watch if its path on a device is not whole.
    pub(super) fn is_outside(&self, dev: &str, at: Monotonic) -> bool {
        let walked = |path: &[u8]| {
            let mut roots = self.snapshot.roots().iter();
            roots.any(|root| crate::mount::below(path, root).is_some())
        };
        self.snapshot.is_complete(dev, at)
            && self.keeps_inodes(dev)
            && (self.resolver.watches().iter())
                .all(|(path, events)| events.is_empty() || walked(path))
    }

    /// Whether the directories of a device keep their inode numbers, and no two directories
    /// have the same one.
    fn keeps_inodes(&self, dev: &str) -> bool {
        match self.resolver.kind(dev) {
            Some(BTRFS) => {
                let tree = self.trees.get(dev);
                tree.is_some_and(|tree| !tree.subvolumes.is_empty())
            }
            Some(kind) => STEADY.contains(&kind),
            None => false,
        }
    }
}
