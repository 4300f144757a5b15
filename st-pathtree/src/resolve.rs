//! From a path within a file system to a path, and whether the event is wanted there.

use crate::event::Status;
use crate::mount::{Mounts, Place, below};
use crate::tree::Found;
use crate::watch::{Events, Watches};
use st_decode::record;
use st_decode::time::{Clock, Unix};
use st_decode::vocabulary::Event;
use std::collections::HashMap;

/// What is asked about a file.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What happened to it.
    pub event: Event,
    /// When.
    pub ts: Unix,
    /// The device of its file system.
    pub dev: &'a str,
    /// Whether it happened to its name, not to what that names.
    pub named: bool,
    /// Whether, where its path is not whole, it cannot be below a watch.
    pub outside: bool,
}

/// A path with its status, and whether the event is wanted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path.
    pub path: Vec<u8>,
    /// How far it is known.
    pub status: Status,
    /// The mount that it is on, by its place in the table.
    pub mount: Option<usize>,
    /// The mount namespace that it is of, if that is not the host's.
    pub mnt_ns: Option<u64>,
    /// Whether a watch wants the event there.
    pub wanted: bool,
}

/// The mounts of one namespace.
#[derive(Debug, Default)]
struct Namespace {
    ns: u64,
    now: Table,
    /// The mounts before the last change; those of events up to [`Namespace::changed`] too.
    before: Table,
    /// Until when the change may have happened.
    changed: Unix,
    /// How many changes began meanwhile: if it is one, there was no third table between.
    attempts: u64,
}

/// A mount table with what the watches make of it.
#[derive(Debug, Default)]
struct Table {
    mounts: Mounts,
    /// What is wanted anywhere on a device that has watched files.
    wanted: HashMap<Vec<u8>, Events>,
}

impl Table {
    fn new(mounts: Mounts, watches: &Watches) -> Self {
        let mut table = Self {
            mounts,
            wanted: HashMap::new(),
        };
        table.watch(watches);
        table
    }

    fn watch(&mut self, watches: &Watches) {
        self.wanted.clear();
        for (path, events) in watches.iter() {
            for device in self.mounts.devices_below(path) {
                let sum = self.wanted.entry(device.to_vec()).or_default();
                *sum = sum.and(events);
            }
        }
    }
}

/// Resolves paths, by the watches and the mounts of all namespaces.
#[derive(Debug, Default)]
pub struct Resolver {
    watches: Watches,
    /// The namespace of st-probe, whose mounts come first in a stream.
    host: Option<Namespace>,
    others: Vec<Namespace>,
    clock: Clock,
}

impl Resolver {
    /// With these watches.
    pub fn new(watches: Watches) -> Self {
        Self {
            watches,
            ..Self::default()
        }
    }

    /// The watches.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Forgets the mounts of the stream before.
    pub fn begin(&mut self, clock: Clock) {
        self.clock = clock;
        self.host = None;
        self.others.clear();
    }

    /// Takes a mount table. Returns the devices and mount points of mounts that are new on
    /// the host, at, above or below a watch.
    pub fn mounted(&mut self, record: &record::Mounts) -> Vec<(String, Vec<u8>)> {
        let table = Table::new(Mounts::parse(&record.mountinfo), &self.watches);
        let is_host = self.host.as_ref().is_none_or(|host| host.ns == record.ns);
        let namespace = if is_host {
            self.host.get_or_insert_default()
        } else {
            let known = self.others.iter().position(|other| other.ns == record.ns);
            // A namespace that is gone has no mounts.
            if record.mountinfo.is_empty() {
                known.map(|known| self.others.remove(known));
                return Vec::new();
            }
            let known = known.unwrap_or_else(|| {
                self.others.push(Namespace::default());
                self.others.len() - 1
            });
            &mut self.others[known]
        };
        namespace.ns = record.ns;
        namespace.before = std::mem::replace(&mut namespace.now, table);
        namespace.attempts = record.attempts;
        namespace.changed = self.clock.unix(record.ts);
        let Some(host) = self.host.as_ref().filter(|_| is_host) else {
            return Vec::new();
        };
        let new = host.now.mounts.new_since(&host.before.mounts);
        let watched = new.filter(|(_, point)| self.concerns(point));
        watched
            .map(|(dev, point)| (String::from_utf8_lossy(dev).into_owned(), point.to_vec()))
            .collect()
    }

