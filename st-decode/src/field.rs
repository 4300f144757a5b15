//! Values in the kernel's records, by the formats that the header carries.

use crate::event::Inode;
use st_probe::record;
use st_probe::vocabulary::{Order, Series, Value};

/// Where a value is.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: usize,
    size: usize,
    signed: bool,
    /// Whether it is no value itself but tells where a string is.
    located: bool,
}

/// A chain of names, as a path within its file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// From `/` if it reaches the root, else from the uppermost name that is known.
    pub path: Vec<u8>,
    /// The inode of the directory that it is in.
    pub parent: Option<Inode>,
    /// That of the uppermost directory in `path`, if that is not whole.
    pub top: Option<Inode>,
    /// Its own, if it exists.
    pub own: Option<Inode>,
}

/// Where the values of a hook's records are.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    order: Order,
    /// By [`Value`].
    values: Vec<Option<Place>>,
    names: Vec<Place>,
    /// The inode numbers and subvolumes of some of these, by level.
    inodes: Vec<(usize, Place)>,
    subvolumes: Vec<(usize, Place)>,
    cgroups: Vec<Place>,
    /// Where the memory is that is fetched in words.
    words: Option<usize>,
    addr6: Option<usize>,
}

/// BTRFS_SUPER_MAGIC: include/uapi/linux/magic.h.
const BTRFS: i64 = 0x9123_683e;

impl Layout {
    /// Reads the formats in the header.
    pub fn new(order: Order, fields: &[record::Field]) -> Self {
        let mut layout = Self {
            order,
            values: vec![None; Value::ALL.len()],
            ..Self::default()
        };
        for field in fields {
            let located = field.ctype.starts_with("__data_loc");
            let place = Place {
                offset: usize::from(field.offset),
                size: usize::from(field.size),
                signed: field.signed,
                located,
            };
            if let Some(value) = Value::from_name(&field.name) {
                layout.values[value as usize] = Some(place);
            }
            match Series::of_name(&field.name) {
                Some((Series::Name, n)) if located && n == layout.names.len() => {
                    layout.names.push(place);
                }
                Some((Series::Cgroup, n)) if located && n == layout.cgroups.len() => {
                    layout.cgroups.push(place);
                }
                Some((Series::Inode, level)) => layout.inodes.push((level, place)),
                Some((Series::Subvolume, level)) => layout.subvolumes.push((level, place)),
                Some((Series::Word, 0)) => layout.words = Some(place.offset),
                Some((Series::Addr6, 0)) => layout.addr6 = Some(place.offset),
                _ => {}
            }
        }
        layout
    }

    fn place(&self, value: Value) -> Option<Place> {
        *self.values.get(value as usize)?
    }

    /// The bytes of a number, in the order in which they were in the kernel's memory.
    pub fn memory<const COUNT: usize>(&self, data: &[u8], value: Value) -> Option<[u8; COUNT]> {
        memory(data, self.place(value)?.offset)
    }

    /// The bytes of the traced process's memory that [`Series::Word`] are.
    pub fn words<const COUNT: usize>(&self, data: &[u8]) -> Option<[u8; COUNT]> {
        memory(data, self.words?)
    }

    /// The bytes of the address that [`Series::Addr6`] are.
    pub fn addr6(&self, data: &[u8]) -> Option<[u8; 16]> {
        memory(data, self.addr6?)
    }

    /// A number, sign-extended if it is signed.
    pub fn number(&self, data: &[u8], value: Value) -> Option<i64> {
        let place = self.place(value)?;
        let bytes = data.get(place.offset..place.offset + place.size)?;
        let number = unsigned(self.order, bytes);
        let unused = 64 - 8 * bytes.len().min(8) as u32;
        Some(if place.signed && unused < 64 {
            ((number << unused) as i64) >> unused
        } else {
            number as i64
        })
    }

