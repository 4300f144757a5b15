//! The file that a recording goes to.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A file that was made for a recording and is still empty.
///
/// A recording may hold secrets, in arguments of processes: only its owner can read it. And it is
/// written by root: so it is always a file that was made for it, in a folder that is looked up
/// once, and never one that somebody else put there or that a symbolic link leads to.
///
/// Until [`Recording::begin`], whatever had its name is left alone, and dropping it removes it:
/// if nothing is recorded, nothing is left and nothing replaced.
pub struct Recording {
    path: PathBuf,
    folder: OwnedFd,
    /// Its present name in the folder, and the one that it is to have.
    now: OsString,
    name: OsString,
    file: Option<File>,
}

impl Recording {
    /// Makes the file. A regular file of that name is to be replaced if `overwrite`; anything
    /// else of that name is an error.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self> {
        let shown = path.display();
        let Some(name) = path.file_name() else {
            bail!("--record: '{shown}' is no name of a file");
        };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = open(folder, flags, Mode::empty())
            .with_context(|| format!("--record: cannot open the folder of '{shown}'"))?;
        let now = match fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => name.to_owned(),
            Err(error) => {
                return Err(error).with_context(|| format!("--record: cannot look at '{shown}'"));
            }
            Ok(stat) if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() => {
                bail!("--record: '{shown}' exists already and is no regular file")
            }
            Ok(_) if !overwrite => {
                bail!("--record: '{shown}' exists already: --overwrite replaces it")
            }
            Ok(_) => OsString::from(format!(".systracer-{}", std::process::id())),
        };
        let file =
            make(&folder, &now).with_context(|| format!("--record: cannot make '{shown}'"))?;
        Ok(Self {
            path: path.to_owned(),
            folder,
            now,
            name: name.to_owned(),
            file: Some(file),
        })
    }

    /// Gives it its name, in place of what had it; from now on it stays.
    pub fn begin(mut self) -> Result<(PathBuf, File)> {
        if self.now != self.name {
            renameat(
                &self.folder,
                self.now.as_os_str(),
                &self.folder,
                self.name.as_os_str(),
            )
            .with_context(|| format!("--record: cannot replace '{}'", self.path.display()))?;
        }
        let file = self.file.take().context("a recording begins once")?;
        Ok((self.path.clone(), file))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = unlinkat(
                &self.folder,
                self.now.as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }
}

/// Makes a file that its owner can read and write and nobody else. O_EXCL follows no symbolic
/// link: open(2).
fn make(folder: &OwnedFd, name: &OsStr) -> nix::Result<File> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    impl Folder {
        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
            let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
            names.sort();
            names
        }
    }

    fn error(path: &Path, overwrite: bool) -> String {
        match Recording::create(path, overwrite) {
            Ok(_) => panic!("{} was made", path.display()),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn only_its_owner_can_read_it() {
        let folder = Folder::new();
        let path = folder.0.join("file");
        let (told, mut file) = Recording::create(&path, false).unwrap().begin().unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(told, path);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn nothing_recorded_leaves_nothing() {
        let folder = Folder::new();
        drop(Recording::create(&folder.0.join("file"), false).unwrap());
        assert!(folder.names().is_empty());
        fs::write(folder.0.join("old"), "old").unwrap();
        drop(Recording::create(&folder.0.join("old"), true).unwrap());
        assert_eq!(folder.names(), ["old"]);
        assert_eq!(fs::read(folder.0.join("old")).unwrap(), b"old");
    }

    #[test]
    fn a_file_that_exists_is_replaced_only_if_asked_for() {
        let folder = Folder::new();
        let path = folder.0.join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        let said = error(&path, false);
        assert!(
            said.contains("--overwrite") && said.contains("file"),
            "{said}"
        );
        let (_, mut file) = Recording::create(&path, true).unwrap().begin().unwrap();
        file.write_all(b"new").unwrap();
        // Not the same file: whoever has that open does not read on.
        let metadata = fs::metadata(&path).unwrap();
        assert_ne!(metadata.ino(), inode);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(folder.names(), ["file"]);
    }

    #[test]
    fn it_goes_through_no_symbolic_link_and_into_no_device() {
        let folder = Folder::new();
        fs::write(folder.0.join("secret"), "secret").unwrap();
        symlink("secret", folder.0.join("link")).unwrap();
        symlink("nowhere", folder.0.join("dangling")).unwrap();
        for overwrite in [false, true] {
            for name in ["link", "dangling", "."] {
                let said = error(&folder.0.join(name), overwrite);
                assert!(said.starts_with("--record: "), "{said}");
            }
            assert!(error(Path::new("/dev/null"), overwrite).contains("no regular file"));
            assert!(error(&folder.0, overwrite).contains("no regular file"));
            assert!(error(Path::new("/"), overwrite).contains("no name"));
            assert!(error(Path::new("/no/such/file"), overwrite).contains("the folder"));
        }
        assert_eq!(fs::read(folder.0.join("secret")).unwrap(), b"secret");
        assert_eq!(folder.names(), ["dangling", "link", "secret"]);
    }
}
