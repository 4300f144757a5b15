//! One operation: what is called, by which path, and what is to come of it.

use nix::errno::Errno;
use nix::fcntl::RenameFlags;
use serde_json::{Map, Value};
use std::fmt;

use super::tree::join;

/// How many directories a thread holds: its working directory and some open ones.
pub const SLOTS: usize = 4;

/// Where a path begins.
#[derive(Debug, Clone)]
pub enum Base {
    /// At an absolute path.
    Root(Vec<u8>),
    /// At the working directory.
    Cwd,
    /// At the open directory in this slot.
    Held(usize),
    /// At its link in /proc.
    Proc(usize),
}

/// A path as it is given to the kernel.
#[derive(Debug, Clone)]
pub struct Route {
    /// Where it begins.
    pub base: Base,
    /// What follows.
    pub names: Vec<Vec<u8>>,
    /// The mount that it ends on: a rename or link from one to another fails, be they of
    /// the same file system or not.
    pub mount: usize,
}

impl Route {
    /// The path to a name in the directory that it leads to.
    pub fn to(mut self, name: &[u8]) -> Self {
        self.names.push(name.to_vec());
        self
    }
}

/// What is called.
#[derive(Debug, Clone)]
pub enum Action {
    /// open(2) with O_CREAT and these bits, with O_EXCL or not.
    Create(u32, bool),
    /// mknod(2) of a regular file.
    Mknod(u32),
    /// mknod(2) of a pipe.
    Fifo(u32),
    /// mkdir(2).
    Mkdir(u32),
    /// symlink(2) with this content.
    Symlink(Vec<u8>),
    /// link(2).
    Link,
    /// rename(2).
    Rename(RenameFlags),
    /// unlink(2).
    Unlink,
    /// rmdir(2).
    Rmdir,
    /// fchmodat(2).
    Chmod(u32),
    /// fchmod(2).
    ChmodOpen(u32),
    /// chmod(2) of a link in /proc.
    ChmodProc(u32),
    /// fchownat(2), not following symbolic links.
    Chown(Option<u32>, Option<u32>),
    /// The directory goes into this slot: 0 is the working directory.
    Hold(usize),
    /// All slots are emptied.
    Release,
    /// A new tmpfs is mounted.
    Mount,
    /// The directory of the old route is mounted.
    Bind,
    /// The mount of the old route is moved.
    MoveMount,
    /// What is mounted goes.
    Unmount,
}

impl Action {
    /// Whether the file is there only afterwards.
    pub fn makes(&self) -> bool {
        matches!(
            self,
            Self::Create(..) | Self::Mknod(_) | Self::Fifo(_) | Self::Mkdir(_) | Self::Symlink(_)
        )
    }

    /// Whether it is one of the operations that are asked for, and not to prepare others.
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Hold(_) | Self::Release)
    }
}

/// What is to come of an operation.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It succeeds and is reported, with these fields and those that only who does it
    /// knows, in this file system.
    Told(Map<String, Value>, usize),
    /// It succeeds and is not reported.
    Untold,
    /// It fails with one of these, and is not reported.
    Fails(&'static [Errno]),
}

/// An operation.
#[derive(Debug, Clone)]
pub struct Op {
    /// What is called.
    pub action: Action,
    /// On what.
    pub at: Route,
    /// The old name of a rename, the existing one of a link, what is mounted.
    pub old: Option<Route>,
    /// What is to come of it.
    pub outcome: Outcome,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let base = match &self.base {
            Base::Root(path) => path.escape_ascii().to_string(),
            Base::Cwd => "cwd".to_owned(),
            Base::Held(slot) => format!("held{slot}"),
            Base::Proc(slot) => format!("proc{slot}"),
        };
        write!(f, "{base}{}", join(b"", &self.names).escape_ascii())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.action {
            Action::Symlink(target) => write!(f, "Symlink({})", target.escape_ascii())?,
            action => write!(f, "{action:?}")?,
        }
        if let Some(old) = &self.old {
            write!(f, " {old}")?;
        }
        write!(f, " {}: ", self.at)?;
        match &self.outcome {
            Outcome::Told(fields, _) => {
                let field = |name| fields.get(name).unwrap_or(&Value::Null);
                write!(
                    f,
                    "{} {} {}",
                    field("event"),
                    field("path"),
                    field("old_path")
                )
            }
            Outcome::Untold => write!(f, "untold"),
            Outcome::Fails(errors) => write!(f, "{errors:?}"),
        }
    }
}
