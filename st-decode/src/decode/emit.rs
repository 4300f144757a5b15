//! The records that the stage appends.

use super::Decoder;
use crate::event::{
    Actor, Bytes, Change, Dir, EventRecord, Fork, FsPath, Image, Shutdown, Unload, Unresolved,
};
use crate::field::Values;
use crate::layer::Success;
use crate::linux::{Ending, device_number};
use crate::operation::Operation;
use crate::pair::Call;
use crate::process::{ImageFile, Notice};
use crate::socket::{Socket, SocketCall};
use st_probe::record::{Lost, Raw};
use st_probe::time::{Clock, Monotonic, Unix};
use st_probe::vocabulary::{Cause, Value};
use st_probe::wire::{self, Encoded};

/// An operation that makes an event.
#[derive(Debug)]
pub(super) struct Told<'a> {
    /// The thread that did it.
    pub tid: i32,
    /// When it began.
    pub began: Monotonic,
    /// When it had succeeded ...
    pub ts: Monotonic,
    /// ... by the realtime clock as it was set then ...
    pub time: Unix,
    /// ... and on which CPU.
    pub cpu: u32,
    /// What it is.
    pub operation: &'a Operation,
    /// As [`EventRecord::layer_of`].
    pub layer_of: Option<u64>,
    /// As [`Success::is_ahead`].
    pub is_ahead: bool,
}

impl<'a> Told<'a> {
    /// The operation that one record tells of as a whole.
    pub fn by(raw: &Raw, time: Unix, tid: i32, operation: &'a Operation) -> Self {
        Self {
            tid,
            began: raw.ts,
            ts: raw.ts,
            time,
            cpu: raw.cpu,
            operation,
            layer_of: None,
            is_ahead: false,
        }
    }
}

impl Decoder {
    /// Appends an event. Returns its [`EventRecord::seq`].
    pub(super) fn emit(&mut self, told: &Told, out: &mut Vec<u8>) -> u64 {
        let Told { tid, operation, .. } = *told;
        let seq = self.seq;
        let dev = operation.file().and_then(|file| file.dev);
        if let Some(dev) = dev.filter(|dev| self.device.1.is_empty() || self.device.0 != *dev) {
            self.device = (dev, device_number(dev));
        }
        let dev = dev.map(|_| self.device.1.as_str());
        let rdev = operation.rdev().map(device_number);
        let mut event = EventRecord {
            event: operation.event(),
            ts: told.time,
            seq,
            layer_of: told.layer_of,
            cpu: told.cpu,
            dev,
            rdev: rdev.as_deref(),
            ..EventRecord::default()
        };
        // Within a gap nothing is known of processes.
        if self.gap.is_none() {
            let told = self.processes.told(tid);
            event.process = told.actor();
            event.ancestors = told.ancestors();
            event.unresolved.image = told.image();
        } else {
            let actor = Actor {
                tid,
                ..Actor::default()
            };
            event.process = Encoded::from(&actor);
        }
        event.unresolved.at = told.ts;
        describe(&mut event, operation);
        if event.unresolved.fs_path.is_some() {
            event.unresolved.entered = Some(told.began);
        }
        event.unresolved.learned = told.is_ahead;
        wire::write(&event, out);
        self.seq += 1;
        seq
    }

    /// Appends what a call has done to directories, whose event is told later.
    pub(super) fn write_change(&self, success: &Success, out: &mut Vec<u8>) {
        let Success { call, ts, .. } = success;
        let dev = call.operation.file().and_then(|file| file.dev);
        let dev = dev.map(device_number);
        let mut event = EventRecord::default();
        describe(&mut event, &call.operation);
        let change = Change {
            event: call.operation.event(),
            dev: dev.as_deref(),
            exchange: event.exchange,
            unresolved: Unresolved {
                at: *ts,
                entered: Some(call.began),
                ..event.unresolved
            },
        };
        wire::write(&change, out);
    }

    /// Appends that a record of a call is missing: a record of this time and CPU tells so.
    pub(super) fn missing(
        &mut self,
        (ts, cpu): (Monotonic, u32),
        call: &Call,
        cause: Cause,
        out: &mut Vec<u8>,
    ) {
        let lost = Lost {
            since: call.began,
            ts,
            cpu: Some(cpu),
            count: Some(1),
            event: Some(call.operation.event()),
            cause,
            ..Lost::default()
        };
        wire::write(&lost, out);
        self.lost += 1;
    }

