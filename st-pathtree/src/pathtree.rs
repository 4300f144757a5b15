//! The stage: it reads records of st-decode and writes records with paths.
//!
//! What a record tells of directories is learned when the record arrives. The record itself is
//! written in its turn, after all records before it: if the path of an event may be told by a
//! walk that is still to come, this event waits, and so do all records after it.

mod learn;
mod locate;
mod mounts;
mod output;
mod record;
mod trees;

use crate::event::InputEvent;
use crate::image::{self, Images};
use crate::resolve::Resolver;
pub use crate::snapshot::Ask;
use crate::snapshot::Snapshot;
use crate::watch::{Watch, Watches};
use locate::Located;
use record::{Input, Waiting};
use st_decode::event::Image;
use st_decode::record::Header;
use st_decode::stage::{self, RecordError, Stage};
use st_decode::time::Monotonic;
use st_decode::vocabulary::{Class, Event, Service, Subject, tell_mounts};
use st_decode::wire::Record;
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
    fn turn(&mut self, input: &Input, record: Record, may_wait: bool, out: &mut Vec<u8>) -> Turn {
        match input {
            Input::Event(event) => return self.event(event, record, may_wait, out),
            Input::Change(change) => {
                self.follow_renames(change);
                return Turn::Done;
            }
            Input::Image(image) => return self.image(image, may_wait),
            Input::Unload(unload) => {
                self.images.unload(unload.image);
                return Turn::Done;
            }
            Input::Attach(attach) => return self.attach(attach, may_wait),
            Input::Detach(detach) => {
                self.detach(detach);
                return Turn::Done;
            }
            Input::Namespace(namespace) => {
                self.made(namespace);
                return Turn::Done;
            }
            // They had no need to wait.
            Input::Dir(_) | Input::Shutdown(_) => return Turn::Done,
            Input::Mounts(mounts) => self.mounts(mounts),
            Input::Lost(lost) => {
                // After a gap, st-decode does not know the processes from before it.
                if lost.event.is_none() {
                    self.images.clear();
                    self.resolver.lost();
                }
            }
            Input::Walked(_) | Input::End | Input::Other => {}
        }
        out.extend_from_slice(record.bytes());
        Turn::Done
    }

    fn event(
        &mut self,
        event: &InputEvent,
        record: Record,
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
            let executable = self.images.executable(event);
            output::event(record, located.as_ref(), executable, out);
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

    fn begin(&mut self, header: &Header, record: Record, out: &mut Vec<u8>) {
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

    fn push(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let input = Input::read(record)?;
        match &input {
            Input::Event(event) => {
                if !event.unresolved.learned {
                    self.learn(event);
                }
                if self.snapshot.expire(event.at()) {
                    self.due = Due::Ready;
                }
            }
            Input::Change(change) => self.learn(change),
            Input::Image(image) => self.learn(&image::event(image)),
            Input::Dir(dir) => {
                self.dir(dir);
                return Ok(());
            }
            Input::Shutdown(shutdown) => {
                self.shutdown(shutdown);
                return Ok(());
            }
            Input::Walked(walked) => {
                self.walked(walked);
                self.due = Due::Ready;
            }
            Input::Lost(lost) => self.lost(lost),
            Input::End => {
                self.snapshot.expire(Monotonic::MAX);
                self.due = Due::All;
            }
            Input::Attach(_) | Input::Detach(_) | Input::Namespace(_) => {}
            Input::Unload(_) | Input::Mounts(_) | Input::Other => {}
        }
        if !self.waiting.is_empty()
            || self.turn(&input, record, self.may_wait(), out) == Turn::MustWait
        {
            self.waiting.push(record.bytes());
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
            let record = Record::new(&bytes).expect("what waits is a record");
            let input = Input::read(record).expect("and can be read");
            if self.turn(&input, record, may_wait, out) == Turn::MustWait {
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
