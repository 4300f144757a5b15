//! What the kernel does: whether an operation succeeds, what is then different, and what is
//! to be reported.
//!
//! Each function returns `None`, with nothing changed, for what is not to be tried: for one
//! thing, a path would become deeper than [`DEPTH`].

use nix::errno::Errno;
use nix::fcntl::RenameFlags;
use serde_json::{Map, Value, json};
use std::slice;

use super::op::{Action, Outcome, Route};
use super::tree::{DEPTH, Id, Kind, Tree, join};
use crate::log::set_bytes;

#[cfg(test)]
mod tests;

/// A name in a directory, be there a file of that name or not.
#[derive(Debug, Clone)]
pub struct Spot {
    /// The directory.
    pub dir: Id,
    /// The name.
    pub name: Vec<u8>,
    /// The path to it.
    pub route: Route,
}

/// Paths below a removed directory lead nowhere, except that a rename first looks whether
/// one is below the other.
const REMOVED: Outcome = Outcome::Fails(&[Errno::ENOENT, Errno::EINVAL]);
const ABSENT: Outcome = Outcome::Fails(&[Errno::ENOENT]);
const EXISTS: Outcome = Outcome::Fails(&[Errno::EEXIST]);
const IS_DIRECTORY: Outcome = Outcome::Fails(&[Errno::EISDIR]);
const NOT_DIRECTORY: Outcome = Outcome::Fails(&[Errno::ENOTDIR]);
const NOT_EMPTY: Outcome = Outcome::Fails(&[Errno::ENOTEMPTY, Errno::EEXIST]);
const BUSY: Outcome = Outcome::Fails(&[Errno::EBUSY]);
const OTHER_MOUNT: Outcome = Outcome::Fails(&[Errno::EXDEV]);

/// Whether directories are renamed that have a mount point in them, or from which what a
/// bind mount shows comes into or out of what is watched. No change of the mount table tells
/// of that.
const MOVE_MOUNTS: bool = true;
/// What main.rs sets.
const UMASK: u32 = 0o022;

impl Tree {
    fn at(&self, spot: &Spot) -> Option<Id> {
        self.child(spot.dir, &spot.name)
    }

    fn shown_at(&self, spot: &Spot) -> (Vec<u8>, bool) {
        let (dir, watched) = self.shown(spot.dir);
        (join(&dir, slice::from_ref(&spot.name)), watched)
    }

    /// An event on one path.
    fn told(&self, event: &str, dir: Id, shown: (Vec<u8>, bool), more: Value) -> Outcome {
        let (path, watched) = shown;
        if !watched {
            return Outcome::Untold;
        }
        let mut fields = Map::new();
        fields.insert("event".into(), event.into());
        fields.insert("path_status".into(), "complete".into());
        set_bytes(&mut fields, "path", &path);
        if let Value::Object(more) = more {
            fields.extend(more);
        }
        Outcome::Told(fields, self.nodes[dir].fs)
    }

    /// An event on two paths: it is told if either is watched.
    fn told_both(&self, event: &str, old: &Spot, new: &Spot, more: Value) -> Outcome {
        let ((old_path, old_watched), (path, watched)) = (self.shown_at(old), self.shown_at(new));
        let mut outcome = self.told(event, new.dir, (path, watched || old_watched), more);
        if let Outcome::Told(fields, _) = &mut outcome {
            set_bytes(fields, "old_path", &old_path);
            fields.insert("old_path_status".into(), "complete".into());
        }
        outcome
    }

