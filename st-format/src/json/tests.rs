use super::*;
use crate::testing::{self, Pack, Random, bare, no_record, of, pack};

fn pushed(record: &[u8]) -> Result<String, RecordError> {
    let mut json = Json::default();
    let mut out = Vec::new();
    json.begin(&testing::header(1_000, 50_000), no_record(), &mut out);
    json.push(of(record), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// The JSON of a record of an unknown kind with one field `k`, without what is around it.
fn shown(value: Pack) -> String {
    let line = pushed(&pack(&[("t", Pack::Str(b"x")), ("k", value)])).unwrap();
    serde_json::from_str::<serde_json::Value>(&line).expect("it is JSON");
    line.strip_prefix("{\"t\":\"x\",")
        .and_then(|line| line.strip_suffix("}\n"))
        .expect("it has t first")
        .into()
}

fn raw(bytes: &[u8]) -> String {
    shown(Pack::Raw(bytes))
}

#[test]
fn an_event_begins_with_what_readers_look_for() {
    let record = pack(&[
        ("t", Pack::Str(b"event")),
        ("event", Pack::Str(b"rename")),
        ("ts", Pack::Int(1_795_362_564_123_456_789)),
        ("seq", Pack::Int(3)),
        ("cpu", Pack::Int(1)),
        (
            "process",
            Pack::Map(&[("tid", Pack::Int(7)), ("comm", Pack::Bin(b"mv"))]),
        ),
        ("dev", Pack::Str(b"8:1")),
        ("later", Pack::Array(&[Pack::Nil, Pack::Int(1)])),
        ("path", Pack::Bin(b"/b")),
        ("path_status", Pack::Str(b"complete")),
        ("old_path", Pack::Bin(b"/a")),
        ("old_path_status", Pack::Str(b"partial")),
    ]);
    assert_eq!(
        pushed(&record).unwrap(),
        "{\"event\":\"rename\",\"ts\":1795362564123456789,\
         \"time\":\"2026-11-22T15:49:24.123456789Z\",\"seq\":3,\"cpu\":1,\
         \"process\":{\"tid\":7,\"comm\":\"mv\"},\
         \"path\":\"/b\",\"path_status\":\"complete\",\
         \"old_path\":\"/a\",\"old_path_status\":\"partial\",\
         \"dev\":\"8:1\",\"later\":[null,1]}\n"
    );
}

#[test]
fn time_is_that_of_ts_whatever_the_record_has() {
    for (kind, ts, time) in [
        ("event", 1_001, "1970-01-01T00:00:00.000001001Z"),
        ("lost", 1_001, "1970-01-01T00:00:00.000050001Z"),
        ("event", u64::MAX, "2554-07-21T23:34:33.709551615Z"),
    ] {
        let mut entries = vec![
            ("t", Pack::Str(kind.as_bytes())),
            ("time", Pack::Str(b"never")),
            ("ts", Pack::Int(ts)),
            ("since", Pack::Int(0)),
            ("cause", Pack::Str(b"ring buffer")),
            ("time", Pack::Nil),
        ];
        let line = pushed(&pack(&entries)).unwrap();
        assert_eq!(line.matches("\"time\":").count(), 1, "{line}");
        assert!(line.contains(&format!("\"time\":\"{time}\"")), "{line}");
        entries.retain(|(name, _)| *name != "ts");
        if kind == "event" {
            let line = pushed(&pack(&entries)).unwrap();
            assert!(!line.contains("time"), "{line}");
        }
    }
}

#[test]
fn a_field_t_further_on_is_a_field_like_others() {
    let record = pack(&[
        ("t", Pack::Str(b"event")),
        ("process", Pack::Map(&[("t", Pack::Int(1))])),
        ("x", Pack::Int(2)),
    ]);
    assert_eq!(
        pushed(&record).unwrap(),
        "{\"process\":{\"t\":1},\"x\":2}\n"
    );
}

#[test]
fn a_name_that_is_not_utf8_has_its_bytes_beside_it() {
    assert_eq!(shown(Pack::Bin(b"/a")), r#""k":"/a""#);
    assert_eq!(
        shown(Pack::Bin(b"/a\xffb")),
        "\"k\":\"/a\u{fffd}b\",\"k_bytes\":\"L2H/Yg==\""
    );
    assert_eq!(
        shown(Pack::Str(b"\xff")),
        "\"k\":\"\u{fffd}\",\"k_bytes\":\"/w==\""
    );
    assert_eq!(
        shown(Pack::Map(&[("comm", Pack::Bin(b"\xfe"))])),
        "\"k\":{\"comm\":\"\u{fffd}\",\"comm_bytes\":\"/g==\"}"
    );
    assert_eq!(
        shown(Pack::Array(&[Pack::Bin(b"\xfe")])),
        "\"k\":[\"\u{fffd}\"]",
        "an array has no keys"
    );
    assert_eq!(
        shown(Pack::Bin("\u{fffd}".as_bytes())),
        "\"k\":\"\u{fffd}\"",
        "which is text"
    );
}

#[test]
fn base64_has_padding() {
    for (bytes, expected) in [
        (&b""[..], r#""""#),
        (b"f", r#""Zg==""#),
        (b"fo", r#""Zm8=""#),
        (b"foo", r#""Zm9v""#),
        (b"foob", r#""Zm9vYg==""#),
        (b"fooba", r#""Zm9vYmE=""#),
        (b"foobar", r#""Zm9vYmFy""#),
        (b"\xfb\xff\xfe", r#""+//+""#),
    ] {
        let mut out = Vec::new();
        base64(bytes, &mut out);
        assert_eq!(out, expected.as_bytes());
    }
}

#[test]
fn values() {
    assert_eq!(raw(b"\xc0"), r#""k":null"#);
    assert_eq!(raw(b"\xc2"), r#""k":false"#);
    assert_eq!(raw(b"\xc3"), r#""k":true"#);
    assert_eq!(shown(Pack::Int(u64::MAX)), r#""k":18446744073709551615"#);
    assert_eq!(raw(b"\xd1\xff\x91"), r#""k":-111"#);
    assert_eq!(raw(b"\xff"), r#""k":-1"#);
    assert_eq!(raw(b"\xca\x3f\xc0\x00\x00"), r#""k":1.5"#);
    assert_eq!(raw(b"\xcb\x7e\x37\xe4\x3c\x88\x00\x75\x9c"), r#""k":1e300"#);
    assert_eq!(raw(b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"), r#""k":null"#);
    assert_eq!(raw(b"\xca\x7f\xc0\x00\x00"), r#""k":null"#);
    assert_eq!(raw(b"\xc7\x03\x05foo"), r#""k":"Zm9v""#);
    assert_eq!(raw(b"\x90"), r#""k":[]"#);
    assert_eq!(raw(b"\x80"), r#""k":{}"#);
}

#[test]
fn keys_that_are_no_strings_become_some() {
    assert_eq!(
        raw(b"\x84\x05\x01\xc0\x02\xc4\x01b\x03\x91\xa1a\x04"),
        r#""k":{"5":1,"null":2,"b":3,"[\"a\"]":4}"#
    );
    let record = b"\x82\xa1t\xa5event\x05\xc4\x01\xff";
    assert_eq!(
        pushed(record).unwrap(),
        "{\"5\":\"\u{fffd}\",\"5_bytes\":\"/w==\"}\n"
    );
}

#[test]
fn a_newline_cannot_forge_a_second_object() {
    assert_eq!(
        shown(Pack::Bin(b"a\n{\"event\":1}\r\t")),
        r#""k":"a\n{\"event\":1}\r\t""#
    );
    assert_eq!(
        shown(Pack::Bin("\u{2028}\u{85}".as_bytes())),
        r#""k":"\u2028\u0085""#
    );
}

#[test]
fn a_quote_or_backslash_cannot_end_the_string() {
    assert_eq!(shown(Pack::Bin(br#"a","b\"#)), r#""k":"a\",\"b\\""#);
}

#[test]
fn an_escape_sequence_cannot_command_the_terminal() {
    assert_eq!(
        shown(Pack::Bin(b"\x1b[2J\x07\x7f\0")),
        r#""k":"\u001b[2J\u0007\u007f\u0000""#
    );
    assert_eq!(shown(Pack::Bin("\u{9b}2J".as_bytes())), r#""k":"\u009b2J""#);
}

#[test]
fn neither_can_one_in_a_key() {
    let record = pack(&[("t", Pack::Str(b"x")), ("\x1b\"\n", Pack::Nil)]);
    assert_eq!(
        pushed(&record).unwrap(),
        "{\"t\":\"x\",\"\\u001b\\\"\\n\":null}\n"
    );
}

#[test]
fn bidi_overrides_and_invisible_characters_are_escaped() {
    assert_eq!(
        shown(Pack::Bin("\u{202e}txt\u{feff}\u{e0041}".as_bytes())),
        r#""k":"\u202etxt\ufeff\udb40\udc41""#
    );
    assert_eq!(
        shown(Pack::Bin("Grüße 日本".as_bytes())),
        r#""k":"Grüße 日本""#
    );
}

#[test]
fn a_gap_is_an_object_with_unix_times() {
    let record = pack(&[
        ("t", Pack::Str(b"lost")),
        ("since", Pack::Int(1_000)),
        ("ts", Pack::Int(3_000)),
        ("until", Pack::Int(4_000)),
        ("cpu", Pack::Nil),
        ("count", Pack::Int(12)),
        ("cause", Pack::Str(b"ring buffer")),
        ("later", Pack::Int(1)),
    ]);
    assert_eq!(
        pushed(&record).unwrap(),
        "{\"t\":\"lost\",\"since\":50000,\"ts\":52000,\
         \"time\":\"1970-01-01T00:00:00.000052000Z\",\"until\":53000,\"cpu\":null,\"count\":12,\
         \"cause\":\"ring buffer\",\"later\":1}\n"
    );
}

#[test]
fn a_gap_has_the_time_of_the_clock_that_was_set_before() {
    let mut json = Json::default();
    let mut out = Vec::new();
    json.begin(&testing::header(1_000, 50_000), no_record(), &mut out);
    let clock = pack(&[
        ("t", Pack::Str(b"clock")),
        ("ts", Pack::Int(2_000)),
        ("realtime", Pack::Int(10_000)),
    ]);
    json.push(of(&clock), &mut out).unwrap();
    let lost = pack(&[
        ("t", Pack::Str(b"lost")),
        ("since", Pack::Int(2_100)),
        ("ts", Pack::Int(2_300)),
        ("cpu", Pack::Nil),
        ("count", Pack::Nil),
        ("cause", Pack::Str(b"ring buffer")),
    ]);
    json.push(of(&lost), &mut out).unwrap();
    let line = String::from_utf8(out).unwrap();
    let start = "{\"t\":\"lost\",\"since\":10100,\"ts\":10300,";
    assert!(line.starts_with(start), "{line}");
}

#[test]
fn records_for_other_stages_do_not_appear() {
    for kind in ["mounts", "process", "fork", "walked", "dir", "end"] {
        assert_eq!(pushed(&bare(kind)).unwrap(), "");
    }
}

/// Arrays within arrays, one more than `depth` within a record.
fn nested(depth: usize) -> Vec<u8> {
    let mut record = b"\x82\xa1t\xa1x\xa1k".to_vec();
    record.extend(std::iter::repeat_n(0x91, depth));
    record.push(0xc0);
    record
}

#[test]
fn deep_nesting_cannot_overflow_the_stack() {
    assert!(pushed(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(pushed(&nested(MAX_DEPTH)), Err(RecordError::too_deep()));
    assert!(pushed(&nested(1_000_000)).is_err());
    let event = [b"\x82\xa1t\xa5event", &nested(1_000_000)[5..]].concat();
    assert!(pushed(&event).is_err());
    let mut key = b"\x82\xa1t\xa1x".to_vec();
    key.extend([0x81; 1_000]);
    key.extend([0xc0; 1_002]);
    assert!(pushed(&key).is_err(), "maps as keys of maps");
}

#[test]
fn every_name_can_be_had_back_and_every_line_is_safe() {
    let mut random = Random::new();
    for _ in 0..50_000 {
        let (path, comm) = (random.name(), random.text());
        let record = pack(&[
            ("t", Pack::Str(b"event")),
            ("path", Pack::Bin(&path)),
            (
                "process",
                Pack::Map(&[("comm", Pack::Str(comm.as_bytes()))]),
            ),
        ]);
        let line = pushed(&record).unwrap();
        let seed = random.seed;
        let object: serde_json::Value = serde_json::from_str(&line).expect("it is JSON");
        assert_eq!(
            object["path"],
            *String::from_utf8_lossy(&path),
            "seed {seed}"
        );
        assert_eq!(
            object.get("path_bytes").is_some(),
            std::str::from_utf8(&path).is_err(),
            "seed {seed}"
        );
        assert_eq!(object["process"]["comm"], *comm, "seed {seed}");
        let line = line.strip_suffix('\n').expect("a line");
        assert!(!line.chars().any(escape::is_harmful), "seed {seed}: {line}");
    }
}
