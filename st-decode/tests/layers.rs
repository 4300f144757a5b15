//! The order of events where an operation is carried out by others: see `st_decode::event`.

use st_decode::decode::Decoder;
use st_decode::event::{Change, EventRecord};
use st_decode::record::{Bytes, ClockSet, End, Field, Header, Hook, Lost, MAGIC, Raw, VERSION};
use st_decode::stage;
use st_decode::time::{Monotonic, Unix};
use st_decode::vocabulary::{Event, Order, Role, Subject, Why};
use st_decode::wire::{self, Record};

const OVERLAY: u32 = 1;
const UPPER: u32 = 2;

/// The hook of an event's entry or return: all of them have the same fields.
fn id(event: Event, role: Role) -> u16 {
    let event = Event::ALL.iter().position(|other| *other == event);
    2 * event.unwrap() as u16 + u16::from(role == Role::Return)
}

fn header() -> Header {
    let field = |name: &str, offset, size, signed| Field {
        name: name.into(),
        offset,
        size,
        signed,
        ctype: String::new(),
    };
    let hook = |event: Event, role: Role| Hook {
        id: id(event, role),
        name: format!("{event}_{role}"),
        subject: Subject::Event(event),
        role,
        point: event.name().into(),
        names: 0,
        fields: vec![
            field("common_pid", 0, 4, true),
            field("dev", 4, 4, false),
            field("ret", 4, 4, true),
            field("sp", 8, 8, false),
        ],
    };
    let events = [Event::Mkdir, Event::Mknod, Event::Delete];
    let hooks = events.map(|event| [hook(event, Role::Entry), hook(event, Role::Return)]);
    Header {
        magic: MAGIC.into(),
        version: VERSION,
        stages: vec!["st-probe".into()],
        byte_order: Order::NATIVE,
        hooks: hooks.into_iter().flatten().collect(),
        ..Header::default()
    }
}

/// A stream, whose records are a nanosecond apart.
struct Stream {
    records: Vec<u8>,
    ts: u64,
}

impl Stream {
    fn new() -> Self {
        let mut stream = Self {
            records: Vec::new(),
            ts: 0,
        };
        wire::write(&header(), &mut stream.records);
        stream
    }

    fn raw(&mut self, id: u16, tid: i32, number: u32, sp: u64) -> &mut Self {
        self.ts += 1;
        let data = [
            &tid.to_ne_bytes()[..],
            &number.to_ne_bytes(),
            &sp.to_ne_bytes(),
        ];
        let raw = Raw {
            ts: Monotonic(self.ts),
            cpu: tid as u32,
            id,
            data: Bytes::from(data.concat()),
        };
        wire::write(&raw, &mut self.records);
        self
    }

    fn enter(&mut self, event: Event, tid: i32, dev: u32, sp: u64) -> &mut Self {
        self.raw(id(event, Role::Entry), tid, dev, sp)
    }

    fn leave(&mut self, event: Event, tid: i32, ret: i32, sp: u64) -> &mut Self {
        self.raw(id(event, Role::Return), tid, ret as u32, sp)
    }

    /// A call that succeeds.
    fn call(&mut self, event: Event, tid: i32, dev: u32, sp: u64) -> &mut Self {
        self.enter(event, tid, dev, sp).leave(event, tid, 0, sp)
    }

    fn lost(&mut self, until: u64) -> &mut Self {
        let lost = Lost {
            since: Monotonic(self.ts),
            ts: Monotonic(self.ts),
            until: Some(Monotonic(until)),
            count: Some(1),
            ..Lost::default()
        };
        wire::write(&lost, &mut self.records);
        self
    }

    fn end(&mut self) -> &mut Self {
        let end = End {
            ts: Monotonic(self.ts),
            records: 0,
            lost: 0,
            why: Why::Signal,
        };
        wire::write(&end, &mut self.records);
        self
    }

