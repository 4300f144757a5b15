//! The stage itself.

use crate::event::{Bytes, Paths, Status};
use crate::mount::{Mounts, Place};
use crate::watch::{Events, Watch, Watches};
use st_decode::event::{Event, Kind};
use st_decode::record::{self, Header};
use st_decode::stage::{self, RecordError, Stage};
use st_decode::wire;
use std::collections::HashMap;

/// The fields that st-pathtree replaces, and those that it adds.
const REPLACED: [&str; 7] = [
    "fs_path",
    "old_fs_path",
    "deleted",
    "path",
    "path_status",
    "old_path",
    "old_path_status",
];

/// Resolves paths and passes what is watched.
#[derive(Debug)]
pub struct PathTree {
    watches: Watches,
    now: Table,
    /// The mounts before the last change; those of events up to [`PathTree::changed`] too.
    before: Table,
    /// Until when the change may have happened: nanoseconds since the Unix epoch.
    changed: u64,
    /// How many changes began meanwhile: if it is one, there was no third table between.
    attempts: u64,
    /// What to add to a monotonic time for nanoseconds since the Unix epoch.
    epoch: i64,
}

/// A mount table with what the watches make of it.
#[derive(Debug, Default)]
struct Table {
    mounts: Mounts,
    /// What is wanted anywhere on a device that has watched files.
    wanted: HashMap<Vec<u8>, Events>,
}

/// A path with its status, and whether the event is wanted there.
struct Resolved {
    path: Vec<u8>,
    status: Status,
    mount: Option<usize>,
    wanted: bool,
}

impl PathTree {
    /// With these watches; without any every event passes.
    pub fn new(watches: Vec<Watch>) -> Self {
        let watches = Watches::new(watches);
        Self {
            watches,
            now: Table::default(),
            before: Table::default(),
            changed: 0,
            attempts: 0,
            epoch: 0,
        }
    }

    fn mounted(&mut self, record: &record::Mounts) {
        let mounts = Mounts::parse(&record.mountinfo);
        let mut wanted: HashMap<Vec<u8>, Events> = HashMap::new();
        for (path, events) in self.watches.iter() {
            for device in mounts.devices_below(path) {
                let sum = wanted.entry(device.to_vec()).or_default();
                *sum = sum.and(events);
            }
        }
        self.before = std::mem::replace(&mut self.now, Table { mounts, wanted });
        self.attempts = record.attempts;
        self.changed = record.ts.wrapping_add_signed(self.epoch);
    }

    /// Resolves one path of an event; `like` is the mount that its other path was found on.
    fn resolve(&self, event: &Event, fs_path: &[u8], like: Option<usize>) -> Resolved {
        let device = event.dev.unwrap_or_default();
        let changing = event.ts <= self.changed;
        if fs_path.first() != Some(&b'/') {
            let wanted = |table: &Table| {
                table
                    .wanted
                    .get(device.as_bytes())
                    .is_some_and(|e| e.has(event.event))
            };
            let wanted =
                self.watches.is_empty() || wanted(&self.now) || changing && wanted(&self.before);
            return Resolved {
                path: fs_path.to_vec(),
                status: Status::Partial,
                mount: None,
                wanted,
            };
        }
        let now = self.best(&self.now.mounts, event, fs_path, like);
        let before = if changing {
            self.best(&self.before.mounts, event, fs_path, None)
        } else {
            None
        };
        let visible = |place: &Option<Place>| place.as_ref().is_some_and(|place| place.visible);
        let same = now.as_ref().map(|now| &now.path) == before.as_ref().map(|before| &before.path);
        let (place, status) = match (visible(&now), visible(&before)) {
            (true, true) if same && !self.came_back(device) => (now, Status::Complete),
            (true, true) => (now, Status::Ambiguous),
            (false, false) => (now.or(before), Status::Unmounted),
            // Seen in one of two tables. Had there been others between them, the number of
            // the device may have been another file system's.
            (in_now, _) => {
                let status = if !changing || self.attempts == 1 {
                    Status::Complete
                } else {
                    Status::Ambiguous
                };
                (if in_now { now } else { before }, status)
            }
        };
        // A path that is covered is still in the watched directory; one on a mount that came
        // and went unseen may be.
        let wanted = match &place {
            _ if self.watches.is_empty() => true,
            Some(place) => self.wants(&place.path, event.event),
            None => {
                changing
                    && self
                        .watches
                        .iter()
                        .any(|(_, events)| events.has(event.event))
            }
        };
        let mount = place
            .as_ref()
            .filter(|_| visible(&place))
            .map(|place| place.mount);
        let path = place
            .filter(|_| status != Status::Unmounted)
            .map_or_else(|| fs_path.to_vec(), |place| place.path);
        Resolved {
            path,
            status,
            mount,
            wanted,
        }
    }

