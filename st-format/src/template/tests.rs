use super::*;
use crate::rows::Rows;
use crate::testing::{self, Pack, Random, no_record, of, pack};
use st_pathtree::stage::Stage;

fn filled(template: &str, layers: bool, records: &[Vec<u8>]) -> String {
    let template = Template::parse(template).unwrap();
    let mut rows = Rows::new(Lines::new(template, Notation::default(), layers), false);
    let mut out = Vec::new();
    rows.begin(&testing::header(0, 0), no_record(), &mut out);
    for record in records {
        rows.push(of(record), &mut out).unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn delete(seq: u64, layer_of: Option<u64>, path: &[u8], status: &str) -> Vec<u8> {
    pack(&[
        ("t", Pack::Str(b"event")),
        ("event", Pack::Str(b"delete")),
        ("ts", Pack::Int(1)),
        ("seq", Pack::Int(seq)),
        ("cpu", Pack::Int(0)),
        ("layer_of", layer_of.map_or(Pack::Nil, Pack::Int)),
        ("process", Pack::Map(&[("tid", Pack::Int(7))])),
        ("path", Pack::Bin(path)),
        ("path_status", Pack::Str(status.as_bytes())),
    ])
}

#[test]
fn values_stand_in_place_of_their_names() {
    let record = delete(3, None, b"/a b", "complete");
    for (template, expected) in [
        (
            "{time} {event} {path}",
            "1970-01-01T00:00:00.000000001Z delete \"/a b\"\n",
        ),
        ("{seq}{seq}:{tid}", "33:7\n"),
        ("{pid} {comm} {exchange}", "? ? ?\n"),
        ("{{path}} }}{{{seq}}}", "{path} }{3}\n"),
        ("", "\n"),
        ("ä{seq}ö", "ä3ö\n"),
    ] {
        assert_eq!(
            filled(template, false, std::slice::from_ref(&record)),
            expected
        );
    }
}

#[test]
fn a_path_that_is_not_complete_says_so() {
    for (path, status, expected) in [
        ("a", "partial", ".../a [partial]\n"),
        ("/a", "unmounted", "/a [unmounted]\n"),
        ("/a", "deleted", "/a [deleted]\n"),
        ("/a [deleted]", "complete", "\"/a [deleted]\"\n"),
    ] {
        let record = delete(0, None, path.as_bytes(), status);
        assert_eq!(filled("{path}", false, &[record]), expected);
    }
}

#[test]
fn layers_are_left_out_unless_asked_for() {
    let records = [
        delete(1, None, b"/merged", "complete"),
        delete(2, Some(1), b"/upper", "complete"),
        delete(3, Some(0), b"/other", "complete"),
    ];
    assert_eq!(filled("{seq}", false, &records), "1\n3\n");
    assert_eq!(
        filled("{seq} {layer_of}", true, &records),
        "1 ?\n2 1\n3 0\n"
    );
}

#[test]
fn a_gap_has_a_line() {
    let record = pack(&[
        ("t", Pack::Str(b"lost")),
        ("since", Pack::Int(1)),
        ("ts", Pack::Int(2)),
        ("count", Pack::Int(5)),
        ("cause", Pack::Str(b"ring buffer")),
    ]);
    assert_eq!(
        filled("{event} {count} {cause} {path}", false, &[record]),
        "lost 5 \"ring buffer\" ?\n"
    );
}

#[test]
fn mistakes_are_told_with_what_is_known() {
    let error = |template| Template::parse(template).err().unwrap();
    let unknown = error("{time} {pth}");
    assert!(unknown.starts_with("'pth' is no field; known are time, ts, "));
    assert!(unknown.contains(", path,"), "{unknown}");
    assert!(error("{}").starts_with("'' is no field"));
    for (template, brace) in [
        ("{time", "'{'"),
        ("time}", "'}'"),
        ("{{}", "'}'"),
        ("{", "'{'"),
    ] {
        assert!(error(template).contains(brace), "{template}");
    }
}

#[test]
fn no_name_commands_a_terminal_or_forges_a_word() {
    let mut random = Random::new();
    for _ in 0..20_000 {
        let record = delete(0, None, &random.name(), "complete");
        let line = filled("{path}|{seq}", false, &[record]);
        let line = line.strip_suffix('\n').expect("a line");
        assert!(!line.contains(escape::is_harmful), "seed {}", random.seed);
        assert!(line.ends_with("|0"), "seed {}: {line}", random.seed);
    }
}
