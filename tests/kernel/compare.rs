//! Compares what was done with what was reported, exactly.

use serde_json::{Map, Value};
use st_format::time::Instants;
use st_probe::time::Unix;
use std::collections::{BTreeMap, HashMap};

use crate::log::Expected;

/// The fields of an event that are compared: one that is not expected must be absent.
/// Others (`seq`, `cpu`, and what later versions add) say nothing of what was done; `time` is
/// compared with `ts`.
const FIELDS: [&str; 25] = [
    "event",
    "path",
    "path_bytes",
    "path_status",
    "old_path",
    "old_path_bytes",
    "old_path_status",
    "dev",
    "ino",
    "mode",
    "rdev",
    "target",
    "target_bytes",
    "attrib",
    "exchange",
    "fd",
    "proto",
    "family",
    "addr",
    "port",
    "backlog",
    "ret",
    "fastopen",
    "mnt_ns",
    LAYER_OF,
];

/// The field with the number of the event that an event is part of. It is compared by the [`key`]
/// of that event: see [`is_layer_of`].
const LAYER_OF: &str = "layer_of";
/// Instead of that key, where that event was not reported.
const NOT_REPORTED: &str = "an event that is not reported";

/// How far apart the two clocks' readings may be: nanoseconds.
const CLOCK_TOLERANCE: u64 = 1_000_000;

/// A line of systracer's JSON.
#[derive(Debug, Clone)]
pub struct Got {
    /// Its fields.
    pub fields: Map<String, Value>,
}

impl Got {
    /// A field.
    pub fn get(&self, name: &str) -> &Value {
        // A false flag is as good as an absent one.
        match self.fields.get(name) {
            None | Some(Value::Bool(false)) => &Value::Null,
            Some(value) => value,
        }
    }

    /// A field of `process`.
    pub fn process(&self, name: &str) -> &Value {
        &self.get("process")[name]
    }

    /// `process.tid`; 0 if there is none.
    pub fn tid(&self) -> i32 {
        self.process("tid").as_i64().unwrap_or(0) as i32
    }

    fn ts(&self) -> u64 {
        self.get("ts").as_u64().unwrap_or(0)
    }
}

/// The lines of an output; what is not an event is a problem.
pub fn parse(output: &[u8], problems: &mut Vec<String>) -> Vec<Got> {
    let mut events = Vec::new();
    for line in output.split_inclusive(|&byte| byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) if line.ends_with(b"\n") && fields.contains_key("event") => {
                events.push(Got { fields });
            }
            _ => problems.push(format!(
                "not an event: {}",
                String::from_utf8_lossy(line).trim_end()
            )),
        }
    }
    events
}

/// What tells two events of one thread apart well enough to set them side by side.
pub fn key(fields: &Map<String, Value>) -> String {
    let field = |name| fields.get(name).unwrap_or(&Value::Null);
    let path = match field("path") {
        // Socket events have no path.
        Value::Null => field("port"),
        path => path,
    };
    format!("{} {path} {}", field("event"), field("old_path"))
}

/// Expects an event to be part of another one, or of one that is not to be reported.
pub fn is_layer_of(event: &mut Expected, outer: Option<&Expected>) {
    let outer = outer.map_or(NOT_REPORTED.to_owned(), |outer| key(&outer.fields));
    event.fields.insert(LAYER_OF.into(), outer.into());
}

/// The events with the keys of the events that they are part of. They must follow these at once,
/// and have succeeded before these had, on the same thread.
fn name_layers(got: &[Got], problems: &mut Vec<String>) -> Vec<Got> {
    let mut named = Vec::new();
    let mut group: Vec<&Got> = Vec::new();
    for event in got {
        let mut event_named = event.clone();
        let outer_seq = event.get(LAYER_OF);
        if outer_seq.is_null() {
            group.clear();
        } else {
            let outer = group.iter().find(|outer| outer.get("seq") == outer_seq);
            if outer.is_some_and(|outer| outer.ts() < event.ts() || outer.tid() != event.tid()) {
                let fields = Value::Object(event.fields.clone());
                problems.push(format!("is part of no such event: {fields}"));
            }
            let name = outer.map_or(NOT_REPORTED.to_owned(), |outer| key(&outer.fields));
            event_named.fields.insert(LAYER_OF.into(), name.into());
        }
        group.push(event);
        named.push(event_named);
    }
    named
}

