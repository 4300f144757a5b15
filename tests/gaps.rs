//! Recordings of which some records are missing: what is told is true, and the rest is counted.

mod recording;

use recording::records;
use serde_json::Value;
use st_decode::decode::Decoder;
use st_format::json::Json;
use st_pathtree::pathtree::PathTree;
use st_probe::record::{Lost, Raw};
use st_probe::stage::{self, Stage};
use st_probe::time::Monotonic;
use st_probe::vocabulary::{Cause, Event};
use st_probe::wire;
use std::collections::HashMap;

const RECORDINGS: [(&str, &[u8]); 4] = [
    ("5.10", include_bytes!("recordings/5.10.raw")),
    ("6.1", include_bytes!("recordings/6.1.raw")),
    ("6.12", include_bytes!("recordings/6.12.raw")),
    ("7.3", include_bytes!("recordings/7.3.raw")),
];

/// How many records the gaps span, and one in how many of these is missing.
const GAPS: [(usize, usize); 4] = [(3, 2), (12, 2), (80, 2), (80, 40)];
/// From how many records on to the next gap that is tried.
const STEP: usize = 11;

fn run(mut stage: impl Stage, stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let whole = stage::run(&mut stage, stream, &mut out, &mut |text| panic!("{text}"));
    assert!(whole.expect("memory takes all"));
    out
}

/// What is told of a raw stream.
fn told(stream: &[u8]) -> Vec<Value> {
    let events = run(Decoder::new(vec![Event::Exec, Event::Exit]), stream);
    let lines = run(
        Json::default(),
        &run(PathTree::new(Vec::new(), None), &events),
    );
    serde_json::Deserializer::from_slice(&lines)
        .into_iter()
        .map(|line| line.expect("JSON"))
        .collect()
}

/// What an event is known by.
fn name(event: &Value) -> String {
    let tid = &event["process"]["tid"];
    format!("{} {tid} {}", event["ts"], event["event"])
}

/// Whether what is told of one event with a gap says nothing but what is told of it without.
fn agrees(with: &Value, without: &Value, key: &str) -> bool {
    let (at, whole) = (&with[key], &without[key]);
    match key {
        "seq" => true,
        // Less may be known.
        "path" | "old_path" | "exe" if *at != *whole => {
            let status = &with[format!("{key}_status")];
            let path = at.as_str().expect("a path").trim_start_matches("...");
            status == "partial" && whole.as_str().is_some_and(|whole| whole.ends_with(path))
        }
        "path_status" | "old_path_status" | "exe_status" => at == whole || at == "partial",
        "process" => is_within(at, whole),
        "ancestors" => {
            let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
            let (at, whole) = (list(at), list(whole));
            at.len() <= whole.len()
                && at
                    .iter()
                    .zip(&whole)
                    .all(|(at, whole)| is_within(at, whole))
        }
        _ => at == whole,
    }
}

/// The same of an object.
fn is_within(with: &Value, without: &Value) -> bool {
    let keys = with.as_object().expect("an object").keys();
    keys.into_iter().all(|key| agrees(with, without, key))
}

/// A recording with a gap from the first to the last of some of its raw records, as if each
/// thread were on another CPU at any time: one in so many is missing, the first one always.
fn with_gap(records: &[Vec<u8>], window: &[(usize, Monotonic)], one_in: usize) -> Vec<u8> {
    let ((first, since), (last, until)) = (window[0], window[window.len() - 1]);
    let is_raw = |at: usize| window.iter().any(|(raw, _)| *raw == at);
    let chosen = |at: usize| ((at * 0x9e37_79b1) >> 16) % one_in == 0;
    let is_missing = |at: usize| at == first || at < last && is_raw(at) && chosen(at);
    let lost = Lost {
        since,
        ts: since,
        until: Some(until),
        cpu: Some(0),
        count: Some((first..last).filter(|&at| is_missing(at)).count() as u64),
        cause: Cause::RingBuffer,
        ..Lost::default()
    };
    let mut stream = records[..first].concat();
    wire::write(&lost, &mut stream);
    for at in (first..records.len()).filter(|&at| !is_missing(at)) {
        stream.extend_from_slice(&records[at]);
    }
    stream
}

#[test]
fn a_gap_makes_nothing_untrue() {
    for (kernel, recording) in RECORDINGS {
        let records = records(recording);
        let whole = told(recording);
        let truth: HashMap<String, &Value> =
            whole.iter().map(|event| (name(event), event)).collect();
        assert_eq!(truth.len(), whole.len(), "events of one name");
        let raws: Vec<(usize, Monotonic)> = (records.iter().enumerate())
            .filter_map(|(at, record)| Some((at, wire::read::<Raw>(record).ok()?.ts)))
            .collect();
        for (span, one_in) in GAPS {
            for (first, window) in raws.windows(span + 1).enumerate().step_by(STEP) {
                let case = format!("{kernel}, one in {one_in} of {span} from the {first}th");
                let lines = told(&with_gap(&records, window, one_in)).into_iter();
                let (lost, events): (Vec<_>, Vec<_>) = lines.partition(|line| line["t"] == "lost");
                for event in &events {
                    let truth = truth.get(&name(event));
                    let truth = truth.unwrap_or_else(|| panic!("{case}: invented: {event}"));
                    assert!(is_within(event, truth), "{case}:\n{event}\n{truth}");
                }
                let counted: u64 = lost.iter().filter_map(|lost| lost["count"].as_u64()).sum();
                let missing = whole.len() - events.len();
                assert!(missing as u64 <= counted, "{case}: {missing}: {lost:?}");
            }
        }
    }
}
