//! Watches: which events are wanted below which paths.
//!
//! The deepest watch at or above a path decides about the path: its events replace those of the
//! watches above it. The events of watches on the same path add up.

use crate::vocabulary::{Class, Event};
use foldhash::HashMap;

/// A set of events on files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Events(u32);

impl Events {
    /// All events on files.
    pub fn all() -> Self {
        Event::of(Class::File).fold(Self::default(), Self::with)
    }

    /// These events and one more.
    pub fn with(self, event: Event) -> Self {
        Self(self.0 | 1 << event as u32)
    }

    /// The events of both sets.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the set has no event.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether the set has an event.
    pub fn has(self, event: Event) -> bool {
        self.0 & 1 << event as u32 != 0
    }

    fn parse(list: &str) -> Result<Self, String> {
        match list {
            "all" => Ok(Self::all()),
            "none" => Ok(Self::default()),
            _ => list.split(',').try_fold(Self::default(), |events, name| match Event::from_name(name) {
                Some(event) if event.class() == Class::File => Ok(events.with(event)),
                _ => {
                    let names = Event::list(Event::of(Class::File));
                    Err(format!("'{name}' is no event that can be watched: use {names}, or all or none alone"))
                }
            }),
        }
    }
}

/// A path, and the events that are wanted at and below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Absolute, without `.`, `..`, doubled or trailing slashes.
    pub path: Vec<u8>,
    /// The events.
    pub events: Events,
}

impl Watch {
    /// Parses `EVENTS=PATH`. The error says what to write instead.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut parts = text.splitn(2, |&byte| byte == b'=');
        let events = String::from_utf8_lossy(parts.next().unwrap_or_default());
        let Some(path) = parts.next() else {
            let path = if events.starts_with('/') {
                &events
            } else {
                "/etc"
            };
            return Err(format!("write EVENTS=PATH, for example all={path}"));
        };
        let events = Events::parse(&events)?;
        if path.first() != Some(&b'/') {
            let path = String::from_utf8_lossy(path);
            return Err(format!(
                "the path '{path}' is not absolute: it must begin with /"
            ));
        }
        Ok(Self {
            path: normal(path),
            events,
        })
    }
}

/// An absolute path without `.`, `..`, doubled or trailing slashes.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    [&b"/"[..], &names.join(&b'/')].concat()
}

/// All watches.
#[derive(Debug, Default)]
pub struct Watches {
    by_path: HashMap<Vec<u8>, Events>,
    /// Bytes of the longest path.
    longest: usize,
}

impl Watches {
    /// All of these watches. Their events add up where the paths are equal.
    pub fn new(watches: Vec<Watch>) -> Self {
        let mut by_path: HashMap<_, Events> = HashMap::default();
        for watch in watches {
            let events = by_path.entry(watch.path).or_default();
            *events = events.and(watch.events);
        }
        let longest = by_path.keys().map(Vec::len).max().unwrap_or(0);
        Self { by_path, longest }
    }

    /// Whether there is no watch.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// The watch that decides about an absolute path: the length of the watch's path in bytes,
    /// and its events.
    pub fn decide(&self, path: &[u8]) -> Option<(usize, Events)> {
        // Where no watch can be, no path is hashed: a deep path would take long.
        let mut above = ancestors(path).skip_while(|above| above.len() > self.longest);
        above.find_map(|above| Some((above.len(), *self.by_path.get(above)?)))
    }

    /// The path and the events of each watch.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Events)> {
        self.by_path
            .iter()
            .map(|(path, events)| (&path[..], *events))
    }
}

/// A path and the paths of the directories above it, up to `/`.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        let slash = path.iter().rposition(|&byte| byte == b'/')?;
        match slash {
            0 if path.len() == 1 => None,
            0 => Some(&path[..1]),
            _ => Some(&path[..slash]),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watches(list: &[&str]) -> Watches {
        Watches::new(
            list.iter()
                .map(|text| Watch::parse(text.as_bytes()).unwrap())
                .collect(),
        )
    }

    fn wants(watches: &Watches, event: Event, path: &str) -> bool {
        watches
            .decide(path.as_bytes())
            .is_some_and(|(_, events)| events.has(event))
    }

    #[test]
    fn the_deepest_watch_replaces_those_above() {
        let watches = watches(&["create,delete=/a", "attrib=/a/b", "none=/a/b/c"]);
        assert!(wants(&watches, Event::Create, "/a/x"));
        assert!(!wants(&watches, Event::Attrib, "/a/x"));
        assert!(wants(&watches, Event::Attrib, "/a/b"));
        assert!(!wants(&watches, Event::Create, "/a/b/x"));
        assert!(!wants(&watches, Event::Attrib, "/a/b/c/x"));
        assert!(!wants(&watches, Event::Create, "/ab"));
        assert!(!wants(&watches, Event::Create, "/"));
    }

    #[test]
    fn the_same_path_adds_up_however_written() {
        let watches = watches(&["create=/a/", "delete=//a/./b/.."]);
        assert!(wants(&watches, Event::Create, "/a/x") && wants(&watches, Event::Delete, "/a/x"));
    }

    #[test]
    fn the_root_is_above_everything() {
        let watches = watches(&["all=/"]);
        assert!(wants(&watches, Event::Mkdir, "/") && wants(&watches, Event::Mkdir, "/a/b"));
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        for text in [
            "",
            "all",
            "all=",
            "all=a",
            "foo=/a",
            "connect=/a",
            "create,=/a",
            "all,create=/a",
            "=/a",
        ] {
            assert!(Watch::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(Watch::parse(b"all=/a=b").unwrap().path, b"/a=b");
    }
}
