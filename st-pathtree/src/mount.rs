//! The mount table: from a device and a path within its file system to a path.
//!
//! Format: proc_pid_mountinfo(5).

use std::collections::{HashMap, HashSet};

/// A mount.
#[derive(Debug)]
struct Mount {
    /// The directory of its file system that it shows.
    root: Vec<u8>,
    /// Where it shows it.
    point: Vec<u8>,
    /// Its device.
    device: Vec<u8>,
    /// The mount that it is on.
    parent: Option<usize>,
    /// Indices of the mounts on directories of this one.
    children: Vec<usize>,
    /// Whether its mount point can be reached, not being covered by another mount.
    reachable: bool,
}

/// A path that a mount gives to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The mount, by its place in the table.
    pub mount: usize,
    /// The path.
    pub path: Vec<u8>,
    /// Whether it leads to the file: no other mount covers it.
    pub visible: bool,
    /// Whether it is the mount point: the mount does not show the file's own name.
    pub root: bool,
}

/// The mounts of one namespace, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Mounts {
    mounts: Vec<Mount>,
    by_device: HashMap<Vec<u8>, Vec<usize>>,
    /// The types of the file systems, by device.
    types: HashMap<Vec<u8>, Vec<u8>>,
}

impl Mounts {
    /// Reads mountinfo. Lines that are not as expected are left out.
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
            table
                .by_device
                .entry(device.to_vec())
                .or_default()
                .push(index);
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
        let parents: Vec<_> = parents
            .iter()
            .enumerate()
            .map(|(index, parent)| by_id.get(parent).copied().filter(|&parent| parent != index))
            .collect();
        for (index, parent) in parents.iter().enumerate() {
            table.mounts[index].parent = *parent;
            if let Some(parent) = *parent {
                table.mounts[parent].children.push(index);
            }
        }
        table.cover();
        table
    }

    /// Follows renames of directories of a device, each from a path within its file system to
    /// another, if that is known: mounts on what is below move with them, and mounts of what
    /// is below show another directory. Returns whether there was any.
    pub fn renamed(&mut self, device: &str, renames: &[(&[u8], Option<&[u8]>)]) -> bool {
        let device = device.as_bytes();
        let moved = |path: &[u8]| {
            let renamed = |(from, to): &(&[u8], Option<&[u8]>)| {
                below(path, from).map(|rest| to.map(|to| join(to, rest)))
            };
            renames.iter().find_map(renamed)
        };
        let mut changed = false;
        // Where each mount is in its parent's file system; `None` if that is not known.
        let mut on = Vec::with_capacity(self.mounts.len());
        for index in 0..self.mounts.len() {
            let under = self.under(index);
            on.push(under.and_then(|(parent, path, ..)| {
                let to = (parent == device).then(|| moved(&path)).flatten();
                changed |= to.is_some();
                to.unwrap_or(Some(path))
            }));
        }
        for mount in self
            .mounts
            .iter_mut()
            .filter(|mount| mount.device == device)
        {
            if let Some(root) = moved(&mount.root) {
                // A root that no path within the file system is at or below.
                mount.root = root.unwrap_or_default();
                changed = true;
            }
        }
        if changed {
            self.place(&on);
            self.cover();
        }
        changed
    }

    /// Gives every mount on another one its mount point, from where it is in that one's file
    /// system.
    fn place(&mut self, on: &[Option<Vec<u8>>]) {
        let mut next = self.tops();
        while let Some(parent) = next.pop() {
            for child in self.mounts[parent].children.clone() {
                let Mount { root, point, .. } = &self.mounts[parent];
                let rest = on[child].as_ref().and_then(|path| below(path, root));
                let point = rest
                    .filter(|_| !point.is_empty())
                    .map(|rest| join(point, rest));
                // Where nothing is: a path is never empty.
                self.mounts[child].point = point.unwrap_or_default();
                next.push(child);
            }
        }
    }

    /// Finds the mounts whose mount points are covered.
    fn cover(&mut self) {
        // The mounts on one, each before those below it.
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
        // In a table that is no tree, not every mount is below a top.
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

    /// The mounts that are on no other.
    fn tops(&self) -> Vec<usize> {
        let is_top = |&index: &usize| self.mounts[index].parent.is_none();
        (0..self.mounts.len()).filter(is_top).collect()
    }

    /// The paths of a file, by the device and the absolute path within its file system.
    pub fn places(&self, device: &str, path: &[u8]) -> impl Iterator<Item = Place> {
        let mounts = self
            .by_device
            .get(device.as_bytes())
            .map_or(&[][..], Vec::as_slice);
        mounts.iter().filter_map(move |&index| {
            let mount = &self.mounts[index];
            let rest = below(path, &mount.root)?;
            let root = rest.is_empty();
            let path = join(&mount.point, rest);
            let visible = mount.reachable && !self.covered_within(mount, &path);
            Some(Place {
                mount: index,
                path,
                visible,
                root,
            })
        })
    }

    /// The type of a device's file system.
    pub fn kind(&self, device: &str) -> Option<&[u8]> {
        self.types.get(device.as_bytes()).map(Vec::as_slice)
    }

    /// What a mount is on: its mount point's device and path within that file system, and
    /// that mount; and how many bytes the mount point's path has.
    pub fn under(&self, mount: usize) -> Option<(&[u8], Vec<u8>, usize, usize)> {
        let point = &self.mounts[mount].point;
        let parent = self.mounts[mount].parent?;
        let on = &self.mounts[parent];
        let path = join(&on.root, below(point, &on.point)?);
        Some((&on.device, path, parent, point.len()))
    }

    /// The devices and mount points of the mounts that another table has not.
    pub fn new_since(&self, before: &Self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let key = |mount: &'_ Mount| {
            (
                mount.device.clone(),
                mount.root.clone(),
                mount.point.clone(),
            )
        };
        let old: HashSet<_> = before.mounts.iter().map(key).collect();
        let new = self
            .mounts
            .iter()
            .filter(move |mount| !old.contains(&key(mount)));
        new.map(|mount| (&mount.device[..], &mount.point[..]))
    }

    /// The devices whose files are at or below an absolute path.
    pub fn devices_below<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.by_device.iter().filter_map(move |(device, mounts)| {
            let shows = |&index: &usize| {
                let mount = &self.mounts[index];
                let holds =
                    below(path, &mount.point).is_some() && !self.covered_within(mount, path);
                mount.reachable && (holds || below(&mount.point, path).is_some())
            };
            mounts.iter().any(shows).then_some(&device[..])
        })
    }

    /// Whether a mount on this one covers a path in it.
    fn covered_within(&self, mount: &Mount, path: &[u8]) -> bool {
        mount
            .children
            .iter()
            .any(|&child| below(path, &self.mounts[child].point).is_some())
    }
}

