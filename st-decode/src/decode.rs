//! The stage itself.

use crate::event::{Attrib, Bytes, Dir, Event, Fork, Image, Inode, Kind, Shutdown, Unload};
use crate::field::{Layout, Number, Order};
use crate::pair::{Call, Dentry, Known, Thread};
use crate::process::{File, Processes, Told};
use crate::socket::Socket;
use st_probe::record::{End, Header, Lost, Process, Raw};
use st_probe::stage::{self, RecordError, Stage};
use st_probe::wire;
use std::collections::HashMap;

/// ATTR_MODE, ATTR_UID, ATTR_GID: include/linux/fs.h.
const ATTR_MODE: i64 = 1;
const ATTR_UID: i64 = 2;
const ATTR_GID: i64 = 4;
/// RENAME_EXCHANGE: include/uapi/linux/fs.h.
const RENAME_EXCHANGE: u32 = 2;
/// ERESTARTSYS to ERESTART_RESTARTBLOCK: a signal came while the call waited, which ends in
/// EINTR or begins anew (include/linux/errno.h).
const ERESTART: std::ops::RangeInclusive<i64> = -516..=-512;
const EINTR: i64 = 4;
/// S_IFMT, S_IFDIR, S_IFCHR, S_IFBLK, S_IFREG: inode(7).
const S_IFMT: u32 = 0o170000;
const S_IFDIR: u32 = 0o040000;
const S_IFCHR: u32 = 0o020000;
const S_IFBLK: u32 = 0o060000;
const S_IFREG: u32 = 0o100000;
/// The largest errno that a return value can carry: include/linux/err.h.
const MAX_ERRNO: i64 = 4095;

/// A hook's part: see st_probe::hooks::Role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Entry,
    Old,
    Target,
    Detail,
    Return,
    Inode,
    Gone,
    Instant,
    Task,
    Directory,
    Shutdown,
}

#[derive(Debug)]
struct Hook {
    event: Kind,
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
    /// What to add to a monotonic time for nanoseconds since the Unix epoch.
    epoch: i64,
    stack_delta: u64,
    processes: Processes,
    threads: HashMap<i32, Thread>,
    seq: u64,
    /// Whether symbolic links' targets are recorded.
    targets: bool,
    /// How many records were found to be missing here.
    lost: u64,
    /// The events on processes that are wanted.
    wanted: Vec<Kind>,
}

impl Decoder {
    /// One that tells also these events on processes.
    pub fn new(wanted: Vec<Kind>) -> Self {
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
        let order = if header.byte_order == "big" {
            Order::Big
        } else {
            Order::Little
        };
        let mut points: Vec<&str> = Vec::new();
        self.hooks.clear();
        for hook in &header.hooks {
            let role = match hook.role.as_str() {
                _ if ["process", "alive"].contains(&hook.event.as_str()) => Role::Task,
                _ if hook.event == "directory" => Role::Directory,
                _ if hook.event == "shutdown" => Role::Shutdown,
                "entry" => Role::Entry,
                "old" => Role::Old,
                "target" => Role::Target,
                "detail" => Role::Detail,
                "return" => Role::Return,
                "inode" => Role::Inode,
                "gone" => Role::Gone,
                "instant" => Role::Instant,
                _ => continue,
            };
            let event = match (Kind::from_name(&hook.event), role) {
                (Some(event), _) => event,
                (None, Role::Inode | Role::Task | Role::Directory | Role::Shutdown) => Kind::Other,
                // An event of a later version.
                (None, _) => continue,
            };
            let point = points
                .iter()
                .position(|point| *point == hook.point)
                .unwrap_or_else(|| {
                    points.push(&hook.point);
                    points.len() - 1
                });
            let layout = Layout::new(order, &hook.fields);
            let id = usize::from(hook.id);
            if self.hooks.len() <= id {
                self.hooks.resize_with(id + 1, || None);
            }
            let place = hook.point.clone();
            self.hooks[id] = Some(Hook {
                event,
                role,
                point,
                place,
                layout,
            });
        }
        self.epoch = header.realtime.wrapping_sub(header.monotonic) as i64;
        self.stack_delta = header.stack_delta;
        let ends = |hook: &st_probe::record::Hook| hook.point == "exit_files";
        self.processes.begin_stream(header.hooks.iter().any(ends));
        self.threads.clear();
        self.lost = 0;
        self.targets = header.hooks.iter().any(|hook| hook.role == "target");
        stage::pass_header(header, record, Self::NAME, out);
    }

