//! Learns what events and walks tell of directories.

use super::{BTRFS, PathTree};
use crate::event::{InputEvent, Status};
use crate::resolve::Question;
use crate::snapshot::MovedDirectory;
use crate::tree::{DirEntry, Span, key};
use st_decode::event::{Dir, FsPath, Shutdown};
use st_decode::record::{Lost, Walked};
use st_decode::time::Monotonic;
use st_decode::vocabulary::Event;
use std::time::Duration;

/// The longest time that a call, and the one that it is part of, may take if its path is to be
/// given as it was when the call began. The path of a longer call is given by the current names of
/// the directories.
const LONGEST_CALL: Duration = Duration::from_secs(2);

impl PathTree {
    /// Learns what an event tells of directories.
    pub(super) fn learn(&mut self, event: &InputEvent) {
        let files = &event.unresolved;
        if !self.follows || files.deleted || event.at() < self.snapshot.trusted_since() {
            return;
        }
        let Some(dev) = event.dev else {
            return;
        };
        let (new, old) = (files.fs_path.as_ref(), files.old_fs_path.as_ref());
        let tree = self.trees.get_or_new(dev);
        let parent = new.and_then(|new| new.parent);
        if !tree.repeats && parent.is_some_and(|parent| parent.subvolume.is_none()) {
            tree.repeats = self.resolver.kind(dev) == Some(BTRFS);
        }
        if self.waiting.is_empty() {
            tree.settle(event.at().before(LONGEST_CALL));
        }
        for fs_path in new.into_iter().chain(old) {
            if let Some(parent) = fs_path.parent.and_then(key) {
                tree.learn(event.began(), parent, &fs_path.path);
            }
        }
        let span = Span {
            began: event.began(),
            ts: event.at(),
        };
        let (to, from) = (new.and_then(entry), old.and_then(entry));
        let dir = files.dir.and_then(key);
        let other = files.other_dir.and_then(key);
        match (event.event, dir) {
            (Event::Mkdir, Some(dir)) => {
                if let Some(to) = to {
                    tree.made(span, dir, to);
                }
            }
            (Event::Rmdir, Some(dir)) => match to {
                Some(entry) => tree.removed(span, dir, entry),
                None => tree.gone(span, dir),
            },
            (Event::Rename, _) => {
                let Some((from, to)) = from.zip(to) else {
                    return;
                };
                let mut moved = Vec::new();
                if let Some(dir) = dir {
                    tree.moved(span, dir, from, to);
                    moved.push(dir);
                }
                match other {
                    Some(other) if event.exchange => {
                        tree.moved(span, other, to, from);
                        moved.push(other);
                    }
                    Some(other) => tree.removed(span, other, to),
                    None => {}
                }
                for dir in moved {
                    self.snapshot.note_moved(MovedDirectory {
                        dev: dev.to_owned(),
                        dir,
                        ts: event.at(),
                    });
                }
            }
            _ => {}
        }
        for top in new.into_iter().chain(old).filter_map(|path| path.top) {
            if let Some(subvolume) = top.subvolume {
                if !tree.subvolumes.contains(&subvolume) {
                    tree.unmet.insert(subvolume);
                }
            }
        }
        let any_unmet = !tree.unmet.is_empty();
        if any_unmet {
            self.request_for_unmet(dev, event.at());
        }
        self.request_below_moved(event.at());
    }

    /// Requests walks below the directories that were renamed and may come from where no walk
    /// has been. `now` is the time of the record that is handled.
    fn request_below_moved(&mut self, now: Monotonic) {
        if !self.snapshot.is_walked() {
            return;
        }
        self.request_below_new();
        for MovedDirectory { dev, dir, ts } in self.snapshot.take_moved() {
            let Some(found) = (self.trees.get(&dev)).and_then(|tree| tree.unknown_below(dir))
            else {
                continue;
            };
            let question = Question {
                event: Event::Rename,
                at: ts,
                dev: &dev,
                named: true,
                outside: false,
            };
            let resolved = self.resolver.resolve(question, &found, None);
            match resolved.status {
                Status::Complete if self.resolver.concerns(&resolved.path) => {
                    (self.snapshot).request_below_moved(resolved.path, &dev, dir, now);
                }
                Status::Partial if !self.is_outside(&dev, ts) => {
                    self.snapshot.note_hole(&dev, Monotonic::MAX);
                }
                _ => {}
            }
        }
    }

