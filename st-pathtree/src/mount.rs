//! The mount table: from a device and a path within its file system to a path.
//!
//! The format of a table is that of `/proc/PID/mountinfo`: proc_pid_mountinfo(5).

mod changes;

pub use changes::Attached;

use foldhash::{HashMap, HashSet};

/// A mount.
#[derive(Debug, Clone, Default)]
struct Mount {
    /// Its id, which no other mount has at the same time.
    id: u64,
    /// The id of the mount that the mount point is on.
    parent_id: u64,
    /// The path within its file system of the directory (or file) that it shows; empty if that is
    /// not known.
    root: Vec<u8>,
    /// The path of the mount point within the file system that it is on, if that is known.
    place: Option<Vec<u8>>,
    /// Its mount point; empty if that is not known.
    point: Vec<u8>,
    /// Its device.
    device: Vec<u8>,
    /// The index of the mount that the mount point is on.
    parent: Option<usize>,
    /// The indices of the mounts whose mount points are on this mount.
    children: Vec<usize>,
    /// Whether a path leads to its mount point: no other mount covers that.
    reachable: bool,
}

/// The path that a mount gives to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedPath {
    /// The index of the mount.
    pub mount: usize,
    /// The path.
    pub path: Vec<u8>,
    /// Whether the path leads to the file: no other mount covers it.
    pub visible: bool,
    /// Whether the path is the mount point, so that its last name is not the file's own.
    pub is_mount_point: bool,
}

/// Where a mount point is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint<'a> {
    /// The device of the file system that it is on.
    pub device: &'a [u8],
    /// Its path within that file system.
    pub fs_path: Vec<u8>,
    /// The index of the mount that it is on.
    pub parent: usize,
    /// The length of its path in bytes.
    pub length: usize,
}

/// A directory that was renamed, by its paths within its file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirRename<'a> {
    /// The path before.
    pub from: &'a [u8],
    /// The path since, if that is known.
    pub to: Option<&'a [u8]>,
}

/// The mounts of one mount namespace, in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub struct MountTable {
    /// Only ids, roots, places and devices are right until [`MountTable::settle`] is called after
    /// a change.
    mounts: Vec<Mount>,
    /// The indices of the mounts of each device.
    by_device: HashMap<Vec<u8>, Vec<usize>>,
    /// The types of the file systems, by device.
    types: HashMap<Vec<u8>, Vec<u8>>,
    /// The ids of the mounts.
    ids: HashSet<u64>,
    /// What the uppermost mounts of mountinfo are on: mounts that a process does not see.
    above: HashSet<u64>,
    /// Whether it may be unknown of a mount what it shows, or where.
    has_unknown: bool,
    /// Whether something has changed since the table was settled.
    is_stale: bool,
}

