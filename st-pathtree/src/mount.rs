//! The mount table: from a device and a path within its file system to a path.
//!
//! The format of a table is that of `/proc/PID/mountinfo`: proc_pid_mountinfo(5).

use std::collections::{HashMap, HashSet};

/// A mount.
#[derive(Debug)]
struct Mount {
    /// The path within its file system of the directory (or file) that it shows.
    root: Vec<u8>,
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
#[derive(Debug, Default)]
pub struct MountTable {
    mounts: Vec<Mount>,
    /// The indices of the mounts of each device.
    by_device: HashMap<Vec<u8>, Vec<usize>>,
    /// The types of the file systems, by device.
    types: HashMap<Vec<u8>, Vec<u8>>,
}

impl MountTable {
    /// Parses mountinfo. A line of another format is left out.
    pub fn parse(mountinfo: &[u8]) -> Self {
        let mut table = Self::default();
        let mut by_id = HashMap::new();
        let mut parents = Vec::new();
        for line in mountinfo.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b' ');
            let mut field = || fields.next().unwrap_or_default();
            let (id, parent, device, root, point) = (field(), field(), field(), field(), field());
            if point.is_empty() {
                continue;
            }
            let index = table.mounts.len();
            by_id.insert(id, index);
            parents.push(parent);
            let of_device = table.by_device.entry(device.to_vec()).or_default();
            of_device.push(index);
            let (root, point) = (unescape(root), unescape(point));
            if let Some(kind) = fields.skip_while(|field| *field != b"-").nth(1) {
                table.types.insert(device.to_vec(), kind.to_vec());
            }
            table.mounts.push(Mount {
                root,
                point,
                device: device.to_vec(),
                parent: None,
                children: Vec::new(),
                reachable: true,
            });
        }
        for (index, parent) in parents.iter().enumerate() {
            let Some(&parent) = by_id.get(parent) else {
                continue;
            };
            if parent != index {
                table.mounts[index].parent = Some(parent);
                table.mounts[parent].children.push(index);
            }
        }
        table.find_reachable();
        table
    }

    /// Follows renames of directories on a device. A mount point below such a directory moves
    /// with it; a mount whose root is below it shows the directory's new path. Returns whether
    /// the table changed.
    pub fn renamed(&mut self, device: &str, renames: &[DirRename]) -> bool {
        let device = device.as_bytes();
        let mut changed = false;
        let mut fs_paths = Vec::with_capacity(self.mounts.len());
        for index in 0..self.mounts.len() {
            let point = self.mount_point(index);
            fs_paths.push(match point {
                Some(point) if point.device == device => match renamed(&point.fs_path, renames) {
                    Renamed::No => Some(point.fs_path),
                    Renamed::To(path) => {
                        changed = true;
                        path
                    }
                },
                point => point.map(|point| point.fs_path),
            });
        }
        for mount in &mut self.mounts {
            if mount.device != device {
                continue;
            }
            if let Renamed::To(root) = renamed(&mount.root, renames) {
                // No path within the file system is at or below an empty root.
                mount.root = root.unwrap_or_default();
                changed = true;
            }
        }
        if changed {
            self.place_mount_points(&fs_paths);
            self.find_reachable();
        }
        changed
    }

    /// Sets the mount point of each mount that is on another one. `fs_paths` are the paths of
    /// the mount points within the file systems that they are on; `None` if not known.
    fn place_mount_points(&mut self, fs_paths: &[Option<Vec<u8>>]) {
        let mut next = self.tops();
        while let Some(parent) = next.pop() {
            for child in self.mounts[parent].children.clone() {
                let Mount { root, point, .. } = &self.mounts[parent];
                let rest = fs_paths[child].as_ref().and_then(|path| below(path, root));
                self.mounts[child].point = match rest {
                    Some(rest) if !point.is_empty() => join(point, rest),
                    _ => Vec::new(),
                };
                next.push(child);
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
    let rest = path.strip_prefix(above)?;
    (rest.is_empty() || rest[0] == b'/').then_some(rest)
}

/// The path that is `rest` below `point`.
fn join(point: &[u8], rest: &[u8]) -> Vec<u8> {
    match (point, rest) {
        (b"/", b"") => b"/".to_vec(),
        (b"/", rest) => rest.to_vec(),
        (point, rest) => [point, rest].concat(),
    }
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
mod tests {
    use super::*;

    const TABLE: &str = "\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:5 / /proc rw - proc proc rw
3 1 8:2 / /w/m rw - xfs /dev/sdb rw
4 1 8:1 /w/a /alias\\040x rw - ext4 /dev/sda1 rw
5 3 0:9 / /w/m/t rw shared:3 - tmpfs none rw
6 1 8:3 /@home /home rw - btrfs /dev/sdc rw,subvol=/@home
";

    fn paths(table: &str, device: &str, path: &str) -> Vec<String> {
        let mounts = MountTable::parse(table.as_bytes());
        let visible = mounts
            .paths(device, path.as_bytes())
            .filter(|mounted| mounted.visible);
        visible
            .map(|mounted| String::from_utf8(mounted.path).unwrap())
            .collect()
    }

    fn rename<'a>(from: &'a [u8], to: &'a [u8]) -> DirRename<'a> {
        let to = Some(to);
        DirRename { from, to }
    }

    #[test]
    fn joins_mount_point_and_path() {
        assert_eq!(paths(TABLE, "8:1", "/x"), ["/x"]);
        assert_eq!(paths(TABLE, "8:1", "/"), ["/"]);
        assert_eq!(paths(TABLE, "8:2", "/"), ["/w/m"]);
        assert_eq!(paths(TABLE, "8:2", "/x/y"), ["/w/m/x/y"]);
        assert_eq!(paths(TABLE, "0:9", "/x"), ["/w/m/t/x"]);
        assert_eq!(paths(TABLE, "8:3", "/@home/u"), ["/home/u"]);
        assert_eq!(paths(TABLE, "8:3", "/@homes/u"), [""; 0]);
        assert_eq!(paths(TABLE, "9:9", "/x"), [""; 0]);
    }

    #[test]
    fn gives_every_alias_the_first_mounted_first() {
        assert_eq!(paths(TABLE, "8:1", "/w/a/f"), ["/w/a/f", "/alias x/f"]);
    }

    #[test]
    fn a_covered_path_does_not_lead_there() {
        assert_eq!(paths(TABLE, "8:1", "/w/m/f"), [""; 0]);
        assert_eq!(paths(TABLE, "8:2", "/t/f"), [""; 0]);
        let stacked =
            "1 0 8:1 / / rw - x x rw\n2 1 8:2 / /m rw - x x rw\n3 2 8:3 / /m rw - x x rw\n";
        assert_eq!(paths(stacked, "8:2", "/f"), [""; 0]);
        assert_eq!(paths(stacked, "8:3", "/f"), ["/m/f"]);
        let buried =
            "1 0 8:1 / / rw - x x rw\n2 1 8:2 / /a/b rw - x x rw\n3 1 8:3 / /a rw - x x rw\n";
        assert_eq!(paths(buried, "8:2", "/f"), [""; 0]);
        assert_eq!(paths(buried, "8:3", "/b/f"), ["/a/b/f"]);
    }

    #[test]
    fn finds_the_devices_below() {
        let mounts = MountTable::parse(TABLE.as_bytes());
        let devices = |path: &str| {
            let mut devices: Vec<_> = mounts
                .devices_below(path.as_bytes())
                .map(|d| String::from_utf8(d.to_vec()).unwrap())
                .collect();
            devices.sort();
            devices.join(" ")
        };
        assert_eq!(devices("/w"), "0:9 8:1 8:2");
        assert_eq!(devices("/w/m"), "0:9 8:2");
        assert_eq!(devices("/home/u"), "8:3");
        assert_eq!(devices("/"), "0:5 0:9 8:1 8:2 8:3");
    }

    #[test]
    fn mounts_move_with_the_directories_that_they_are_on() {
        let mut mounts = MountTable::parse(TABLE.as_bytes());
        let paths = |mounts: &MountTable, device: &str, path: &str| {
            let visible = mounts
                .paths(device, path.as_bytes())
                .filter(|mounted| mounted.visible);
            let paths = visible.map(|mounted| String::from_utf8(mounted.path).unwrap());
            paths.collect::<Vec<_>>()
        };
        assert!(!mounts.renamed("8:1", &[rename(b"/x", b"/y")]));
        assert!(mounts.renamed("8:1", &[rename(b"/w", b"/v/u")]));
        assert_eq!(paths(&mounts, "8:2", "/x"), ["/v/u/m/x"]);
        assert_eq!(paths(&mounts, "0:9", "/x"), ["/v/u/m/t/x"]);
        assert_eq!(
            paths(&mounts, "8:1", "/v/u/a/f"),
            ["/v/u/a/f", "/alias x/f"]
        );
        // Exchanged.
        let exchange = [rename(b"/v", b"/alias x"), rename(b"/alias x", b"/v")];
        assert!(mounts.renamed("8:1", &exchange));
        assert_eq!(paths(&mounts, "0:9", "/x"), ["/alias x/u/m/t/x"]);
        assert_eq!(
            paths(&mounts, "8:1", "/alias x/u/a/f"),
            ["/alias x/u/a/f", "/v/f"]
        );
        // The new path is not known.
        let lost = DirRename {
            from: b"/alias x",
            to: None,
        };
        assert!(mounts.renamed("8:1", &[lost]));
        assert_eq!(paths(&mounts, "0:9", "/x"), [""; 0]);
        // The mount on this path shows a directory that is not known.
        assert_eq!(paths(&mounts, "8:1", "/v/f"), [""; 0]);
        assert_eq!(paths(&mounts, "8:1", "/y/f"), ["/y/f"]);
    }

    #[test]
    fn a_table_that_is_no_tree_is_survived() {
        let table = "1 2 8:1 / /a rw\n2 1 8:1 / /b rw\n3 3 8:1 / /c rw\n\nnonsense\n4\n5 1 8:1 / \\999 rw\n";
        let _ = paths(table, "8:1", "/x");
    }
}
