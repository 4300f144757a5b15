//! Our reader and writer do as rmp-serde does; and streams are taken apart however they come.

use super::*;
use crate::stream::record::{Bytes, End, Header, Process, Raw};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const RECORDINGS: [&[u8]; 4] = [
    include_bytes!("../../../../tests/recordings/5.10.raw"),
    include_bytes!("../../../../tests/recordings/6.12-arm64.raw"),
    include_bytes!("../../../../tests/recordings/7.3.raw"),
    include_bytes!("../../../../tests/recordings/overlay.raw"),
];

/// Holds reading and writing of a type to rmp-serde's.
fn same<'a, T: Serialize + Deserialize<'a>>(record: Record<'a>) -> usize {
    let theirs = rmp_serde::from_slice::<T>(record.bytes());
    for ours in [record.read::<T>(), read::<T>(record.bytes())] {
        assert_eq!(ours.is_ok(), theirs.is_ok());
        let (Ok(ours), Ok(theirs)) = (ours, &theirs) else {
            continue;
        };
        let (mut written, mut expected) = (Vec::new(), Vec::new());
        write(&ours, &mut written);
        rmp_serde::encode::write_named(&mut expected, theirs).unwrap();
        assert_eq!(written, expected);
    }
    usize::from(theirs.is_ok())
}

#[test]
fn records_are_read_and_written_as_by_rmp_serde() {
    let mut counts = [0; 4];
    for mut recording in RECORDINGS {
        let mut reader = Reader::default();
        while reader.fill(&mut recording).unwrap() {
            while let Some(record) = reader.take().unwrap() {
                counts[0] += same::<Header>(record);
                counts[1] += same::<Raw>(record);
                counts[2] += same::<Process>(record);
                counts[3] += same::<End>(record);
            }
        }
    }
    assert!(counts[1] > 1000 && counts[2] > 100, "{counts:?}");
    assert_eq!((counts[0], counts[3]), (4, 4));
}

/// A value of each kind that records have.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct All<'a> {
    numbers: Vec<i64>,
    large: Vec<u64>,
    small: (u8, i8, u16, i16, u32, i32),
    truth: bool,
    none: Option<u8>,
    some: Option<Box<u8>>,
    text: String,
    #[serde(borrow)]
    bytes: Vec<Bytes<'a>>,
    map: BTreeMap<String, Case>,
    float: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Case {
    One,
    Other,
}

#[test]
fn values_of_every_size_are_written_as_by_rmp_serde() {
    let edges = [
        0,
        31,
        32,
        127,
        128,
        255,
        256,
        65_535,
        65_536,
        u32::MAX as i64,
    ];
    let mut numbers: Vec<i64> = edges.to_vec();
    numbers.extend(edges.iter().flat_map(|edge| [-edge, -edge - 1, edge + 1]));
    numbers.extend([i64::MIN, i64::MAX]);
    let lengths = [0, 1, 31, 32, 255, 256, 65_535, 65_536];
    let all = All {
        numbers,
        large: vec![u64::MAX, 1 << 63],
        small: (1, -1, 2, -2, 3, -3),
        truth: true,
        none: None,
        some: Some(Box::new(7)),
        text: "ä".repeat(200),
        bytes: lengths.map(|length| Bytes::from(vec![b'x'; length])).into(),
        map: (0..20)
            .map(|number| {
                (
                    number.to_string(),
                    if number % 2 == 0 {
                        Case::One
                    } else {
                        Case::Other
                    },
                )
            })
            .collect(),
        float: 1.5,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    write(&all, &mut ours);
    rmp_serde::encode::write_named(&mut theirs, &all).unwrap();
    assert_eq!(ours, theirs);
    assert_eq!(read::<All>(&ours).unwrap(), all);
    for length in lengths {
        let text = "a".repeat(length);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        write(&text, &mut ours);
        rmp_serde::encode::write_named(&mut theirs, &text).unwrap();
        assert_eq!(ours, theirs);
    }
}

#[test]
fn what_is_not_of_the_type_is_an_error() {
    for bytes in [
        &b"\x81\xa2ts\x01"[..],
        b"\x84\xa2ts\x01\xa7records\xa1x\xa4lost\x00\xa3why\xa3end",
        b"\x84\xa2ts\xff\xa7records\x01\xa4lost\x00\xa3why\xa3end",
        b"\x84\xa2ts\x01\xa7records\x01\xa4lost\x00\xa3why\x07",
        b"\x07",
        b"",
    ] {
        assert!(read::<End>(bytes).is_err(), "{bytes:x?}");
        assert!(rmp_serde::from_slice::<End>(bytes).is_err(), "{bytes:x?}");
    }
    assert!(read::<String>(b"\xa1\xff").is_err(), "not UTF-8");
    assert!(read::<Case>(b"\xa5three").is_err());
}

#[test]
fn fields_of_later_versions_are_left_out() {
    let record = b"\x87\xa2ts\x01\xa3new\x82\xa1a\x91\xc0\x01\x02\xa7records\x02\x07\xc0\xa4lost\x03\xa3why\xa6signal\xa5newer\xc4\x01a";
    let end: End = read(record).unwrap();
    assert_eq!((end.ts.0, end.records, end.lost), (1, 2, 3));
    // An array may get more elements.
    assert_eq!(read::<(u8, u8)>(b"\x93\x01\x02\x91\x03").unwrap(), (1, 2));
}

#[test]
fn what_is_encoded_is_copied_as_it_is() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        inner: Encoded<'a, Vec<u8>>,
        #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
        more: Option<Encoded<'a, Vec<u8>>>,
    }
    let encoded = b"\x82\xa5inner\xdc\x00\x02\x01\x02\xa4more\x91\x03";
    let outer: Outer = read(encoded).unwrap();
    assert_eq!(outer.inner.read().unwrap(), [1, 2]);
    assert_eq!(outer.more.as_ref().unwrap().read().unwrap(), [3]);
    let mut written = Vec::new();
    write(&outer, &mut written);
    assert_eq!(written, encoded);
    let without = b"\x81\xa5inner\x90";
    assert!(read::<Outer>(without).unwrap().more.is_none());
}

