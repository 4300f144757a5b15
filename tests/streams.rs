//! Recordings that were cut, or made on a machine of another kind.

mod recording;

use recording::records;
use st_decode::decode::Decoder;
use st_format::text::Text;
use st_pathtree::pathtree::PathTree;
use st_probe::record::{Bytes, Header, Hook, Raw};
use st_probe::stage::{self, Stage};
use st_probe::vocabulary::{Event, Order, Subject};
use st_probe::wire::{self, Record};
use std::collections::HashSet;
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, InBuffer, OutBuffer};

const RECORDINGS: [(&str, &[u8]); 7] = [
    ("5.10", include_bytes!("recordings/5.10.raw")),
    ("6.1", include_bytes!("recordings/6.1.raw")),
    ("6.12", include_bytes!("recordings/6.12.raw")),
    ("6.12-arm64", include_bytes!("recordings/6.12-arm64.raw")),
    ("7.3", include_bytes!("recordings/7.3.raw")),
    (
        "no-processes",
        include_bytes!("recordings/no-processes.raw"),
    ),
    ("no-snapshot", include_bytes!("recordings/no-snapshot.raw")),
];

/// What a stage makes of a stream, what it says, and whether the stream was whole.
fn run(mut stage: impl Stage, stream: &[u8]) -> (Vec<u8>, Vec<String>, bool) {
    let (mut out, mut said) = (Vec::new(), Vec::new());
    let whole = stage::run(&mut stage, stream, &mut out, &mut |text| said.push(text));
    (out, said, whole.expect("memory takes all"))
}

/// A raw stream as text; each stage must agree with the first whether it was whole.
fn text(stream: &[u8]) -> (Vec<u8>, Vec<String>, bool) {
    let (events, said, whole) = run(Decoder::new(vec![Event::Exec, Event::Exit]), stream);
    if events.is_empty() {
        return (events, said, whole);
    }
    let (paths, _, same) = run(PathTree::new(Vec::new(), None), &events);
    assert_eq!(same, whole);
    let (lines, _, same) = run(Text::new(false, Vec::new()), &paths);
    assert_eq!(same, whole);
    (lines, said, whole)
}

fn header(record: &[u8]) -> Header {
    wire::read(record).expect("a header")
}

/// The records of the fork of a process, and some of what it and others do to files, of a
/// recording; with them in the header no more hooks than they need.
fn small() -> Vec<u8> {
    let records = records(RECORDINGS[2].1);
    let mut header = header(&records[0]);
    let of = |raw: &Raw| {
        let hook = header.hooks.iter().find(|hook| hook.id == raw.id);
        hook.map_or(Subject::Other, |hook| hook.subject)
    };
    let kinds = [Event::Mkdir, Event::Delete].map(Subject::Event);
    let (mut kept, mut used) = (Vec::new(), HashSet::new());
    for record in &records {
        let Ok(raw) = wire::read::<Raw>(record) else {
            continue;
        };
        if kinds.contains(&of(&raw)) && kept.len() < 12 {
            used.insert(raw.id);
            kept.push(record.clone());
        }
    }
    header.hooks.retain(|hook| used.contains(&hook.id));
    (header.snapshot, header.answers) = (false, false);
    header.unavailable.clear();
    let mut stream = Vec::new();
    wire::write(&header, &mut stream);
    stream.extend(kept.concat());
    stream.extend_from_slice(records.last().expect("an end"));
    stream
}

#[test]
fn what_is_before_a_cut_is_told_and_so_is_the_cut() {
    let stream = small();
    let (all, said, whole) = text(&stream);
    assert!(whole && said.is_empty());
    let lines = |text: &[u8]| text.split(|&byte| byte == b'\n').count() - 1;
    assert!(lines(&all) >= 4, "{}", String::from_utf8_lossy(&all));

    let mut boundary = 0;
    let mut before = Vec::new();
    let mut boundaries = records(&stream).into_iter().scan(0, |end, record| {
        *end += record.len();
        Some(*end)
    });
    let mut next = boundaries.next();
    for cut in 0..stream.len() {
        let (told, said, whole) = text(&stream[..cut]);
        assert!(!whole, "cut at {cut}");
        if next == Some(cut) {
            (boundary, next) = (cut, boundaries.next());
            before = told.clone();
            assert!(all.starts_with(&before), "cut at {cut}");
        }
        assert_eq!(told, before, "cut at {cut}, in the record at {boundary}");
        let expected = match cut {
            0 => "no input".to_owned(),
            _ => format!("the input is cut at byte {cut}"),
        };
        assert!(said[0].starts_with(&expected), "cut at {cut}: {said:?}");
    }
    // But for the end record, all is there.
    assert_eq!((next, before), (Some(stream.len()), all));
}