    /// Whether a device that both tables show at one place may have been elsewhere between
    /// them: unmounted here, its number given to another mount, and that one undone for one
    /// here again. Only numbers of no real device (major 0) are given out anew.
    fn came_back(&self, device: &str) -> bool {
        self.attempts >= 4 && device.starts_with("0:")
    }

    /// Of the paths that the mounts give to a file: those that lead to it before those that
    /// are covered; then those where the event is wanted; then the one on the mount `like`;
    /// then the one with the deepest watch; then that of the mount that was made first.
    fn best(
        &self,
        mounts: &Mounts,
        event: &Event,
        fs_path: &[u8],
        like: Option<usize>,
    ) -> Option<Place> {
        let rank = |place: &Place| {
            let decision = self.watches.decide(&place.path);
            let wanted = decision.is_some_and(|(_, events)| events.has(event.event));
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
        mounts
            .places(event.dev.unwrap_or_default(), fs_path)
            .reduce(first_best)
    }

    fn wants(&self, path: &[u8], kind: Kind) -> bool {
        self.watches
            .decide(path)
            .is_some_and(|(_, events)| events.has(kind))
    }

    fn event(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let event: Event = wire::read(record)?;
        let known = Kind::FILE.contains(&event.event);
        if !known || event.dev.is_none() {
            out.extend_from_slice(record);
            return Ok(());
        }
        // An event whose very name could not be read has an empty path.
        let fs_path = event.fs_path.as_deref().unwrap_or_default();
        let mut new = self.resolve(&event, fs_path, None);
        let mut old =
            (event.old_fs_path.as_deref()).map(|fs_path| self.resolve(&event, fs_path, new.mount));
        if event.deleted {
            let named = old.as_mut().unwrap_or(&mut new);
            if named.status == Status::Complete {
                named.status = Status::Deleted;
            }
        }
        if !new.wanted && !old.as_ref().is_some_and(|old| old.wanted) {
            return Ok(());
        }
        let paths = Paths {
            path: Bytes::from(new.path),
            path_status: new.status,
            old_path_status: old.as_ref().map(|old| old.status),
            old_path: old.map(|old| Bytes::from(old.path)),
        };
        let mut added = Vec::new();
        wire::write(&paths, &mut added);
        wire::merge(record, &REPLACED, &added, out);
        Ok(())
    }
}

impl Stage for PathTree {
    const NAME: &'static str = "st-pathtree";
    const AFTER: &'static [&'static str] = &["st-probe", "st-decode"];

    fn begin(&mut self, header: &Header, record: &[u8], out: &mut Vec<u8>) {
        self.epoch = header.realtime.wrapping_sub(header.monotonic) as i64;
        (self.now, self.before) = (Table::default(), Table::default());
        stage::pass_header(header, record, Self::NAME, out);
    }

