//! The files that calls are about.

use anyhow::{Result, bail};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Process, Witness};
use crate::strace::Call;

/// A file that a call is about.
#[derive(Debug)]
pub(super) struct Operand {
    pub(super) path: PathBuf,
    pub(super) deleted: bool,
    /// The index of the argument that follows.
    pub(super) next: usize,
}

impl Witness {
    /// The file that the arguments from `index` on name: by a path, by a path relative to
    /// a descriptor, or by a descriptor alone.
    pub(super) fn operand(&self, call: &Call, index: usize, follow: bool) -> Result<Operand> {
        let process = &self.processes[&self.threads[&call.tid].process];
        if let Some(path) = call.string(index)? {
            return self.named(process, &process.dir, &path, follow, index + 1);
        }
        let file = call.file(index)?;
        let known = !file.path.as_os_str().as_bytes().ends_with(b" (deleted)");
        if call.has(index, "AT_FDCWD") && known && file.path != process.dir {
            bail!("the witness lost track of where it works: {process:?}");
        }
        match call.string(index + 1)? {
            Some(path) if !path.as_os_str().is_empty() => {
                self.named(process, &file.path, &path, follow, index + 2)
            }
            path => Ok(Operand {
                path: file.path,
                deleted: file.deleted,
                next: index + 1 + usize::from(path.is_some()),
            }),
        }
    }

    fn named(
        &self,
        process: &Process,
        base: &Path,
        path: &Path,
        follow: bool,
        next: usize,
    ) -> Result<Operand> {
        if let Ok(fd) = path.strip_prefix("/proc/self/fd") {
            let fd = fd.to_str().and_then(|fd| fd.parse().ok());
            let file = fd.and_then(|fd: i32| process.open.get(&fd));
            if let Some(file) = file.filter(|_| follow) {
                return Ok(Operand {
                    path: file.path.clone(),
                    deleted: file.deleted,
                    next,
                });
            }
        }
        Ok(Operand {
            path: self.tree.resolve(base, path, follow)?,
            deleted: false,
            next,
        })
    }
}
