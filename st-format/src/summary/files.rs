//! What became of files: made and left, changed, removed, or made and removed again; and in
//! which directories.

use crate::schema::split;
use crate::summary::tree::{Id, ROOT, Tree};
use st_pathtree::event::EventRecord;
use st_pathtree::vocabulary::{Class, Event};

/// What happened in a directory (without those below it), or in all.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changes {
    /// Events on files.
    pub events: u64,
    /// Names that were made and are left.
    pub made: u64,
    /// Files that were there before, and got other attributes or another content.
    pub changed: u64,
    /// Names that were there before, and are gone.
    pub removed: u64,
    /// Names that were made and are gone.
    pub temporary: u64,
}

impl Changes {
    /// Adds other changes.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.made += other.made;
        self.changed += other.changed;
        self.removed += other.removed;
        self.temporary += other.temporary;
    }

    fn counter(&mut self, fate: Fate) -> Option<&mut u64> {
        match fate {
            Fate::Unknown => None,
            Fate::Made => Some(&mut self.made),
            Fate::Changed => Some(&mut self.changed),
            Fate::Removed => Some(&mut self.removed),
        }
    }
}

/// What became of a file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing that is known: it is a directory above others.
    #[default]
    Unknown,
    Made,
    Changed,
    Removed,
}

/// Follows files.
#[derive(Debug, Default)]
pub struct Files {
    /// Directories. Nothing is taken away from it.
    pub directories: Tree<Changes>,
    /// The files of which something became, each with the directory in which that is counted.
    files: Tree<(Fate, Id)>,
}

impl Files {
    /// Takes an event.
    pub fn push(&mut self, event: &EventRecord) {
        let Some(path) = event.path.as_deref() else {
            return;
        };
        if event.event.class() != Class::File {
            return;
        }
        let directory = self.directory(path);
        self.directories.node(directory).value.events += 1;
        match event.event {
            Event::Create | Event::Mkdir | Event::Mknod | Event::Symlink | Event::Link => {
                self.make(path);
            }
            Event::Delete | Event::Rmdir => self.remove(path),
            Event::Attrib if self.fate(path) == Fate::Unknown => {
                self.become_of(path, Fate::Changed);
            }
            Event::Rename => {
                if let Some(old) = event.old_path.as_deref() {
                    match event.exchange {
                        true => [old, path].iter().for_each(|path| self.change(path)),
                        false => self.rename(old, path),
                    }
                }
            }
            _ => {}
        }
    }

    fn directory(&mut self, path: &[u8]) -> Id {
        let (directory, _) = split(path);
        self.directories.make(directory.unwrap_or_default()).0
    }

    fn fate(&mut self, path: &[u8]) -> Fate {
        let found = self.files.find(path);
        found.map_or(Fate::Unknown, |id| self.files.node(id).value.0)
    }

    /// Sets what became of a file.
    fn become_of(&mut self, path: &[u8], fate: Fate) {
        let directory = self.directory(path);
        match self.files.make(path) {
            (ROOT, _) => {}
            (id, true) => self.set(id, fate, directory),
            // There is no room to follow it.
            (_, false) => self.count(directory, fate),
        }
    }

    fn set(&mut self, id: Id, fate: Fate, directory: Id) {
        let (old, counted) = std::mem::replace(&mut self.files.node(id).value, (fate, directory));
        if let Some(counter) = self.directories.node(counted).value.counter(old) {
            *counter -= 1;
        }
        self.count(directory, fate);
    }

    fn count(&mut self, directory: Id, fate: Fate) {
        if let Some(counter) = self.directories.node(directory).value.counter(fate) {
            *counter += 1;
        }
    }

    fn make(&mut self, path: &[u8]) {
        match self.fate(path) {
            Fate::Unknown | Fate::Made => self.become_of(path, Fate::Made),
            // It was there before.
            Fate::Removed | Fate::Changed => self.become_of(path, Fate::Changed),
        }
    }

    fn change(&mut self, path: &[u8]) {
        if self.fate(path) != Fate::Made {
            self.become_of(path, Fate::Changed);
        }
    }

    fn remove(&mut self, path: &[u8]) {
        if self.fate(path) != Fate::Made {
            return self.become_of(path, Fate::Removed);
        }
        if let Some(id) = self.files.find(path) {
            let counted = self.files.node(id).value.1;
            self.set(id, Fate::Unknown, counted);
            self.directories.node(counted).value.temporary += 1;
            self.files.prune(id, |(fate, _)| *fate == Fate::Unknown);
        }
    }

