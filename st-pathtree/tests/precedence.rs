//! Which watch decides, compared with the simplest implementation: random watches, written in
//! odd ways, and random paths.
//!
//! The expected result follows from the names of which each path was made: no path is parsed.

use st_decode::event::{Bytes, EventRecord, FsPath, Unresolved};
use st_decode::record::{Header, Mounts};
use st_decode::stage::Stage;
use st_decode::time::Monotonic;
use st_decode::vocabulary::{Class, Event};
use st_decode::wire::{self, Record};
use st_pathtree::pathtree::PathTree;
use st_pathtree::watch::{Watch, Watches};
use std::sync::LazyLock;

/// The events that can be watched.
fn files() -> &'static [Event] {
    static FILES: LazyLock<Vec<Event>> = LazyLock::new(|| Event::of(Class::File).collect());
    &FILES
}

const ROUNDS: u64 = 20_000;
const PATHS_A_ROUND: usize = 8;

/// So few names that many paths overlap. Some have a common prefix, and some resemble `.` and
/// `..`.
const NAMES: [&str; 6] = ["a", "b", "ab", "a.", "...", ".b"];

/// Names from the root on.
type Names = Vec<&'static str>;

/// xorshift64*: <https://doi.org/10.1145/2845077>.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// The names of a path: a short one more often than a long one.
    fn names(&mut self) -> Names {
        let most = self.below(6);
        let count = self.below(most + 1);
        (0..count).map(|_| self.one_of(&NAMES)).collect()
    }

    /// A part of a path that leads back to where it begins.
    fn detour(&mut self) -> String {
        match self.below(8) {
            0 => "/".to_owned(),
            1 => "/.".to_owned(),
            2 => format!("/{}/..", self.one_of(&NAMES)),
            3 => format!("/{}//./{}/../..", self.one_of(&NAMES), self.one_of(&NAMES)),
            _ => String::new(),
        }
    }

    /// A path of these names, written in an unusual way.
    fn spelled(&mut self, names: &[&str]) -> String {
        let mut path = self.one_of(&["", "", "/..", "/../."]).to_owned();
        for name in names {
            path += &self.detour();
            path.push('/');
            path += name;
        }
        path += &self.detour();
        if path.is_empty() || self.below(4) == 0 {
            path.push('/');
        }
        path
    }

    fn wanted(&mut self) -> Vec<Event> {
        match self.below(5) {
            0 => Vec::new(),
            1 => files().to_vec(),
            _ => {
                let count = 1 + self.below(3);
                (0..count).map(|_| self.one_of(files())).collect()
            }
        }
    }
}

/// A watch: what it means, and how it was written.
struct Made {
    names: Names,
    events: Vec<Event>,
    text: String,
}

impl Made {
    fn new(random: &mut Random) -> Self {
        let (names, events) = (random.names(), random.wanted());
        let list: Vec<&str> = events.iter().map(|kind| kind.name()).collect();
        let list = match list.len() {
            0 => "none".to_owned(),
            9 => "all".to_owned(),
            _ => list.join(","),
        };
        let text = format!("{list}={}", random.spelled(&names));
        Self {
            names,
            events,
            text,
        }
    }
}

/// The watches that decide about a path: the number of names in their own path, and the events
/// of all of them.
fn oracle<'a>(watches: &'a [Made], path: &[&str]) -> Option<(usize, Vec<&'a Event>)> {
    let above = |watch: &&Made| path.iter().take(watch.names.len()).eq(&watch.names);
    let depth = watches
        .iter()
        .filter(above)
        .map(|watch| watch.names.len())
        .max()?;
    let there = watches
        .iter()
        .filter(above)
        .filter(|watch| watch.names.len() == depth);
    Some((depth, there.flat_map(|watch| &watch.events).collect()))
}

fn wants(watches: &[Made], path: &[&str], kind: Event) -> bool {
    oracle(watches, path).is_some_and(|(_, events)| events.contains(&&kind))
}

fn plain(names: &[&str]) -> String {
    format!("/{}", names.join("/"))
}

fn some_watches(random: &mut Random) -> Vec<Made> {
    let count = random.below(6);
    (0..count).map(|_| Made::new(random)).collect()
}

fn parsed(watches: &[Made]) -> Vec<Watch> {
    let parse = |watch: &Made| Watch::parse(watch.text.as_bytes()).expect("it is a watch");
    watches.iter().map(parse).collect()
}

/// The watches as they were written, for the message of a failure.
fn texts(watches: &[Made]) -> Vec<&str> {
    watches.iter().map(|watch| watch.text.as_str()).collect()
}

