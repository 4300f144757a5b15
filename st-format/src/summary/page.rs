//! How a summary looks.

use crate::line::{Line, Style};
use crate::loss::Losses;
use crate::summary::files::Changes;
use crate::summary::top::Top;
use crate::summary::tree::{Id, ROOT, Tree};
use crate::summary::{Did, Endpoint, Known, Used, Who};
use crate::time::Instants;
use crate::{escape, put};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Columns of a terminal.
pub const WIDTH: usize = 80;
/// Lines of processes, and of endpoints of a kind.
const LINES: usize = 10;
/// Lines of directories.
const DIRECTORIES: usize = 20;
/// A directory has a line of its own if one in so many events is below it, and not in others that
/// have a line ...
const SHARE: u64 = 50;
/// ... but at least so many.
const FEW: u64 = 3;

/// A summary that is being written.
pub struct Page<'a> {
    color: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> Page<'a> {
    /// A summary with or without colours.
    pub fn new(color: bool, out: &'a mut Vec<u8>) -> Self {
        Self { color, out }
    }

    /// Appends all of it.
    pub fn write(&mut self, known: &Known, losses: &Losses) {
        self.events(known);
        self.processes(known);
        self.directories(&known.files.directories);
        self.endpoints("connected to", &known.connects);
        self.endpoints("listened on", &known.listens);
        let lost = losses.lines();
        if lost.is_empty() {
            self.line(|line| line.put(Style::Dim, format_args!("Nothing was lost.")));
        }
        for text in lost {
            let mut escaped = Vec::new();
            escape::text(text.as_bytes(), &mut escaped);
            self.wrapped(&String::from_utf8_lossy(&escaped));
        }
    }

    /// Appends a line. It begins with a space, as each of its columns does.
    fn line(&mut self, write: impl FnOnce(&mut Line)) {
        let mut line = Line::begin(self.color, self.out);
        write(&mut line);
        line.end();
    }

    fn empty(&mut self) {
        self.out.push(b'\n');
    }

    /// Appends words in lines of the page's width.
    fn wrapped(&mut self, text: &str) {
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            let last = lines.last_mut().expect("there is one");
            if !last.is_empty() && last.chars().count() + word.chars().count() + 2 > WIDTH {
                lines.push(format!("  {word}"));
            } else {
                if !last.is_empty() {
                    last.push(' ');
                }
                last.push_str(word);
            }
        }
        for text in lines {
            self.line(|line| line.put(Style::Alarm, format_args!("{text}")));
        }
    }

    fn events(&mut self, known: &Known) {
        let Some(first) = known.first else {
            self.line(|line| line.put(Style::Plain, format_args!("No events.")));
            return self.empty();
        };
        let (mut from, mut to) = (Vec::new(), Vec::new());
        Instants::default().micros(first, &mut from);
        Instants::default().micros(known.last, &mut to);
        let (from, to) = (String::from_utf8_lossy(&from), String::from_utf8_lossy(&to));
        let seconds = known.last.since(first).as_secs_f64();
        let events = plural(known.events, "event");
        self.line(|line| {
            line.put(Style::Yellow, format_args!("{events}"));
            line.put(Style::Plain, format_args!("in {seconds:.3} s"));
        });
        self.line(|line| line.put(Style::Dim, format_args!("{from} to {to}")));
        let kinds = known.kinds.sorted();
        let is_large = kinds.iter().any(|(_, count)| *count >= 100_000_000);
        for kinds in kinds.chunks(if is_large { 3 } else { 4 }) {
            self.line(|line| {
                for (name, count) in kinds {
                    line.put(Style::Plain, format_args!("{count:>8} {name:<9}"));
                }
            });
        }
        self.empty();
    }

    fn processes(&mut self, known: &Known) {
        let all = known.who.sorted();
        let more = all.len().saturating_sub(LINES);
        if all.len() == 0 {
            return;
        }
        self.line(|line| {
            line.put(Style::Yellow, format_args!("{:>8}", "events"));
            line.put(Style::Yellow, format_args!("processes"));
        });
        for (who, did) in all.take(LINES) {
            let mut name = Vec::new();
            match &who.program {
                Some(program) => escape::word(program, &mut name),
                None => name.push(b'?'),
            }
            let of = of(who);
            // The count and what is behind the name have their columns first.
            let count = format!("{:>8}", did.events);
            let room = WIDTH - 3 - count.len() - of.chars().count();
            let mut name = shortened_path(&name, room).into_bytes();
            name.extend_from_slice(if did.differ { b" ..." } else { &did.arguments });
            let name = shortened(&name, room);
            self.line(|line| {
                line.put(Style::Plain, format_args!("{count}"));
                line.put(Style::Plain, format_args!("{name}"));
                line.put(Style::Dim, format_args!("{of}"));
            });
            let what = what(did);
            self.line(|line| line.put(Style::Cyan, format_args!("{:>8} {what}", "")));
        }
        self.more(more, known.who.forgotten);
        self.empty();
    }

    /// Appends how much has no line.
    fn more(&mut self, more: usize, forgotten: u64) {
        if more > 0 || forgotten > 0 {
            let and = match forgotten {
                0 => String::new(),
                _ => format!(", and {forgotten} events that are not told apart"),
            };
            self.line(|line| {
                line.put(Style::Dim, format_args!("{:>8} {more} more{and}", "..."));
            });
        }
    }

    fn directories(&mut self, tree: &Tree<Changes>) {
        let chosen = choose(tree);
        if chosen.is_empty() {
            return;
        }
        let mut all = Changes::default();
        let columns = ["events", "made", "changed", "removed", "temp"];
        const WIDTHS: [usize; 5] = [8, 6, 7, 7, 6];
        let write = |line: &mut Line, style, numbers: &[String; 5]| {
            for (number, width) in numbers.iter().zip(WIDTHS) {
                line.put(style, format_args!("{number:>width$}"));
            }
        };
        self.line(|line| {
            write(line, Style::Yellow, &columns.map(str::to_owned));
            line.put(Style::Yellow, format_args!("directories"));
        });
        for (path, changes) in &chosen {
            all.add(changes);
            let mut name = Vec::new();
            escape::word(path, &mut name);
            let numbers = numbers(changes);
            let widths = numbers.iter().zip(WIDTHS);
            let taken: usize = widths
                .map(|(number, width)| 1 + number.len().max(width))
                .sum();
            let name = shortened_path(&name, WIDTH.saturating_sub(taken + 1));
            self.line(|line| {
                write(line, Style::Plain, &numbers);
                line.put(Style::Plain, format_args!("{name}"));
            });
        }
        if chosen.len() > 1 {
            self.line(|line| {
                write(line, Style::Dim, &numbers(&all));
                line.put(Style::Dim, format_args!("in all"));
            });
        }
        self.empty();
    }

    fn endpoints(&mut self, title: &str, endpoints: &Top<Endpoint, Used>) {
        let all = endpoints.sorted();
        let more = all.len().saturating_sub(LINES);
        if all.len() == 0 {
            return;
        }
        self.line(|line| {
            line.put(Style::Yellow, format_args!("{:>8}", "times"));
            line.put(Style::Yellow, format_args!("{title}"));
        });
        for (endpoint, used) in all.take(LINES) {
            let mut name = Vec::new();
            escape::word(&endpoint.proto, &mut name);
            name.push(b' ');
            let is_v6 = endpoint.addr.contains(&b':');
            name.extend_from_slice(if is_v6 { b"[" } else { b"" });
            escape::word(&endpoint.addr, &mut name);
            name.extend_from_slice(if is_v6 { b"]" } else { b"" });
            if let Some(port) = endpoint.port {
                put(&mut name, format_args!(":{port}"));
            }
            let mut by = Vec::new();
            if let Some(comm) = &used.comm {
                escape::word(comm, &mut by);
            }
            let (name, by) = (shortened(&name, 38), shortened(&by, 16));
            self.line(|line| {
                line.put(Style::Plain, format_args!("{:>8}", used.count));
                line.column(38, Style::Plain, |out| out.extend(name.bytes()));
                line.column(16, Style::Dim, |out| out.extend(by.bytes()));
                if used.failed > 0 {
                    line.put(Style::Alarm, format_args!("{} failed", used.failed));
                }
            });
        }
        self.more(more, endpoints.forgotten);
        self.empty();
    }
}

