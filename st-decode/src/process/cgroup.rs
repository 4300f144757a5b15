//! The cgroups of a process, and the container that they name.

use crate::container::container;
use crate::linux::CGROUP2_HIERARCHY;
use std::rc::Rc;

/// The cgroups of a process, one in each hierarchy.
#[derive(Debug, Default)]
pub struct Cgroups {
    /// Paths by hierarchy.
    paths: Vec<(u32, Vec<u8>)>,
    container: Option<Vec<u8>>,
}

impl Cgroups {
    /// The cgroups with these paths in these hierarchies.
    pub fn new(paths: Vec<(u32, Vec<u8>)>) -> Rc<Self> {
        let container = paths.iter().find_map(|(_, path)| container(path));
        Rc::new(Self { paths, container })
    }

    /// The same cgroups with another path in one hierarchy; `None` if the path is not known.
    pub fn with(&self, hierarchy: u32, path: Option<&[u8]>) -> Rc<Self> {
        let mut paths = Vec::new();
        if let Some(path) = path {
            paths.push((hierarchy, path.to_vec()));
        }
        let others = self.paths.iter().filter(|(other, _)| *other != hierarchy);
        paths.extend(others.cloned());
        Self::new(paths)
    }

    /// The path that events show: that of cgroup v2, unless it is the root and another
    /// hierarchy has a path that is not.
    pub fn shown(&self) -> Option<&[u8]> {
        let is_v2 = |(hierarchy, _): &&(u32, Vec<u8>)| *hierarchy == CGROUP2_HIERARCHY;
        let v2 = self.paths.iter().find(is_v2);
        let is_used = |(_, path): &&(u32, Vec<u8>)| path != b"/";
        let used = v2
            .filter(is_used)
            .or_else(|| self.paths.iter().find(is_used));
        used.or(v2).map(|(_, path)| &path[..])
    }

    /// The container that one of the paths names: see [`crate::container`].
    pub fn container(&self) -> Option<&[u8]> {
        self.container.as_deref()
    }
}