impl MountTable {
    /// Parses mountinfo. A line of another format is left out.
    pub fn parse(mountinfo: &[u8]) -> Self {
        let mut table = Self::default();
        for line in mountinfo.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b' ');
            let mut field = || fields.next().unwrap_or_default();
            let (id, parent, device, root, point) = (field(), field(), field(), field(), field());
            let (Some(id), Some(parent_id)) = (number(id), number(parent)) else {
                continue;
            };
            if point.is_empty() {
                continue;
            }
            if let Some(kind) = fields.skip_while(|field| *field != b"-").nth(1) {
                table.types.insert(device.to_vec(), kind.to_vec());
            }
            table.ids.insert(id);
            table.mounts.push(Mount {
                id,
                parent_id,
                root: unescape(root),
                point: unescape(point),
                device: device.to_vec(),
                ..Mount::default()
            });
        }
        table.link();
        let tops = table.tops().into_iter();
        table.above = tops.map(|top| table.mounts[top].parent_id).collect();
        for index in 0..table.mounts.len() {
            table.mounts[index].place = table.mount_point(index).map(|point| point.fs_path);
        }
        table.find_reachable();
        table
    }

    /// Finds the parents, the children and the mounts of each device.
    fn link(&mut self) {
        self.by_device.clear();
        let mut by_id = HashMap::default();
        for (index, mount) in self.mounts.iter_mut().enumerate() {
            by_id.insert(mount.id, index);
            let of_device = self.by_device.entry(mount.device.clone()).or_default();
            of_device.push(index);
            mount.children.clear();
        }
        for index in 0..self.mounts.len() {
            let parent = by_id.get(&self.mounts[index].parent_id).copied();
            let parent = parent.filter(|&parent| parent != index);
            self.mounts[index].parent = parent;
            if let Some(parent) = parent {
                self.mounts[parent].children.push(index);
            }
        }
    }

    /// Finds the mount points after changes. Returns whether there were any.
    pub fn settle(&mut self) -> bool {
        if !std::mem::take(&mut self.is_stale) {
            return false;
        }
        self.link();
        self.place_mount_points();
        self.find_reachable();
        let is_unknown = |mount: &Mount| mount.root.is_empty() || mount.point.is_empty();
        self.has_unknown = self.mounts.iter().any(is_unknown);
        true
    }

    /// Follows renames of directories on a device. A mount point below such a directory moves
    /// with it; a mount whose root is below it shows the directory's new path. Returns whether
    /// the table changed.
    pub fn renamed(&mut self, device: &str, renames: &[DirRename]) -> bool {
        let device = device.as_bytes();
        let mut changed = false;
        for index in 0..self.mounts.len() {
            let parent = self.mounts[index].parent;
            let is_on_device = parent.is_some_and(|parent| self.mounts[parent].device == device);
            let mount = &mut self.mounts[index];
            if let (true, Some(place)) = (is_on_device, &mount.place) {
                if let Renamed::To(path) = renamed(place, renames) {
                    mount.place = path;
                    mount.point.clear();
                    changed = true;
                }
            }
            if mount.device == device {
                if let Renamed::To(root) = renamed(&mount.root, renames) {
                    // No path within the file system is at or below an empty root.
                    mount.root = root.unwrap_or_default();
                    changed = true;
                }
            }
        }
        self.is_stale |= changed;
        self.settle()
    }

    /// Sets the mount point of each mount that is on another one.
    fn place_mount_points(&mut self) {
        let tops = self.tops().into_iter();
        let mut next: Vec<_> = tops.map(|top| (top, false)).collect();
        while let Some((parent, moved)) = next.pop() {
            for child in self.mounts[parent].children.clone() {
                let Mount { root, point, .. } = &self.mounts[parent];
                let child_point = match &self.mounts[child].place {
                    Some(place) => match below(place, root) {
                        Some(rest) if !point.is_empty() => join(point, rest),
                        _ => Vec::new(),
                    },
                    // As mountinfo told it.
                    None if !moved => self.mounts[child].point.clone(),
                    None => Vec::new(),
                };
                let moved = child_point != self.mounts[child].point;
                self.mounts[child].point = child_point;
                next.push((child, moved));
            }
        }
    }

    /// Finds the mounts whose mount points no other mount covers.
    fn find_reachable(&mut self) {
        // Mounts on the same mount stand together, each before those below its mount point.
        let components = |index: usize| self.mounts[index].point.split(|&byte| byte == b'/');
        let mut order: Vec<usize> = (0..self.mounts.len()).collect();
        order.sort_by(|&a, &b| {
            let parents = self.mounts[a].parent.cmp(&self.mounts[b].parent);
            parents.then_with(|| components(a).cmp(components(b)))
        });
        let mut hidden = vec![false; order.len()];
        let mut top: Option<&Mount> = None;
        for index in order {
            let mount = &self.mounts[index];
            let above = top.filter(|top| {
                top.parent == mount.parent && below(&mount.point, &top.point).is_some()
            });
            let covered = above.is_some_and(|top| top.point != mount.point);
            hidden[index] = mount.point.is_empty() || mount.parent.is_some() && covered;
            top = above.or(Some(mount));
        }
        let mut reachable: Vec<bool> = hidden.iter().map(|hidden| !hidden).collect();
        // If the parents form a circle, this does not come to all mounts, but it ends.
        let mut next = self.tops();
        while let Some(parent) = next.pop() {
            for &child in &self.mounts[parent].children {
                reachable[child] &= reachable[parent];
                next.push(child);
            }
        }
        for (mount, reachable) in self.mounts.iter_mut().zip(reachable) {
            mount.reachable = reachable;
        }
    }

    /// The mounts that are on no other mount of the table.
    fn tops(&self) -> Vec<usize> {
        let is_top = |&index: &usize| self.mounts[index].parent.is_none();
        (0..self.mounts.len()).filter(is_top).collect()
    }

    /// The paths of a file, by its device and its absolute path within the file system.
    pub fn paths(&self, device: &str, fs_path: &[u8]) -> impl Iterator<Item = MountedPath> {
        let mounts = self.by_device.get(device.as_bytes());
        let mounts = mounts.map_or(&[][..], Vec::as_slice);
        mounts.iter().filter_map(move |&index| {
            let mount = &self.mounts[index];
            if mount.point.is_empty() {
                return None;
            }
            let rest = below(fs_path, &mount.root)?;
            let path = join(&mount.point, rest);
            let visible = mount.reachable && !self.is_covered(mount, &path);
            Some(MountedPath {
                mount: index,
                path,
                visible,
                is_mount_point: rest.is_empty(),
            })
        })
    }

    /// Whether it may be unknown of a mount what it shows, or where.
    pub fn has_unknown(&self) -> bool {
        self.has_unknown
    }

    /// Whether a mount may show a file at a path that is not known.
    pub fn may_show(&self, device: &str, fs_path: &[u8]) -> bool {
        let mounts = self.by_device.get(device.as_bytes());
        let mut mounts = mounts.into_iter().flatten();
        mounts.any(|&index| {
            let Mount { root, point, .. } = &self.mounts[index];
            root.is_empty() || point.is_empty() && below(fs_path, root).is_some()
        })
    }

    /// The devices and mount points of a mount and of all that is on it.
    pub fn tree(&self, id: u64) -> Vec<(&[u8], &[u8])> {
        let top = self.mounts.iter().position(|mount| mount.id == id);
        let mut next: Vec<usize> = top.into_iter().collect();
        let mut tree = Vec::new();
        // If the parents form a circle, it ends all the same.
        while let Some(index) = next.pop().filter(|_| tree.len() < self.mounts.len()) {
            let mount = &self.mounts[index];
            tree.push((&mount.device[..], &mount.point[..]));
            next.extend(&mount.children);
        }
        tree
    }

    /// The type of a device's file system.
    pub fn kind(&self, device: &str) -> Option<&[u8]> {
        self.types.get(device.as_bytes()).map(Vec::as_slice)
    }

    /// Where the mount point of a mount is. `None` if the mount is on no other one.
    pub fn mount_point(&self, mount: usize) -> Option<MountPoint<'_>> {
        let point = &self.mounts[mount].point;
        let parent = self.mounts[mount].parent?;
        let on = &self.mounts[parent];
        Some(MountPoint {
            device: &on.device,
            fs_path: join(&on.root, below(point, &on.point)?),
            parent,
            length: point.len(),
        })
    }

    /// The devices and mount points of the mounts that an earlier table does not have.
    pub fn new_since(&self, before: &Self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let old: HashSet<_> = before.mounts.iter().map(Mount::identity).collect();
        let new = (self.mounts.iter()).filter(move |mount| !old.contains(&mount.identity()));
        new.map(|mount| (&mount.device[..], &mount.point[..]))
    }

    /// The devices that have files at or below an absolute path.
    pub fn devices_below<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.by_device.iter().filter_map(move |(device, mounts)| {
            let shows = |&index: &usize| {
                let mount = &self.mounts[index];
                let holds = below(path, &mount.point).is_some() && !self.is_covered(mount, path);
                mount.reachable && (holds || below(&mount.point, path).is_some())
            };
            mounts.iter().any(shows).then_some(&device[..])
        })
    }

    /// Whether another mount covers a path that is on this mount.
    fn is_covered(&self, mount: &Mount, path: &[u8]) -> bool {
        let covers = |&child: &usize| below(path, &self.mounts[child].point).is_some();
        mount.children.iter().any(covers)
    }
}

