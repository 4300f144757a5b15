//! Attacks st-format's outputs that write events one by one: none of them commands a terminal,
//! and each line is what it says to be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_format::column::COLUMNS;
use st_format::csv::Csv;
use st_format::ecs::Ecs;
use st_format::escape::is_harmful;
use st_format::ocsf::Ocsf;
use st_format::rows::Rows;
use st_format::summary::Summary;
use st_format::template::{Lines, Template};
use st_format::time::Notation;
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    let csv = fuzz::run(|| Rows::new(Csv::default(), false), input);
    for row in lines(&csv) {
        let row = row.strip_suffix('\r').expect("CRLF");
        assert!(!row.chars().any(is_harmful), "{row:?}");
        assert_eq!(cells(row), COLUMNS.len(), "{row}");
    }

    let names = COLUMNS.iter().map(|column| format!("{{{}}}", column.name));
    let names: Vec<_> = names.collect();
    let template = Template::parse(&names.join("|")).expect("known names");
    let text = fuzz::run(
        || {
            Rows::new(
                Lines::new(template.clone(), Notation::Relative, true),
                false,
            )
        },
        input,
    );
    for line in lines(&text) {
        assert!(!line.chars().any(is_harmful), "{line:?}");
    }
    let count = lines(&csv).count().saturating_sub(1);
    assert_eq!(lines(&text).count(), count, "as many events");

    let ecs = fuzz::run(|| Rows::new(Ecs::default(), false), input);
    let ocsf = fuzz::run(|| Rows::new(Ocsf::default(), false), input);
    for objects in [&ecs, &ocsf] {
        for line in lines(objects) {
            let value = serde_json::from_str::<serde_json::Value>(line).expect("JSON");
            assert!(value.is_object());
            assert!(!line.chars().any(is_harmful), "{line:?}");
            // What was read has each key once.
            assert_eq!(
                value.to_string().matches("\":").count(),
                line.matches("\":").count()
            );
        }
        assert_eq!(lines(objects).count(), count, "as many events");
    }

    let every = Some(Duration::from_secs(1));
    let summary = fuzz::run(|| Rows::new(Summary::new(false, every, true), false), input);
    for line in lines(&summary) {
        assert!(!line.chars().any(is_harmful), "{line:?}");
        assert!(line.chars().count() <= 80, "{line}");
    }
});

/// The lines of an output.
fn lines(output: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(output).expect("UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.split_terminator('\n')
}

/// How many cells a row has, by RFC 4180.
fn cells(row: &str) -> usize {
    let (mut cells, mut rest) = (1, row);
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let (_, after) = rest.split_once('"').expect("a closing quote");
                rest = after;
                match rest.strip_prefix('"') {
                    Some(after) => rest = after,
                    None => break,
                }
            }
        } else {
            rest = &rest[rest.find(',').unwrap_or(rest.len())..];
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => break,
        }
        cells += 1;
    }
    assert_eq!(rest, "");
    cells
}