    fn push(&mut self, kind: &str, record: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        match kind {
            "raw" => {
                let raw: Raw = wire::read(record)?;
                self.raw(&raw, out);
                return Ok(());
            }
            "process" => {
                let process: Process = wire::read(record)?;
                out.extend_from_slice(record);
                let mut told = Vec::new();
                self.processes.alive(&process, &mut told);
                let ts = process.ts.wrapping_add_signed(self.epoch);
                for told in told {
                    self.told(ts, told, out);
                }
                return Ok(());
            }
            // A return may be among what was lost: its call must not meet another's. So may
            // the end of a process whose number another one has now.
            "lost" => {
                self.threads.clear();
                self.processes.lost();
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
        let number = |number| hook.layout.number(data, number);
        let Some(tid) = number(Number::CommonPid).map(|tid| tid as i32) else {
            return;
        };
        if hook.role == Role::Task {
            let ts = raw.ts.wrapping_add_signed(self.epoch);
            let mut told = Vec::new();
            let record = (&hook.layout, data);
            (self.processes).learn(&hook.place, tid, ts, record, &mut told);
            for told in told {
                match told {
                    Told::Thread(tid) => self.thread_ended(raw, tid, out),
                    Told::Exec => self.process(raw, tid, Kind::Exec, None, out),
                    Told::Exit(status) => self.process(raw, tid, Kind::Exit, Some(status), out),
                    told => self.told(ts, told, out),
                }
            }
            return;
        }
        if matches!(hook.role, Role::Directory | Role::Shutdown) {
            self.file_system(raw, hook, out);
            return;
        }
        if hook.role == Role::Instant {
            let mut socket = Socket::default();
            socket.learn(&hook.layout, data);
            let (event, known) = (
                hook.event,
                Known {
                    socket: Some(socket),
                    ..Known::default()
                },
            );
            self.emit(raw, tid, event, &known, None, out);
            return;
        }
        let thread = self.threads.entry(tid).or_default();
        let done = match hook.role {
            Role::Entry if matches!(hook.event, Kind::Create | Kind::Rmdir) => {
                let mut call = Call {
                    sp: number(Number::Sp).unwrap_or(0) as u64,
                    ..Call::default()
                };
                enter(&mut call, hook, raw);
                thread.announce(hook.event, call);
                None
            }
            Role::Entry | Role::Old | Role::Target => {
                let sp = number(Number::Sp).unwrap_or(0) as u64;
                let call = thread.enter(hook.event, hook.point, sp, 1 << hook.role as u8);
                enter(call, hook, raw);
                if let Some(dentry) = call.dentry {
                    thread.claim(dentry);
                }
                None
            }
            Role::Detail => {
                if let Some(call) = thread.innermost(hook.event) {
                    detail(&mut call.known, hook, data);
                }
                None
            }
            Role::Inode => instantiate(thread, hook, data),
            Role::Gone => dentry(hook, data)
                .and_then(|dentry| thread.complete(hook.event, dentry))
                .map(|known| (hook.event, known, None)),
            Role::Return => {
                let sp = (number(Number::Sp).unwrap_or(0) as u64).wrapping_sub(self.stack_delta);
                let ret = number(Number::Ret);
                thread
                    .leave(hook.point, sp)
                    .zip(ret)
                    .and_then(|((event, known), ret)| succeeded(event, known, ret))
            }
            Role::Instant | Role::Task | Role::Directory | Role::Shutdown => None,
        };
        let unreturned: Vec<_> = thread.unreturned().collect();
        if thread.is_idle() {
            self.threads.remove(&tid);
        }
        for (event, known) in unreturned {
            self.missing(raw, event, &known, Lost::MISSED_RETURN, out);
        }
        if let Some((event, known, ret)) = done {
            self.emit(raw, tid, event, &known, ret, out);
            if event == Kind::Symlink && known.target.is_none() && self.targets {
                self.missing(raw, event, &known, Lost::TOO_LARGE, out);
            }
        }
    }

    /// Appends that a record of a call is missing.
    fn missing(&mut self, raw: &Raw, event: Kind, known: &Known, cause: &str, out: &mut Vec<u8>) {
        let lost = Lost {
            since: known.began,
            ts: raw.ts,
            cpu: Some(raw.cpu),
            count: Some(1),
            event: Some(event.name().into()),
            cause: cause.into(),
        };
        wire::write(&lost, out);
        self.lost += 1;
    }

    /// Appends the last record, with what was found to be missing here.
    fn end(&self, record: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let mut end: End = wire::read(record)?;
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
        for (event, known) in thread.unreturned() {
            self.missing(raw, event, &known, Lost::MISSED_RETURN, out);
        }
    }

    /// Appends what is told of processes.
    fn told(&mut self, ts: u64, told: Told, out: &mut Vec<u8>) {
        match told {
            Told::Thread(tid) => drop(self.threads.remove(&tid)),
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
                    fs_path: Some(Bytes::from(&chain.path[..])),
                    parent: chain.parent,
                    top: chain.top,
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
        event: Kind,
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
        let number = |number| hook.layout.number(&raw.data, number);
        let ts = raw.ts.wrapping_add_signed(self.epoch);
        let Some(dev) = number(Number::Dev).map(|dev| device(dev as u32)) else {
            return;
        };
        let dev = &dev;
        if hook.role == Role::Shutdown {
            wire::write(&Shutdown { ts, dev }, out);
            return;
        }
        let chain = hook.layout.chain(&raw.data);
        if let Some((chain, dir)) = chain.and_then(|chain| chain.own.map(|own| (chain, own))) {
            let dir = Dir {
                ts,
                dev,
                dir,
                fs_path: Bytes::from(&chain.path[..]),
                parent: chain.parent,
                top: chain.top,
            };
            wire::write(&dir, out);
        }
    }

    /// Appends an event.
    fn emit(
        &mut self,
        raw: &Raw,
        tid: i32,
        event: Kind,
        known: &Known,
        ret: Option<i32>,
        out: &mut Vec<u8>,
    ) {
        let socket = known.socket.as_ref();
        let (dev, rdev) = (known.dev.map(device), known.rdev.map(device));
        let event = Event {
            event,
            ts: raw.ts.wrapping_add_signed(self.epoch),
            seq: self.seq,
            cpu: raw.cpu,
            process: self.processes.who(tid),
            ancestors: self.processes.ancestors(tid),
            image: self.processes.image(tid),
            dev: dev.as_deref(),
            ino: known.ino,
            fs_path: known
                .path
                .as_ref()
                .map(|chain| Bytes::from(&chain.path[..])),
            old_fs_path: known
                .old_path
                .as_ref()
                .map(|chain| Bytes::from(&chain.path[..])),
            began: (known.path.as_ref()).map(|_| known.began.wrapping_add_signed(self.epoch)),
            parent: known.path.as_ref().and_then(|chain| chain.parent),
            top: known.path.as_ref().and_then(|chain| chain.top),
            old_parent: known.old_path.as_ref().and_then(|chain| chain.parent),
            old_top: known.old_path.as_ref().and_then(|chain| chain.top),
            dir: known.dir,
            other_dir: known.other_dir,
            deleted: known.deleted,
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

/// Notes what an entry, old or target record tells.
fn enter(call: &mut Call, hook: &Hook, raw: &Raw) {
    let data = &raw.data[..];
    let number = |number| hook.layout.number(data, number);
    let mode = number(Number::Mode).map(|mode| mode as u32);
    let known = &mut call.known;
    if known.began == 0 {
        known.began = raw.ts;
    }
    match hook.role {
        Role::Target => known.target = hook.layout.text(data, "target").map(<[u8]>::to_vec),
        Role::Old => {
            known.old_path = hook.layout.chain(data);
            if mode.is_some_and(is_dir) {
                known.dir = known.old_path.as_ref().and_then(|chain| chain.own);
            }
            known.ino = number(Number::Ino).map(|ino| ino as u64);
            known.inodes[0] = number(Number::Inode).map(|inode| inode as u64);
            known.deleted = number(Number::Hashed) == Some(0);
        }
        _ if hook.event == Kind::Rename => {
            known.path = hook.layout.chain(data);
            known.dev = number(Number::Dev).map(|dev| dev as u32);
            known.flags = number(Number::Flags).unwrap_or(0) as u32;
            let inode = number(Number::Inode).map(|inode| inode as u64);
            known.inodes[1] = inode;
            // Without an inode, the kernel had nothing to read the others from.
            if inode != Some(0) && mode.is_some_and(is_dir) {
                known.other_dir = known.path.as_ref().and_then(|chain| chain.own);
            }
        }
        _ => {
            call.dentry = dentry(hook, data);
            known.path = hook.layout.chain(data);
            known.dev = number(Number::Dev).map(|dev| dev as u32);
            known.ino = number(Number::Ino).map(|ino| ino as u64).or(known.ino);
            if hook.event == Kind::Rmdir {
                known.dir = known.path.as_ref().and_then(|chain| chain.own);
            }
            known.mode = mode;
            known.rdev = number(Number::Rdev).map(|rdev| rdev as u32).filter(|_| {
                known
                    .mode
                    .is_some_and(|mode| matches!(mode & S_IFMT, S_IFCHR | S_IFBLK))
            });
            // A root is never hashed.
            known.deleted |=
                number(Number::Hashed) == Some(0) && number(Number::Root) != number(Number::Dentry);
            known.fd = number(Number::Fd).map(|fd| fd as i32);
        }
    }
}

/// Notes what a detail record tells.
fn detail(known: &mut Known, hook: &Hook, data: &[u8]) {
    let number = |number| hook.layout.number(data, number);
    if hook.event == Kind::Attrib {
        let valid = number(Number::Valid).unwrap_or(0);
        let set = |flag: i64, value: Number| {
            (valid & flag != 0)
                .then(|| number(value))
                .flatten()
                .map(|value| value as u32)
        };
        known.attrib = Some(Attrib {
            mode: set(ATTR_MODE, Number::Mode),
            uid: set(ATTR_UID, Number::Uid),
            gid: set(ATTR_GID, Number::Gid),
        });
    } else {
        known
            .socket
            .get_or_insert_default()
            .learn(&hook.layout, data);
    }
}

/// The dentry that a record is about.
fn dentry(hook: &Hook, data: &[u8]) -> Option<Dentry> {
    let number = |number| hook.layout.number(data, number);
    let place = [number(Number::Parent), number(Number::Hash)];
    number(Number::Dentry).map(|address| Dentry {
        address: address as u64,
        place,
    })
}

/// Takes a dentry's new inode; a create is complete with it.
fn instantiate(
    thread: &mut Thread,
    hook: &Hook,
    data: &[u8],
) -> Option<(Kind, Known, Option<i32>)> {
    let number = |number| hook.layout.number(data, number);
    let dentry = dentry(hook, data)?;
    let (ino, mode) = (
        number(Number::Ino).map(|ino| ino as u64),
        number(Number::Mode).map(|mode| mode as u32),
    );
    if mode.is_some_and(|mode| mode & S_IFMT == S_IFREG) {
        if let Some(mut known) = thread.complete(Kind::Create, dentry) {
            (known.ino, known.mode) = (ino, mode);
            return Some((Kind::Create, known, None));
        }
    }
    if let Some((event, known)) = thread.making(dentry) {
        known.ino = ino;
        if matches!(event, Kind::Mkdir | Kind::Mknod) {
            known.mode = mode;
        }
        if event == Kind::Mkdir {
            let parent = known.path.as_ref().and_then(|chain| chain.parent);
            let subvolume = parent.and_then(|parent| parent.subvolume);
            known.dir = ino.map(|ino| Inode { subvolume, ino });
        }
    }
    None
}

/// The event that a call's return makes, if it does.
fn succeeded(event: Kind, known: Known, ret: i64) -> Option<(Kind, Known, Option<i32>)> {
    let failed = (-MAX_ERRNO..0).contains(&ret);
    match event {
        // Without a socket of the Internet the call was none of ours, or an outer one.
        Kind::Connect if ERESTART.contains(&ret) => succeeded(event, known, -EINTR),
        Kind::Connect => known
            .socket
            .is_some()
            .then_some((event, known, Some(ret as i32))),
        _ if failed => None,
        Kind::Listen => known.socket.is_some().then_some((event, known, None)),
        // Times and sizes only.
        Kind::Attrib => known.attrib.is_some().then_some((event, known, None)),
        // Two names of one file: rename(2) succeeds and does nothing.
        Kind::Rename if known.inodes[0] == known.inodes[1] => None,
        _ => Some((event, known, None)),
    }
}

/// Whether a mode is a directory's.
fn is_dir(mode: u32) -> bool {
    mode & S_IFMT == S_IFDIR
}

/// `major:minor` of a kernel dev_t: include/linux/kdev_t.h.
fn device(dev: u32) -> String {
    format!("{}:{}", dev >> 20, dev & 0xf_ffff)
}
