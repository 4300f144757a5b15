use super::*;
use crate::rows::Rows;
use crate::testing::{self, Pack, Random, bare, no_record, of, pack};
use st_pathtree::stage::Stage;

/// What is written for records, after a header.
fn written(records: &[Vec<u8>]) -> String {
    let mut csv = Rows::new(Csv::default(), false);
    let mut out = Vec::new();
    for _ in 0..2 {
        let header = testing::header(1_000, 1_795_362_564_000_000_000);
        csv.begin(&header, no_record(), &mut out);
    }
    for record in records {
        csv.push(of(record), &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

/// The cells of a table, read as RFC 4180 has it.
fn cells(table: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut rest = table;
    let mut row = Vec::new();
    while !rest.is_empty() {
        let mut cell = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, after) = quoted.split_once('"').expect("a closing quote");
                cell += part;
                quoted = after;
                match quoted.strip_prefix('"') {
                    Some(after) => quoted = after,
                    None => break,
                }
                cell.push('"');
            }
            rest = quoted;
        } else {
            let end = rest.find([',', '\r', '\n', '"']).expect("an end");
            cell += &rest[..end];
            rest = &rest[end..];
        }
        row.push(cell);
        if let Some(after) = rest.strip_prefix("\r\n") {
            rows.push(std::mem::take(&mut row));
            rest = after;
        } else {
            rest = rest.strip_prefix(',').expect("a comma");
        }
    }
    assert!(row.is_empty(), "the last row has an end");
    rows
}

/// The cells of a record that have something, with their names.
fn told(record: &[u8]) -> Vec<(String, String)> {
    let rows = cells(&written(&[record.to_vec()]));
    assert_eq!(rows.len(), 2, "one header row for both streams");
    assert_eq!(rows[0].len(), COLUMNS.len());
    assert_eq!(rows[1].len(), COLUMNS.len());
    let cells = rows[0].iter().cloned().zip(rows[1].iter().cloned());
    cells.filter(|(_, cell)| !cell.is_empty()).collect()
}

fn create(path: &[u8]) -> Vec<u8> {
    pack(&[
        ("t", Pack::Str(b"event")),
        ("event", Pack::Str(b"create")),
        ("ts", Pack::Int(1_795_362_564_123_456_789)),
        ("seq", Pack::Int(3)),
        ("cpu", Pack::Int(1)),
        (
            "process",
            Pack::Map(&[
                ("tid", Pack::Int(7)),
                ("comm", Pack::Bin(b"-bash")),
                ("argv", Pack::Array(&[Pack::Bin(b"a b"), Pack::Bin(b"c")])),
            ]),
        ),
        (
            "ancestors",
            Pack::Array(&[Pack::Map(&[("pid", Pack::Int(1))])]),
        ),
        ("path", Pack::Bin(path)),
        ("path_status", Pack::Str(b"partial")),
        ("exchange", Pack::Raw(b"\xc3")),
    ])
}

fn expect(record: &[u8], expected: &[(&str, &str)]) {
    let told = told(record);
    let told: Vec<_> = told
        .iter()
        .map(|(name, cell)| (name.as_str(), cell.as_str()))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn a_row_has_what_is_known() {
    expect(
        &create(b"x,y"),
        &[
            ("time", "2026-11-22T15:49:24.123456789Z"),
            ("ts", "1795362564123456789"),
            ("seq", "3"),
            ("cpu", "1"),
            ("event", "create"),
            ("tid", "7"),
            ("comm", "\"-bash\""),
            ("argv", "[\"a b\" c]"),
            ("ancestors", "[?[1]]"),
            ("path", "x,y"),
            ("path_status", "partial"),
            ("exchange", "true"),
        ],
    );
}

#[test]
fn a_gap_is_a_row() {
    let record = pack(&[
        ("t", Pack::Str(b"lost")),
        ("since", Pack::Int(900)),
        ("ts", Pack::Int(2_000)),
        ("until", Pack::Int(3_000)),
        ("count", Pack::Int(4)),
        ("event", Pack::Str(b"connect")),
        ("cause", Pack::Str(b"of later")),
    ]);
    expect(
        &record,
        &[
            ("time", "2026-11-22T15:49:24.000001000Z"),
            ("ts", "1795362564000001000"),
            ("event", "lost"),
            ("cause", "of later"),
            ("count", "4"),
            ("lost_event", "connect"),
            ("since", "2026-11-22T15:49:23.999999900Z"),
            ("until", "2026-11-22T15:49:24.000002000Z"),
        ],
    );
}

#[test]
fn other_records_have_no_row() {
    for kind in ["end", "fork", "later"] {
        assert_eq!(cells(&written(&[bare(kind)])).len(), 1, "{kind}");
    }
}

#[test]
fn a_spreadsheet_takes_no_name_for_a_formula() {
    for (name, expected) in [
        ("=1+1", r#""=1+1""#),
        ("+1", r#""+1""#),
        ("-1", r#""-1""#),
        ("@SUM(1)", r#""@SUM(1)""#),
        ("\t=1", r#""\t=1""#),
        ("\"=1", r#""\"=1""#),
        ("", r#""""#),
        ("a=1", "a=1"),
        ("/a b,c\"", "/a b,c\""),
        ("/back\\slash", "/back\\slash"),
    ] {
        let told = told(&create(name.as_bytes()));
        let path = told.iter().find(|(column, _)| column == "path");
        assert_eq!(path.map(|(_, cell)| cell.as_str()), Some(expected));
    }
}

#[test]
fn no_name_breaks_the_table_or_commands_a_terminal() {
    let mut random = Random::new();
    for _ in 0..20_000 {
        let name = random.name();
        let table = written(&[create(&name)]);
        let harmful = |char| escape::is_harmful(char) && !matches!(char, '\r' | '\n');
        assert!(!table.contains(harmful), "seed {}: {table:?}", random.seed);
        let rows = cells(&table);
        let widths: Vec<_> = rows.iter().map(Vec::len).collect();
        assert_eq!(widths, [COLUMNS.len(); 2], "seed {}", random.seed);
    }
}

#[test]
fn no_two_columns_have_one_name() {
    let mut names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), COLUMNS.len());
}