/// What a group of processes did: `12 processes: 30 create, 4 attrib, ...`.
fn what(did: &Did) -> String {
    let mut what = match did.processes {
        0 | 1 => String::new(),
        processes => format!("{processes} processes: "),
    };
    for (place, (name, count)) in did.kinds.sorted().iter().enumerate() {
        let comma = if place > 0 { ", " } else { "" };
        let more = format!("{comma}{count} {name}");
        if what.len() + more.len() + ", ...".len() > WIDTH - 10 {
            return what + ", ...";
        }
        what += &more;
    }
    what
}

/// The user and the container of a group of processes: `uid=0 3fa8b2c4d5e6`.
fn of(who: &Who) -> String {
    let mut parts = Vec::new();
    if let Some(uid) = who.uid {
        parts.push(format!("uid={uid}"));
    }
    if let Some(container) = &who.container {
        let mut name = Vec::new();
        escape::word(container, &mut name);
        parts.push(String::from_utf8_lossy(&name).chars().take(12).collect());
    }
    parts.join(" ")
}

fn numbers(changes: &Changes) -> [String; 5] {
    let of = |number: u64| match number {
        0 => "-".to_owned(),
        number => number.to_string(),
    };
    [
        changes.events.to_string(),
        of(changes.made),
        of(changes.changed),
        of(changes.removed),
        of(changes.temporary),
    ]
}

