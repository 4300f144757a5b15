//! From a path within a file system to a path, and whether a watch wants the event there.

mod changes;

pub use changes::NewMount;

use crate::event::Status;
use crate::mount::{DirRename, MountTable, MountedPath, below};
use crate::tree::Found;
use crate::watch::{Events, Watches};
use foldhash::HashMap;
use st_decode::record;
use st_decode::time::Monotonic;
use st_decode::vocabulary::Event;

/// The most mounts that are followed from one to the mount that it is on. If the parents in a
/// table form a circle, there would be no end.
const MAX_NESTED: usize = 64;

/// What must be known of an event to resolve a path of its file.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What happened to the file.
    pub event: Event,
    /// When.
    pub at: Monotonic,
    /// The device of the file's file system.
    pub dev: &'a str,
    /// Whether it happened to a name of the file, not to the file itself.
    pub named: bool,
    /// Whether the file cannot be below a watch if its path is not whole.
    pub outside: bool,
}

/// A path with its status, and whether the event is wanted there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path.
    pub path: Vec<u8>,
    /// How far it is known.
    pub status: Status,
    /// The index of the mount that it is on, in the host's current table.
    pub mount: Option<usize>,
    /// The mount namespace of the path, if that is not the host's.
    pub mnt_ns: Option<u64>,
    /// Whether a watch wants the event there.
    pub wanted: bool,
}

/// The mounts of one mount namespace.
#[derive(Debug, Default)]
struct Namespace {
    ns: u64,
    now: WatchedMounts,
    /// The table before the last changes. Until [`Namespace::changed`] either table may hold.
    before: WatchedMounts,
    /// Since when that table was the current one.
    before_since: Monotonic,
    /// The latest instant at which the first of these changes may have happened ...
    first_changed: Monotonic,
    /// ... and the last.
    changed: Monotonic,
    /// How many mounts and unmounts began between the two tables. If it was one, there was no
    /// third table between them.
    attempts: u64,
    /// Whether st-probe has read its table.
    is_read: bool,
}

impl Namespace {
    /// Whether a device that both tables show at one place may have been elsewhere between
    /// the two: it was unmounted here, its number was given to another file system, that one
    /// was unmounted, and this one was mounted here again. The kernel gives only the numbers
    /// with major 0 to several file systems, one after the other.
    fn may_have_come_back(&self, device: &str) -> bool {
        self.attempts >= 4 && device.starts_with("0:")
    }
}

/// A mount table, and what the watches want on each of its devices.
#[derive(Debug, Clone, Default)]
struct WatchedMounts {
    table: MountTable,
    /// The events that are wanted anywhere on a device; no entry if no file of the device can
    /// be below a watch.
    wanted: HashMap<Vec<u8>, Events>,
}

impl WatchedMounts {
    fn new(table: MountTable, watches: &Watches) -> Self {
        let mut mounts = Self {
            table,
            ..Self::default()
        };
        mounts.apply(watches);
        mounts
    }

    /// Finds what the watches want, with the table as it is now.
    fn apply(&mut self, watches: &Watches) {
        self.wanted.clear();
        for (path, events) in watches.iter() {
            for device in self.table.devices_below(path) {
                let sum = self.wanted.entry(device.to_vec()).or_default();
                *sum = sum.and(events);
            }
        }
    }

    fn wants(&self, question: Question) -> bool {
        let events = self.wanted.get(question.dev.as_bytes());
        events.is_some_and(|events| events.has(question.event))
    }
}

/// The path that a namespace gives to a file.
struct LookedUp {
    mounted: Option<MountedPath>,
    status: Status,
    /// Whether the path is from [`Namespace::now`], not from [`Namespace::before`].
    in_now: bool,
}

/// Resolves paths, by the watches and by the mounts of all known namespaces.
#[derive(Debug, Default)]
pub struct Resolver {
    watches: Watches,
    /// The namespace of st-probe: its table is the first one in a stream.
    host: Option<Namespace>,
    others: Vec<Namespace>,
    /// Mounts of which it is not known what they are on: a tree that is being copied, or one that
    /// is in no namespace yet.
    loose: WatchedMounts,
    /// The host's new mounts, and since when.
    new: Vec<(Monotonic, u64)>,
}

impl Resolver {
    /// A resolver with these watches.
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

    /// Begins a new stream: forgets the mounts of the previous one.
    pub fn begin(&mut self) {
        self.host = None;
        self.others.clear();
        self.loose = WatchedMounts::default();
        self.new.clear();
    }