    /// Follows renames of directories, see [`Mounts::renamed`]. A table that was read later
    /// knows of them.
    pub fn renamed(&mut self, ts: Unix, dev: &str, renames: &[(&[u8], Option<&[u8]>)]) {
        for namespace in self.host.iter_mut().chain(&mut self.others) {
            let later = ts > namespace.changed;
            let tables = [
                Some(&mut namespace.before),
                later.then_some(&mut namespace.now),
            ];
            for table in tables.into_iter().flatten() {
                if table.mounts.renamed(dev, renames) {
                    table.watch(&self.watches);
                }
            }
        }
    }

    /// Whether events at or below a path may be wanted.
    pub fn concerns(&self, path: &[u8]) -> bool {
        let wants = |events: Events| events != Events::default();
        self.watches.is_empty()
            || self
                .watches
                .decide(path)
                .is_some_and(|(_, events)| wants(events))
            || (self.watches.iter())
                .any(|(watch, events)| wants(events) && below(watch, path).is_some())
    }

    /// The type of a file system, by the host's mounts or another namespace's.
    pub fn kind(&self, dev: &str) -> Option<&[u8]> {
        let tables = self.host.iter().chain(&self.others);
        tables
            .flat_map(|n| [&n.now, &n.before])
            .find_map(|table| table.mounts.kind(dev))
    }

    /// Resolves a path; `like` is the mount that the event's other path was found on.
    pub fn resolve(&self, question: Question, found: &Found, like: Option<usize>) -> Resolved {
        let fs_path = match found {
            Found::Whole(path) => path,
            Found::Tail(path) => return self.partial(question, path),
        };
        let default = Namespace::default();
        let host = self.host.as_ref().unwrap_or(&default);
        let (place, status, in_now) = self.look_up(host, question, fs_path, like);
        if status == Status::Unmounted {
            if let Some(resolved) = self.elsewhere(question, fs_path) {
                return resolved;
            }
        }
        // A path that is covered is still in the watched directory; one on a mount that came
        // and went unseen may be.
        let wanted = match &place {
            _ if self.watches.is_empty() => true,
            Some(place) => self.wants(&place.path, question.event),
            None => {
                let wants = |(_, events): (_, Events)| events.has(question.event);
                question.ts <= host.changed && self.watches.iter().any(wants)
            }
        };
        let unmounted = status == Status::Unmounted;
        let place = place.filter(|_| !unmounted);
        Resolved {
            mount: (place.as_ref().filter(|_| in_now)).map(|place| place.mount),
            path: place.map_or_else(|| fs_path.clone(), |place| place.path),
            status,
            mnt_ns: None,
            wanted,
        }
    }

    fn partial(&self, question: Question, path: &[u8]) -> Resolved {
        let wanted = |table: &Table| {
            let events = table.wanted.get(question.dev.as_bytes());
            events.is_some_and(|events| events.has(question.event))
        };
        let anywhere = |namespace: &Namespace| {
            wanted(&namespace.now) || question.ts <= namespace.changed && wanted(&namespace.before)
        };
        let wanted = !question.outside && self.host.iter().chain(&self.others).any(anywhere);
        Resolved {
            path: path.to_vec(),
            status: Status::Partial,
            mount: None,
            mnt_ns: None,
            wanted: self.watches.is_empty() || wanted,
        }
    }