/// A stream in one frame of zstd, each of the parts flushed; and where each one's end is in it.
fn compressed<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<usize>) {
    let mut context = CCtx::create();
    let (mut frame, mut ends) = (Vec::new(), Vec::new());
    let mut put = |part: &[u8], then| {
        let mut out = Vec::with_capacity(part.len() + 1000);
        let mut to = OutBuffer::around(&mut out);
        let mut from = InBuffer::around(part);
        let left = context.compress_stream2(&mut to, &mut from, then);
        assert_eq!((left, from.pos()), (Ok(0), part.len()));
        frame.extend(out);
        frame.len()
    };
    for part in parts {
        ends.push(put(part, ZSTD_EndDirective::ZSTD_e_flush));
    }
    put(&[], ZSTD_EndDirective::ZSTD_e_end);
    (frame, ends)
}

#[test]
fn what_is_before_a_cut_of_a_compressed_stream_is_told_and_so_is_the_cut() {
    let plain = small();
    let records = records(&plain);
    let (stream, ends) = compressed(records.iter().map(Vec::as_slice));
    assert_eq!(text(&stream), text(&plain));
    let mut told = Vec::new();
    for cut in 1..stream.len() {
        let flushed = ends.iter().filter(|&&end| end <= cut).count();
        let (mut expected, ..) = text(&records[..flushed].concat());
        let (lines, said, whole) = text(&stream[..cut]);
        // The magic number alone is no stream.
        if flushed == 0 {
            expected = lines.clone();
        }
        assert!(!whole && lines == expected, "cut at {cut}");
        let message = format!("the compressed input is cut at byte {cut}; the rest is left out");
        assert_eq!(said, [message]);
        told = lines;
    }
    assert_eq!(told, text(&plain).0);
}

#[test]
fn offsets_in_a_compressed_stream_say_of_what_they_are() {
    let mut plain = small();
    plain.extend(b"garbage");
    let (stream, _) = compressed([plain.as_slice()].into_iter());
    let (_, said, _) = text(&stream);
    let at = format!(
        "at byte {} of the decompressed input: ",
        plain.len() - b"garbage".len()
    );
    assert!(said[0].starts_with(&at), "{said:?}");
    let (stream, _) = compressed(
        records(&small())
            .iter()
            .rev()
            .skip(1)
            .rev()
            .map(Vec::as_slice),
    );
    let (_, said, whole) = text(&stream);
    assert!(
        !whole && said[0].starts_with("the decompressed input is cut at byte "),
        "{said:?}"
    );
}

/// The same recording, from a machine of the other byte order.
fn turned(stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut hooks: Vec<Hook> = Vec::new();
    for record in records(stream) {
        match Record::new(&record).map(Record::kind) {
            Some("header") => {
                let mut header = header(&record);
                assert_eq!(header.byte_order, Order::Little);
                header.byte_order = Order::Big;
                hooks = header.hooks.clone();
                wire::write(&header, &mut out);
            }
            Some("raw") => {
                let mut raw: Raw = wire::read(&record).expect("a record");
                let hook = hooks.iter().find(|hook| hook.id == raw.id);
                let mut data = raw.data.to_vec();
                for field in &hook.expect("its hook").fields {
                    let at = usize::from(field.offset)..usize::from(field.offset + field.size);
                    if is_number(&field.name, &field.ctype) {
                        data[at].reverse();
                    }
                }
                raw.data = Bytes::from(data);
                wire::write(&raw, &mut out);
            }
            _ => out.extend(record),
        }
    }
    out
}

/// Whether a field's bytes are in the machine's order: not those of text, nor of memory that
/// is fetched as it is, or holds what networks send.
fn is_number(name: &str, ctype: &str) -> bool {
    let text = ctype.contains('[') && !ctype.starts_with("__data_loc");
    let word = name
        .strip_prefix('a')
        .is_some_and(|rest| rest.parse::<u32>().is_ok());
    !text && !word && !name.starts_with("addr4") && !name.starts_with("addr6_") && name != "port"
}

#[test]
fn the_byte_order_of_the_machine_does_not_matter() {
    for (name, recording) in RECORDINGS {
        let (expected, said, whole) = text(recording);
        assert!(whole && said.is_empty(), "{name}: {said:?}");
        assert!(expected.len() > 1000, "{name}");
        let (actual, said, whole) = text(&turned(recording));
        assert!(whole && said.is_empty(), "{name}: {said:?}");
        let (expected, actual) = (String::from_utf8(expected), String::from_utf8(actual));
        assert_eq!(actual, expected, "{name}");
    }
}
