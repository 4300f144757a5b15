//! The stage itself: from records to records with paths.
//!
//! Where a path depends on a directory that the snapshot has not met yet, the event waits
//! for it, and all after it.

mod learn;

use crate::event::{Bytes, InputEvent, Paths, Status};
use crate::image::{self, Images};
use crate::resolve::{Question, Resolved, Resolver};
pub use crate::snapshot::Ask;
use crate::snapshot::Snapshot;
use crate::tree::{Found, Tree, key};
use crate::watch::{Watch, Watches};
use st_decode::event::{FsPath, Image, Shutdown, Unload};
use st_decode::record::{Header, Lost, Mounts};
use st_decode::stage::{self, RecordError, Stage};
use st_decode::time::{Clock, Unix};
use st_decode::vocabulary::{Class, Event, Service, Subject};
use st_decode::wire::{self, Entry};
use std::collections::{HashMap, VecDeque};

/// Bytes of records that may wait.
const MAX_WAITING: usize = 64 << 20;
/// The type of the file system whose inode numbers repeat.
const BTRFS: &[u8] = b"btrfs";
/// File systems whose directories keep their inode numbers, so that one that the snapshot
/// has not met is none that it should have.
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

/// Resolves paths and passes what is watched.
#[derive(Default)]
pub struct PathTree {
    resolver: Resolver,
    /// Whether the stream tells all that happens to directories: else nothing that is
    /// remembered of them could be trusted.
    follows: bool,
    /// By device.
    trees: HashMap<String, Tree>,
    /// Those of file systems that are no more, and until when they were.
    former: Vec<(Unix, String, Tree)>,
    snapshot: Snapshot,
    images: Images,
    /// Records that wait for the snapshot, in order.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    due: Due,
}

/// Which of the records that wait are to have their turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Due {
    #[default]
    None,
    /// Those before the first that must wait on.
    Ready,
    All,
}

/// An event with where its files are.
struct Located {
    new: Resolved,
    old: Option<Resolved>,
}

impl PathTree {
    /// With these watches; without any every event passes. `ask` is given paths of
    /// directories that came to be watched and whose own directories are not known.
    pub fn new(watches: Vec<Watch>, ask: Option<Ask>) -> Self {
        Self {
            resolver: Resolver::new(Watches::new(watches)),
            snapshot: Snapshot {
                send: ask,
                ..Snapshot::default()
            },
            ..Self::default()
        }
    }

    /// Whether a file whose path is not whole cannot be below a watch.
    fn is_outside(&self, dev: &str, ts: Unix) -> bool {
        let snapshot = &self.snapshot;
        let tree = self.trees.get(dev);
        let steady = |kind: &[u8]| match kind {
            // If its numbers are told.
            BTRFS => tree.is_some_and(|tree| !tree.subvolumes.is_empty()),
            kind => STEADY.contains(&kind),
        };
        let covered = |(path, _): (&[u8], _)| {
            let root = |root: &Vec<u8>| crate::mount::below(path, root).is_some();
            snapshot.roots.iter().any(root)
        };
        snapshot.done
            && snapshot.complete
            && ts >= snapshot.trusted()
            && snapshot.holes.get(dev).is_none_or(|until| *until < ts)
            && self.resolver.kind(dev).is_some_and(steady)
            && (self.resolver.watches().iter())
                .filter(|(_, events)| *events != Default::default())
                .all(covered)
    }

    /// The tree of a device as it was when a call began, unless records are missing since.
    fn tree(&self, dev: &str, began: Unix) -> Option<&Tree> {
        let former =
            (self.former.iter()).find(|(until, former, _)| former == dev && *until > began);
        let trusted = began >= self.snapshot.trusted();
        former
            .map(|(.., tree)| tree)
            .or_else(|| self.trees.get(dev).filter(|_| trusted))
    }

    /// A path within a file system, as far as it can be known.
    fn find(&self, event: &InputEvent, fs_path: &FsPath) -> Found {
        let path = &fs_path.path;
        if path.first() == Some(&b'/') {
            return Found::Whole(path.to_vec());
        }
        let tree = self.tree(event.dev.unwrap_or_default(), event.began());
        match tree.zip(fs_path.top.and_then(key)) {
            Some((tree, top)) => tree.path(event.began(), top, path),
            None => Found::Tail(path.to_vec()),
        }
    }

