//! The stage itself: what each record of the input leads to.

mod emit;
mod format;
mod gap;

use crate::calls::{CallRecord, Calls};
use crate::layer::Success;
use crate::mount::{self, Mounts};
use crate::operation::Operation;
use crate::pair::Ended;
use crate::process::{Effect, ProcessTable, TaskHook, TaskRecord};
use crate::socket::Socket;
use emit::Told;
use format::{Meaning, RawFormat};
use gap::Gap;
use st_probe::record::{ClockSet, End, Header, Lost, Process, Raw};
use st_probe::stage::{self, RecordError, Stage};
use st_probe::time::{Clock, Monotonic};
use st_probe::vocabulary::{Cause, Event, Role, Value};
use st_probe::wire::{self, Record, RecordCopy};

/// Turns raw records into events.
#[derive(Debug, Default)]
pub struct Decoder {
    /// By [`st_probe::record::Hook::id`].
    formats: Vec<Option<RawFormat>>,
    /// The realtime clock as it is set at this point of the stream.
    clock: Clock,
    processes: ProcessTable,
    calls: Calls,
    mounts: Mounts,
    gap: Option<Gap>,
    /// The number of the next event.
    seq: u64,
    /// Whether the targets of symbolic links are recorded.
    records_targets: bool,
    /// The device of the last event, and as text.
    device: (u32, String),
    /// How many records this stage found to be missing.
    lost: u64,
    /// The events on processes that are wanted.
    wanted: Vec<Event>,
    /// As [`Header::events`].
    asked_for: Vec<Event>,
}

impl Decoder {
    /// A decoder that also tells these events on processes: [`Event::Exec`], [`Event::Exit`].
    pub fn new(wanted: Vec<Event>) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }
}

impl Stage for Decoder {
    const NAME: &'static str = "st-decode";
    const AFTER: &'static [&'static str] = &["st-probe"];

    fn begin(&mut self, header: &Header, record: Record, out: &mut Vec<u8>) {
        // The stream before this one may have been cut.
        self.forget_calls(out);
        self.formats = format::formats(header);
        self.clock = header.clock();
        let process_end = Meaning::Task(TaskHook::ExitFiles);
        let mut formats = self.formats.iter().flatten();
        let tells_process_ends = formats.any(|format| format.meaning == process_end);
        self.processes.begin_stream(tells_process_ends);
        self.calls = Calls::new(header.stack_delta);
        self.mounts = Mounts::default();
        self.gap = None;
        self.lost = 0;
        self.asked_for.clone_from(&header.events);
        self.records_targets = header.hooks.iter().any(|hook| hook.role == Role::Target);
        stage::pass_header(header, record, Self::NAME, out);
    }

    fn push(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        match record.kind() {
            "raw" => {
                let raw: Raw = record.read()?;
                self.end_gap(raw.ts, out);
                self.raw(&raw, out);
            }
            "process" => {
                let process: Process = record.read()?;
                self.end_gap(process.ts, out);
                self.process(&process, record.bytes(), out);
            }
            "lost" => {
                let lost: Lost = record.read()?;
                self.end_gap(lost.ts, out);
                self.lost(&lost, out);
                out.extend_from_slice(record.bytes());
            }
            "clock" => {
                self.clock = record.read::<ClockSet>()?.clock();
                out.extend_from_slice(record.bytes());
            }
            "end" => self.end(record, out)?,
            _ => out.extend_from_slice(record.bytes()),
        }
        Ok(())
    }
}

impl Decoder {
    fn raw(&mut self, raw: &Raw, out: &mut Vec<u8>) {
        let Some(Some(format)) = self.formats.get(usize::from(raw.id)) else {
            return;
        };
        let values = format.layout.values(&raw.data);
        let Some(tid) = values.i32(Value::CommonPid) else {
            return;
        };
        match format.meaning {
            Meaning::Call(hook) => {
                let record = CallRecord {
                    tid,
                    ts: raw.ts,
                    time: self.clock.unix(raw.ts),
                    cpu: raw.cpu,
                    values,
                };
                let ended = self.calls.learn(hook, &record);
                self.ended(raw, tid, ended, out);
            }
            Meaning::Task(hook) => {
                let ts = self.clock.unix(raw.ts);
                let effect = self.processes.learn(hook, &TaskRecord { tid, ts, values });
                self.effect(raw, tid, effect, out);
            }
            Meaning::Unlisten => {
                let mut socket = Socket::default();
                socket.learn(&values);
                let time = self.clock.unix(raw.ts);
                self.emit(&Told::by(raw, time, tid, &Operation::Unlisten(socket)), out);
            }
            Meaning::Directory => emit::write_directory(raw.ts, &values, out),
            Meaning::Shutdown => emit::write_shutdown(raw.ts, &values, out),
            Meaning::Attach(hook) => self.mounts.attach(hook, tid, raw.ts, &values, out),
            Meaning::Detach => mount::write_detach(raw.ts, &values, out),
            Meaning::Copy => self.mounts.copy(tid),
            Meaning::Namespace => self.mounts.made(tid, raw.ts, &values, out),
        }
    }

