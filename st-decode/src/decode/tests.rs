use super::*;
use crate::event::EventRecord;
use st_probe::record::{Bytes, ClockSet, Field, Hook};
use st_probe::time::Unix;
use st_probe::vocabulary::Subject;

const HOUR: u64 = 3_600_000_000_000;

/// The header of a stream with one hook: each of its records is an event.
fn header() -> Header {
    let tid = Field {
        name: "common_pid".into(),
        offset: 0,
        size: 4,
        signed: true,
        ctype: "int".into(),
    };
    let unlisten = Hook {
        id: 0,
        name: "unlisten".into(),
        subject: Subject::Event(Event::Unlisten),
        role: Role::Instant,
        point: "inet_csk_listen_stop".into(),
        names: 0,
        fields: vec![tid],
    };
    Header {
        monotonic: Monotonic(500),
        realtime: Unix(10 * HOUR),
        hooks: vec![unlisten],
        ..Header::default()
    }
}

#[test]
fn times_follow_the_clock_in_force() {
    let mut decoder = Decoder::default();
    let mut header_record = Vec::new();
    wire::write(&header(), &mut header_record);
    let header_record = Record::new(&header_record).unwrap();
    decoder.begin(&header(), header_record, &mut Vec::new());
    let mut push = |record: &[u8]| {
        let mut out = Vec::new();
        let record = Record::new(record).unwrap();
        decoder.push(record, &mut out).unwrap();
        out
    };
    // Forth and then further back.
    let settings = [(700, 11 * HOUR), (900, 8 * HOUR)];
    let mut told = Vec::new();
    for at in (600..1100).step_by(100) {
        if let Some(&(ts, realtime)) = settings.iter().find(|(ts, _)| *ts == at) {
            let mut record = Vec::new();
            let set = ClockSet {
                ts: Monotonic(ts),
                realtime: Unix(realtime),
            };
            wire::write(&set, &mut record);
            assert_eq!(push(&record), record);
        }
        let mut record = Vec::new();
        let raw = Raw {
            ts: Monotonic(at + 50),
            cpu: 0,
            id: 0,
            data: Bytes::from(&[1, 0, 0, 0][..]),
        };
        wire::write(&raw, &mut record);
        let out = push(&record);
        let event: EventRecord = wire::read(&out).unwrap();
        told.push((event.seq, event.ts.0, event.unresolved.at.0));
    }
    let expected = [
        (0, 10 * HOUR + 150, 650),
        (1, 11 * HOUR + 50, 750),
        (2, 11 * HOUR + 150, 850),
        (3, 8 * HOUR + 50, 950),
        (4, 8 * HOUR + 150, 1050),
    ];
    assert_eq!(told, expected);
}
