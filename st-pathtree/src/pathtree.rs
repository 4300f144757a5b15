//! The stage: it reads records of st-decode and writes records with paths.
//!
//! What a record tells of directories is learned when the record arrives. The record itself is
//! written in its turn, after all records before it: if the path of an event may be told by a
//! walk that is still to come, this event waits, and so do all records after it.

mod learn;
mod locate;
mod mounts;
mod record;
mod trees;

use crate::event::{Bytes, InputEvent, Paths};
use crate::image::{self, Images};
use crate::resolve::Resolver;
pub use crate::snapshot::Ask;
use crate::snapshot::Snapshot;
use crate::watch::{Watch, Watches};
use locate::Located;
use record::{Record, Waiting};
use st_decode::event::Image;
use st_decode::record::Header;
use st_decode::stage::{self, RecordError, Stage};
use st_decode::time::Monotonic;
use st_decode::vocabulary::{Class, Event, Service, Subject, tell_mounts};
use st_decode::wire::{self, Entry};
use trees::Trees;

/// The type of the file system on which two directories may have the same inode number: those
/// of two subvolumes.
const BTRFS: &[u8] = b"btrfs";

/// Resolves paths and passes what is watched.
#[derive(Default)]
pub struct PathTree {
    resolver: Resolver,
    /// Whether the stream tells all that happens to directories. If not, nothing that is known
    /// of directories can be trusted.
    follows: bool,
    /// Whether the stream tells all that happens to mounts. If not, what it tells of them is of no
    /// use: the mount tables are read later.
    follows_mounts: bool,
    trees: Trees,
    snapshot: Snapshot,
    images: Images,
    waiting: Waiting,
    due: Due,
}

/// Which of the waiting records are to have their turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Due {
    #[default]
    None,
    /// Those before the first one that must wait on.
    Ready,
    All,
}

/// What came of a record's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Done,
    /// The record must wait, and have another turn.
    MustWait,
}

impl PathTree {
    /// A stage with these watches. Without any watch every event passes. `ask` is given the
    /// paths of directories that came to be watched and below which not all directories are
    /// known.
    pub fn new(watches: Vec<Watch>, ask: Option<Ask>) -> Self {
        Self {
            resolver: Resolver::new(Watches::new(watches)),
            snapshot: Snapshot::new(ask),
            ..Self::default()
        }
    }

    /// Whether a record may wait for a walk.
    fn may_wait(&self) -> bool {
        self.due != Due::All && !self.waiting.is_too_long()
    }

    /// Handles a record in its turn.
    fn turn(&mut self, record: &Record, bytes: &[u8], may_wait: bool, out: &mut Vec<u8>) -> Turn {
        match record {
            Record::Event(event) => return self.event(event, bytes, may_wait, out),
            Record::Change(change) => {
                self.follow_renames(change);
                return Turn::Done;
            }
            Record::Image(image) => return self.image(image, may_wait),
            Record::Unload(unload) => {
                self.images.unload(unload.image);
                return Turn::Done;
            }
            Record::Attach(attach) => return self.attach(attach, may_wait),
            Record::Detach(detach) => {
                self.detach(detach);
                return Turn::Done;
            }
            Record::Namespace(namespace) => {
                self.made(namespace);
                return Turn::Done;
            }
            // They had no need to wait.
            Record::Dir(_) | Record::Shutdown(_) => return Turn::Done,
            Record::Mounts(mounts) => self.mounts(mounts),
            Record::Lost(lost) => {
                // After a gap, st-decode does not know the processes from before it.
                if lost.event.is_none() {
                    self.images.clear();
                    self.resolver.lost();
                }
            }
            Record::Walked(_) | Record::End | Record::Other => {}
        }
        out.extend_from_slice(bytes);
        Turn::Done
    }

    fn event(
        &mut self,
        event: &InputEvent,
        record: &[u8],
        may_wait: bool,
        out: &mut Vec<u8>,
    ) -> Turn {
        self.request_below_new();
        let is_file = event.event.class() == Class::File;
        let located = if is_file && event.dev.is_some() {
            let Some(located) = self.locate(event, may_wait) else {
                return Turn::MustWait;
            };
            Some(located)
        } else if event.event == Event::Exec {
            self.executed(event)
        } else {
            None
        };
        if !event.unresolved.learned {
            self.follow_renames(event);
        }
        if !is_file || located.as_ref().is_none_or(Located::is_wanted) {
            pass(record, located, self.images.attribute(event, record), out);
        }
        Turn::Done
    }

    /// The path of the file that an exec event is about.
    fn executed(&self, event: &InputEvent) -> Option<Located> {
        let new = self.images.path(event.unresolved.image?)?.clone();
        Some(Located { new, old: None })
    }

