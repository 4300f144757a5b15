//! The stage itself.

mod gap;
mod learn;

use crate::event::{
    self, Bytes, Dir, EventRecord, Fork, FsPath, Image, Shutdown, Unload, Unresolved,
};
use crate::field::Layout;
use crate::pair::{Call, Known, Thread};
use crate::process::{File, Processes, Told};
use crate::socket::Socket;
use gap::Gap;
use learn::{dentry, detail, enter, instantiate, succeeded};
use st_probe::record::{End, Header, Lost, Process, Raw};
use st_probe::stage::{self, RecordError, Stage};
use st_probe::time::{Clock, Monotonic, Unix};
use st_probe::vocabulary::{Cause, Event, Role, Service, Subject, Value};
use st_probe::wire;
use std::collections::HashMap;

/// RENAME_EXCHANGE: include/uapi/linux/fs.h.
const RENAME_EXCHANGE: u32 = 2;

#[derive(Debug)]
struct Hook {
    subject: Subject,
    role: Role,
    /// The same number for all hooks of one function.
    point: usize,
    place: String,
    layout: Layout,
}

/// Turns raw records into events.
#[derive(Debug, Default)]
pub struct Decoder {
    /// By their ids.
    hooks: Vec<Option<Hook>>,
    clock: Clock,
    stack_delta: u64,
    processes: Processes,
    threads: HashMap<i32, Thread>,
    gap: Option<Gap>,
    seq: u64,
    /// Whether symbolic links' targets are recorded.
    targets: bool,
    /// How many records were found to be missing here.
    lost: u64,
    /// The events on processes that are wanted.
    wanted: Vec<Event>,
}

impl Decoder {
    /// One that tells also these events on processes.
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

    fn begin(&mut self, header: &Header, record: &[u8], out: &mut Vec<u8>) {
        let mut points: Vec<&str> = Vec::new();
        self.hooks.clear();
        for hook in &header.hooks {
            // One of a later version.
            if hook.subject == Subject::Other || hook.role == Role::Other {
                continue;
            }
            let point = points
                .iter()
                .position(|point| *point == hook.point)
                .unwrap_or_else(|| {
                    points.push(&hook.point);
                    points.len() - 1
                });
            let layout = Layout::new(header.byte_order, &hook.fields);
            let id = usize::from(hook.id);
            if self.hooks.len() <= id {
                self.hooks.resize_with(id + 1, || None);
            }
            let place = hook.point.clone();
            self.hooks[id] = Some(Hook {
                subject: hook.subject,
                role: hook.role,
                point,
                place,
                layout,
            });
        }
        self.clock = Clock::of(header);
        self.stack_delta = header.stack_delta;
        let ends = |hook: &st_probe::record::Hook| hook.point == "exit_files";
        self.processes.begin_stream(header.hooks.iter().any(ends));
        self.threads.clear();
        self.gap = None;
        self.lost = 0;
        self.targets = header.hooks.iter().any(|hook| hook.role == Role::Target);
        stage::pass_header(header, record, Self::NAME, out);
    }

    fn push(&mut self, kind: &str, record: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        match kind {
            "raw" => {
                let raw: Raw = wire::read(record)?;
                self.end_gap(raw.ts, out);
                self.raw(&raw, out);
                return Ok(());
            }
            "process" => {
                let process: Process = wire::read(record)?;
                self.end_gap(process.ts, out);
                // What is missing may be that it ended. It will be looked at again.
                if self.gap.is_some() {
                    return Ok(());
                }
                out.extend_from_slice(record);
                let mut told = Vec::new();
                self.processes.alive(&process, &mut told);
                let ts = self.clock.unix(process.ts);
                for told in told {
                    self.told(ts, told, out);
                }
                return Ok(());
            }
            "lost" => {
                let lost: Lost = wire::read(record)?;
                self.end_gap(lost.ts, out);
                self.lost(&lost);
            }
            "end" => {
                self.end(record, out)?;
                return Ok(());
            }
            _ => {}
        }
        out.extend_from_slice(record);
        Ok(())
    }
}

