//! A summary of a trace, for people: what was done most, by whom and where, what is left of it,
//! and what is missing. 80 columns.
//!
//! It is written at the end of the stream, and every so many seconds of the trace if asked for:
//! when the first event comes after these, so that it depends on nothing but the stream. Memory is
//! bounded: where there are very many processes, endpoints or files, those with least events are
//! not told apart, and the summary says so.
//!
//! Files are names: *made* are those that did not exist and do now, *changed* those that got
//! other attributes or another content by a rename, *removed* those that did exist, *temporary*
//! those that were made and removed again. (What a program writes into an open file is no event.)
//! A directory stands for all those below it that have no line.

mod files;
mod page;
mod top;
mod tree;

use crate::loss::Losses;
use crate::rows::{Format, Row, Told};
use crate::schema;
use files::Files;
use page::Page;
use st_pathtree::event::{Actor, EventRecord};
use st_pathtree::layers::Layers;
use st_pathtree::record::Header;
use st_pathtree::time::Unix;
use st_pathtree::vocabulary::Event;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use top::{Count, Top};

/// Processes of all groups of which it is known that they were counted.
const PROCESSES: usize = 1 << 17;
/// At most so many bytes of a name are kept.
const NAME: usize = 512;

/// What groups processes: a program, a user, a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Who {
    program: Option<Vec<u8>>,
    uid: Option<u32>,
    container: Option<Vec<u8>>,
}

/// Events by kind, in the order of [`Event::ALL`], and those of later versions.
#[derive(Debug, Default, Clone)]
struct Kinds(Vec<u64>);

impl Kinds {
    fn add(&mut self, event: Event) {
        let known = Event::ALL.iter().position(|known| *known == event);
        self.0.resize(Event::ALL.len() + 1, 0);
        self.0[known.unwrap_or(Event::ALL.len())] += 1;
    }

    /// Those that there are, with their names, the most first.
    fn sorted(&self) -> Vec<(&'static str, u64)> {
        let names = Event::ALL
            .iter()
            .map(|event| event.name())
            .chain(["others"]);
        let mut kinds: Vec<_> = names.zip(self.0.iter().copied()).collect();
        kinds.retain(|(_, count)| *count > 0);
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        kinds
    }
}

/// What a group of processes did.
#[derive(Debug, Default)]
struct Did {
    events: u64,
    kinds: Kinds,
    processes: u64,
    /// The arguments of the first of them, escaped; whether another one had others.
    arguments: Vec<u8>,
    differ: bool,
}

impl Count for Did {
    fn count(&self) -> u64 {
        self.events
    }
}

/// What was connected to, or listened on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Endpoint {
    proto: Vec<u8>,
    addr: Vec<u8>,
    port: Option<u16>,
}

/// What was done with an endpoint.
#[derive(Debug, Default)]
struct Used {
    count: u64,
    failed: u64,
    /// Who did it first.
    comm: Option<Vec<u8>>,
}

impl Count for Used {
    fn count(&self) -> u64 {
        self.count
    }
}

/// What is known of a trace so far.
#[derive(Debug, Default)]
struct Known {
    first: Option<Unix>,
    last: Unix,
    events: u64,
    kinds: Kinds,
    who: Top<Who, Did>,
    /// Id, start, and a hash of the program.
    processes: HashSet<(i32, Unix, u64)>,
    files: Files,
    connects: Top<Endpoint, Used>,
    listens: Top<Endpoint, Used>,
}

/// Writes summaries.
#[derive(Debug)]
pub struct Summary {
    color: bool,
    every: Option<Duration>,
    /// When the next one is due that is not the last.
    due: Option<Unix>,
    /// If there: events that are part of another one that is counted are not.
    hidden: Option<Layers>,
    known: Known,
    written: bool,
}

