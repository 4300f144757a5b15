//! Mounts and mount namespaces: the records that tell how they change.

use crate::event::{Attach, Bytes, Detach, FsPath, Namespace};
use crate::field::{Chain, Values};
use crate::linux::{device_number, is_error};
use foldhash::{HashMap, HashSet};
use st_probe::time::Monotonic;
use st_probe::vocabulary::{Role, Value};
use st_probe::wire;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Layout;
    use st_probe::record::Field;
    use st_probe::vocabulary::Order;

    /// A record of these values.
    fn values(of: &[(Value, u64)]) -> (Layout, Vec<u8>) {
        let fields: Vec<_> = (of.iter().zip(0..))
            .map(|((value, _), at)| Field {
                name: value.name().into(),
                offset: 8 * at,
                size: 8,
                signed: true,
                ctype: "s64".into(),
            })
            .collect();
        let data = of.iter().flat_map(|(_, number)| number.to_le_bytes());
        (Layout::new(Order::Little, &fields), data.collect())
    }

    fn half(mounts: &mut Mounts, hook: AttachHook, tid: i32, mount: u64, dev: u64) -> Vec<u8> {
        let mut of = vec![(Value::Mount, mount), (Value::Dev, dev)];
        if hook == AttachHook::Place {
            of.push((Value::ParentMount, 22));
        }
        let (layout, data) = values(&of);
        let mut out = Vec::new();
        mounts.attach(hook, tid, Monotonic(5), &layout.values(&data), &mut out);
        out
    }

    #[test]
    fn two_records_of_a_thread_and_a_mount_make_one() {
        use AttachHook::{Place, What};
        let mut mounts = Mounts::default();
        for (first, second) in [(Place, What), (What, Place)] {
            let dev = |hook| if hook == Place { 1 << 20 } else { 9 };
            assert!(half(&mut mounts, first, 7, 30, dev(first)).is_empty());
            // That of another thread is none of it.
            assert!(half(&mut mounts, second, 8, 30, 0).is_empty());
            mounts.firsts.remove(&8);
            let out = half(&mut mounts, second, 7, 30, dev(second));
            let attach: Attach = wire::read(&out).unwrap();
            assert_eq!((attach.mount, attach.parent), (30, 22));
            assert_eq!((attach.parent_dev, attach.dev), ("1:0", "0:9"));
        }
        // The second record of one is missing, and the first of another.
        for (hook, mount) in [(Place, 30), (What, 31), (What, 32), (Place, 33)] {
            assert!(half(&mut mounts, hook, 7, mount, 9).is_empty());
        }
        assert!(!half(&mut mounts, What, 7, 33, 9).is_empty());
        assert!(mounts.firsts.is_empty());
    }

    #[test]
    fn a_namespace_is_made_if_that_was_asked_for_and_succeeded() {
        let mut mounts = Mounts::default();
        let mut made = |asked: bool, ret: i64| {
            if asked {
                mounts.copy(7);
            }
            let (layout, data) = values(&[
                (Value::Ret, ret as u64),
                (Value::Inum, 4),
                (Value::Mount, 30),
                (Value::Dev, 9),
            ]);
            let mut out = Vec::new();
            mounts.made(7, Monotonic(5), &layout.values(&data), &mut out);
            out
        };
        let pointer = i64::MIN;
        let out = made(true, pointer);
        let namespace: Namespace = wire::read(&out).unwrap();
        assert_eq!((namespace.ns, namespace.mount), (4, 30));
        assert!(made(true, -12).is_empty());
        assert!(made(false, pointer).is_empty());
    }
}
