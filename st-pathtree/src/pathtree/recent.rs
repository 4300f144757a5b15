//! The directory that the last event was in: most events are in the same one as the event before.

use super::record::Input;
use super::{Due, PathTree};
use crate::event::{InputEvent, Status};
use crate::resolve::Resolved;
use crate::watch::Events;
use st_decode::event::FsPath;
use st_decode::time::Monotonic;

/// A directory, and what is the same for all files in it, until a record may change that.
#[derive(Debug)]
pub(super) struct Recent {
    dev: String,
    /// Its path within its file system, with a slash at its end.
    dir: Vec<u8>,
    /// Events count that are of this instant or later.
    at: Monotonic,
    /// Its path, with a slash at its end.
    path: Vec<u8>,
    /// As [`Resolved::mount`].
    mount: usize,
    /// What a watch wants of the files in it.
    wanted: Events,
}

/// The directory of a whole path, with a slash at its end, and the name of the file in it.
fn split<'a>(path: &'a FsPath) -> Option<(&'a [u8], &'a [u8])> {
    let path: &'a [u8] = &path.path;
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    let (dir, name) = path.split_at(slash + 1);
    (path[0] == b'/' && !name.is_empty()).then_some((dir, name))
}

impl Recent {
    /// The path of an event's file, if the file is in this directory.
    pub(super) fn resolve(&self, event: &InputEvent) -> Option<Resolved> {
        let name = self.name_in(event)?;
        if event.at() < self.at || !self.wanted.has(event.event) {
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
        let (dir, name) = split(path)?;
        (dir == self.dir).then_some(name)
    }

    /// Whether all of this still holds after a record.
    fn outlives(&self, input: &Input) -> bool {
        let (Input::Event(event) | Input::Change(event)) = input else {
            return matches!(input, Input::Image(_) | Input::Unload(_) | Input::Other);
        };
        // It may be one that is renamed or removed, or a mount point is renamed with it.
        let files = &event.unresolved;
        files.dir.is_none() && files.other_dir.is_none()
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
        let (dir, name) = split(event.unresolved.fs_path.as_ref()?)?;
        if resolved.status != Status::Complete || resolved.mnt_ns.is_some() {
            return None;
        }
        let path = resolved.path.strip_suffix(name)?;
        let wanted = self.resolver.wanted_in(dev, path, event.at())?;
        Some(Recent {
            dev: dev.to_owned(),
            dir: dir.to_vec(),
            at: event.at(),
            path: path.to_vec(),
            mount: resolved.mount?,
            wanted,
        })
    }
}