    /// A text, without its NUL.
    pub fn text<'a>(&self, data: &'a [u8], value: Value) -> Option<&'a [u8]> {
        let place = self.place(value)?;
        if place.located {
            self.located(data, &place)
        } else {
            up_to_nul(data.get(place.offset..place.offset + place.size)?)
        }
    }

    /// The path of a cgroup, if its names reach the root.
    pub fn cgroup(&self, data: &[u8]) -> Option<Vec<u8>> {
        let mut path = Vec::new();
        for place in &self.cgroups {
            match self.located(data, place)? {
                b"" if path.is_empty() => return Some(b"/".to_vec()),
                b"" => return Some(path),
                name => path = [b"/", name, &path].concat(),
            }
        }
        None
    }

    /// The chain of names. `None` if not even the first one is known.
    pub fn chain(&self, data: &[u8]) -> Option<Chain> {
        let number = |value| self.number(data, value);
        // Its own parent, but not the root (where the hook tells): it has no place.
        let detached = number(Value::Root).is_some()
            && number(Value::Parent) == number(Value::Dentry)
            && number(Value::Root) != number(Value::Dentry);
        let most = if detached { 1 } else { self.names.len() };
        let mut names = Vec::with_capacity(self.names.len());
        let mut rooted = false;
        for place in self.names.iter().take(most) {
            match self.located(data, place) {
                Some(b"/") if detached => break,
                Some(b"/") => {
                    rooted = true;
                    break;
                }
                Some(name) if !name.is_empty() => names.push(name),
                _ => break,
            }
        }
        let at = |list: &[(usize, Place)], level: usize| {
            let (_, place) = list.iter().find(|(at, _)| *at == level)?;
            let bytes = data.get(place.offset..place.offset + place.size)?;
            Some(unsigned(self.order, bytes))
        };
        let btrfs = number(Value::Magic) == Some(BTRFS);
        let inode = |level, ino: Option<u64>| {
            let subvolume = btrfs.then(|| at(&self.subvolumes, level)).flatten();
            ino.map(|ino| Inode { subvolume, ino })
        };
        let mut chain = Chain {
            own: inode(0, number(Value::Ino).map(|ino| ino as u64)),
            ..Chain::default()
        };
        if !detached {
            chain.parent = inode(1, at(&self.inodes, 1));
        }
        if !rooted {
            // Above the uppermost one whose inode is known nothing is of use.
            let known = self.inodes.iter().map(|(level, _)| *level);
            let top = known
                .filter(|&level| level > 0 && level < names.len())
                .max();
            if let Some(level) = top {
                chain.top = inode(level, at(&self.inodes, level));
                names.truncate(level + 1);
            }
        }
        let length = names.iter().map(|name| 1 + name.len()).sum::<usize>();
        chain.path.reserve(length.max(1));
        for name in names.iter().rev() {
            if rooted || !chain.path.is_empty() {
                chain.path.push(b'/');
            }
            chain.path.extend_from_slice(name);
        }
        if names.is_empty() && rooted {
            chain.path.push(b'/');
        }
        (!chain.path.is_empty()).then_some(chain)
    }

    /// A string behind a `__data_loc`: its offset in the low half, its length in the high.
    fn located<'a>(&self, data: &'a [u8], place: &Place) -> Option<&'a [u8]> {
        let word = unsigned(self.order, data.get(place.offset..place.offset + 4)?) as usize;
        let (offset, length) = (word & 0xffff, word >> 16);
        up_to_nul(data.get(offset..offset + length)?)
    }
}

fn unsigned(order: Order, bytes: &[u8]) -> u64 {
    let join = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
    match order {
        Order::Big => bytes.iter().fold(0, join),
        Order::Little | Order::Other => bytes.iter().rev().fold(0, join),
    }
}

fn memory<const COUNT: usize>(data: &[u8], offset: usize) -> Option<[u8; COUNT]> {
    data.get(offset..offset + COUNT)?.try_into().ok()
}

fn up_to_nul(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split(|&byte| byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, offset: u16, size: u16, signed: bool, ctype: &str) -> record::Field {
        record::Field {
            name: name.into(),
            offset,
            size,
            signed,
            ctype: ctype.into(),
        }
    }

    fn chain(names: &[&[u8]]) -> (Layout, Vec<u8>) {
        let fields: Vec<_> = (0..names.len())
            .map(|i| field(&format!("n{i}"), 4 * i as u16, 4, true, "__data_loc char[]"))
            .collect();
        let mut data = vec![0; 4 * names.len()];
        for (i, name) in names.iter().enumerate() {
            let word = (data.len() as u32) | (name.len() as u32 + 1) << 16;
            data[4 * i..4 * i + 4].copy_from_slice(&word.to_le_bytes());
            data.extend_from_slice(name);
            data.push(0);
        }
        (Layout::new(Order::Little, &fields), data)
    }

    fn path(names: &[&[u8]]) -> Option<Vec<u8>> {
        let (layout, data) = chain(names);
        layout.chain(&data).map(|chain| chain.path)
    }

    #[test]
    fn a_chain_that_reaches_the_root_is_absolute() {
        assert_eq!(path(&[b"c", b"b", b"/", b"/"]).unwrap(), b"/b/c");
        assert_eq!(path(&[b"/", b"/"]).unwrap(), b"/");
    }

    #[test]
    fn a_chain_that_does_not_is_a_tail() {
        assert_eq!(path(&[b"c", b"b", b"a"]).unwrap(), b"a/b/c");
        assert_eq!(path(&[b"c", b"", b"/"]).unwrap(), b"c");
        assert_eq!(path(&[b"", b"/"]), None);
    }

    #[test]
    fn a_chain_survives_every_cut() {
        let (layout, data) = chain(&[b"c", b"b", b"/"]);
        for cut in 0..data.len() {
            let _ = layout.chain(&data[..cut]);
        }
    }

    #[test]
    fn numbers_keep_sign_and_byte_order() {
        let fields = [
            field("ret", 0, 4, true, "s32"),
            field("mode", 4, 2, false, "u16"),
        ];
        let data = [0xff, 0xff, 0xff, 0x8d, 0x81, 0xa4];
        let layout = Layout::new(Order::Big, &fields);
        assert_eq!(layout.number(&data, Value::Ret), Some(-115));
        assert_eq!(layout.number(&data, Value::Mode), Some(0o100644));
        assert_eq!(layout.number(&data, Value::Ino), None);
        let layout = Layout::new(Order::Little, &fields);
        assert_eq!(layout.number(&data, Value::Mode), Some(0xa481));
    }
}