/// An instant in nanoseconds since the Unix epoch as `time` tells it.
fn rfc3339(ts: u64) -> String {
    let mut out = Vec::new();
    Instants::default().nanos(Unix(ts), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Says in what `got` differs from `expected`.
fn differences(expected: &Expected, got: &Got) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |name: &str, expected: &Value, got: &Value| {
        if expected != got {
            differences.push(format!("  {name}: expected {expected}, got {got}"));
        }
    };
    for name in FIELDS {
        let got = got.get(name);
        if !(got.is_null() && expected.optional.contains(&name)) {
            match expected.fields.get(name) {
                Some(expected) => compare(name, expected, got),
                None if expected.optional.contains(&name) => {}
                None => compare(name, &Value::Null, got),
            }
        }
    }
    if let Some(pid) = expected.pid {
        compare("process.pid", &pid.into(), got.process("pid"));
    }
    if let Some(comm) = &expected.comm {
        compare("process.comm", &comm.as_str().into(), got.process("comm"));
    }
    for (name, expected) in &expected.who {
        compare(&format!("process.{name}"), expected, got.process(name));
    }
    for name in ["exe_status", "euid", "loginuid", "session", "container"] {
        if !expected.who.is_empty() && !expected.who.contains_key(name) {
            compare(&format!("process.{name}"), &Value::Null, got.process(name));
        }
    }
    if let Some(ppid) = expected.who.get("ppid").filter(|ppid| **ppid != 0) {
        compare("ancestors[0].pid", ppid, &got.get("ancestors")[0]["pid"]);
    }
    compare("time", &rfc3339(got.ts()).into(), got.get("time"));
    let (ts, span) = (got.ts(), expected.span);
    if ts + CLOCK_TOLERANCE < span.before || ts > span.after + CLOCK_TOLERANCE {
        differences.push(format!(
            "  ts: expected {} to {}, got {ts}",
            span.before, span.after
        ));
    }
    differences
}

/// Compares the events of one thread, in order, by the longest common subsequence.
fn compare_thread(expected: &[&Expected], got: &[&Got], problems: &mut Vec<String>) {
    let keys: (Vec<_>, Vec<_>) = (
        expected.iter().map(|event| key(&event.fields)).collect(),
        got.iter().map(|event| key(&event.fields)).collect(),
    );
    let same = |e: usize, g: usize| keys.0[e] == keys.1[g];
    // Mostly that is all of them.
    let begin = (keys.0.iter().zip(&keys.1))
        .take_while(|(expected, got)| expected == got)
        .count();
    // common[e][g]: how many of expected[begin + e..] and got[begin + g..] go together.
    let mut common = vec![vec![0u32; got.len() - begin + 1]; expected.len() - begin + 1];
    for e in (0..expected.len() - begin).rev() {
        for g in (0..got.len() - begin).rev() {
            common[e][g] = if same(begin + e, begin + g) {
                common[e + 1][g + 1] + 1
            } else {
                common[e + 1][g].max(common[e][g + 1])
            };
        }
    }
    let fewer = |e: usize, g: usize| {
        let (e, g) = (e - begin, g - begin);
        common[e + 1][g] >= common[e][g + 1]
    };
    let (mut e, mut g) = (0, 0);
    let (mut missing, mut extra) = (Vec::new(), Vec::new());
    while e < expected.len() || g < got.len() {
        if e < expected.len() && g < got.len() && same(e, g) {
            let differences = differences(expected[e], got[g]);
            if !differences.is_empty() {
                problems.push(format!("differs: {}", keys.0[e]));
                problems.extend(differences);
            }
            (e, g) = (e + 1, g + 1);
        } else if g == got.len() || (e < expected.len() && fewer(e, g)) {
            missing.push(e);
            e += 1;
        } else {
            extra.push(g);
            g += 1;
        }
    }
    for e in missing {
        let before = match e {
            0 => "first of its thread".to_owned(),
            _ => format!("after {}", keys.0[e - 1]),
        };
        let fields = Value::Object(expected[e].fields.clone());
        match extra.iter().position(|&g| same(e, g)) {
            Some(at) => {
                extra.remove(at);
                problems.push(format!("wrong order: expected {before}: {fields}"));
            }
            None => problems.push(format!("missing ({before}): {fields}")),
        }
    }
    for g in extra {
        let fields = Value::Object(got[g].fields.clone());
        problems.push(format!("extra: {fields}"));
    }
}

/// Compares the events that were expected, in order within each thread, with all those
/// that were reported. Time must not run backwards over these, parts of events apart.
pub fn compare(expected: &[Expected], got: &[Got], problems: &mut Vec<String>) {
    compare_order(expected, got, problems);
    let in_time = got.iter().filter(|event| event.get(LAYER_OF).is_null());
    check_pairs(in_time, "ts runs backwards", problems, |first, second| {
        first.ts() <= second.ts()
    });
}

/// The same where the clock may be set back.
pub fn compare_order(expected: &[Expected], got: &[Got], problems: &mut Vec<String>) {
    let got = &name_layers(got, problems);
    let mut threads: BTreeMap<i32, (Vec<&Expected>, Vec<&Got>)> = BTreeMap::new();
    for event in expected {
        threads.entry(event.tid).or_default().0.push(event);
    }
    for event in got {
        // Threads that are not known beforehand go together under 0.
        let tid = Some(event.tid()).filter(|tid| threads.contains_key(tid));
        threads.entry(tid.unwrap_or(0)).or_default().1.push(event);
    }
    for (expected, got) in threads.values() {
        compare_thread(expected, got, problems);
    }
    check_pairs(got, "seq does not rise", problems, |first, second| {
        first.get("seq").as_u64() < second.get("seq").as_u64()
    });
}

/// Checks each event with the next one.
fn check_pairs<'a>(
    got: impl IntoIterator<Item = &'a Got>,
    what: &str,
    problems: &mut Vec<String>,
    is_right: impl Fn(&Got, &Got) -> bool,
) {
    let mut previous: Option<&Got> = None;
    for event in got {
        if let Some(previous) = previous.filter(|previous| !is_right(previous, event)) {
            problems.push(format!(
                "{what}: {}\nthen: {}",
                Value::Object(previous.fields.clone()),
                Value::Object(event.fields.clone())
            ));
        }
        previous = Some(event);
    }
}

/// How many events of each kind: for people to see that a case did what it says.
pub fn count(got: &[Got]) -> String {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for event in got {
        *counts
            .entry(event.get("event").as_str().unwrap_or("?"))
            .or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    let counts: Vec<_> = counts
        .iter()
        .map(|(event, count)| format!("{count} {event}"))
        .collect();
    counts.join(", ")
}
