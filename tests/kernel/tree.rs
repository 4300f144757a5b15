//! The names below a directory, and what becomes of them: a model that follows operations.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt::{self, Debug};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// How many symbolic links a path may lead through: path_resolution(7).
const LINKS: usize = 40;

/// A directory's content, with what is known of each file.
#[derive(Debug)]
pub struct Tree<F = File> {
    root: PathBuf,
    /// Indices into `files`; several names may be one file's.
    names: BTreeMap<PathBuf, usize>,
    files: Vec<F>,
}

/// What is known of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// As st_mode in inode(7).
    pub mode: u32,
    /// What a symbolic link contains.
    pub target: Option<PathBuf>,
}

impl Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode {:o} target {:?}", self.mode, self.target)
    }
}

impl File {
    /// Whether its type is S_IFDIR, or another such.
    pub fn is(&self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }
}

impl<F> Tree<F> {
    /// The content of `root`, a path without symbolic links, as it is now; `know` tells what is
    /// known of a file.
    pub fn read(root: &Path, know: impl Fn(&Path, &Metadata) -> Result<F>) -> Result<Self> {
        let mut tree = Self {
            root: root.to_owned(),
            names: BTreeMap::new(),
            files: Vec::new(),
        };
        let (mut found, mut inodes) = (vec![root.to_owned()], HashMap::new());
        while let Some(path) = found.pop() {
            let stat = fs::symlink_metadata(&path)?;
            if stat.is_dir() {
                for entry in fs::read_dir(&path)? {
                    found.push(entry?.path());
                }
            }
            let file = match inodes.get(&stat.ino()) {
                Some(file) => *file,
                None => tree.add(know(&path, &stat)?),
            };
            inodes.insert(stat.ino(), file);
            tree.names.insert(path, file);
        }
        Ok(tree)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.names.keys()
    }

    /// A file that has no name yet.
    pub fn add(&mut self, file: F) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Whether a path is the directory's own or below it.
    pub fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    /// Which file a path names.
    pub fn index(&self, path: &Path) -> Option<usize> {
        self.names.get(path).copied()
    }

    /// A file, by index.
    pub fn file(&mut self, index: usize) -> &mut F {
        &mut self.files[index]
    }

    /// A file, by path, which must be known.
    pub fn at(&self, path: &Path) -> Result<&F> {
        let index = self.index(path);
        let index = index.with_context(|| format!("no such file is known: {}", path.display()))?;
        Ok(&self.files[index])
    }

    /// Gives a file a name; another file may lose it.
    pub fn name(&mut self, path: PathBuf, file: usize) {
        self.names.insert(path, file);
    }

    /// Takes a name away.
    pub fn remove(&mut self, path: &Path) -> Result<()> {
        let removed = self.names.remove(path);
        removed.with_context(|| format!("no such name is known: {}", path.display()))?;
        Ok(())
    }

    /// Changes a name, and all names below it.
    pub fn rename(&mut self, old: &Path, new: &Path) -> Result<()> {
        let moved = self.take(old)?;
        self.names.remove(new);
        self.put(new, moved);
        Ok(())
    }

    /// Exchanges two names, and all below them.
    pub fn exchange(&mut self, old: &Path, new: &Path) -> Result<()> {
        let (first, second) = (self.take(old)?, self.take(new)?);
        self.put(new, first);
        self.put(old, second);
        Ok(())
    }

    /// Takes away a name and all below it: their paths from there on.
    fn take(&mut self, path: &Path) -> Result<Vec<(PathBuf, usize)>> {
        let all = self.names.range(path.to_owned()..);
        let all = all.take_while(|(name, _)| name.starts_with(path));
        let names: Vec<_> = all.map(|(name, _)| name.clone()).collect();
        if names.first().map(PathBuf::as_path) != Some(path) {
            bail!("no such name is known: {}", path.display());
        }
        let mut taken = Vec::new();
        for name in names {
            let file = self.names.remove(&name).context("it was just there")?;
            taken.push((name.strip_prefix(path)?.to_owned(), file));
        }
        Ok(taken)
    }

    fn put(&mut self, path: &Path, taken: Vec<(PathBuf, usize)>) {
        for (below, file) in taken {
            self.names.insert(path.join(below), file);
        }
    }
}

impl<F: PartialEq + Debug> Tree<F> {
    /// Says in what the other tree, which is right, differs.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for name in self.names().chain(other.names()).collect::<BTreeSet<_>>() {
            let (here, there) = (self.at(name).ok(), other.at(name).ok());
            if here != there {
                let name = name.display();
                differences.push(format!("{name}: {here:?}, but in truth {there:?}"));
            }
        }
        differences
    }
}

impl Tree {
    /// The content of `root`, as it is now.
    pub fn walk(root: &Path) -> Result<Self> {
        Self::read(root, |path, stat| {
            Ok(File {
                mode: stat.mode(),
                target: (stat.is_symlink())
                    .then(|| fs::read_link(path))
                    .transpose()?,
            })
        })
    }

    /// Where a path leads; outside of the directory, no symbolic link is known.
    pub fn resolve(&self, base: &Path, path: &Path, follow_last: bool) -> Result<PathBuf> {
        let mut real = base.to_owned();
        let mut rest = components(path);
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => real = "/".into(),
                Some(Component::ParentDir) => drop(real.pop()),
                Some(Component::Normal(name)) => real.push(name),
                _ => {}
            }
            let link = self.at(&real).ok().and_then(|file| file.target.as_ref());
            let Some(target) = link.filter(|_| follow_last || !rest.is_empty()) else {
                continue;
            };
            links += 1;
            if links > LINKS {
                bail!("too many symbolic links: {}", path.display());
            }
            real.pop();
            let mut parts = components(target);
            parts.extend(rest);
            rest = parts;
        }
        Ok(real)
    }
}

/// The parts of a path.
fn components(path: &Path) -> VecDeque<OsString> {
    let parts = path.components();
    parts.map(|part| part.as_os_str().to_owned()).collect()
}
