//! Whether st-pathtree may not know a directory, so that all names are to be recorded.

use crate::stream::record::Hook;
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::{Event, Role, Service, Subject, Value};
use std::collections::HashMap;
use std::time::Duration;

/// How long a call may go on that renames a directory. After that its return is taken for missed.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// S_IFDIR (include/uapi/linux/stat.h), which block devices have, too.
const DIRECTORY: u16 = 0x4000;

/// What a record tells of directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    /// One may come to where it is not known.
    Change,
    /// A rename begins.
    Rename(Places),
    /// A rename ends.
    Renamed,
}

/// Where a record has what tells whether directories are renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    /// The mode, of two bytes.
    mode: usize,
    /// The number of links, of four bytes.
    nlink: usize,
}

impl Places {
    fn of(hook: &Hook) -> Option<Self> {
        let at = |value: Value| {
            let field = hook
                .fields
                .iter()
                .find(|field| field.name == value.name())?;
            Some(usize::from(field.offset))
        };
        Some(Self {
            mode: at(Value::Mode)?,
            nlink: at(Value::Nlink)?,
        })
    }

    /// As [`crate::kernel::hooks::MAY_HAVE_DIRECTORIES`].
    fn may_have_directories(self, data: &[u8]) -> bool {
        let mode = data.get(self.mode..).and_then(|data| data.first_chunk());
        let nlink = data.get(self.nlink..).and_then(|data| data.first_chunk());
        let is_directory = mode.is_some_and(|mode| u16::from_ne_bytes(*mode) & DIRECTORY != 0);
        is_directory && nlink.is_none_or(|nlink| u32::from_ne_bytes(*nlink) != 2)
    }
}

/// What raises doubts. The kernel begins to record all names by itself where a record raises one,
/// but one of these records may not have been read yet when names are left out.
#[derive(Debug, Default)]
pub struct Doubts {
    /// By the id of the hook.
    hooks: HashMap<u16, Tells>,
    /// When each thread began to rename a directory.
    renaming: HashMap<i32, Monotonic>,
    latest: Monotonic,
    /// Whether there are new ones.
    raised: bool,
}

impl Doubts {
    /// None yet. The records of some of `hooks` raise them.
    pub fn of(hooks: &[Hook]) -> Self {
        let telling = hooks.iter().filter_map(|hook| {
            let tells = match (hook.subject, hook.role) {
                (Subject::Event(Event::Rename), Role::Entry | Role::Old) => {
                    Tells::Rename(Places::of(hook)?)
                }
                (Subject::Event(Event::Rename), Role::Return) => Tells::Renamed,
                (Subject::Service(Service::Attach | Service::Detach | Service::Mount), _)
                | (Subject::Service(Service::Namespace), Role::Instant) => Tells::Change,
                _ => return None,
            };
            Some((hook.id, tells))
        });
        Self {
            hooks: telling.collect(),
            ..Self::default()
        }
    }

    /// Takes a record of the ring buffer.
    pub fn note(&mut self, id: u16, ts: Monotonic, data: &[u8]) {
        let Some(tells) = self.hooks.get(&id) else {
            return;
        };
        // struct trace_entry (include/linux/trace_events.h): pid.
        let tid = data.get(4..).and_then(|data| data.first_chunk());
        let tid = tid.map_or(0, |tid| i32::from_ne_bytes(*tid));
        match *tells {
            Tells::Change => self.raise(ts),
            Tells::Rename(places) if places.may_have_directories(data) => {
                self.renaming.insert(tid, ts);
                self.raise(ts);
            }
            Tells::Rename(_) => {}
            Tells::Renamed => {
                if self.renaming.remove(&tid).is_some() {
                    self.raise(ts);
                }
            }
        }
    }

    /// Notes that records until an instant are missing, or one that is of that instant raises a
    /// doubt.
    pub fn raise(&mut self, until: Monotonic) {
        self.latest = self.latest.max(until);
        self.raised = true;
    }

    /// Whether doubts were raised since this was called last.
    pub fn take_raised(&mut self) -> bool {
        std::mem::take(&mut self.raised)
    }

    /// Whether names can be left out if all watched directories were known at an instant.
    pub fn allow(&mut self, at: Monotonic) -> bool {
        self.renaming
            .retain(|_, began| began.after(LONGEST_CALL) > at);
        self.renaming.is_empty() && self.latest < at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENAME: u16 = 1;
    const RENAMED: u16 = 2;
    const MOUNT: u16 = 3;

    fn doubts() -> Doubts {
        Doubts {
            hooks: HashMap::from([
                (RENAME, Tells::Rename(Places { mode: 8, nlink: 10 })),
                (RENAMED, Tells::Renamed),
                (MOUNT, Tells::Change),
            ]),
            ..Doubts::default()
        }
    }

    fn record(tid: i32, mode: u16, nlink: u32) -> Vec<u8> {
        let (tid, mode, nlink) = (tid.to_ne_bytes(), mode.to_ne_bytes(), nlink.to_ne_bytes());
        [&[0; 4][..], &tid, &mode, &nlink].concat()
    }

    #[test]
    fn a_directory_that_is_renamed_raises_doubts_until_that_is_done() {
        let mut doubts = doubts();
        doubts.note(RENAME, Monotonic(10), &record(7, 0o100_644, 1));
        doubts.note(RENAME, Monotonic(10), &record(7, 0o040_755, 2));
        assert!(!doubts.take_raised());
        doubts.note(RENAME, Monotonic(10), &record(7, 0o040_755, 3));
        assert!(doubts.take_raised());
        assert!(!doubts.allow(Monotonic(20)));
        doubts.note(RENAMED, Monotonic(30), &record(8, 0, 0));
        assert!(!doubts.allow(Monotonic(40)));
        doubts.note(RENAMED, Monotonic(40), &record(7, 0, 0));
        assert!(doubts.take_raised());
        assert!(!doubts.allow(Monotonic(40)));
        assert!(doubts.allow(Monotonic(41)));
    }

    #[test]
    fn mounts_and_losses_raise_doubts() {
        let mut doubts = doubts();
        doubts.note(MOUNT, Monotonic(10), &record(7, 0, 0));
        assert!(!doubts.allow(Monotonic(10)));
        assert!(doubts.allow(Monotonic(11)));
        doubts.raise(Monotonic(30));
        assert!(!doubts.allow(Monotonic(30)));
        assert!(doubts.allow(Monotonic(31)));
    }

    #[test]
    fn a_return_that_was_missed_is_not_waited_for_forever() {
        let mut doubts = doubts();
        doubts.note(RENAME, Monotonic(10), &record(7, 0o040_755, 3));
        assert!(
            !doubts.allow(
                Monotonic(10)
                    .after(LONGEST_CALL)
                    .before(Duration::from_nanos(1))
            )
        );
        assert!(doubts.allow(Monotonic(10).after(LONGEST_CALL)));
    }

    #[test]
    fn survives_every_cut() {
        let whole = record(7, 0o040_755, 3);
        for cut in 0..whole.len() {
            let mut doubts = doubts();
            doubts.note(RENAME, Monotonic(10), &whole[..cut]);
            assert_eq!(doubts.take_raised(), cut >= 10, "what it is, is known");
        }
    }
}