    /// What st-decode makes of it: an event as `SEQ NAME@TS` with `<SEQ` if it is part of another.
    fn decoded(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut decoder = Decoder::default();
        stage::run(&mut decoder, &self.records[..], &mut out, &mut |_| ()).unwrap();
        let mut told = Vec::new();
        let mut rest = &out[..];
        while let Some(length) = wire::value_len(rest).unwrap() {
            let (record, after) = rest.split_at(length);
            rest = after;
            let record = Record::new(record).unwrap();
            told.push(match record.kind() {
                "event" => {
                    let event: EventRecord = record.read().unwrap();
                    assert_eq!(event.cpu, event.process.read().unwrap().tid as u32);
                    let is_ahead = event.unresolved.learned;
                    let ahead = if is_ahead { " ahead" } else { "" };
                    let outer = event.layer_of.map(|outer| format!(" <{outer}"));
                    let (seq, ts) = (event.seq, event.ts.0);
                    let outer = outer.unwrap_or_default();
                    format!("{seq} {}@{ts}{ahead}{outer}", event.event)
                }
                "change" => {
                    let change: Change = record.read().unwrap();
                    let ts = change.unresolved.at.0;
                    format!("{}@{ts} on {}", change.event, change.dev.unwrap())
                }
                "lost" => {
                    let lost: Lost = record.read().unwrap();
                    format!("lost {}", lost.count.unwrap())
                }
                kind => kind.to_owned(),
            });
        }
        told
    }
}

#[test]
fn an_operation_is_told_before_its_parts() {
    let told = Stream::new()
        .enter(Event::Delete, 7, OVERLAY, 1000)
        .call(Event::Mknod, 7, UPPER, 900)
        .call(Event::Mkdir, 7, UPPER, 900)
        .call(Event::Delete, 8, UPPER, 1000)
        .leave(Event::Delete, 7, 0, 1000)
        .call(Event::Delete, 7, UPPER, 1000)
        .end()
        .decoded();
    let expected = [
        "header",
        "mkdir@5 on 0:2",
        "0 delete@7",
        "1 delete@8",
        "2 mknod@3 <1",
        "3 mkdir@5 ahead <1",
        "4 delete@10",
        "end",
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_parts_of_what_failed_are_told_alone() {
    let told = Stream::new()
        .enter(Event::Delete, 7, OVERLAY, 1000)
        .call(Event::Mknod, 7, UPPER, 900)
        .leave(Event::Delete, 7, -28, 1000)
        .end()
        .decoded();
    assert_eq!(told, ["header", "0 mknod@3", "end"]);
}

#[test]
fn what_is_kept_is_told_before_a_gap_and_counted_within() {
    let told = Stream::new()
        .enter(Event::Delete, 8, OVERLAY, 1000)
        .call(Event::Mkdir, 8, UPPER, 900)
        .enter(Event::Delete, 7, OVERLAY, 1000)
        .call(Event::Mknod, 7, UPPER, 900)
        .lost(100)
        // Two calls beside the two that are under way, and the one that is kept within the first.
        .enter(Event::Delete, 7, OVERLAY, 1000)
        .call(Event::Mkdir, 7, UPPER, 900)
        .call(Event::Delete, 8, UPPER, 1000)
        .end()
        .decoded();
    let expected = [
        "header",
        "mkdir@3 on 0:2",
        "0 mkdir@3 ahead",
        "1 mknod@6",
        "lost 1",
        "lost 5",
        "end",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_part_has_the_time_of_the_clock_that_was_in_force() {
    let mut stream = Stream::new();
    stream
        .enter(Event::Delete, 7, OVERLAY, 1000)
        .call(Event::Mknod, 7, UPPER, 900);
    let set = ClockSet {
        ts: Monotonic(stream.ts),
        realtime: Unix(1000),
    };
    wire::write(&set, &mut stream.records);
    stream.leave(Event::Delete, 7, 0, 1000).end();
    let expected = ["header", "clock", "0 delete@1001", "1 mknod@3 <0", "end"];
    assert_eq!(stream.decoded(), expected);
}

#[test]
fn what_is_kept_is_told_at_the_end() {
    let mut stream = Stream::new();
    stream
        .enter(Event::Delete, 7, OVERLAY, 1000)
        .call(Event::Mknod, 7, UPPER, 900);
    // The input is cut.
    assert_eq!(stream.decoded(), ["header", "0 mknod@3", "end"]);
    // Another stream follows.
    wire::write(&header(), &mut stream.records);
    let told = stream.end().decoded();
    assert_eq!(told, ["header", "0 mknod@3", "header", "end"]);
}