#[test]
fn the_deepest_watch_decides() {
    // How often a watch decides and wants the event, decides and does not want it, or none
    // decides.
    let mut seen = [0usize; 3];
    for seed in 1..=ROUNDS {
        let random = &mut Random::new(seed);
        let made = some_watches(random);
        let watches = Watches::new(parsed(&made));
        for _ in 0..PATHS_A_ROUND {
            let names = random.names();
            let path = plain(&names);
            let expected = oracle(&made, &names);
            let got = watches.decide(path.as_bytes());
            let case = || format!("seed {seed}: {path} with {:?}", texts(&made));
            let length = expected
                .as_ref()
                .map(|(depth, _)| plain(&names[..*depth]).len());
            assert_eq!(got.map(|(length, _)| length), length, "{}", case());
            for &kind in files() {
                let wanted = wants(&made, &names, kind);
                let got = got.is_some_and(|(_, events)| events.has(kind));
                assert_eq!(got, wanted, "{} on {}", kind.name(), case());
                seen[if wanted {
                    0
                } else {
                    1 + usize::from(expected.is_none())
                }] += 1;
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 10_000), "{seen:?}");
}

#[test]
fn an_event_passes_if_one_of_its_paths_wants_it() {
    let mut seen = [0usize; 2];
    for seed in 1..=ROUNDS {
        let random = &mut Random::new(seed);
        let made = some_watches(random);
        let mut tree = started(parsed(&made));
        for seq in 0..PATHS_A_ROUND as u64 {
            let kind = random.one_of(files());
            let path = random.names();
            let old = matches!(kind, Event::Rename | Event::Link).then(|| random.names());
            // No event happens to the name of the root: it has none.
            let nameless = path.is_empty() || old.as_ref().is_some_and(Vec::is_empty);
            if nameless && kind != Event::Attrib {
                continue;
            }
            let wanted = made.is_empty()
                || wants(&made, &path, kind)
                || old.as_deref().is_some_and(|old| wants(&made, old, kind));
            seen[usize::from(wanted)] += 1;
            let expected = wanted.then(|| (seq, Some(plain(&path)), old.as_deref().map(plain)));
            assert_eq!(
                passed(&mut tree, seq, kind, &path, old.as_deref()),
                expected,
                "seed {seed}: {} {:?} {} with {:?}",
                kind.name(),
                old.as_deref().map(plain),
                plain(&path),
                texts(&made)
            );
        }
    }
    assert!(seen.iter().all(|&count| count > 10_000), "{seen:?}");
}

/// A stage that knows one mount: the device 8:1 on `/`.
fn started(watches: Vec<Watch>) -> PathTree {
    let mut tree = PathTree::new(watches, None);
    let (header, mut record, mut out) = (Header::default(), Vec::new(), Vec::new());
    wire::write(&header, &mut record);
    tree.begin(&header, Record::new(&record).unwrap(), &mut out);
    record.clear();
    let mounts = Mounts {
        ts: Monotonic(1),
        since: Monotonic(1),
        attempts: 0,
        ns: 1,
        mountinfo: Bytes::from(&b"1 0 8:1 / / rw - ext4 x rw\n"[..]),
    };
    wire::write(&mounts, &mut record);
    tree.push(Record::new(&record).unwrap(), &mut out)
        .expect("the mounts are readable");
    tree
}

/// What passes of an event: its number and its paths.
fn passed(
    tree: &mut PathTree,
    seq: u64,
    kind: Event,
    path: &[&str],
    old: Option<&[&str]>,
) -> Option<(u64, Option<String>, Option<String>)> {
    let fs_path = |names: &[&str]| FsPath {
        path: Bytes::from(plain(names).into_bytes()),
        ..FsPath::default()
    };
    let event = EventRecord {
        event: kind,
        seq,
        dev: Some("8:1"),
        unresolved: Unresolved {
            at: Monotonic(1000),
            fs_path: Some(fs_path(path)),
            old_fs_path: old.map(fs_path),
            ..Unresolved::default()
        },
        ..EventRecord::default()
    };
    let (mut record, mut out) = (Vec::new(), Vec::new());
    wire::write(&event, &mut record);
    tree.push(Record::new(&record).unwrap(), &mut out)
        .expect("the event is readable");
    if out.is_empty() {
        return None;
    }
    let event: st_pathtree::event::EventRecord = wire::read(&out).expect("an event");
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Some((event.seq, event.path.map(text), event.old_path.map(text)))
}
