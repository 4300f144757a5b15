//! However long a stream is, and however many processes it tells of, the stages need little
//! memory: they run with a limit, beyond which they could not go on.

mod limited;
mod recording;
mod stages;

use recording::records;
use st_probe::record::{Bytes, Cgroup, Header, Hook, Process, Raw, Thread};
use st_probe::time::Monotonic;
use st_probe::vocabulary::{Event, Service, Subject};
use st_probe::wire;
use std::io::{BufRead, BufReader, BufWriter, Write};

const RECORDING: &[u8] = include_bytes!("recordings/6.12.raw");
/// How many events, and how many processes.
const EVENTS: u32 = 1_000_000;
const PROCESSES: u32 = 100_000;
/// Above the pids of the recording.
const FIRST: u32 = 1_000_000;

/// A recording to be continued.
struct Recording {
    header: Header,
    records: Vec<Vec<u8>>,
}

impl Recording {
    fn new() -> Self {
        let records = records(RECORDING);
        Self {
            header: wire::read(&records[0]).expect("a header"),
            records,
        }
    }

    fn hook(&self, raw: &Raw) -> &Hook {
        let mut hooks = self.header.hooks.iter();
        hooks.find(|hook| hook.id == raw.id).expect("its hook")
    }

    /// The raw records, those that `is` of its hook, and of the thread that made it.
    fn raws(&self, is: impl Fn(&Raw, &Hook, u32) -> bool) -> Vec<Record> {
        let mut raws = Vec::new();
        for record in &self.records {
            if let Ok(raw) = wire::read::<Raw>(record) {
                let hook = self.hook(&raw);
                if is(&raw, hook, number(&raw, hook, "common_pid").unwrap_or(0)) {
                    raws.push(Record::new(record, hook));
                }
            }
        }
        raws
    }

    /// The time of the last raw record.
    fn last(&self) -> u64 {
        let raws = self.raws(|_, _, _| true);
        raws.last().expect("some").ts
    }

    /// Runs the stages on the recording with `more` before its end, each with so many MiB;
    /// returns how many lines contain each of `texts`.
    fn lines<const N: usize>(
        &self,
        limits: [u32; 3],
        texts: [&str; N],
        more: impl FnOnce(&mut dyn Write) + Send,
    ) -> [u32; N] {
        let stages = ["st-decode", "st-pathtree", "st-format"];
        let mut shell = limited::start(stages.into_iter().zip(limits));
        let mut input = BufWriter::new(shell.stdin.take().expect("it is piped"));
        let output = BufReader::new(shell.stdout.take().expect("it is piped"));
        let counts = std::thread::scope(|scope| {
            scope.spawn(move || {
                let (end, records) = self.records.split_last().expect("an end");
                records.iter().for_each(|record| put(&mut input, record));
                more(&mut input);
                put(&mut input, end);
            });
            let mut counts = [0; N];
            for line in output.split(b'\n') {
                let line = String::from_utf8_lossy(&line.expect("readable")).into_owned();
                for (count, text) in counts.iter_mut().zip(texts) {
                    *count += u32::from(line.contains(text));
                }
            }
            counts
        });
        assert!(shell.wait().expect("its status").success());
        counts
    }
}

/// Whoever reads may have failed: the lines that are missing tell.
fn put(out: &mut dyn Write, bytes: &[u8]) {
    let _ = out.write_all(bytes);
}

/// A number of a raw record.
fn number(raw: &Raw, hook: &Hook, name: &str) -> Option<u32> {
    let field = hook.fields.iter().find(|field| field.name == name)?;
    let at = usize::from(field.offset);
    Some(u32::from_le_bytes(
        raw.data.get(at..at + 4)?.try_into().ok()?,
    ))
}

/// A raw record that can be had again with another time and other pids.
struct Record {
    bytes: Vec<u8>,
    ts: u64,
    ts_at: usize,
    /// Where which pids are.
    pids: Vec<(usize, u32)>,
}

impl Record {
    fn new(bytes: &[u8], hook: &Hook) -> Self {
        let raw: Raw = wire::read(bytes).expect("a record");
        let find = |part: &[u8]| {
            let mut windows = bytes.windows(part.len());
            windows.position(|window| window == part).expect("a part")
        };
        let data_at = find(&raw.data);
        let pids = ["common_pid", "pid", "ppid", "reaper"];
        let fields = hook.fields.iter();
        let fields = fields.filter(|field| pids.contains(&field.name.as_str()));
        let pids = fields.map(|field| {
            let pid = number(&raw, hook, &field.name).expect("a pid");
            (data_at + usize::from(field.offset), pid)
        });
        Self {
            ts: raw.ts.0,
            // The key, then a number of 8 bytes.
            ts_at: find(b"\xa2ts\xcf") + 4,
            pids: pids.collect(),
            bytes: bytes.to_vec(),
        }
    }