fn plural(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Escaped text, with its end left out if it is longer than so many characters.
fn shortened(text: &[u8], width: usize) -> String {
    let text = String::from_utf8_lossy(text);
    if text.chars().count() <= width {
        return text.into_owned();
    }
    let start: String = text.chars().take(width.saturating_sub(3)).collect();
    start + "..."
}

/// The same with the middle left out: of a path, both ends tell where it is.
fn shortened_path(text: &[u8], width: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let length = text.chars().count();
    if length <= width {
        return text.into_owned();
    }
    let kept = width.saturating_sub(3);
    let start: String = text.chars().take(kept / 3).collect();
    let end: String = text.chars().skip(length - (kept - kept / 3)).collect();
    start + "..." + &end
}

/// How much a directory is worth a line.
fn weight(changes: &Changes) -> u64 {
    let names = changes.made + changes.changed + changes.removed + changes.temporary;
    changes.events.max(names)
}

/// The directories that have a line, by path: those with most, one after the other, as long as
/// there is room. Each with its changes and those of the directories below it that have none.
fn choose(tree: &Tree<Changes>) -> Vec<(Vec<u8>, Changes)> {
    let children = tree.children();
    let mut totals: Vec<u64> = tree.values().map(|(_, _, own)| weight(own)).collect();
    // What is below a directory comes after it.
    for (id, parent, _) in tree.values().rev() {
        if id != ROOT {
            totals[parent as usize] += totals[id as usize];
        }
    }
    let all = totals[ROOT as usize];
    if all == 0 {
        return Vec::new();
    }
    // Down to where more than one thing is.
    let descend = |mut id: Id| loop {
        let total = totals[id as usize];
        let only = children[id as usize]
            .iter()
            .find(|child| totals[**child as usize] == total);
        match only {
            Some(&child) => id = child,
            None => return id,
        }
    };
    let is_enough = |weight: u64| weight >= FEW && weight * SHARE >= all;
    // What has no line yet, with the directory in whose line it is.
    let first = descend(ROOT);
    let mut candidates = BinaryHeap::from([(all, Reverse(first), None)]);
    let mut has_line = vec![false; totals.len()];
    let mut left = totals.clone();
    let mut lines = 0;
    while let Some((total, Reverse(id), from)) = candidates.pop() {
        if id != first && (lines >= DIRECTORIES || !is_enough(total)) {
            break;
        }
        has_line[id as usize] = true;
        lines += 1;
        if let Some(from) = from {
            let from: &mut u64 = &mut left[from as usize];
            let had = is_enough(*from);
            *from -= total;
            lines -= usize::from(had && !is_enough(*from));
        }
        for &child in &children[id as usize] {
            let child = descend(child);
            candidates.push((totals[child as usize], Reverse(child), Some(id)));
        }
    }
    for (line, left) in has_line.iter_mut().zip(&left) {
        *line &= is_enough(*left);
    }
    has_line[first as usize] = true;
    let mut changes: Vec<Changes> = tree.values().map(|(_, _, own)| *own).collect();
    let mut chosen = Vec::new();
    for (id, parent, _) in tree.values().rev() {
        let of = changes[id as usize];
        if !has_line[id as usize] && id != ROOT {
            changes[parent as usize].add(&of);
        } else if of != Changes::default() {
            chosen.push((tree.path(id), of));
        }
    }
    chosen.sort();
    chosen
}