impl Summary {
    /// A summary with or without colours at the end, and `every` so many seconds of the trace.
    /// `layers`: of events, too, that are part of others.
    pub fn new(color: bool, every: Option<Duration>, layers: bool) -> Self {
        Self {
            color,
            every,
            due: None,
            hidden: (!layers).then(Layers::default),
            known: Known::default(),
            written: false,
        }
    }

    fn write(&mut self, losses: &Losses, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.written, true) {
            out.push(b'\n');
        }
        Page::new(self.color, out).write(&self.known, losses);
    }
}

impl Format for Summary {
    fn begin(&mut self, header: &Header, _: &mut Vec<u8>) {
        self.due = self.every.map(|every| header.realtime.after(every));
    }

    fn before(&mut self, row: &Row, losses: &Losses, out: &mut Vec<u8>) {
        if let (Some(due), Some(every)) = (self.due, self.every) {
            if row.ts >= due {
                if self.known.events > 0 {
                    self.write(losses, out);
                }
                // Not one for each time in which nothing happened.
                self.due = Some(row.ts.after(every));
            }
        }
    }

    fn row(&mut self, row: &Row, _: &mut Vec<u8>) {
        let Told::Event(event) = &row.told else {
            return;
        };
        let hidden = self.hidden.as_mut();
        if hidden.is_none_or(|layers| !layers.is_part(event)) {
            self.known.push(event);
        }
    }

    fn end(&mut self, losses: &Losses, out: &mut Vec<u8>) {
        self.write(losses, out);
    }
}

impl Known {
    fn push(&mut self, event: &EventRecord) {
        self.first = Some(self.first.map_or(event.ts, |first| first.min(event.ts)));
        self.last = self.last.max(event.ts);
        self.events += 1;
        self.kinds.add(event.event);
        self.did(event);
        self.files.push(event);
        let endpoints = match event.event {
            Event::Connect => &mut self.connects,
            Event::Listen => &mut self.listens,
            _ => return,
        };
        let used = endpoints.of(Endpoint {
            proto: cut(event.proto.unwrap_or("?").as_bytes()),
            addr: cut(event.addr.unwrap_or("?").as_bytes()),
            port: event.port,
        });
        used.count += 1;
        let error = schema::error(event);
        used.failed += u64::from(error.is_some_and(|error| error != schema::IN_PROGRESS));
        if used.comm.is_none() {
            used.comm = event.process.comm.as_deref().map(cut);
        }
    }

    fn did(&mut self, event: &EventRecord) {
        let actor = &event.process;
        let program = schema::program(event).or(actor.comm.as_deref()).map(cut);
        let did = self.who.of(Who {
            program: program.clone(),
            uid: actor.uid,
            container: actor.container.as_deref().map(cut),
        });
        let is_first = did.events == 0;
        did.events += 1;
        did.kinds.add(event.event);
        // This hasher is the same in each run.
        let mut hasher = DefaultHasher::new();
        program.hash(&mut hasher);
        let process = (
            actor.pid.unwrap_or(actor.tid),
            actor.start.unwrap_or_default(),
            hasher.finish(),
        );
        // More of them are not told from those before.
        if self.processes.len() < PROCESSES && self.processes.insert(process) {
            did.processes += 1;
            let arguments = arguments(actor);
            if is_first {
                did.arguments = arguments;
            } else {
                did.differ |= did.arguments != arguments;
            }
        }
    }
}

/// A name, or the beginning of a very long one.
fn cut(name: &[u8]) -> Vec<u8> {
    name[..name.len().min(NAME)].to_vec()
}

/// The arguments behind the program's name, escaped.
fn arguments(actor: &Actor) -> Vec<u8> {
    let mut out = Vec::new();
    for word in actor.argv.iter().flatten().skip(1) {
        if out.len() > page::WIDTH {
            break;
        }
        out.push(b' ');
        crate::escape::word(&word[..word.len().min(page::WIDTH)], &mut out);
    }
    out
}

#[cfg(test)]
mod tests;