/// What follows `above` in `path`: empty, or from a slash on. `None` if it is not at or
/// below it.
pub fn below<'a>(path: &'a [u8], above: &[u8]) -> Option<&'a [u8]> {
    if above == b"/" {
        return Some(if path == b"/" { b"" } else { path });
    }
    let rest = path.strip_prefix(above).filter(|_| !above.is_empty());
    rest.filter(|rest| rest.is_empty() || rest[0] == b'/')
}

fn join(point: &[u8], rest: &[u8]) -> Vec<u8> {
    match (point, rest) {
        (b"/", b"") => b"/".to_vec(),
        (b"/", rest) => rest.to_vec(),
        (point, rest) => [point, rest].concat(),
    }
}

/// Undoes the octal escapes of space, tab, newline and backslash.
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
        let mounts = Mounts::parse(table.as_bytes());
        let visible = mounts
            .places(device, path.as_bytes())
            .filter(|place| place.visible);
        visible
            .map(|place| String::from_utf8(place.path).unwrap())
            .collect()
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
        let mounts = Mounts::parse(TABLE.as_bytes());
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
        let mut mounts = Mounts::parse(TABLE.as_bytes());
        let paths = |mounts: &Mounts, device: &str, path: &str| {
            let visible = mounts
                .places(device, path.as_bytes())
                .filter(|place| place.visible);
            let paths = visible.map(|place| String::from_utf8(place.path).unwrap());
            paths.collect::<Vec<_>>()
        };
        assert!(!mounts.renamed("8:1", &[(b"/x", Some(b"/y"))]));
        assert!(mounts.renamed("8:1", &[(b"/w", Some(b"/v/u"))]));
        assert_eq!(paths(&mounts, "8:2", "/x"), ["/v/u/m/x"]);
        assert_eq!(paths(&mounts, "0:9", "/x"), ["/v/u/m/t/x"]);
        assert_eq!(
            paths(&mounts, "8:1", "/v/u/a/f"),
            ["/v/u/a/f", "/alias x/f"]
        );
        // Exchanged.
        let exchange: [(&[u8], Option<&[u8]>); 2] =
            [(b"/v", Some(b"/alias x")), (b"/alias x", Some(b"/v"))];
        assert!(mounts.renamed("8:1", &exchange));
        assert_eq!(paths(&mounts, "0:9", "/x"), ["/alias x/u/m/t/x"]);
        assert_eq!(
            paths(&mounts, "8:1", "/alias x/u/a/f"),
            ["/alias x/u/a/f", "/v/f"]
        );
        // To where nobody knows.
        assert!(mounts.renamed("8:1", &[(b"/alias x", None)]));
        assert_eq!(paths(&mounts, "0:9", "/x"), [""; 0]);
        // Something unknown is mounted there.
        assert_eq!(paths(&mounts, "8:1", "/v/f"), [""; 0]);
        assert_eq!(paths(&mounts, "8:1", "/y/f"), ["/y/f"]);
    }

    #[test]
    fn a_table_that_is_no_tree_is_survived() {
        let table = "1 2 8:1 / /a rw\n2 1 8:1 / /b rw\n3 3 8:1 / /c rw\n\nnonsense\n4\n5 1 8:1 / \\999 rw\n";
        let _ = paths(table, "8:1", "/x");
    }
}