    /// Resolves the paths of an event, unless it is to wait.
    fn locate(&self, event: &InputEvent, may_wait: bool) -> Option<Located> {
        let (deleted, old_path) = (event.unresolved.deleted, &event.unresolved.old_fs_path);
        // An event whose very name could not be read has an empty path.
        let nameless = FsPath::default();
        let new_path = event.unresolved.fs_path.as_ref().unwrap_or(&nameless);
        let new = self.find(event, new_path);
        let old = (old_path.as_ref()).map(|path| (path, self.find(event, path)));
        let partial = |found: &Found| matches!(found, Found::Tail(_));
        let any_partial = partial(&new) || old.as_ref().is_some_and(|(_, old)| partial(old));
        if any_partial && may_wait && self.snapshot.is_pending() && !deleted {
            return None;
        }
        let dev = event.dev.unwrap_or_default();
        let question = Question {
            event: event.event,
            ts: event.ts,
            dev,
            named: ![Event::Attrib, Event::Exec].contains(&event.event),
            outside: any_partial && self.is_outside(dev, event.ts),
        };
        // Another subvolume's directory may have the number of one on the way.
        let unsure = |fs_path: &FsPath| {
            let chained = fs_path.path.first() == Some(&b'/');
            let numbered = fs_path.top.is_some_and(|top| top.subvolume.is_none());
            !chained && numbered && self.resolver.kind(dev) == Some(BTRFS)
        };
        let resolve = |found: &Found, fs_path, like| {
            let mut resolved = self.resolver.resolve(question, found, like);
            if resolved.status == Status::Complete && unsure(fs_path) {
                resolved.status = Status::Ambiguous;
            }
            resolved
        };
        let mut new = resolve(&new, new_path, None);
        let mut old = old.map(|(path, old)| resolve(&old, path, new.mount));
        if deleted {
            // What is in no directory, such as a memfd, has no more of a path than its name.
            let whole = new_path.parent.is_none() && old_path.is_none();
            let named = old.as_mut().unwrap_or(&mut new);
            if named.status == Status::Complete || whole {
                named.status = Status::Deleted;
            }
        }
        Some(Located { new, old })
    }

    /// Handles a record in its turn. False: it is to wait.
    fn turn(
        &mut self,
        kind: &str,
        record: &[u8],
        may_wait: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, RecordError> {
        match kind {
            "event" => return Ok(self.event(&wire::read(record)?, record, may_wait, out)),
            "image" => return Ok(self.image(&wire::read(record)?, may_wait)),
            "unload" => {
                let Unload { image } = wire::read(record)?;
                self.images.unload(image);
                return Ok(true);
            }
            // The processes of before are no longer known.
            "lost" => {
                let lost: Lost = wire::read(record)?;
                if lost.event.is_none() {
                    self.images.clear();
                }
            }
            "mounts" => {
                let mounts: Mounts = wire::read(record)?;
                let new = self.resolver.mounted(&mounts);
                // The first table's were there when the snapshot began.
                if self.snapshot.taken && mounts.since < mounts.ts {
                    let ts = self.snapshot.clock.unix(mounts.ts);
                    for (dev, point) in new {
                        self.request(point, &dev, None, ts);
                    }
                }
            }
            _ => {}
        }
        out.extend_from_slice(record);
        Ok(true)
    }

    /// Handles an event in its turn. False: it is to wait.
    fn event(
        &mut self,
        event: &InputEvent,
        record: &[u8],
        may_wait: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let located = if (event.event.class() == Class::File) && event.dev.is_some() {
            let Some(located) = self.locate(event, may_wait) else {
                return false;
            };
            Some(located)
        } else {
            let image = (event.unresolved.image).filter(|_| event.event == Event::Exec);
            let executed = image.and_then(|image| self.images.path(image));
            executed.cloned().map(|new| Located { new, old: None })
        };
        let dirs = event.unresolved.dir.or(event.unresolved.other_dir);
        if dirs.is_some() && event.event == Event::Rename {
            self.carry(event);
        }
        let unwatched = |located: &Located| {
            let old = located.old.as_ref();
            !located.new.wanted && !old.is_some_and(|old| old.wanted)
        };
        if !(event.event.class() == Class::File) || !located.as_ref().is_some_and(unwatched) {
            pass(record, located, self.images.attribute(event, record), out);
        }
        true
    }

    /// Handles an image in its turn. False: it is to wait.
    fn image(&mut self, image: &Image, may_wait: bool) -> bool {
        let resolved = image::read(image).or_else(|| {
            let located = self.locate(&image::event(image), may_wait)?;
            Some(located.new)
        });
        let found = resolved.is_some();
        if let Some(resolved) = resolved {
            self.images.load(image.image, resolved);
        }
        found
    }

    /// Lets mounts move with the directories that they are on.
    fn carry(&mut self, event: &InputEvent) {
        let path = |fs_path: &Option<FsPath>| match self.find(event, fs_path.as_ref()?) {
            Found::Whole(path) => Some(path),
            Found::Tail(_) => None,
        };
        let old = path(&event.unresolved.old_fs_path);
        let new = path(&event.unresolved.fs_path);
        let dev = event.dev.unwrap_or_default();
        let mut renames = Vec::new();
        if let Some(old) = &old {
            renames.push((&old[..], new.as_deref()));
        }
        if let (Some(new), true) = (&new, event.exchange) {
            renames.push((&new[..], old.as_deref()));
        }
        self.resolver.renamed(event.ts, dev, &renames);
    }
}

impl Stage for PathTree {
    const NAME: &'static str = "st-pathtree";
    const AFTER: &'static [&'static str] = &["st-probe", "st-decode"];

