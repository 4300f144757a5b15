//! The directory that the last event was in: most events are in the same one as the event before.

use super::record::Input;
use super::{Due, PathTree};
use crate::event::{InputEvent, Status};
use crate::resolve::Resolved;
use crate::tree::key;
use crate::watch::Events;
use st_decode::event::FsPath;
use st_decode::time::Monotonic;
use st_decode::vocabulary::Event;

/// A directory, and what is the same for all files in it, until a record may change that.
#[derive(Debug)]
pub(super) struct Recent {
    dev: String,
    dir: Directory,
    /// Calls count that began at this instant or later, and had succeeded at that one or later.
    began: Monotonic,
    at: Monotonic,
    /// Its path, with a slash at its end.
    path: Vec<u8>,
    /// As [`Resolved::mount`].
    mount: usize,
    /// What a watch wants of the files in it.
    wanted: Events,
}

/// How an event tells a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Directory {
    /// The path within its file system, with a slash at its end.
    Path(Vec<u8>),
    /// The key of its inode, see [`key`].
    Inode(u64),
}

impl Directory {
    /// Whether a path is that of a file in this directory: then, the file's name.
    fn name_in<'a>(&self, path: &'a FsPath) -> Option<&'a [u8]> {
        match self {
            Self::Path(dir) => {
                let name = path.path.strip_prefix(&dir[..])?;
                (!name.contains(&b'/')).then_some(name)
            }
            Self::Inode(dir) => {
                let parent = path.parent.and_then(key)?;
                (parent == *dir && has_name_alone(path)).then_some(&path.path[..])
            }
        }
    }

    /// The directory of a file.
    fn of(path: &FsPath) -> Option<Self> {
        if path.path.first() == Some(&b'/') {
            let slash = path.path.iter().rposition(|&byte| byte == b'/')?;
            return Some(Self::Path(path.path[..=slash].to_vec()));
        }
        let parent = path.parent.and_then(key)?;
        has_name_alone(path).then_some(Self::Inode(parent))
    }
}

/// Whether the names above the file's own were left out.
fn has_name_alone(path: &FsPath) -> bool {
    path.top.is_none() && !path.path.contains(&b'/')
}

impl Recent {
    /// The path of an event's file, if the file is in this directory.
    pub(super) fn resolve(&self, event: &InputEvent) -> Option<Resolved> {
        let name = self.name_in(event)?;
        if event.began() < self.began || event.at() < self.at || !self.wanted.has(event.event) {
            return None;
        }
        Some(Resolved {
            path: [&self.path, name].concat(),
            status: Status::Complete,
            mount: Some(self.mount),
            mnt_ns: None,
            wanted: true,
        })
    }

    fn name_in<'a>(&self, event: &'a InputEvent) -> Option<&'a [u8]> {
        let files = &event.unresolved;
        let path = files.fs_path.as_ref()?;
        let is_simple = files.old_fs_path.is_none() && !files.deleted;
        if !is_simple || event.dev != Some(&self.dev) {
            return None;
        }
        self.dir.name_in(path).filter(|name| !name.is_empty())
    }

    /// Whether all of this still holds after a record.
    fn outlives(&self, input: &Input) -> bool {
        let (Input::Event(event) | Input::Change(event)) = input else {
            return matches!(input, Input::Image(_) | Input::Unload(_) | Input::Other);
        };
        let files = &event.unresolved;
        let mut dirs = files.dir.into_iter().chain(files.other_dir);
        match event.event {
            // No other directory changes, but the inode may be that of one that is gone.
            Event::Mkdir | Event::Rmdir => {
                !dirs.any(|dir| key(dir).map(Directory::Inode).as_ref() == Some(&self.dir))
            }
            _ => dirs.next().is_none(),
        }
    }
}

impl PathTree {
    /// Forgets the directory of the last event, if it may be another one after this record.
    pub(super) fn review_recent(&mut self, input: &Input) {
        let recent = self.recent.take();
        self.recent = recent.filter(|recent| recent.outlives(input));
    }

    /// Whether an event that changes no directory is in the same one as the last.
    pub(super) fn is_in_recent(&self, event: &InputEvent) -> bool {
        let recent = self.recent.as_ref();
        recent.is_some_and(|recent| recent.name_in(event).is_some())
            && !event.event.changes_directories()
    }

    /// Notes the directory of an event whose path is `resolved`, if the paths of all other files
    /// in it are found in the same way.
    pub(super) fn note_recent(&mut self, event: &InputEvent, resolved: &Resolved) {
        // What waited is as old as it is, and the trees are not.
        if self.due != Due::None || !self.waiting.is_empty() {
            return;
        }
        self.recent = self.recent_of(event, resolved);
    }

    fn recent_of(&self, event: &InputEvent, resolved: &Resolved) -> Option<Recent> {
        let dev = event.dev?;
        let fs_path = event.unresolved.fs_path.as_ref()?;
        let dir = Directory::of(fs_path)?;
        let (began, at) = (event.began(), event.at());
        let is_former = self.trees.former(dev, began).is_some();
        let is_found_now = match dir {
            Directory::Path(_) => true,
            Directory::Inode(_) => {
                let tree = self.trees.get(dev);
                tree.is_some_and(|tree| tree.is_unchanged_since(began))
            }
        };
        if resolved.status != Status::Complete
            || resolved.mnt_ns.is_some()
            || is_former
            || !is_found_now
        {
            return None;
        }
        let name = match fs_path.path.rsplit(|&byte| byte == b'/').next()? {
            b"" => return None,
            name => name,
        };
        let path = resolved.path.strip_suffix(name)?;
        let wanted = self.resolver.wanted_in(dev, path, at)?;
        Some(Recent {
            dev: dev.to_owned(),
            dir,
            began,
            at,
            path: path.to_vec(),
            mount: resolved.mount?,
            wanted,
        })
    }
}