    /// Appends what later stages must be told of processes. Within a gap nothing is known of
    /// processes.
    pub(super) fn write_notices(&mut self, at: Monotonic, out: &mut Vec<u8>) {
        let is_known = self.gap.is_none();
        for notice in self.processes.take_notices() {
            if is_known {
                write_notice(self.clock, at, notice, out);
            }
        }
    }
}

/// Fills in what an event of this kind of operation has.
fn describe<'a>(event: &mut EventRecord<'a>, operation: &'a Operation) {
    if let Some(file) = operation.file() {
        event.ino = file.ino;
        event.unresolved.fs_path = file.path.as_ref().map(FsPath::from);
    }
    match operation {
        Operation::Create(new) | Operation::Mknod { new, .. } => event.mode = new.mode,
        Operation::Mkdir(new) => {
            event.mode = new.mode;
            event.unresolved.dir = new.file.directory_made();
        }
        Operation::Symlink { target, .. } => event.target = target.as_deref().map(Bytes::from),
        Operation::Delete(_) => {}
        Operation::Rmdir(file) => {
            event.unresolved.dir = file.path.as_ref().and_then(|chain| chain.own);
        }
        Operation::Rename(rename) => {
            event.exchange = rename.exchange;
            event.whiteout = rename.whiteout;
            event.unresolved.old_fs_path = rename.old_path.as_ref().map(FsPath::from);
            event.unresolved.dir = rename.dir;
            event.unresolved.other_dir = rename.other_dir;
        }
        Operation::Link(link) => {
            event.unresolved.old_fs_path = link.old_path.as_ref().map(FsPath::from);
            event.unresolved.deleted = link.deleted;
        }
        Operation::Attrib { deleted, set, .. } => {
            event.unresolved.deleted = *deleted;
            event.attrib = *set;
        }
        Operation::Connect { call, ret } => {
            describe_call(event, call);
            event.ret = *ret;
            event.fastopen = call.by_send;
        }
        Operation::Listen(call) => describe_call(event, call),
        Operation::Unlisten(socket) => describe_socket(event, socket),
        Operation::Exec => {}
        Operation::Exit { wait_status } => match Ending::of(*wait_status) {
            Ending::Exited(status) => event.status = Some(status),
            Ending::Killed(signal) => event.signal = Some(signal),
        },
    }
}

fn describe_call<'a>(event: &mut EventRecord<'a>, call: &'a SocketCall) {
    event.fd = call.fd;
    if let Some(socket) = &call.socket {
        describe_socket(event, socket);
    }
}

fn describe_socket<'a>(event: &mut EventRecord<'a>, socket: &'a Socket) {
    event.proto = socket.proto.as_deref();
    event.family = socket.family;
    event.addr = socket.addr.as_deref();
    event.port = socket.port;
    event.backlog = socket.backlog;
}

fn write_notice(clock: Clock, at: Monotonic, notice: Notice, out: &mut Vec<u8>) {
    match notice {
        Notice::Fork { parent, pid } => {
            let ts = clock.unix(at);
            wire::write(&Fork { ts, parent, pid }, out);
        }
        Notice::Unload(image) => wire::write(&Unload { image }, out),
        Notice::Image { image, file } => write_image(at, image, file, out),
    }
}

fn write_image(at: Monotonic, image: u64, file: ImageFile, out: &mut Vec<u8>) {
    let image = Image {
        at,
        image,
        ..Image::default()
    };
    match file {
        ImageFile::Path { path, deleted } => {
            let image = Image {
                path: Some(path.into()),
                deleted,
                ..image
            };
            wire::write(&image, out);
        }
        ImageFile::Chain {
            dev,
            chain,
            deleted,
        } => {
            let image = Image {
                dev: Some(&device_number(dev)),
                fs_path: Some(FsPath::from(&chain)),
                deleted,
                ..image
            };
            wire::write(&image, out);
        }
    }
}

/// Appends where a directory is that a walk looks at.
pub(super) fn write_directory(at: Monotonic, values: &Values, out: &mut Vec<u8>) {
    let (Some(dev), Some(chain)) = (values.u32(Value::Dev), values.chain()) else {
        return;
    };
    if let Some(dir) = chain.own {
        let dir = Dir {
            at,
            dev: &device_number(dev),
            dir,
            fs_path: FsPath::from(&chain),
        };
        wire::write(&dir, out);
    }
}

/// Appends that a file system is no longer mounted anywhere.
pub(super) fn write_shutdown(at: Monotonic, values: &Values, out: &mut Vec<u8>) {
    if let Some(dev) = values.u32(Value::Dev) {
        let dev = &device_number(dev);
        wire::write(&Shutdown { at, dev }, out);
    }
}
