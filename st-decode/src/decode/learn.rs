//! What the records of a call tell of it.

use super::Hook;
use crate::event::{Attrib, Inode};
use crate::pair::{Call, Dentry, Known, Thread};
use st_probe::record::Raw;
use st_probe::time::Monotonic;
use st_probe::vocabulary::{Event, Role, Value};

/// ATTR_MODE, ATTR_UID, ATTR_GID: include/linux/fs.h.
const ATTR_MODE: i64 = 1;
const ATTR_UID: i64 = 2;
const ATTR_GID: i64 = 4;
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

/// Notes what an entry, old or target record tells.
pub(super) fn enter(call: &mut Call, event: Event, hook: &Hook, raw: &Raw) {
    let data = &raw.data[..];
    let number = |value| hook.layout.number(data, value);
    let mode = number(Value::Mode).map(|mode| mode as u32);
    let known = &mut call.known;
    if known.began == Monotonic::default() {
        known.began = raw.ts;
    }
    match hook.role {
        Role::Target => known.target = hook.layout.text(data, Value::Target).map(<[u8]>::to_vec),
        Role::Old => {
            known.old_path = hook.layout.chain(data);
            if mode.is_some_and(is_dir) {
                known.dir = known.old_path.as_ref().and_then(|chain| chain.own);
            }
            known.ino = number(Value::Ino).map(|ino| ino as u64);
            known.inodes[0] = number(Value::Inode).map(|inode| inode as u64);
            known.deleted = number(Value::Hashed) == Some(0);
        }
        _ if event == Event::Rename => {
            known.path = hook.layout.chain(data);
            known.dev = number(Value::Dev).map(|dev| dev as u32);
            known.flags = number(Value::Flags).unwrap_or(0) as u32;
            let inode = number(Value::Inode).map(|inode| inode as u64);
            known.inodes[1] = inode;
            // Without an inode, the kernel had nothing to read the others from.
            if inode != Some(0) && mode.is_some_and(is_dir) {
                known.other_dir = known.path.as_ref().and_then(|chain| chain.own);
            }
        }
        _ => {
            call.dentry = dentry(hook, data);
            known.path = hook.layout.chain(data);
            known.dev = number(Value::Dev).map(|dev| dev as u32);
            known.ino = number(Value::Ino).map(|ino| ino as u64).or(known.ino);
            if event == Event::Rmdir {
                known.dir = known.path.as_ref().and_then(|chain| chain.own);
            }
            known.mode = mode;
            known.rdev = number(Value::Rdev).map(|rdev| rdev as u32).filter(|_| {
                known
                    .mode
                    .is_some_and(|mode| matches!(mode & S_IFMT, S_IFCHR | S_IFBLK))
            });
            // A root is never hashed.
            known.deleted |=
                number(Value::Hashed) == Some(0) && number(Value::Root) != number(Value::Dentry);
            known.fd = number(Value::Fd).map(|fd| fd as i32);
        }
    }
}

/// Notes what a detail record tells.
pub(super) fn detail(known: &mut Known, event: Event, hook: &Hook, data: &[u8]) {
    let number = |value| hook.layout.number(data, value);
    if event == Event::Attrib {
        let valid = number(Value::Valid).unwrap_or(0);
        let set = |flag: i64, value: Value| {
            (valid & flag != 0)
                .then(|| number(value))
                .flatten()
                .map(|value| value as u32)
        };
        known.attrib = Some(Attrib {
            mode: set(ATTR_MODE, Value::Mode),
            uid: set(ATTR_UID, Value::Uid),
            gid: set(ATTR_GID, Value::Gid),
        });
    } else {
        known
            .socket
            .get_or_insert_default()
            .learn(&hook.layout, data);
    }
}

/// The dentry that a record is about.
pub(super) fn dentry(hook: &Hook, data: &[u8]) -> Option<Dentry> {
    let number = |value| hook.layout.number(data, value);
    let place = [number(Value::Parent), number(Value::Hash)];
    number(Value::Dentry).map(|address| Dentry {
        address: address as u64,
        place,
    })
}

/// Takes a dentry's new inode; a create is complete with it.
pub(super) fn instantiate(
    thread: &mut Thread,
    hook: &Hook,
    data: &[u8],
) -> Option<(Event, Known, Option<i32>)> {
    let number = |value| hook.layout.number(data, value);
    let dentry = dentry(hook, data)?;
    let (ino, mode) = (
        number(Value::Ino).map(|ino| ino as u64),
        number(Value::Mode).map(|mode| mode as u32),
    );
    if mode.is_some_and(|mode| mode & S_IFMT == S_IFREG) {
        if let Some(mut known) = thread.complete(Event::Create, dentry) {
            (known.ino, known.mode) = (ino, mode);
            return Some((Event::Create, known, None));
        }
    }
    if let Some((event, known)) = thread.making(dentry) {
        known.ino = ino;
        if matches!(event, Event::Mkdir | Event::Mknod) {
            known.mode = mode;
        }
        if event == Event::Mkdir {
            let parent = known.path.as_ref().and_then(|chain| chain.parent);
            let subvolume = parent.and_then(|parent| parent.subvolume);
            known.dir = ino.map(|ino| Inode { subvolume, ino });
        }
    }
    None
}

/// The event that a call's return makes, if it does.
pub(super) fn succeeded(
    event: Event,
    known: Known,
    ret: i64,
) -> Option<(Event, Known, Option<i32>)> {
    let failed = (-MAX_ERRNO..0).contains(&ret);
    match event {
        // Without a socket of the Internet the call was none of ours, or an outer one.
        Event::Connect if ERESTART.contains(&ret) => succeeded(event, known, -EINTR),
        Event::Connect => known
            .socket
            .is_some()
            .then_some((event, known, Some(ret as i32))),
        _ if failed => None,
        Event::Listen => known.socket.is_some().then_some((event, known, None)),
        // Times and sizes only.
        Event::Attrib => known.attrib.is_some().then_some((event, known, None)),
        // Two names of one file: rename(2) succeeds and does nothing.
        Event::Rename if known.inodes[0] == known.inodes[1] => None,
        _ => Some((event, known, None)),
    }
}

/// Whether a mode is a directory's.
fn is_dir(mode: u32) -> bool {
    mode & S_IFMT == S_IFDIR
}