    /// Makes a file of any kind.
    pub fn make(&mut self, spot: &Spot, action: &Action) -> Option<Outcome> {
        if !self.nodes[spot.dir].live {
            return Some(ABSENT);
        }
        if let Some(there) = self.at(spot) {
            return Some(match (action, self.nodes[there].kind) {
                (Action::Create(_, false), Kind::Dir) => IS_DIRECTORY,
                (Action::Create(_, false), Kind::Symlink) => Outcome::Fails(&[Errno::ELOOP]),
                (Action::Create(_, false), _) => Outcome::Untold,
                _ => EXISTS,
            });
        }
        if self.depth(spot.dir) == DEPTH {
            return None;
        }
        let (kind, event, format, bits) = match *action {
            Action::Create(bits, _) | Action::Mknod(bits) => {
                (Kind::File, "create", libc::S_IFREG, bits)
            }
            Action::Fifo(bits) => (Kind::Fifo, "mknod", libc::S_IFIFO, bits),
            Action::Mkdir(bits) => (Kind::Dir, "mkdir", libc::S_IFDIR, bits),
            _ => (Kind::Symlink, "symlink", libc::S_IFLNK, 0),
        };
        let mut more = json!({"mode": format | bits & !UMASK});
        if let Action::Symlink(target) = action {
            let mut fields = Map::new();
            set_bytes(&mut fields, "target", target);
            more = Value::Object(fields);
        }
        let outcome = self.told(event, spot.dir, self.shown_at(spot), more);
        self.add(spot.dir, &spot.name, kind);
        Some(outcome)
    }

    /// link(2).
    pub fn make_link(&mut self, old: &Spot, new: &Spot) -> Option<Outcome> {
        let Some(file) = self.at(old) else {
            return Some(ABSENT);
        };
        if self.at(new).is_some() {
            return Some(EXISTS);
        }
        // The existing path, unlike the new one, leads to what is mounted at its end.
        let mount = self.nodes[file].covered.unwrap_or(old.route.mount);
        let other_mount = mount != new.route.mount;
        if !self.nodes[new.dir].live {
            return Some(match other_mount {
                // Whichever is seen first: if the kernel remembers that there is no such
                // name, it does not ask the directory until it has compared the mounts.
                true => Outcome::Fails(&[Errno::ENOENT, Errno::EXDEV]),
                false => ABSENT,
            });
        }
        if other_mount {
            return Some(OTHER_MOUNT);
        }
        if self.nodes[file].kind == Kind::Dir {
            return Some(Outcome::Fails(&[Errno::EPERM]));
        }
        if self.depth(new.dir) == DEPTH {
            return None;
        }
        let outcome = self.told_both("link", old, new, Value::Null);
        self.link(file, new.dir, &new.name);
        Some(outcome)
    }

    /// rename(2).
    pub fn rename(&mut self, old: &Spot, new: &Spot, flags: RenameFlags) -> Option<Outcome> {
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        if old.route.mount != new.route.mount {
            return Some(OTHER_MOUNT);
        }
        let Some(moved) = self.at(old) else {
            return Some(ABSENT);
        };
        if !self.nodes[new.dir].live {
            return Some(REMOVED);
        }
        let there = self.at(new);
        if there.is_some() && flags.contains(RenameFlags::RENAME_NOREPLACE) {
            return Some(EXISTS);
        }
        if there.is_none() && exchange {
            return Some(ABSENT);
        }
        if self.within(new.dir, moved) {
            return Some(Outcome::Fails(&[Errno::EINVAL]));
        }
        if let Some(there) = there {
            if let Some(outcome) = self.replaces(old, moved, there, exchange) {
                return Some(outcome);
            }
        }
        if self.nodes[moved].covered.is_some() {
            return Some(BUSY);
        }
        let back = there.filter(|_| exchange);
        let gone = there.filter(|_| !exchange);
        if !self.may_move(moved, new.dir)
            || back.is_some_and(|id| !self.may_move(id, old.dir))
            || gone.is_some_and(|id| self.has_source(id))
        {
            return None;
        }
        let more = if exchange {
            json!({"exchange": true})
        } else {
            Value::Null
        };
        let outcome = self.told_both("rename", old, new, more);
        match there {
            Some(there) if exchange => self.exchange(moved, there),
            there => {
                there.into_iter().for_each(|there| self.remove(there));
                self.place(moved, new.dir, &new.name);
            }
        }
        Some(outcome)
    }