    /// Appends what became of a thread's calls, or counts the calls within a gap. The record `raw`
    /// shows it.
    fn ended(&mut self, raw: &Raw, tid: i32, ended: Vec<Ended>, out: &mut Vec<u8>) {
        if self.gap.is_some() {
            let count = |ended: &Ended| match ended {
                Ended::Succeeded(success) => self.count_asked_for(success),
                Ended::Unreturned(_) => 1,
                Ended::Kept(_) => 0,
            };
            let unpaired: u64 = ended.iter().map(count).sum();
            if let Some(gap) = &mut self.gap {
                gap.unpaired += unpaired;
            }
            return;
        }
        for ended in ended {
            match ended {
                Ended::Succeeded(success) => self.succeeded(tid, &success, None, out),
                Ended::Unreturned(call) => {
                    self.missing((raw.ts, raw.cpu), &call, Cause::MissedReturn, out);
                }
                Ended::Kept(success) if self.is_asked_for(&success) => {
                    self.write_change(&success, out);
                }
                Ended::Kept(_) => {}
            }
        }
    }

    /// Whether the event of a call was asked for: hooks of others may be in force, too.
    fn is_asked_for(&self, success: &Success) -> bool {
        let event = success.call.operation.event();
        self.asked_for.is_empty() || self.asked_for.contains(&event)
    }

    /// How many events were asked for of a call and those within it.
    fn count_asked_for(&self, success: &Success) -> u64 {
        let within = success.call.layers.iter();
        let within: u64 = within.map(|layer| self.count_asked_for(layer)).sum();
        u64::from(self.is_asked_for(success)) + within
    }

    /// Appends the event of a call, and those of the calls within it.
    fn succeeded(&mut self, tid: i32, success: &Success, layer_of: Option<u64>, out: &mut Vec<u8>) {
        let Success { call, ts, cpu, .. } = success;
        // What is within it may be part of the next one around.
        if !self.is_asked_for(success) {
            for layer in call.layers.iter() {
                self.succeeded(tid, layer, layer_of, out);
            }
            return;
        }
        let told = Told {
            tid,
            began: call.began,
            ts: *ts,
            time: success.time,
            cpu: *cpu,
            operation: &call.operation,
            layer_of,
            is_ahead: success.is_ahead,
        };
        let seq = self.emit(&told, out);
        if self.records_targets && matches!(call.operation, Operation::Symlink { target: None, .. })
        {
            self.missing((*ts, *cpu), call, Cause::TooLarge, out);
        }
        for layer in call.layers.iter() {
            self.succeeded(tid, layer, Some(seq), out);
        }
    }

    /// Appends what follows from a record of a task hook.
    fn effect(&mut self, raw: &Raw, tid: i32, effect: Effect, out: &mut Vec<u8>) {
        let ended_tid = match effect {
            Effect::ThreadEnded(tid) => Some(tid),
            Effect::Executed { old_tid } => old_tid,
            Effect::Nothing | Effect::ProcessEnded { .. } => None,
        };
        if let Some(ended_tid) = ended_tid {
            let ended = self.calls.end_thread(ended_tid);
            self.ended(raw, ended_tid, ended, out);
        }
        self.write_notices(raw.ts, out);
        match effect {
            Effect::Executed { .. } => self.emit_wanted(raw, tid, &Operation::Exec, out),
            Effect::ProcessEnded { wait_status } => {
                self.emit_wanted(raw, tid, &Operation::Exit { wait_status }, out);
            }
            Effect::Nothing | Effect::ThreadEnded(_) => {}
        }
    }

    /// Appends an event on a process, if it is wanted.
    fn emit_wanted(&mut self, raw: &Raw, tid: i32, operation: &Operation, out: &mut Vec<u8>) {
        if self.wanted.contains(&operation.event()) {
            let time = self.clock.unix(raw.ts);
            self.emit(&Told::by(raw, time, tid, operation), out);
        }
    }

    /// Takes a process that st-probe found alive.
    fn process(&mut self, process: &Process, record: &[u8], out: &mut Vec<u8>) {
        // A record that is missing may be that of its end. After the gap st-probe looks at all
        // processes again.
        if self.gap.is_some() {
            return;
        }
        out.extend_from_slice(record);
        self.processes.add_alive(process);
        self.write_notices(process.ts, out);
    }

    /// Appends the last record, with the number of records that were found to be missing here.
    fn end(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let end: End = record.read()?;
        self.end_gap(Monotonic::MAX, out);
        self.forget_calls(out);
        let lost = end.lost.saturating_add(self.lost);
        let mut copy = RecordCopy::begin(record, out);
        if let Some(entry) = record.entry(b"lost") {
            copy.replace(entry, |_, out| wire::write(&lost, out));
        }
        copy.end::<()>(None);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