const RECORD: &[u8] = b"\x82\xa1t\xa1x\xa1n\x07";

#[test]
fn takes_records_however_they_are_cut_into_reads() {
    let stream = [RECORD, b"\x81\xa1t\xa1y", RECORD].concat();
    for size in 1..stream.len() {
        let mut reader = Reader::default();
        let mut taken = Vec::new();
        for mut part in stream.chunks(size) {
            while reader.fill(&mut part).unwrap() {
                while let Some(record) = reader.take().unwrap() {
                    taken.push(record.kind().to_owned());
                }
            }
        }
        assert_eq!(taken, ["x", "y", "x"], "in reads of {size}");
        assert_eq!(
            (reader.offset(), reader.pending()),
            (stream.len() as u64, 0)
        );
    }
}

#[test]
fn measures_no_byte_of_a_record_twice() {
    const NILS: usize = 1000;
    let mut record = b"\x82\xa1t\xa1x\xa1n\xdd".to_vec();
    record.extend((NILS as u32).to_be_bytes());
    let head = record.len();
    record.resize(head + NILS, 0xc0);
    let mut reader = Reader::default();
    for part in record.chunks(7) {
        assert!(reader.take().unwrap().is_none());
        // What has been measured is no longer looked at.
        let Reader { buffer, end, .. } = &mut reader;
        if *end > head {
            buffer[head..*end].fill(0xc1);
        }
        assert!(reader.fill(&mut &part[..]).unwrap());
    }
    let taken = reader.take().unwrap().map(|record| record.bytes().len());
    assert_eq!(taken, Some(record.len()));
    assert!(reader.take().unwrap().is_none());
}

#[test]
fn refuses_what_is_no_record() {
    for bytes in [
        &b"hello"[..],
        b"\xc1",
        b"\x80",
        b"\x81\x01\x02",
        b"\x81\xa1t\x01",
    ] {
        let mut reader = Reader::default();
        reader.fill(&mut &bytes[..]).unwrap();
        assert_eq!(
            reader.take().err(),
            Some(Malformed::NotARecord),
            "{bytes:x?}"
        );
    }
}

#[test]
fn refuses_an_announced_gigabyte_before_it_arrives() {
    assert_eq!(
        value_len(b"\x81\xa1t\xc6\x40\x00\x00\x00"),
        Err(Malformed::TooLong)
    );
    assert_eq!(value_len(b"\xdd\xff\xff\xff\xff"), Err(Malformed::TooLong));
}

#[test]
fn appends_the_entries_of_a_map() {
    let mut out = Vec::new();
    append(b"\x81\xa1a\x01", b"\xde\x00\x01\xa1b\x02", &mut out);
    assert_eq!(out, b"\x82\xa1a\x01\xa1b\x02");
    assert_eq!(value_len(&out), Ok(Some(out.len())));
    out.clear();
    append(b"\xc0", b"\x80", &mut out);
    assert_eq!(out, b"\xc0");
}

#[test]
fn copies_and_keeps_what_it_does_not_know() {
    let record = b"\x84\xa1t\xa1x\xa1a\x01\xa1u\x91\x02\x07\xc0";
    let record = Record::new(record).unwrap();
    let mut out = Vec::new();
    let mut copy = RecordCopy::begin(record, &mut out);
    copy.leave_out(record.entry(b"a").unwrap());
    copy.end(Some(&BTreeMap::from([("b", 3)])));
    assert_eq!(out, b"\x84\xa1t\xa1x\xa1u\x91\x02\x07\xc0\xa1b\x03");
}

#[test]
fn a_long_record_in_many_reads_is_moved_a_few_times() {
    const LENGTH: usize = 1 << 20;
    let mut record = b"\x82\xa1t\xa1x\xa1n\xc6".to_vec();
    record.extend((LENGTH as u32).to_be_bytes());
    record.resize(record.len() + LENGTH, 0);
    let mut reader = Reader::default();
    let (mut buffer, mut moved) = (reader.buffer.as_ptr(), 0);
    for part in record.chunks(64) {
        assert!(reader.take().unwrap().is_none());
        assert!(reader.fill(&mut &part[..]).unwrap());
        if reader.buffer.as_ptr() != buffer {
            buffer = reader.buffer.as_ptr();
            moved += 1;
        }
    }
    assert!(reader.take().unwrap().is_some());
    assert!(moved < 20, "{moved} times");
}

#[test]
fn a_record_that_announces_too_much_is_refused_before_that_has_come() {
    let mut record = b"\x83\xa1t\xa1x\xa1a\xc6".to_vec();
    let half = MAX_RECORD / 2 + 1;
    record.extend((half as u32).to_be_bytes());
    record.resize(record.len() + half, 0);
    record.extend(b"\xa1b\xc6");
    record.extend((half as u32).to_be_bytes());
    let mut reader = Reader::default();
    let mut input = &record[..];
    while !input.is_empty() {
        reader.fill(&mut input).unwrap();
    }
    assert_eq!(reader.take().err(), Some(Malformed::TooLong));
}