impl Mount {
    /// What two tables have in common if they have the same mount.
    fn identity(&self) -> [&[u8]; 3] {
        [&self.device, &self.root, &self.point]
    }
}

/// What becomes of a path when directories are renamed.
enum Renamed {
    /// The path stays.
    No,
    /// The path changes; `None` if the new one is not known.
    To(Option<Vec<u8>>),
}

fn renamed(path: &[u8], renames: &[DirRename]) -> Renamed {
    for rename in renames {
        if let Some(rest) = below(path, rename.from) {
            return Renamed::To(rename.to.map(|to| join(to, rest)));
        }
    }
    Renamed::No
}

/// The part of `path` after `above`: empty, or from a slash on. `None` if `path` is neither
/// `above` nor below it.
pub fn below<'a>(path: &'a [u8], above: &[u8]) -> Option<&'a [u8]> {
    if above == b"/" {
        return Some(if path == b"/" { b"" } else { path });
    }
    if above.is_empty() {
        return None;
    }
    // Mostly this alone tells.
    let rest = path.get(above.len()..)?;
    let ends_a_name = rest.first().is_none_or(|&byte| byte == b'/');
    (ends_a_name && path.starts_with(above)).then_some(rest)
}

/// The path that is `rest` below `point`.
fn join(point: &[u8], rest: &[u8]) -> Vec<u8> {
    match (point, rest) {
        (b"/", b"") => b"/".to_vec(),
        (b"/", rest) => rest.to_vec(),
        (point, rest) => [point, rest].concat(),
    }
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Replaces the octal escapes of space, tab, newline and backslash by these characters.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        if let Some(digits) = octal {
            out.push(digits.iter().fold(0u8, |value, digit| {
                value.wrapping_mul(8).wrapping_add(digit - b'0')
            }));
            rest = &after[3..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests;
