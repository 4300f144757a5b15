//! What events and the snapshot tell of directories.

use super::{BTRFS, PathTree, last};
use crate::event::{InputEvent, Status};
use crate::resolve::Question;
use crate::snapshot::Asked;
use crate::tree::{Span, Spot, Tree, key};
use st_decode::event::{Dir, FsPath};
use st_decode::record::{Lost, Walked};
use st_decode::time::Unix;
use st_decode::vocabulary::Event;
use std::time::Duration;

/// How long a call may take before its path is told by what the directories are called
/// now.
const LONGEST_CALL: Duration = Duration::from_secs(2);

impl PathTree {
    /// Learns what an event tells of directories.
    pub(super) fn learn(&mut self, event: &InputEvent) {
        let files = &event.unresolved;
        let learns = self.follows && !files.deleted && event.ts >= self.snapshot.trusted();
        let Some(dev) = event.dev.filter(|_| learns) else {
            return;
        };
        let span = Span {
            began: event.began(),
            ts: event.ts,
        };
        if !self.trees.contains_key(dev) {
            self.trees.insert(dev.to_owned(), Tree::default());
        }
        let Some(tree) = self.trees.get_mut(dev) else {
            return;
        };
        let (new, old) = (files.fs_path.as_ref(), files.old_fs_path.as_ref());
        let parent = new.and_then(|new| new.parent);
        let named = parent.is_some_and(|parent| parent.subvolume.is_none());
        tree.repeats |= named && self.resolver.kind(dev) == Some(BTRFS);
        tree.settle(if self.waiting.is_empty() {
            event.ts.before(LONGEST_CALL)
        } else {
            Unix(0)
        });
        for fs_path in new.into_iter().chain(old) {
            if let Some(parent) = fs_path.parent.and_then(key) {
                tree.learn(event.began(), parent, &fs_path.path);
            }
        }
        let (to, from) = (new.and_then(spot), old.and_then(spot));
        let dir = files.dir.and_then(key);
        let other = files.other_dir.and_then(key);
        match (event.event, dir) {
            (Event::Mkdir, Some(ino)) => {
                if let Some(to) = to {
                    tree.made(span, ino, to);
                }
            }
            (Event::Rmdir, Some(ino)) => tree.gone(span, ino, to),
            (Event::Rename, _) => {
                let Some((from, to)) = from.zip(to) else {
                    return;
                };
                if let Some(dir) = dir {
                    tree.moved(span, dir, from, to);
                }
                match other {
                    Some(other) if event.exchange => tree.moved(span, other, to, from),
                    Some(other) => tree.gone(span, other, Some(to)),
                    None => {}
                }
                let moved = dir.into_iter().chain(other.filter(|_| event.exchange));
                let moved = moved.map(|moved| (dev.to_owned(), moved, event.ts));
                if self.snapshot.taken {
                    self.snapshot.moved.extend(moved);
                }
            }
            _ => {}
        }
        let tops = new.into_iter().chain(old).filter_map(|path| path.top);
        for subvolume in tops.filter_map(|top| top.subvolume) {
            if !tree.subvolumes.contains(&subvolume) {
                tree.unmet.insert(subvolume);
            }
        }
        self.look_in_unmet(dev, event.ts);
        self.look_below_moved(event.ts);
    }

    /// Asks for the directories below those that were renamed and may have come from where
    /// nobody looked. `now` is how far the stream has got.
    fn look_below_moved(&mut self, now: Unix) {
        if self.snapshot.moved.is_empty() || !self.snapshot.done {
            return;
        }
        for (dev, dir, ts) in std::mem::take(&mut self.snapshot.moved) {
            let tree = self.trees.get(&dev);
            let Some(found) = tree.and_then(|tree| tree.unknown_below(dir)) else {
                continue;
            };
            let question = Question {
                event: Event::Rename,
                ts,
                dev: &dev,
                named: true,
                outside: false,
            };
            let resolved = self.resolver.resolve(question, &found, None);
            match resolved.status {
                Status::Complete if self.resolver.concerns(&resolved.path) => {
                    self.request(resolved.path, &dev, Some(dir), now);
                }
                Status::Partial if !self.is_outside(&dev, ts) => {
                    self.snapshot.hole(&dev, Unix::MAX);
                }
                _ => {}
            }
        }
    }