    fn push(&mut self, kind: &str, record: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        match kind {
            "event" => return self.event(record, out),
            "mounts" => self.mounted(&wire::read(record)?),
            _ => {}
        }
        out.extend_from_slice(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &[u8] = b"1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / /w/a rw - tmpfs x rw\n";
    const AFTER: &[u8] = b"1 0 8:1 / / rw - ext4 x rw\n2 1 0:9 / /w/b rw - tmpfs x rw\n";

    /// A tree whose mounts changed from the first to the last table until the time 100.
    fn tree(tables: &[&[u8]], attempts: u64, watches: &[&str]) -> PathTree {
        let watches = watches
            .iter()
            .map(|text| Watch::parse(text.as_bytes()).unwrap());
        let mut tree = PathTree::new(watches.collect());
        for table in tables {
            let mountinfo = Bytes::from(*table);
            tree.mounted(&record::Mounts {
                ts: 100,
                since: 50,
                attempts,
                ns: 1,
                mountinfo,
            });
        }
        tree
    }

    fn event(kind: Kind, ts: u64, dev: &'static str, fs_path: &str, old: Option<&str>) -> Vec<u8> {
        let bytes = |path: &str| Bytes::from(path.as_bytes().to_vec());
        let mut record = Vec::new();
        let event = Event {
            event: kind,
            ts,
            dev: Some(dev),
            fs_path: Some(bytes(fs_path)),
            old_fs_path: old.map(bytes),
            ..Event::default()
        };
        wire::write(&event, &mut record);
        record
    }

    /// The path and status that an event gets; `None` if it does not pass.
    fn resolved(tree: &PathTree, record: &[u8]) -> Option<(String, Status)> {
        let mut out = Vec::new();
        tree.event(record, &mut out).unwrap();
        let event: crate::event::Event = (!out.is_empty()).then(|| wire::read(&out).unwrap())?;
        Some((
            String::from_utf8(event.path?.to_vec()).unwrap(),
            event.path_status?,
        ))
    }

    fn create(tree: &PathTree, ts: u64, dev: &'static str, path: &str) -> Option<(String, Status)> {
        resolved(tree, &event(Kind::Create, ts, dev, path, None))
    }

    fn some(path: &str, status: Status) -> Option<(String, Status)> {
        Some((path.to_owned(), status))
    }

    #[test]
    fn a_mount_is_known_as_soon_as_it_is_made() {
        let tree = tree(&[b"1 0 8:1 / / rw - ext4 x rw\n", AFTER], 1, &[]);
        assert_eq!(
            create(&tree, 60, "0:9", "/f"),
            some("/w/b/f", Status::Complete)
        );
        // What it covers was still there before.
        assert_eq!(
            create(&tree, 60, "8:1", "/w/b/f"),
            some("/w/b/f", Status::Complete)
        );
        assert_eq!(
            create(&tree, 200, "8:1", "/w/b/f"),
            some("/w/b/f", Status::Unmounted)
        );
    }

    #[test]
    fn a_path_that_may_be_another_says_so() {
        let moved = tree(&[BEFORE, AFTER], 2, &[]);
        assert_eq!(
            create(&moved, 60, "0:9", "/f"),
            some("/w/b/f", Status::Ambiguous)
        );
        assert_eq!(
            create(&moved, 200, "0:9", "/f"),
            some("/w/b/f", Status::Complete)
        );
        let unseen = tree(&[b"1 0 8:1 / / rw - ext4 x rw\n", AFTER], 3, &[]);
        assert_eq!(
            create(&unseen, 60, "0:9", "/f"),
            some("/w/b/f", Status::Ambiguous)
        );
        let back = tree(&[BEFORE, BEFORE], 4, &[]);
        assert_eq!(
            create(&back, 60, "0:9", "/f"),
            some("/w/a/f", Status::Ambiguous)
        );
        assert_eq!(create(&back, 60, "8:1", "/f"), some("/f", Status::Complete));
    }

    #[test]
    fn a_mount_that_nobody_saw_has_no_path_but_is_told() {
        let tree = tree(&[BEFORE, BEFORE], 2, &["all=/w"]);
        assert_eq!(
            create(&tree, 60, "0:10", "/f"),
            some("/f", Status::Unmounted)
        );
        assert_eq!(create(&tree, 200, "0:10", "/f"), None);
    }

    #[test]
    fn the_watched_alias_is_shown() {
        let bound: &[u8] = b"1 0 8:1 / / rw - ext4 x rw\n2 1 8:1 /data/src /w rw - ext4 x rw\n";
        let all = tree(&[bound], 0, &[]);
        assert_eq!(
            create(&all, 200, "8:1", "/data/src/f"),
            some("/data/src/f", Status::Complete)
        );
        let watched = tree(&[bound], 0, &["all=/w"]);
        assert_eq!(
            create(&watched, 200, "8:1", "/data/src/f"),
            some("/w/f", Status::Complete)
        );
        let out = event(
            Kind::Rename,
            200,
            "8:1",
            "/data/other/f",
            Some("/data/src/f"),
        );
        assert_eq!(
            resolved(&watched, &out),
            some("/data/other/f", Status::Complete)
        );
        // An alias that wants nothing does not hide the other.
        let both = tree(&[bound], 0, &["all=/data", "none=/w"]);
        assert_eq!(
            create(&both, 200, "8:1", "/data/src/f"),
            some("/data/src/f", Status::Complete)
        );
    }
}