impl Decoder {
    fn raw(&mut self, raw: &Raw, out: &mut Vec<u8>) {
        let data = &raw.data[..];
        let Some(Some(hook)) = self.hooks.get(usize::from(raw.id)) else {
            return;
        };
        let number = |value| hook.layout.number(data, value);
        let Some(tid) = number(Value::CommonPid).map(|tid| tid as i32) else {
            return;
        };
        let event = match hook.subject {
            Subject::Event(event) => event,
            Subject::Service(Service::Inode) => Event::Other,
            Subject::Service(Service::Process | Service::Alive) => {
                let ts = self.clock.unix(raw.ts);
                let mut told = Vec::new();
                let record = (&hook.layout, data);
                (self.processes).learn(&hook.place, tid, ts, record, &mut told);
                for told in told {
                    match told {
                        Told::Thread(tid) => self.thread_ended(raw, tid, out),
                        Told::Exec => self.process(raw, tid, Event::Exec, None, out),
                        Told::Exit(status) => {
                            self.process(raw, tid, Event::Exit, Some(status), out)
                        }
                        told => self.told(ts, told, out),
                    }
                }
                return;
            }
            Subject::Service(Service::Directory | Service::Shutdown) => {
                self.file_system(raw, hook, out);
                return;
            }
            Subject::Service(_) | Subject::Other => return,
        };
        if hook.role == Role::Instant {
            let mut socket = Socket::default();
            socket.learn(&hook.layout, data);
            let known = Known {
                socket: Some(socket),
                ..Known::default()
            };
            self.emit(raw, tid, event, &known, None, out);
            return;
        }
        let thread = self.threads.entry(tid).or_default();
        let done = match hook.role {
            Role::Entry if matches!(event, Event::Create | Event::Rmdir) => {
                let mut call = Call {
                    sp: number(Value::Sp).unwrap_or(0) as u64,
                    ..Call::default()
                };
                enter(&mut call, event, hook, raw);
                thread.announce(event, call);
                None
            }
            Role::Entry | Role::Old | Role::Target => {
                let sp = number(Value::Sp).unwrap_or(0) as u64;
                let call = thread.enter(event, hook.point, sp, 1 << hook.role as u8);
                enter(call, event, hook, raw);
                if let Some(dentry) = call.dentry {
                    thread.claim(dentry);
                }
                None
            }
            Role::Detail => {
                if let Some(call) = thread.innermost(event) {
                    detail(&mut call.known, event, hook, data);
                }
                None
            }
            Role::Inode => instantiate(thread, hook, data),
            Role::Gone => dentry(hook, data)
                .and_then(|dentry| thread.complete(event, dentry))
                .map(|known| (event, known, None)),
            Role::Return => {
                let sp = (number(Value::Sp).unwrap_or(0) as u64).wrapping_sub(self.stack_delta);
                let ret = number(Value::Ret);
                thread
                    .leave(hook.point, sp)
                    .zip(ret)
                    .and_then(|((event, known), ret)| succeeded(event, known, ret))
            }
            Role::Instant | Role::Other => None,
        };
        let unreturned: Vec<_> = thread.unreturned().collect();
        if thread.is_idle() {
            self.threads.remove(&tid);
        }
        self.unreturned(raw, unreturned, out);
        if let Some((event, known, ret)) = done {
            if let Some(gap) = &mut self.gap {
                gap.unpaired += 1;
                return;
            }
            self.emit(raw, tid, event, &known, ret, out);
            if event == Event::Symlink && known.target.is_none() && self.targets {
                self.missing(raw, event, &known, Cause::TooLarge, out);
            }
        }
    }

    /// Appends that the returns of calls are missing, or counts them within a gap.
    fn unreturned(&mut self, raw: &Raw, calls: Vec<(Event, Known)>, out: &mut Vec<u8>) {
        if let Some(gap) = &mut self.gap {
            gap.unpaired += calls.len() as u64;
            return;
        }
        for (event, known) in calls {
            self.missing(raw, event, &known, Cause::MissedReturn, out);
        }
    }

    /// Appends that a record of a call is missing.
    fn missing(&mut self, raw: &Raw, event: Event, known: &Known, cause: Cause, out: &mut Vec<u8>) {
        let lost = Lost {
            since: known.began,
            ts: raw.ts,
            cpu: Some(raw.cpu),
            count: Some(1),
            event: Some(event),
            cause,
            ..Lost::default()
        };
        wire::write(&lost, out);
        self.lost += 1;
    }

    /// Appends the last record, with what was found to be missing here.
    fn end(&mut self, record: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let mut end: End = wire::read(record)?;
        self.end_gap(Monotonic::MAX, out);
        end.lost = end.lost.saturating_add(self.lost);
        let mut ours = Vec::new();
        wire::write(&end, &mut ours);
        let total = wire::fields(&ours).filter(|entry| entry.name == b"lost");
        wire::merge(record, &["lost"], total, out);
        Ok(())
    }

    /// Forgets a thread that is no more.
    fn thread_ended(&mut self, raw: &Raw, tid: i32, out: &mut Vec<u8>) {
        let Some(mut thread) = self.threads.remove(&tid) else {
            return;
        };
        thread.end();
        let unreturned = thread.unreturned().collect();
        self.unreturned(raw, unreturned, out);
    }

