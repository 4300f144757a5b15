//! Values in the kernel's records, found by the formats that the header carries.

use crate::event::{Bytes, FsPath, Inode};
use crate::linux::BTRFS_SUPER_MAGIC;
use st_probe::record;
use st_probe::vocabulary::{Order, Series, Value};

/// Where one value of a record is.
#[derive(Debug, Clone, Copy)]
struct FieldLocation {
    offset: u16,
    size: u16,
    signed: bool,
    /// Whether the field is a `__data_loc`, which tells where a string is.
    is_data_loc: bool,
}

/// The location of a value that belongs to one name of a chain.
#[derive(Debug, Clone, Copy)]
struct LevelLocation {
    /// Which name: 0 is the file's own, 1 its parent's, and so on.
    level: usize,
    location: FieldLocation,
}

/// The most names of a chain that are read: more than any kernel's probe can fetch.
const MAX_NAMES: usize = 16;

/// A chain of names, as a path within its file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// The path. It begins with `/` if the chain reaches the root of the file system, else with
    /// the uppermost name that is known.
    pub path: Vec<u8>,
    /// The inode of the directory that contains the file.
    pub parent: Option<Inode>,
    /// The inode of the uppermost directory in `path`, if `path` does not begin with `/`.
    pub top: Option<Inode>,
    /// The file's own inode, if the file exists.
    pub own: Option<Inode>,
}

impl<'a> From<&'a Chain> for FsPath<'a> {
    fn from(chain: &'a Chain) -> Self {
        Self {
            path: Bytes::from(&chain.path[..]),
            parent: chain.parent,
            top: chain.top,
        }
    }
}

/// Where the values are in the records of one hook.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    order: Order,
    /// By [`Value`].
    values: Vec<Option<FieldLocation>>,
    /// The names of a chain, the file's own first.
    names: Vec<FieldLocation>,
    /// The inode numbers of some of these names.
    inodes: Vec<LevelLocation>,
    /// The btrfs subvolumes of some of these names.
    subvolumes: Vec<LevelLocation>,
    /// The names of a cgroup, its own first.
    cgroups: Vec<FieldLocation>,
    /// The offset of the first [`Series::Word`].
    words: Option<u16>,
    /// The offset of the first [`Series::Addr6`].
    addr6: Option<u16>,
}

impl Layout {
    /// Finds the values that this version knows among the fields of a hook.
    pub fn new(order: Order, fields: &[record::Field]) -> Self {
        let mut layout = Self {
            order,
            values: vec![None; Value::ALL.len()],
            ..Self::default()
        };
        for field in fields {
            layout.add(field);
        }
        layout
    }

    fn add(&mut self, field: &record::Field) {
        let is_data_loc = field.ctype.starts_with("__data_loc");
        let location = FieldLocation {
            offset: field.offset,
            size: field.size,
            signed: field.signed,
            is_data_loc,
        };
        if let Some(value) = Value::from_name(&field.name) {
            self.values[value as usize] = Some(location);
        }
        match Series::of_name(&field.name) {
            Some((Series::Name, n)) if is_data_loc && n == self.names.len() => {
                self.names.push(location);
            }
            Some((Series::Cgroup, n)) if is_data_loc && n == self.cgroups.len() => {
                self.cgroups.push(location);
            }
            Some((Series::Inode, level)) => self.inodes.push(LevelLocation { level, location }),
            Some((Series::Subvolume, level)) => {
                self.subvolumes.push(LevelLocation { level, location });
            }
            Some((Series::Word, 0)) => self.words = Some(location.offset),
            Some((Series::Addr6, 0)) => self.addr6 = Some(location.offset),
            _ => {}
        }
    }

    /// The values of a record of this layout.
    pub fn values<'a>(&'a self, data: &'a [u8]) -> Values<'a> {
        Values { layout: self, data }
    }
}

/// The values of one raw record. A value that the hook does not fetch, or that lies beyond the
/// end of the record, is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    layout: &'a Layout,
    data: &'a [u8],
}