    fn image(&mut self, image: &Image, may_wait: bool) -> Turn {
        self.request_below_new();
        let resolved = match image::read(image) {
            Some(resolved) => resolved,
            None => match self.locate(&image::event(image), may_wait) {
                Some(located) => located.new,
                None => return Turn::MustWait,
            },
        };
        self.images.load(image.image, resolved);
        Turn::Done
    }
}

impl Stage for PathTree {
    const NAME: &'static str = "st-pathtree";
    const AFTER: &'static [&'static str] = &["st-probe", "st-decode"];

    fn begin(&mut self, header: &Header, record: &[u8], out: &mut Vec<u8>) {
        self.resolver.begin();
        let traced = |subject| header.hooks.iter().any(|hook| hook.subject == subject);
        self.follows = followed().all(traced);
        let hooks = header.hooks.iter();
        self.follows_mounts = tell_mounts(hooks.map(|hook| (hook.subject, hook.role)));
        self.trees.clear();
        self.images.clear();
        self.snapshot.begin(header, self.follows);
        stage::pass_header(header, record, Self::NAME, out);
    }

    fn push(&mut self, kind: &str, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let record = Record::read(kind, bytes)?;
        match &record {
            Record::Event(event) => {
                if !event.unresolved.learned {
                    self.learn(event);
                }
                if self.snapshot.expire(event.at()) {
                    self.due = Due::Ready;
                }
            }
            Record::Change(change) => self.learn(change),
            Record::Image(image) => self.learn(&image::event(image)),
            Record::Dir(dir) => {
                self.dir(dir);
                return Ok(());
            }
            Record::Shutdown(shutdown) => {
                self.shutdown(shutdown);
                return Ok(());
            }
            Record::Walked(walked) => {
                self.walked(walked);
                self.due = Due::Ready;
            }
            Record::Lost(lost) => self.lost(lost),
            Record::End => {
                self.snapshot.expire(Monotonic::MAX);
                self.due = Due::All;
            }
            Record::Attach(_) | Record::Detach(_) | Record::Namespace(_) => {}
            Record::Unload(_) | Record::Mounts(_) | Record::Other => {}
        }
        if !self.waiting.is_empty()
            || self.turn(&record, bytes, self.may_wait(), out) == Turn::MustWait
        {
            self.waiting.push(bytes);
            if self.waiting.is_too_long() && self.due == Due::None {
                self.due = Due::Ready;
            }
        }
        Ok(())
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> bool {
        if self.due == Due::None {
            return false;
        }
        loop {
            // The first record still counts.
            let may_wait = self.may_wait();
            let Some(bytes) = self.waiting.pop() else {
                break;
            };
            let kind = wire::kind(&bytes).unwrap_or_default();
            let record = Record::read(kind, &bytes);
            let record = record.expect("a record that cannot be read does not wait");
            if self.turn(&record, &bytes, may_wait, out) == Turn::MustWait {
                self.waiting.put_back(bytes);
                self.due = Due::None;
                return false;
            }
            if out.len() >= stage::LARGE {
                return true;
            }
        }
        self.trees.forget_former();
        self.due = Due::None;
        false
    }
}

/// Appends an event, with its paths if it has any, and with `process` in place of its own.
fn pass(record: &[u8], located: Option<Located>, process: Option<Vec<u8>>, out: &mut Vec<u8>) {
    let mut added = Vec::new();
    if let Some(Located { new, old }) = located {
        let paths = Paths {
            path: Bytes::from(new.path),
            path_status: new.status,
            old_path_status: old.as_ref().map(|old| old.status),
            mnt_ns: (new.mnt_ns).or_else(|| old.as_ref().and_then(|old| old.mnt_ns)),
            old_path: old.map(|old| Bytes::from(old.path)),
        };
        wire::write(&paths, &mut added);
    }
    let process = process.as_deref().map(|value| Entry {
        name: b"process",
        key: b"\xa7process",
        value,
    });
    let more = || wire::fields(&added).chain(process);
    let replaced = more().filter_map(|entry| std::str::from_utf8(entry.name).ok());
    let without: Vec<&str> = ["unresolved"].into_iter().chain(replaced).collect();
    wire::merge(record, &without, more(), out);
}

/// The hooks that a stream needs to tell all that happens to directories, and which file system
/// has a device number.
fn followed() -> impl Iterator<Item = Subject> {
    let events = Event::ALL.iter();
    let events = events.filter(|event| event.changes_directories());
    let events = events.map(|event| Subject::Event(*event));
    events.chain([Subject::Service(Service::Shutdown)])
}

#[cfg(test)]
mod tests;
