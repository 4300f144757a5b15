//! A summary takes little memory, however much there is to sum up.

mod limited;
mod recording;
mod stages;

use recording::records;
use serde_json::json;
use st_probe::record::Header;
use st_probe::wire;
use std::io::{BufWriter, Write};

const RECORDING: &[u8] = include_bytes!("recordings/6.12.raw");
const EVENTS: u32 = 1_000_000;
/// What the program may take in all, its own code and libraries included.
const MIB: u32 = 64;
/// Stands for a number in a record, as text and as a number.
const TEXT: &[u8] = b"########";
const NUMBER: u32 = 0x7ead_beef;

/// A record in which nothing is as in another one.
struct Template {
    bytes: Vec<u8>,
    texts: Vec<usize>,
    numbers: Vec<usize>,
}

impl Template {
    fn new(fields: &serde_json::Value) -> Self {
        let (mut bytes, mut start, mut more) = (Vec::new(), Vec::new(), Vec::new());
        wire::write(&json!({"t": "event"}), &mut start);
        wire::write(fields, &mut more);
        wire::append(&start, &more, &mut bytes);
        let places = |pattern: &[u8]| -> Vec<usize> {
            let windows = bytes.windows(pattern.len()).enumerate();
            let found = windows.filter(|(_, window)| *window == pattern);
            found.map(|(place, _)| place).collect()
        };
        let (texts, numbers) = (places(TEXT), places(&NUMBER.to_be_bytes()));
        Self {
            bytes,
            texts,
            numbers,
        }
    }

    fn put(&mut self, number: u32, out: &mut impl Write) -> std::io::Result<()> {
        for &place in &self.texts {
            self.bytes[place..place + 8].copy_from_slice(format!("{number:08x}").as_bytes());
        }
        for &place in &self.numbers {
            let number = 0x1000_0000 + number;
            self.bytes[place..place + 4].copy_from_slice(&number.to_be_bytes());
        }
        out.write_all(&self.bytes)
    }
}

#[test]
fn a_million_events_of_which_none_is_like_another() {
    let records = records(RECORDING);
    let mut header: Header = wire::read(&records[0]).expect("a header");
    header.stages = ["st-probe", "st-decode", "st-pathtree"]
        .map(Into::into)
        .into();
    let process = json!({
        "pid": NUMBER, "tid": NUMBER, "uid": NUMBER, "comm": "########",
        "exe": "/opt/########/bin/########", "argv": ["########", "--number=########"],
        "container": "################################################################",
    });
    let event = |fields: serde_json::Value| {
        let mut event = json!({
            "ts": 1_795_362_564_000_000_000_u64, "seq": NUMBER, "cpu": 0, "process": process,
        });
        let fields = fields.as_object().expect("an object").clone();
        event.as_object_mut().expect("an object").extend(fields);
        Template::new(&event)
    };
    let mut templates = [
        event(json!({
            "event": "create", "path": "/srv/########/########/########.tmp",
            "path_status": "complete",
        })),
        event(json!({
            "event": "rename", "path": "/srv/########/new/########", "path_status": "complete",
            "old_path": "/tmp/########/########", "old_path_status": "complete",
        })),
        event(json!({"event": "connect", "proto": "tcp", "addr": "10.########", "port": 1})),
        event(json!({"event": "listen", "proto": "tcp", "addr": "10.########", "port": 1})),
    ];
    let mut shell = limited::start([("st-format --output summary", MIB)]);
    let mut input = BufWriter::new(shell.stdin.take().expect("it is piped"));
    let mut head = Vec::new();
    wire::write(&header, &mut head);
    input.write_all(&head).expect("it reads");
    for number in 0..EVENTS {
        let template = &mut templates[number as usize % 4];
        template.put(number, &mut input).expect("it reads on");
    }
    let end = records.last().expect("an end");
    input.write_all(end).expect("it reads to the end");
    drop(input);
    let output = shell.wait_with_output().expect("its output");
    let page = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{page}");
    assert!(page.starts_with(&format!(" {EVENTS} events in ")), "{page}");
    assert!(page.contains("events that are not told apart"), "{page}");
    assert!(
        page.lines().all(|line| line.chars().count() <= 80),
        "{page}"
    );
}