    /// Requests walks for the btrfs subvolumes that events have named and no walk has met. They
    /// were created since the walk, or after it had passed by, and may be anywhere.
    fn request_for_unmet(&mut self, dev: &str, now: Monotonic) {
        if !self.snapshot.is_walked() {
            return;
        }
        let Some(tree) = self.trees.get_mut(dev) else {
            return;
        };
        let mut any = false;
        for subvolume in std::mem::take(&mut tree.unmet) {
            // The walk may have met the subvolume after the event.
            any |= tree.subvolumes.insert(subvolume);
        }
        if any {
            for root in self.snapshot.roots().to_vec() {
                self.snapshot.request(root, dev, now);
            }
        }
    }

    /// Takes the end of a walk.
    pub(super) fn walked(&mut self, walked: &Walked) {
        let ts = walked.ts;
        for request in self.snapshot.walked(walked) {
            let dev = request.dev();
            if !walked.complete {
                self.snapshot.note_hole(dev, Monotonic::MAX);
            } else if request
                .dir()
                .is_some_and(|dir| self.is_unknown_below(dev, dir))
            {
                // The directory had been renamed again before the walk came to its path.
                self.snapshot.note_hole(dev, ts);
            }
        }
        // The directories that the walk has not met may have been below a watch for a while.
        for MovedDirectory { dev, dir, .. } in self.snapshot.moved().to_vec() {
            if self.is_unknown_below(&dev, dir) {
                self.snapshot.note_hole(&dev, ts);
            }
        }
        for dev in self.trees.devices() {
            self.request_for_unmet(&dev, ts);
        }
        self.request_below_moved(ts);
    }

    /// Whether a directory below another one may be unknown.
    fn is_unknown_below(&self, dev: &str, dir: u64) -> bool {
        let tree = self.trees.get(dev);
        tree.is_some_and(|tree| tree.unknown_below(dir).is_some())
    }

    /// Learns of a directory that a walk met.
    pub(super) fn dir(&mut self, dir: &Dir) {
        if !self.follows || dir.at < self.snapshot.trusted_since() {
            return;
        }
        let tree = self.trees.get_or_new(dir.dev);
        // A later walk may begin below a subvolume's root: it does not meet the whole of it.
        if !self.snapshot.is_walked() {
            tree.subvolumes.extend(dir.dir.subvolume);
        }
        if dir.dir.subvolume.is_none() {
            tree.repeats |= self.resolver.kind(dir.dev) == Some(BTRFS);
        }
        let Some(inode) = key(dir.dir) else { return };
        if *dir.fs_path.path == *b"/" {
            tree.root(inode);
        } else if let Some(entry) = entry(&dir.fs_path) {
            tree.learn(dir.at, entry.parent, &dir.fs_path.path);
            tree.seen(inode, entry);
        }
    }

    /// Retires the tree of a file system that is no longer mounted: another file system may get
    /// its device number.
    pub(super) fn shutdown(&mut self, shutdown: &Shutdown) {
        if self.trees.get(shutdown.dev).is_some() {
            if self.waiting.is_empty() {
                self.trees.forget_former();
            }
            self.trees.retire(shutdown.dev, shutdown.at);
        }
        self.snapshot.forget(shutdown.dev);
    }

    /// Takes a gap: no tree can be trusted any more if renames may be missing.
    pub(super) fn lost(&mut self, lost: &Lost) {
        if lost.event.is_some_and(|event| !event.changes_directories()) {
            return;
        }
        if self.waiting.is_empty() {
            self.trees.forget_current();
        } else {
            self.trees.retire_all(lost.since);
        }
        self.snapshot.distrust(lost.end());
    }
}

/// Which entry of which directory a path's file is.
fn entry<'a>(fs_path: &'a FsPath) -> Option<DirEntry<'a>> {
    let parent = fs_path.parent.and_then(key)?;
    let name = fs_path.path.rsplit(|&byte| byte == b'/').next();
    Some(DirEntry {
        parent,
        name: name.unwrap_or_default(),
    })
}