    fn rename(&mut self, old: &[u8], new: &[u8]) {
        let was = self.fate(old);
        let replaced = self.fate(new);
        let fate = match replaced {
            // A file that was there before, written anew under another name.
            Fate::Removed | Fate::Changed => Fate::Changed,
            Fate::Unknown | Fate::Made => Fate::Made,
        };
        let directory = self.directory(new);
        let Some(id) = self.files.find(old).filter(|id| *id != ROOT) else {
            self.become_of(old, Fate::Removed);
            return self.become_of(new, fate);
        };
        let (place, is_own) = self.files.make(new);
        let can_move = is_own
            && place != ROOT
            && self.files.is_leaf(place)
            && !self.files.is_within(place, id)
            && !self.files.is_within(id, place);
        if can_move {
            self.set(place, Fate::Unknown, directory);
            let parent = self.files.node(id).parent;
            self.set(id, fate, directory);
            self.files.replace(id, place);
            self.files.prune(parent, |(fate, _)| *fate == Fate::Unknown);
            if was != Fate::Made {
                self.become_of(old, Fate::Removed);
            }
        } else {
            self.remove(old);
            self.become_of(new, fate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    fn files(steps: &[(Event, &'static str, &'static str)]) -> Files {
        let mut files = Files::default();
        for (kind, old, new) in steps {
            let mut event = event(*kind);
            event.path = Some(new.as_bytes().into());
            if !old.is_empty() {
                event.old_path = Some(old.as_bytes().into());
            }
            files.push(&event);
        }
        files
    }

    /// made, changed, removed, temporary: of a directory.
    fn of(files: &mut Files, directory: &str) -> [u64; 4] {
        let Some(id) = files.directories.find(directory.as_bytes()) else {
            return [0; 4];
        };
        let changes = files.directories.node(id).value;
        [
            changes.made,
            changes.changed,
            changes.removed,
            changes.temporary,
        ]
    }

    #[test]
    fn what_became_of_a_file() {
        use Event::{Attrib, Create, Delete, Mkdir, Rename, Rmdir};
        for (steps, expected) in [
            (&[(Create, "", "/d/a")][..], [1, 0, 0, 0]),
            (&[(Create, "", "/d/a"), (Attrib, "", "/d/a")], [1, 0, 0, 0]),
            (&[(Create, "", "/d/a"), (Delete, "", "/d/a")], [0, 0, 0, 1]),
            (&[(Delete, "", "/d/a")], [0, 0, 1, 0]),
            (&[(Delete, "", "/d/a"), (Create, "", "/d/a")], [0, 1, 0, 0]),
            (&[(Attrib, "", "/d/a"), (Attrib, "", "/d/a")], [0, 1, 0, 0]),
            (&[(Attrib, "", "/d/a"), (Delete, "", "/d/a")], [0, 0, 1, 0]),
            (&[(Rename, "/d/a", "/d/b")], [1, 0, 1, 0]),
            (
                &[(Create, "", "/d/a"), (Rename, "/d/a", "/d/b")],
                [1, 0, 0, 0],
            ),
            (
                &[
                    (Create, "", "/d/a"),
                    (Rename, "/d/a", "/d/b"),
                    (Delete, "", "/d/b"),
                ],
                [0, 0, 0, 1],
            ),
            (
                &[
                    (Attrib, "", "/d/b"),
                    (Create, "", "/d/a"),
                    (Rename, "/d/a", "/d/b"),
                ],
                [0, 1, 0, 0],
            ),
            (&[(Rename, "/d/a", "/d/a/b")], [0, 0, 1, 0]),
            (&[(Mkdir, "", "/d/a"), (Rmdir, "", "/d/a")], [0, 0, 0, 1]),
            (&[(Create, "", "/d"), (Attrib, "", "/d/x")], [0, 1, 0, 0]),
        ] {
            assert_eq!(of(&mut files(steps), "/d"), expected, "{steps:?}");
        }
    }

    #[test]
    fn what_is_in_a_directory_moves_with_it() {
        use Event::{Create, Delete, Mkdir, Rename};
        let mut files = files(&[
            (Mkdir, "", "/tmp/x"),
            (Create, "", "/tmp/x/a"),
            (Create, "", "/tmp/x/b"),
            (Rename, "/tmp/x", "/srv/app"),
            (Delete, "", "/srv/app/a"),
        ]);
        assert_eq!(of(&mut files, "/tmp"), [0, 0, 0, 0]);
        assert_eq!(of(&mut files, "/srv"), [1, 0, 0, 0]);
        assert_eq!(
            of(&mut files, "/tmp/x"),
            [1, 0, 0, 1],
            "where they were made"
        );
    }

    #[test]
    fn nothing_that_can_be_told_is_too_much() {
        let mut random = crate::testing::Random::new();
        let kinds = [
            Event::Create,
            Event::Delete,
            Event::Attrib,
            Event::Rename,
            Event::Link,
        ];
        let mut files = Files::default();
        for _ in 0..50_000 {
            let mut event = event(kinds[random.below(5)]);
            let mut path = || {
                let names = (0..random.below(4)).map(|_| ["a", "b", "c"][random.below(3)]);
                names.fold(String::new(), |path, name| path + "/" + name)
            };
            event.path = Some(path().into_bytes().into());
            event.old_path = Some(path().into_bytes().into());
            event.exchange = random.below(9) == 0;
            files.push(&event);
        }
    }
}