    /// Asks for the directories of subvolumes that only events have told of: these were made
    /// since, or after the snapshot had passed by, and may be anywhere.
    fn look_in_unmet(&mut self, dev: &str, now: Unix) {
        let Some(tree) = self.trees.get_mut(dev).filter(|_| self.snapshot.done) else {
            return;
        };
        let unmet = std::mem::take(&mut tree.unmet).into_iter();
        // The snapshot may have met them after the event.
        if unmet.filter(|&id| tree.subvolumes.insert(id)).count() > 0 {
            for root in self.snapshot.roots.clone() {
                self.request(root, dev, None, now);
            }
        }
    }

    /// Asks st-probe to look below a directory, `dir` if that was renamed.
    pub(super) fn request(&mut self, path: Vec<u8>, dev: &str, dir: Option<u64>, ts: Unix) {
        if !self.snapshot.answers {
            self.snapshot.hole(dev, Unix::MAX);
            return;
        }
        self.snapshot.ask(path, dev, dir, ts);
    }

    /// Takes a `walked` record.
    pub(super) fn walked(&mut self, walked: &Walked) {
        let ts = self.snapshot.clock.unix(walked.ts);
        for Asked { dev, dir, .. } in self.snapshot.walked(walked) {
            let tree = self.trees.get(&dev);
            let unmet = |dir| tree.is_some_and(|tree| tree.unknown_below(dir).is_some());
            if !walked.complete {
                self.snapshot.hole(&dev, Unix::MAX);
            } else if dir.is_some_and(unmet) {
                // It had been moved on when it was looked for.
                self.snapshot.hole(&dev, ts);
            }
        }
        // Those that the snapshot did not meet may have been below a watch for a while.
        for (dev, dir, _) in self.snapshot.moved.clone() {
            let tree = self.trees.get(&dev);
            if tree.is_some_and(|tree| tree.unknown_below(dir).is_some()) {
                self.snapshot.hole(&dev, ts);
            }
        }
        for dev in self.trees.keys().cloned().collect::<Vec<_>>() {
            self.look_in_unmet(&dev, ts);
        }
        self.look_below_moved(ts);
    }

    /// Learns of a directory that the snapshot met.
    pub(super) fn dir(&mut self, dir: &Dir) {
        if dir.ts < self.snapshot.trusted() {
            return;
        }
        let tree = self.trees.entry(dir.dev.to_owned()).or_default();
        // What is looked at later may be above the root of that look only.
        if !self.snapshot.done {
            tree.subvolumes.extend(dir.dir.subvolume);
        }
        tree.repeats |= dir.dir.subvolume.is_none() && self.resolver.kind(dir.dev) == Some(BTRFS);
        let Some(inode) = key(dir.dir) else { return };
        if *dir.fs_path.path == *b"/" {
            tree.seen(inode, None);
        } else if let Some(spot) = spot(&dir.fs_path) {
            tree.learn(dir.ts, spot.parent, &dir.fs_path.path);
            tree.seen(inode, Some(spot));
        }
    }

    /// Takes a file system's tree away: its device number may be another's next.
    pub(super) fn shutdown(&mut self, ts: Unix, dev: &str) {
        if let Some(tree) = self.trees.remove(dev) {
            if self.waiting.is_empty() {
                self.former.clear();
            }
            self.former.push((ts, dev.to_owned(), tree));
        }
        self.snapshot.forget(dev);
    }

    /// Trusts no tree any more: renames may have been lost, or are until some time.
    pub(super) fn lost(&mut self, lost: &Lost) {
        if lost.event.is_some_and(|event| !event.changes_directories()) {
            return;
        }
        let ts = self.snapshot.clock.unix(lost.since);
        for (dev, tree) in std::mem::take(&mut self.trees) {
            if !self.waiting.is_empty() {
                self.former.push((ts, dev, tree));
            }
        }
        self.snapshot.since = self.snapshot.since.max(lost.end());
        self.snapshot.done = false;
    }
}

/// Where a path's file is.
fn spot<'a>(fs_path: &'a FsPath) -> Option<Spot<'a>> {
    let parent = fs_path.parent.and_then(key)?;
    let name = last(&fs_path.path);
    Some(Spot { parent, name })
}