    /// The path that a namespace gives to a file, how sure that is, and whether it is of the
    /// mounts of now, not of before.
    fn look_up(
        &self,
        namespace: &Namespace,
        question: Question,
        fs_path: &[u8],
        like: Option<usize>,
    ) -> (Option<Place>, Status, bool) {
        let changing = question.ts <= namespace.changed;
        let now = self.best(&namespace.now.mounts, question, fs_path, like);
        let before = changing
            .then(|| self.best(&namespace.before.mounts, question, fs_path, None))
            .flatten();
        let visible = |place: &Option<Place>| place.as_ref().is_some_and(|place| place.visible);
        let same = now.as_ref().map(|now| &now.path) == before.as_ref().map(|before| &before.path);
        match (visible(&now), visible(&before)) {
            (true, true) if same && !came_back(namespace, question.dev) => {
                (now, Status::Complete, true)
            }
            (true, true) => (now, Status::Ambiguous, true),
            (false, false) => {
                let in_now = now.is_some();
                (now.or(before), Status::Unmounted, in_now)
            }
            // Seen in one of two tables. Had there been others between them, the number of
            // the device may have been another file system's.
            (in_now, _) => {
                let status = if !changing || namespace.attempts == 1 {
                    Status::Complete
                } else {
                    Status::Ambiguous
                };
                (if in_now { now } else { before }, status, in_now)
            }
        }
    }

    /// The path in the first other namespace that shows the file.
    fn elsewhere(&self, question: Question, fs_path: &[u8]) -> Option<Resolved> {
        self.others.iter().find_map(|namespace| {
            let (place, status, in_now) = self.look_up(namespace, question, fs_path, None);
            let place = place.filter(|_| status != Status::Unmounted)?;
            let table = if in_now {
                &namespace.now
            } else {
                &namespace.before
            };
            let watched = self.on_host(&table.mounts, question, &place);
            Some(Resolved {
                wanted: self.watches.is_empty() || self.wants(&watched, question.event),
                path: place.path,
                status,
                mount: None,
                mnt_ns: Some(namespace.ns),
            })
        })
    }

    /// Where a file would be on the host, if its mount were there: below the directory that
    /// it is mounted on.
    fn on_host(&self, mounts: &Mounts, question: Question, place: &Place) -> Vec<u8> {
        let mut mount = place.mount;
        let host = self.host.as_ref().map(|host| &host.now.mounts);
        // A table that is no tree must not keep us for ever.
        for _ in 0..64 {
            let Some((device, path, parent, length)) = mounts.under(mount) else {
                break;
            };
            let question = Question {
                dev: std::str::from_utf8(device).unwrap_or_default(),
                named: false,
                ..question
            };
            let found = host.and_then(|host| self.best(host, question, &path, None));
            if let (Some(found), Some(rest)) = (found, place.path.get(length..)) {
                return [&found.path, rest].concat();
            }
            mount = parent;
        }
        place.path.clone()
    }

    /// Of the paths that the mounts give to a file: those that lead to it before those that
    /// are covered; then those where the event is wanted; then the one on the mount `like`;
    /// then the one with the deepest watch; then that of the mount that was made first.
    fn best(
        &self,
        mounts: &Mounts,
        question: Question,
        fs_path: &[u8],
        like: Option<usize>,
    ) -> Option<Place> {
        let rank = |place: &Place| {
            let decision = self.watches.decide(&place.path);
            let wanted = decision.is_some_and(|(_, events)| events.has(question.event));
            let depth = decision.map(|(depth, _)| depth);
            (place.visible, wanted, like == Some(place.mount), depth)
        };
        let first_best = |best: Place, place| {
            if rank(&place) > rank(&best) {
                place
            } else {
                best
            }
        };
        // All but attrib are about a name, which a mount of the file itself does not show.
        let shows = |place: &Place| !question.named || !place.root;
        (mounts.places(question.dev, fs_path).filter(shows)).reduce(first_best)
    }

    fn wants(&self, path: &[u8], event: Event) -> bool {
        self.watches
            .decide(path)
            .is_some_and(|(_, events)| events.has(event))
    }
}

/// Whether a device that both tables show at one place may have been elsewhere between
/// them: unmounted here, its number given to another mount, and that one undone for one
/// here again. Only numbers of no real device (major 0) are given out anew.
fn came_back(namespace: &Namespace, device: &str) -> bool {
    namespace.attempts >= 4 && device.starts_with("0:")
}
