//! What the targets share: inputs for stages, and what must hold of what these make of them.

use st_probe::record::{Header, Hook, Raw};
use st_probe::stage::{self, Stage};
use st_probe::wire::{self, Reader, Record};
use std::collections::HashSet;
use std::io::Read;
use std::sync::LazyLock;

/// Streams as st-probe wrote them.
const RECORDINGS: [&[u8]; 6] = [
    include_bytes!("../recordings/5.10.raw"),
    include_bytes!("../recordings/6.1.raw"),
    include_bytes!("../recordings/6.12.raw"),
    include_bytes!("../recordings/7.3.raw"),
    include_bytes!("../recordings/no-processes.raw"),
    include_bytes!("../recordings/no-snapshot.raw"),
];

/// Their headers, with hooks whose fields are left out, and these hooks as they are.
static HEADERS: LazyLock<[(Header, Vec<Hook>); 6]> = LazyLock::new(|| {
    RECORDINGS.map(|stream| {
        let mut header = wire::read::<Header>(records(stream)[0]).expect("a header");
        let hooks = header.hooks.clone();
        header.hooks.iter_mut().for_each(|hook| hook.fields.clear());
        (header, hooks)
    })
});

/// The stream that an input stands for, before a stage that is `after` so many others. A first
/// byte that is the number of a recording is replaced by its header: mutations seldom leave
/// one whole. As reading that takes longer than all the rest, it has no fields where no stage
/// reads them, and for st-decode no hooks but those of the records.
fn stream(input: &[u8], after: usize) -> Vec<u8> {
    let Some((&number @ 0..6, records)) = input.split_first() else {
        return input.to_vec();
    };
    let (header, hooks) = &HEADERS[usize::from(number)];
    let mut header = header.clone();
    let stages = ["st-probe", "st-decode", "st-pathtree"];
    header.stages = stages[..after].iter().map(|&stage| stage.into()).collect();
    if after == 1 {
        let (mut rest, mut used) = (records, HashSet::new());
        while let Some((record, after)) = wire::value_len(rest)
            .ok()
            .flatten()
            .and_then(|length| rest.split_at_checked(length))
        {
            used.extend(wire::read::<Raw>(record).map(|raw| raw.id));
            rest = after;
        }
        header.hooks = hooks
            .iter()
            .filter(|hook| used.contains(&hook.id))
            .cloned()
            .collect();
    }
    let mut stream = Vec::new();
    wire::write(&header, &mut stream);
    stream.extend_from_slice(records);
    stream
}

/// The number of a recording.
pub fn number(stream: &[u8]) -> Option<u8> {
    let at = RECORDINGS
        .iter()
        .position(|recording| *recording == stream)?;
    Some(at as u8)
}

/// Gives out so many bytes at a time.
pub struct Pieces<'a>(pub &'a [u8], pub usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(buffer.len());
        self.0.read(&mut buffer[..count])
    }
}

/// What a stage makes of an input: the same bytes each time, however the input comes.
pub fn run<S: Stage>(stage: impl Fn() -> S, input: &[u8]) -> Vec<u8> {
    let stream = stream(input, S::AFTER.len());
    let run = |size| {
        let mut output = Vec::new();
        let input = Pieces(&stream, size);
        stage::run(&mut stage(), input, &mut output, &mut |_| {}).expect("memory");
        output
    };
    let output = run(usize::MAX);
    assert!(output == run(1000), "two runs differ");
    output
}

/// The records of a stream, which must be readable to its end.
pub fn records(stream: &[u8]) -> Vec<&[u8]> {
    let (mut reader, mut input) = (Reader::default(), stream);
    let mut records = Vec::new();
    while reader.fill(&mut input).expect("memory") {
        let mut start = reader.offset() as usize;
        while let Some(record) = reader.take().expect("a record") {
            let end = start + record.bytes().len();
            records.push(&stream[start..end]);
            start = end;
        }
    }
    assert_eq!(reader.pending(), 0, "bytes are left");
    records
}

/// The records of what a stage wrote: nothing but an `end` where there was no header, else a
/// whole stream.
pub fn whole(stream: &[u8]) -> Vec<&[u8]> {
    let records = records(stream);
    let kinds = records
        .iter()
        .map(|record| Record::new(record).map(Record::kind));
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds.last(), Some(&Some("end")));
    assert!(kinds.len() == 1 || kinds[0] == Some("header"));
    records
}
