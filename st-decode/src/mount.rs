//! Mounts and mount namespaces: the records that tell how they change.

use crate::event::{Attach, Bytes, Detach, FsPath, Namespace};
use crate::field::{Chain, Values};
use crate::linux::{device_number, is_error};
use st_probe::time::Monotonic;
use st_probe::vocabulary::{Role, Value};
use st_probe::wire;
use std::collections::{HashMap, HashSet};

/// Which of the two records of a mount that gets its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachHook {
    /// Where it is mounted.
    Place,
    /// What is mounted.
    What,
}

impl AttachHook {
    /// The hook with this role. `None`: a hook of a later version.
    pub fn of(role: Role) -> Option<Self> {
        match role {
            Role::Entry => Some(Self::Place),
            Role::Old => Some(Self::What),
            _ => None,
        }
    }
}

/// A place, or what is there.
#[derive(Debug)]
struct Half {
    mount: u64,
    dev: u32,
    chain: Chain,
    parent: Option<u64>,
    fstype: Option<Vec<u8>>,
}

impl Half {
    fn read(values: &Values) -> Option<Self> {
        Some(Self {
            mount: values.u64(Value::Mount)?,
            dev: values.u32(Value::Dev)?,
            chain: values.chain().unwrap_or_default(),
            parent: values.u64(Value::ParentMount),
            fstype: values.text(Value::Fstype).map(<[u8]>::to_vec),
        })
    }
}

/// Joins the two records of each mount that gets its place, and those of each namespace.
#[derive(Debug, Default)]
pub struct Mounts {
    /// The first of two, by the thread: the second is the thread's next one.
    firsts: HashMap<i32, (AttachHook, Half)>,
    /// The threads that make a namespace.
    copying: HashSet<i32>,
}

impl Mounts {
    /// Takes a record of a thread. Appends what it tells together with the one before.
    pub fn attach(
        &mut self,
        hook: AttachHook,
        tid: i32,
        at: Monotonic,
        values: &Values,
        out: &mut Vec<u8>,
    ) {
        let Some(half) = Half::read(values) else {
            return;
        };
        let first = self.firsts.remove(&tid);
        // The first one, or the second, may be missing.
        let first = first.filter(|(other, first)| *other != hook && first.mount == half.mount);
        let (place, what) = match (hook, first) {
            (_, None) => {
                self.firsts.insert(tid, (hook, half));
                return;
            }
            (AttachHook::Place, Some((_, what))) => (half, what),
            (AttachHook::What, Some((_, place))) => (place, half),
        };
        let Some(parent) = place.parent else {
            return;
        };
        let attach = Attach {
            at,
            mount: what.mount,
            parent,
            parent_dev: &device_number(place.dev),
            point: FsPath::from(&place.chain),
            dev: &device_number(what.dev),
            root: FsPath::from(&what.chain),
            fstype: what.fstype.as_deref().map(Bytes::from),
        };
        wire::write(&attach, out);
    }

    /// A thread is to make a namespace: copy_mnt_ns() is also called to keep the one that is there.
    pub fn copy(&mut self, tid: i32) {
        self.copying.insert(tid);
    }

    /// copy_mnt_ns() returns. Appends that a mount namespace was made, if it was.
    pub fn made(&mut self, tid: i32, at: Monotonic, values: &Values, out: &mut Vec<u8>) {
        let failed = values.number(Value::Ret).is_none_or(is_error);
        if !self.copying.remove(&tid) || failed {
            return;
        }
        if let (Some(ns), Some(root)) = (values.u64(Value::Inum), Half::read(values)) {
            let namespace = Namespace {
                at,
                ns,
                mount: root.mount,
                dev: &device_number(root.dev),
                root: FsPath::from(&root.chain),
                fstype: root.fstype.as_deref().map(Bytes::from),
            };
            wire::write(&namespace, out);
        }
    }
}

/// Appends that a mount is no longer in a namespace.
pub fn write_detach(at: Monotonic, values: &Values, out: &mut Vec<u8>) {
    if let Some(mount) = values.u64(Value::Mount) {
        wire::write(&Detach { at, mount }, out);
    }
}