impl<'a> Values<'a> {
    fn location(&self, value: Value) -> Option<FieldLocation> {
        *self.layout.values.get(value as usize)?
    }

    /// A number, sign-extended if its field is signed.
    pub fn number(&self, value: Value) -> Option<i64> {
        let location = self.location(value)?;
        let bytes = self.bytes(location)?;
        let number = unsigned(self.layout.order, bytes);
        let unused = 64 - 8 * bytes.len().min(8) as u32;
        Some(if location.signed && unused < 64 {
            ((number << unused) as i64) >> unused
        } else {
            number as i64
        })
    }

    /// The low 32 bits of a number, signed.
    pub fn i32(&self, value: Value) -> Option<i32> {
        self.number(value).map(|number| number as i32)
    }

    /// The low 32 bits of a number.
    pub fn u32(&self, value: Value) -> Option<u32> {
        self.number(value).map(|number| number as u32)
    }

    /// A number of 64 bits, such as an address.
    pub fn u64(&self, value: Value) -> Option<u64> {
        self.number(value).map(|number| number as u64)
    }

    /// The bytes of a number, in the order in which they are in the kernel's memory.
    pub fn memory<const COUNT: usize>(&self, value: Value) -> Option<[u8; COUNT]> {
        self.array(self.location(value)?.offset)
    }

    /// The bytes of the traced process's memory that the words of [`Series::Word`] hold.
    pub fn words<const COUNT: usize>(&self) -> Option<[u8; COUNT]> {
        self.array(self.layout.words?)
    }

    /// The bytes of the IPv6 address that the words of [`Series::Addr6`] hold.
    pub fn addr6(&self) -> Option<[u8; 16]> {
        self.array(self.layout.addr6?)
    }

    /// A text, without its NUL.
    pub fn text(&self, value: Value) -> Option<&'a [u8]> {
        let location = self.location(value)?;
        if location.is_data_loc {
            self.string(location)
        } else {
            Some(up_to_nul(self.bytes(location)?))
        }
    }

    /// Whether the dentry that the record is about is unhashed: its name was removed, or never
    /// existed.
    pub fn is_unhashed(&self) -> bool {
        self.number(Value::Hashed) == Some(0)
    }

    /// The same where the dentry may be the root of its file system, which is never hashed.
    pub fn is_unhashed_below_root(&self) -> bool {
        self.is_unhashed() && self.number(Value::Root) != self.number(Value::Dentry)
    }

    /// The path of a cgroup, if its names reach the root of the hierarchy.
    pub fn cgroup(&self) -> Option<Vec<u8>> {
        let mut path = Vec::new();
        for location in &self.layout.cgroups {
            match self.string(*location)? {
                b"" if path.is_empty() => return Some(b"/".to_vec()),
                b"" => return Some(path),
                name => path = [b"/", name, &path].concat(),
            }
        }
        None
    }

    /// The chain of names. `None` if not even the first name is known.
    pub fn chain(&self) -> Option<Chain> {
        let is_detached = self.is_detached();
        let most = if is_detached { 1 } else { MAX_NAMES };
        let mut list: [&[u8]; MAX_NAMES] = [b""; MAX_NAMES];
        let (mut count, mut is_whole) = (0, false);
        for location in self.layout.names.iter().take(most) {
            match self.string(*location) {
                Some(b"/") => {
                    is_whole = !is_detached;
                    break;
                }
                Some(b"") | None => break,
                Some(name) => {
                    list[count] = name;
                    count += 1;
                }
            }
        }
        let mut names = &list[..count];
        let mut chain = Chain {
            own: self.u64(Value::Ino).map(|ino| self.inode(0, ino)),
            ..Chain::default()
        };
        if !is_detached {
            chain.parent = self.inode_at(1);
        }
        if !is_whole {
            // st-pathtree looks the path up below a directory whose inode is known: the names
            // above the uppermost such directory are of no use.
            let levels = self.layout.inodes.iter().map(|inode| inode.level);
            let known = levels.filter(|&level| level > 0 && level < names.len());
            if let Some(level) = known.max() {
                chain.top = self.inode_at(level);
                names = &names[..=level];
            }
        }
        chain.path = path(names, is_whole);
        (!chain.path.is_empty()).then_some(chain)
    }

    /// Whether the dentry has no place in its file system: it is its own parent, but not the
    /// root. Only some hooks fetch the root.
    fn is_detached(&self) -> bool {
        let dentry = self.number(Value::Dentry);
        let root = self.number(Value::Root);
        root.is_some() && root != dentry && self.number(Value::Parent) == dentry
    }

    /// The inode of one name of the chain, if its number was fetched.
    fn inode_at(&self, level: usize) -> Option<Inode> {
        let ino = self.at_level(&self.layout.inodes, level)?;
        Some(self.inode(level, ino))
    }

    /// The inode with this number, of one name of the chain.
    fn inode(&self, level: usize, ino: u64) -> Inode {
        let is_btrfs = self.number(Value::Magic) == Some(BTRFS_SUPER_MAGIC);
        let subvolume = if is_btrfs {
            self.at_level(&self.layout.subvolumes, level)
        } else {
            None
        };
        Inode { subvolume, ino }
    }

    fn at_level(&self, locations: &[LevelLocation], level: usize) -> Option<u64> {
        let found = locations.iter().find(|entry| entry.level == level)?;
        Some(unsigned(self.layout.order, self.bytes(found.location)?))
    }

    /// The string that a `__data_loc` tells of: its offset is in the low half, its length in the
    /// high half.
    fn string(&self, location: FieldLocation) -> Option<&'a [u8]> {
        let word: [u8; 4] = self.array(location.offset)?;
        let word = unsigned(self.layout.order, &word) as usize;
        let (offset, length) = (word & 0xffff, word >> 16);
        Some(up_to_nul(self.data.get(offset..offset + length)?))
    }

    fn bytes(&self, location: FieldLocation) -> Option<&'a [u8]> {
        let offset = usize::from(location.offset);
        (self.data).get(offset..offset + usize::from(location.size))
    }

    fn array<const COUNT: usize>(&self, offset: u16) -> Option<[u8; COUNT]> {
        let rest = self.data.get(usize::from(offset)..)?;
        rest.first_chunk().copied()
    }
}