    /// Takes a mount table. Returns the host's mounts that are new in it.
    pub fn mounted(&mut self, record: &record::Mounts) -> Vec<NewMount> {
        let mounts = WatchedMounts::new(MountTable::parse(&record.mountinfo), &self.watches);
        let is_host = self.host.as_ref().is_none_or(|host| host.ns == record.ns);
        let namespace = if is_host {
            self.host.get_or_insert_default()
        } else {
            let known = self.others.iter().position(|other| other.ns == record.ns);
            // The table of a namespace that is gone is empty.
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
        namespace.now.settle(&self.watches);
        namespace.ns = record.ns;
        self.loose.table.remove_those_of(&mounts.table);
        let former = std::mem::replace(&mut namespace.now, mounts);
        // The mounts of the first table were there before the first walk.
        let new = namespace.now.table.new_since(&former.table);
        let new = new.filter(|_| namespace.is_read && is_host);
        let new: Vec<_> = new.map(|mount| NewMount::of(record.ts, mount)).collect();
        // A table that only confirms what was known changes nothing.
        if record.since < record.ts {
            namespace.before = former;
            namespace.before_since = Monotonic::default();
            namespace.attempts = record.attempts;
            (namespace.first_changed, namespace.changed) = (record.ts, record.ts);
        }
        namespace.is_read = true;
        let watched = new.into_iter().filter(|new| self.concerns(&new.point));
        watched.collect()
    }

    /// Follows renames of directories, see [`MountTable::renamed`]. A table that was read after
    /// the renames has them already.
    pub fn renamed(&mut self, at: Monotonic, dev: &str, renames: &[DirRename]) {
        self.settle();
        for namespace in self.host.iter_mut().chain(&mut self.others) {
            let mut tables = vec![&mut namespace.before];
            if at > namespace.changed {
                tables.push(&mut namespace.now);
            }
            for mounts in tables {
                if mounts.table.renamed(dev, renames) {
                    mounts.apply(&self.watches);
                }
            }
        }
    }

    /// Whether a watch may want events at or below a path.
    pub fn concerns(&self, path: &[u8]) -> bool {
        let decision = self.watches.decide(path);
        self.watches.is_empty()
            || decision.is_some_and(|(_, events)| !events.is_empty())
            || (self.watches.iter())
                .any(|(watch, events)| !events.is_empty() && below(watch, path).is_some())
    }

    /// The type of a device's file system, by the tables of all namespaces.
    pub fn kind(&self, dev: &str) -> Option<&[u8]> {
        let namespaces = self.host.iter().chain(&self.others);
        namespaces
            .flat_map(|namespace| [&namespace.now, &namespace.before])
            .find_map(|mounts| mounts.table.kind(dev))
    }

    /// Resolves a path. `like` is the mount on which the event's other path is.
    pub fn resolve(&mut self, question: Question, found: &Found, like: Option<usize>) -> Resolved {
        if let Some(host) = &mut self.host {
            host.now.settle(&self.watches);
        }
        let fs_path = match found {
            Found::Whole(path) => path,
            Found::Tail(path) => {
                self.settle();
                return self.partial(question, path);
            }
        };
        let default;
        let host = match &self.host {
            Some(host) => host,
            None => {
                default = Namespace::default();
                &default
            }
        };
        let may_have_changed = question.at <= host.changed;
        let LookedUp {
            mounted,
            status,
            in_now,
        } = self.look_up(host, question, fs_path, like);
        if status == Status::Unmounted {
            self.settle();
            if let Some(resolved) = self.elsewhere(question, fs_path) {
                return resolved;
            }
        }
        // A file whose path is covered is still in the watched directory. A file on a mount
        // that was made and removed between two tables may be below a watch.
        let mut wanted = match &mounted {
            _ if self.watches.is_empty() => true,
            Some(mounted) => self.wants(&mounted.path, question.event),
            None => may_have_changed && self.is_wanted_anywhere(question.event),
        };
        let (path, mut status, mount) = match mounted {
            Some(mounted) if status != Status::Unmounted => {
                (mounted.path, status, in_now.then_some(mounted.mount))
            }
            _ => (fs_path.clone(), status, None),
        };
        if !wanted && self.is_wanted_anywhere(question.event) {
            wanted = self.may_be_anywhere(question.dev, fs_path);
            if wanted && status == Status::Complete {
                status = Status::Ambiguous;
            }
        }
        Resolved {
            path,
            status,
            mount,
            mnt_ns: None,
            wanted,
        }
    }

    /// Whether any watch wants an event.
    fn is_wanted_anywhere(&self, event: Event) -> bool {
        self.watches.iter().any(|(_, events)| events.has(event))
    }

    /// The result for a path of which only the last names are known.
    fn partial(&self, question: Question, path: &[u8]) -> Resolved {
        let may_want = |namespace: &Namespace| {
            namespace.now.wants(question)
                || question.at <= namespace.changed && namespace.before.wants(question)
        };
        let wanted = !question.outside && self.host.iter().chain(&self.others).any(may_want);
        Resolved {
            path: path.to_vec(),
            status: Status::Partial,
            mount: None,
            mnt_ns: None,
            wanted: self.watches.is_empty() || wanted,
        }
    }

    fn look_up(
        &self,
        namespace: &Namespace,
        question: Question,
        fs_path: &[u8],
        like: Option<usize>,
    ) -> LookedUp {
        let changing = question.at <= namespace.changed;
        let now = self.best(&namespace.now.table, question, fs_path, like);
        let before = if changing {
            self.best(&namespace.before.table, question, fs_path, None)
        } else {
            None
        };
        // Of what was before that table, nothing is known any more.
        let was_elsewhere = changing && question.at < namespace.before_since;
        let visible = |path: &Option<MountedPath>| path.as_ref().is_some_and(|path| path.visible);
        let same = now.as_ref().map(|now| &now.path) == before.as_ref().map(|before| &before.path);
        match (visible(&now), visible(&before)) {
            (true, true)
                if same && !was_elsewhere && !namespace.may_have_come_back(question.dev) =>
            {
                LookedUp {
                    mounted: now,
                    status: Status::Complete,
                    in_now: true,
                }
            }
            (true, true) => LookedUp {
                mounted: now,
                status: Status::Ambiguous,
                in_now: true,
            },
            (false, false) => LookedUp {
                in_now: now.is_some(),
                mounted: now.or(before),
                status: Status::Unmounted,
            },
            // One of the two tables shows the file. If there was a third table between them,
            // the device number may have been that of another file system.
            (in_now, _) => LookedUp {
                mounted: if in_now { now } else { before },
                status: if !changing || namespace.attempts == 1 && !was_elsewhere {
                    Status::Complete
                } else {
                    Status::Ambiguous
                },
                in_now,
            },
        }
    }

    /// The path in the first other namespace that shows the file.
    fn elsewhere(&self, question: Question, fs_path: &[u8]) -> Option<Resolved> {
        self.others.iter().find_map(|namespace| {
            let found = self.look_up(namespace, question, fs_path, None);
            if found.status == Status::Unmounted {
                return None;
            }
            let mounted = found.mounted?;
            let mounts = if found.in_now {
                &namespace.now
            } else {
                &namespace.before
            };
            let watched = self.on_host(&mounts.table, question, &mounted);
            Some(Resolved {
                wanted: self.watches.is_empty() || self.wants(&watched, question.event),
                path: mounted.path,
                status: found.status,
                mount: None,
                mnt_ns: Some(namespace.ns),
            })
        })
    }

    /// The path that a file of another namespace would have on the host if its mount were made
    /// there: below the directory that the mount is on.
    fn on_host(&self, table: &MountTable, question: Question, mounted: &MountedPath) -> Vec<u8> {
        let Some(host) = &self.host else {
            return mounted.path.clone();
        };
        let mut mount = mounted.mount;
        for _ in 0..MAX_NESTED {
            let Some(point) = table.mount_point(mount) else {
                break;
            };
            let question = Question {
                dev: std::str::from_utf8(point.device).unwrap_or_default(),
                named: false,
                ..question
            };
            let found = self.best(&host.now.table, question, &point.fs_path, None);
            if let (Some(found), Some(rest)) = (found, mounted.path.get(point.length..)) {
                return [&found.path, rest].concat();
            }
            mount = point.parent;
        }
        mounted.path.clone()
    }

    /// The best of the paths that the mounts give to a file. A path that leads to the file is
    /// better than a covered one; then, one where the event is wanted; then, the one on the mount
    /// `like`; then, the one with the deepest watch; then, that of the mount that was made first.
    fn best(
        &self,
        table: &MountTable,
        question: Question,
        fs_path: &[u8],
        like: Option<usize>,
    ) -> Option<MountedPath> {
        let rank = |mounted: &MountedPath| {
            let decision = self.watches.decide(&mounted.path);
            let wanted = decision.is_some_and(|(_, events)| events.has(question.event));
            let depth = decision.map(|(depth, _)| depth);
            (mounted.visible, wanted, like == Some(mounted.mount), depth)
        };
        let first_best = |best: MountedPath, mounted| {
            if rank(&mounted) > rank(&best) {
                mounted
            } else {
                best
            }
        };
        // A mount of the file itself has another name for it than the event is about.
        let shows = |mounted: &MountedPath| !question.named || !mounted.is_mount_point;
        (table.paths(question.dev, fs_path).filter(shows)).reduce(first_best)
    }

    fn wants(&self, path: &[u8], event: Event) -> bool {
        let decision = self.watches.decide(path);
        decision.is_some_and(|(_, events)| events.has(event))
    }
}