    fn put(&mut self, out: &mut dyn Write, ts: u64, pid: impl Fn(u32) -> u32) {
        self.bytes[self.ts_at..self.ts_at + 8].copy_from_slice(&ts.to_be_bytes());
        for &(at, old) in &self.pids {
            self.bytes[at..at + 4].copy_from_slice(&pid(old).to_le_bytes());
        }
        put(out, &self.bytes);
    }
}

/// A call of vfs_unlink() by one thread, entry and return.
fn deletion(recording: &Recording) -> Vec<Record> {
    let all = recording.raws(|_, hook, _| hook.subject == Subject::Event(Event::Delete));
    all.into_iter().take(2).collect()
}

#[test]
fn a_million_events() {
    let recording = Recording::new();
    let (mut call, last) = (deletion(&recording), recording.last());
    let [lines] = recording.lines([32; 3], [" delete "], |out| {
        for number in 0..EVENTS {
            let ts = last + 1000 * u64::from(number);
            call[0].put(out, ts, |pid| pid);
            call[1].put(out, ts + 500, |pid| pid);
        }
    });
    let [before] = recording.lines([32; 3], [" delete "], |_| {});
    assert_eq!(lines - before, EVENTS);
}

#[test]
fn many_processes_alive() {
    let recording = Recording::new();
    let (mut call, last) = (deletion(&recording), recording.last());
    let [known] = recording.lines([192, 32, 32], [" alive["], |out| {
        for pid in FIRST..FIRST + PROCESSES {
            let text = |text: String| Bytes::from(text.into_bytes());
            let mut record = Vec::new();
            let process = Process {
                ts: Monotonic(last),
                pid: pid as i32,
                ppid: Some(1),
                exe: Some(text("/usr/bin/program".into())),
                argv: Some(vec![
                    text("program".into()),
                    text(format!("--number={pid}")),
                ]),
                cgroups: vec![Cgroup {
                    hierarchy: 0,
                    path: text(format!("/system.slice/unit-{pid}.service")),
                }],
                threads: vec![Thread {
                    tid: pid as i32,
                    comm: text("alive".into()),
                    ids: None,
                    loginuid: None,
                    session: None,
                }],
                ..Process::default()
            };
            wire::write(&process, &mut record);
            put(out, &record);
        }
        for number in 0..PROCESSES {
            let ts = last + 1000 * u64::from(number + 1);
            call[0].put(out, ts, |_| FIRST + number);
            call[1].put(out, ts + 500, |_| FIRST + number);
        }
    });
    assert_eq!(known, PROCESSES);
}

#[test]
fn many_processes_one_after_the_other() {
    let recording = Recording::new();
    let forks = recording.raws(|_, hook, _| hook.name == "task_newtask");
    let removes = |child: u32| {
        let by = recording
            .raws(|_, hook, tid| hook.subject == Subject::Event(Event::Delete) && tid == child);
        !by.is_empty()
    };
    let mut children = forks.iter().map(|fork| fork.pids[1].1);
    let child = children.find(|child| removes(*child)).expect("rm");
    // All that the first child did that has removed something, and all that was done to it.
    let mut life = recording.raws(|raw, hook, tid| {
        let process = hook.subject == Subject::Service(Service::Process)
            && number(raw, hook, "pid") == Some(child);
        tid == child || process
    });
    let (first, last) = (life[0].ts, life[life.len() - 1].ts);
    let end = recording.last();
    let its = format!(" rm[{child}]");
    let lines = recording.lines([32; 3], [" rm[", &its], |out| {
        for number in 0..PROCESSES {
            let began = end + (last - first + 1000) * u64::from(number);
            for record in &mut life {
                let ts = began + (record.ts - first);
                let again = |pid| if pid == child { FIRST + number } else { pid };
                record.put(out, ts, again);
            }
        }
    });
    let [before] = recording.lines([32; 3], [" rm["], |_| {});
    assert!(lines[1] > 0);
    assert_eq!(lines[0] - before, PROCESSES * lines[1]);
}
