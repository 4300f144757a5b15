//! Temporary folders for tests: file systems of the kernel as a test wants them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own; it is removed when this is dropped.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes an empty one.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("st-probe-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self { path }
    }

    /// The full path of a name in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory with all that are above it.
    pub fn directory(&self, name: impl AsRef<Path>) {
        fs::create_dir_all(self.path(name)).unwrap();
    }

    /// Writes a file; makes the directories above it.
    pub fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        self.parent(name.as_ref());
        fs::write(self.path(name), text).unwrap();
    }

    /// Makes a symbolic link to `target`, and the directories above it.
    pub fn link(&self, name: impl AsRef<Path>, target: impl AsRef<Path>) {
        self.parent(name.as_ref());
        symlink(target, self.path(name)).unwrap();
    }

    /// Removes a file or a directory with all that is in it.
    pub fn remove(&self, name: impl AsRef<Path>) {
        let path = self.path(name);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    fn parent(&self, name: &Path) {
        if let Some(parent) = name.parent() {
            self.directory(parent);
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