/// The path that names make, the file's own name first.
fn path(names: &[&[u8]], is_whole: bool) -> Vec<u8> {
    if names.is_empty() && is_whole {
        return b"/".to_vec();
    }
    let length = names.iter().map(|name| 1 + name.len()).sum();
    let mut path = Vec::with_capacity(length);
    for name in names.iter().rev() {
        if is_whole || !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    path
}

#[inline]
fn unsigned(order: Order, bytes: &[u8]) -> u64 {
    // Most numbers, on most machines.
    if let (Order::Little, Ok(bytes)) = (order, <[u8; 8]>::try_from(bytes)) {
        return u64::from_le_bytes(bytes);
    }
    if let (Order::Little, Ok(bytes)) = (order, <[u8; 4]>::try_from(bytes)) {
        return u32::from_le_bytes(bytes).into();
    }
    let join = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
    match order {
        Order::Big => bytes.iter().fold(0, join),
        Order::Little | Order::Other => bytes.iter().rev().fold(0, join),
    }
}

#[inline]
fn up_to_nul(bytes: &[u8]) -> &[u8] {
    match bytes.split_last() {
        // As the kernel writes it.
        Some((0, text)) if !text.contains(&0) => text,
        _ => {
            let end = bytes.iter().position(|&byte| byte == 0);
            &bytes[..end.unwrap_or(bytes.len())]
        }
    }
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
        layout.values(&data).chain().map(|chain| chain.path)
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
            let _ = layout.values(&data[..cut]).chain();
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
        assert_eq!(layout.values(&data).number(Value::Ret), Some(-115));
        assert_eq!(layout.values(&data).number(Value::Mode), Some(0o100644));
        assert_eq!(layout.values(&data).number(Value::Ino), None);
        let layout = Layout::new(Order::Little, &fields);
        assert_eq!(layout.values(&data).number(Value::Mode), Some(0xa481));
    }
}