    fn begin(&mut self, header: &Header, record: &[u8], out: &mut Vec<u8>) {
        let clock = Clock::of(header);
        self.resolver.begin(clock);
        let traced = |subject| header.hooks.iter().any(|hook| hook.subject == subject);
        self.follows = followed().all(traced);
        self.trees.clear();
        self.former.clear();
        self.images.clear();
        self.snapshot = Snapshot {
            taken: header.snapshot && self.follows,
            answers: header.answers,
            clock,
            send: self.snapshot.send.take(),
            ..Snapshot::default()
        };
        stage::pass_header(header, record, Self::NAME, out);
    }

    fn push(&mut self, kind: &str, record: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        match kind {
            "dir" => {
                let dir = wire::read(record)?;
                if self.follows {
                    self.dir(&dir);
                }
                return Ok(());
            }
            "shutdown" => {
                let Shutdown { ts, dev } = wire::read(record)?;
                self.shutdown(ts, dev);
                return Ok(());
            }
            "event" => {
                let event: InputEvent = wire::read(record)?;
                self.learn(&event);
                if self.snapshot.expire(event.ts) {
                    self.due = Due::Ready;
                }
                if self.waiting.is_empty() && self.event(&event, record, true, out) {
                    return Ok(());
                }
            }
            "image" => {
                let image: Image = wire::read(record)?;
                self.learn(&image::event(&image));
                if self.waiting.is_empty() && self.image(&image, true) {
                    return Ok(());
                }
            }
            "walked" => {
                self.walked(&wire::read(record)?);
                self.due = Due::Ready;
            }
            "lost" => self.lost(&wire::read(record)?),
            // One that cannot be read must not wait: its turn would be another record's.
            "mounts" => {
                wire::read::<Mounts>(record)?;
            }
            "unload" => {
                wire::read::<Unload>(record)?;
            }
            "end" => {
                self.snapshot.expire(Unix::MAX);
                self.due = Due::All;
            }
            _ => {}
        }
        if !["event", "image"].contains(&kind) && self.waiting.is_empty() {
            self.turn(kind, record, true, out)?;
            return Ok(());
        }
        self.waiting_bytes += record.len();
        self.waiting.push_back(record.to_vec());
        if self.waiting_bytes > MAX_WAITING && self.due == Due::None {
            self.due = Due::Ready;
        }
        Ok(())
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> bool {
        if self.due == Due::None {
            return false;
        }
        while let Some(record) = self.waiting.pop_front() {
            let may_wait = self.due == Due::Ready && self.waiting_bytes <= MAX_WAITING;
            let kind = wire::kind(&record).unwrap_or_default();
            let done = self.turn(kind, &record, may_wait, out);
            if !done.expect("what cannot be read does not wait") {
                self.waiting.push_front(record);
                self.due = Due::None;
                return false;
            }
            self.waiting_bytes -= record.len();
            if out.len() >= stage::LARGE {
                return true;
            }
        }
        self.former.clear();
        self.due = Due::None;
        false
    }
}

/// Appends an event with its paths, if it has any, and with `process` in place of its own.
fn pass(record: &[u8], located: Option<Located>, process: Option<Vec<u8>>, out: &mut Vec<u8>) {
    let mut added = Vec::new();
    if let Some(Located { new, old }) = located {
        let paths = Paths {
            path: Bytes::from(new.path),
            path_status: new.status,
            old_path_status: old.as_ref().map(|old| old.status),
            mnt_ns: new
                .mnt_ns
                .or_else(|| old.as_ref().and_then(|old| old.mnt_ns)),
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

/// What changes where directories are, and which file system has a device number.
fn followed() -> impl Iterator<Item = Subject> {
    let events = Event::ALL
        .iter()
        .filter(|event| event.changes_directories());
    let events = events.map(|event| Subject::Event(*event));
    events.chain([Subject::Service(Service::Shutdown)])
}

/// The last name of a path.
fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