    /// What comes of a rename to a name that is there; `None` if it can go on.
    fn replaces(&self, old: &Spot, moved: Id, there: Id, exchange: bool) -> Option<Outcome> {
        let (from, to) = (&self.nodes[moved], &self.nodes[there]);
        if self.within(old.dir, there) {
            return Some(match exchange {
                true => Outcome::Fails(&[Errno::EINVAL]),
                false => NOT_EMPTY,
            });
        }
        if from.file == to.file {
            return Some(Outcome::Untold);
        }
        let is_dir = |kind| kind == Kind::Dir;
        match (is_dir(from.kind), is_dir(to.kind)) {
            (true, false) if !exchange => return Some(NOT_DIRECTORY),
            (false, true) if !exchange => return Some(IS_DIRECTORY),
            _ => {}
        }
        if to.covered.is_some() {
            return Some(BUSY);
        }
        // That of the one that is moved comes first in the kernel, too.
        (!exchange && from.covered.is_none() && !to.children.is_empty()).then_some(NOT_EMPTY)
    }

    /// Whether a name may come to be in that directory, for all that this test knows to
    /// expect.
    fn may_move(&self, id: Id, dir: Id) -> bool {
        let (below, shown) = (self.has_mount_point(id), self.has_source(id));
        // A mount in a directory that is shown twice is there on one of its paths only.
        self.depth(dir) + 1 + self.height(id) <= DEPTH
            && (!below && !shown || self.bind_of(dir).is_none())
            && (MOVE_MOUNTS || !below && (!shown || self.inside(id) && self.inside(dir)))
    }

    /// unlink(2).
    pub fn unlink(&mut self, spot: &Spot) -> Option<Outcome> {
        let Some(id) = self.at(spot) else {
            return Some(ABSENT);
        };
        if self.nodes[id].kind == Kind::Dir {
            return Some(IS_DIRECTORY);
        }
        let outcome = self.told("delete", spot.dir, self.shown_at(spot), Value::Null);
        self.remove(id);
        Some(outcome)
    }

    /// rmdir(2).
    pub fn rmdir(&mut self, spot: &Spot) -> Option<Outcome> {
        let Some(id) = self.at(spot) else {
            return Some(ABSENT);
        };
        let node = &self.nodes[id];
        if node.kind != Kind::Dir {
            return Some(NOT_DIRECTORY);
        }
        if node.covered.is_some() {
            return Some(BUSY);
        }
        if !node.children.is_empty() {
            return Some(NOT_EMPTY);
        }
        if self.has_source(id) {
            return None;
        }
        let outcome = self.told("rmdir", spot.dir, self.shown_at(spot), Value::Null);
        self.remove(id);
        Some(outcome)
    }

    /// Sets the mode.
    pub fn chmod(&self, id: Id, bits: u32) -> Outcome {
        let format = match self.nodes[id].kind {
            Kind::Dir => libc::S_IFDIR,
            Kind::File => libc::S_IFREG,
            Kind::Fifo => libc::S_IFIFO,
            Kind::Symlink => libc::S_IFLNK,
        };
        self.attrib(id, json!({"mode": format | bits}))
    }

    /// Sets owner and group.
    pub fn chown(&self, id: Id, uid: Option<u32>, gid: Option<u32>) -> Outcome {
        let mut set = Map::new();
        set.extend(uid.map(|uid| ("uid".to_owned(), uid.into())));
        set.extend(gid.map(|gid| ("gid".to_owned(), gid.into())));
        if set.is_empty() {
            return Outcome::Untold;
        }
        self.attrib(id, Value::Object(set))
    }

    fn attrib(&self, id: Id, set: Value) -> Outcome {
        self.told("attrib", id, self.shown(id), json!({"attrib": set}))
    }
}