    /// Appends what is told of processes.
    fn told(&mut self, ts: Unix, told: Told, out: &mut Vec<u8>) {
        match told {
            Told::Thread(tid) => drop(self.threads.remove(&tid)),
            // Within a gap nobody is known.
            _ if self.gap.is_some() => {}
            Told::Fork { parent, pid } => wire::write(&Fork { ts, parent, pid }, out),
            Told::Unload(image) => wire::write(&Unload { image }, out),
            Told::Image(image, File::Path(path, deleted)) => {
                let image = Image {
                    ts,
                    image,
                    path: Some(path.into()),
                    deleted,
                    ..Image::default()
                };
                wire::write(&image, out);
            }
            Told::Image(image, File::Chain(dev, chain, deleted)) => {
                let dev = device(dev);
                let image = Image {
                    ts,
                    image,
                    dev: Some(&dev),
                    fs_path: Some(FsPath::from(&chain)),
                    deleted,
                    ..Image::default()
                };
                wire::write(&image, out);
            }
            Told::Exec | Told::Exit(_) => {}
        }
    }

    /// Appends an event on a process, if it is wanted.
    fn process(
        &mut self,
        raw: &Raw,
        tid: i32,
        event: Event,
        status: Option<i32>,
        out: &mut Vec<u8>,
    ) {
        if self.wanted.contains(&event) {
            let known = Known {
                wait_status: status,
                ..Known::default()
            };
            self.emit(raw, tid, event, &known, None, out);
        }
    }

    /// Appends what a record tells of a file system.
    fn file_system(&self, raw: &Raw, hook: &Hook, out: &mut Vec<u8>) {
        let number = |value| hook.layout.number(&raw.data, value);
        let ts = self.clock.unix(raw.ts);
        let Some(dev) = number(Value::Dev).map(|dev| device(dev as u32)) else {
            return;
        };
        let dev = &dev;
        if hook.subject == Subject::Service(Service::Shutdown) {
            wire::write(&Shutdown { ts, dev }, out);
            return;
        }
        let chain = hook.layout.chain(&raw.data);
        if let Some((chain, dir)) = chain.and_then(|chain| chain.own.map(|own| (chain, own))) {
            let dir = Dir {
                ts,
                dev,
                dir,
                fs_path: FsPath::from(&chain),
            };
            wire::write(&dir, out);
        }
    }

    /// Appends an event.
    fn emit(
        &mut self,
        raw: &Raw,
        tid: i32,
        event: Event,
        known: &Known,
        ret: Option<i32>,
        out: &mut Vec<u8>,
    ) {
        let socket = known.socket.as_ref();
        let processes = Some(&self.processes).filter(|_| self.gap.is_none());
        let nobody = event::Actor {
            tid,
            ..event::Actor::default()
        };
        let (dev, rdev) = (known.dev.map(device), known.rdev.map(device));
        let event = EventRecord {
            event,
            ts: self.clock.unix(raw.ts),
            seq: self.seq,
            cpu: raw.cpu,
            process: processes.map_or(nobody, |processes| processes.who(tid)),
            ancestors: processes.map_or(Vec::new(), |processes| processes.ancestors(tid)),
            dev: dev.as_deref(),
            ino: known.ino,
            unresolved: Unresolved {
                image: processes.and_then(|processes| processes.image(tid)),
                began: (known.path.as_ref()).map(|_| self.clock.unix(known.began)),
                fs_path: known.path.as_ref().map(FsPath::from),
                old_fs_path: known.old_path.as_ref().map(FsPath::from),
                dir: known.dir,
                other_dir: known.other_dir,
                deleted: known.deleted,
            },
            mode: known.mode,
            rdev: rdev.as_deref(),
            target: known.target.as_deref().map(Bytes::from),
            attrib: known.attrib,
            exchange: known.flags & RENAME_EXCHANGE != 0,
            fd: known.fd,
            proto: socket.and_then(|socket| socket.proto.as_deref()),
            family: socket.and_then(|socket| socket.family),
            addr: socket.and_then(|socket| socket.addr.as_deref()),
            port: socket.and_then(|socket| socket.port),
            backlog: socket.and_then(|socket| socket.backlog),
            ret,
            // wait(2): the signal in the low seven bits, else the status above.
            status: (known.wait_status.filter(|status| status & 0x7f == 0))
                .map(|status| (status >> 8) as u8),
            signal: (known.wait_status.map(|status| (status & 0x7f) as u8))
                .filter(|signal| *signal != 0),
        };
        wire::write(&event, out);
        self.seq += 1;
    }
}

/// `major:minor` of a kernel dev_t: include/linux/kdev_t.h.
fn device(dev: u32) -> String {
    format!("{}:{}", dev >> 20, dev & 0xf_ffff)
}
