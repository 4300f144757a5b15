//! The kernel's tracing file system, below an injected root.

use crate::sys::mount::mount_detached;
use crate::sys::proc::Proc;
use crate::sys::sysfs::Sysfs;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A tracefs, and the kernel's other file systems that tracing needs.
pub struct Tracefs {
    root: PathBuf,
    proc: Proc,
    sysfs: Sysfs,
    /// Keeps a mount of our own, which is in no mount namespace.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    /// The tracefs of this machine: that which is mounted, else a mount that nobody else sees.
    pub fn find() -> Result<Self> {
        let (proc, sysfs) = (Proc::default(), Sysfs::default());
        let mut usual = sysfs.tracefs().into_iter();
        let mounted = usual.find(|root| root.join("instances").is_dir());
        let tracefs = match mounted {
            Some(root) => Self::at(root, proc, sysfs),
            None => {
                let mount = mount_detached(c"tracefs").context(
                    "cannot mount tracefs: this kernel has none (CONFIG_TRACING), or does not let us have it",
                )?;
                let root = proc.this().path(format!("fd/{}", mount.as_raw_fd()));
                Self {
                    _mount: Some(mount),
                    ..Self::at(root, proc, sysfs)
                }
            }
        };
        if !tracefs.path("kprobe_events").exists() {
            bail!(
                "this kernel has no kprobe events (CONFIG_KPROBE_EVENTS): it cannot be traced this way"
            );
        }
        Ok(tracefs)
    }

    /// The one that is mounted at `root`, beside a /proc and a /sys.
    pub fn at(root: impl Into<PathBuf>, proc: Proc, sysfs: Sysfs) -> Self {
        Self {
            root: root.into(),
            proc,
            sysfs,
            _mount: None,
        }
    }

    /// The /proc of the same kernel.
    pub fn proc(&self) -> &Proc {
        &self.proc
    }

    /// The /sys of the same kernel.
    pub fn sysfs(&self) -> &Sysfs {
        &self.sysfs
    }

    /// The settings that stop all probes, or those at the beginning of functions:
    /// Documentation/trace/ftrace.rst and kprobes.rst. They are everybody's, and not every kernel
    /// has them.
    pub fn switches(&self) -> [PathBuf; 2] {
        let ftrace = self.proc.sysctl("kernel/ftrace_enabled");
        [ftrace, self.sysfs.kprobes_enabled()]
    }

    /// The full path of a file.
    pub fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.root.join(file)
    }

    /// Reads a file.
    pub fn read(&self, file: impl AsRef<Path>) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}{}", path.display(), self.lockdown()))
    }

    /// Writes a setting or a command. The file is not truncated: that would remove the probes of
    /// everybody.
    pub fn write(&self, file: impl AsRef<Path>, text: &str) -> Result<()> {
        let path = self.path(file);
        write_existing(&path, text).with_context(|| {
            let lockdown = self.lockdown();
            format!("cannot write '{text}' to {}{lockdown}", path.display())
        })
    }

    /// The kernel's message about the last command that it refused.
    pub fn last_error(&self) -> Option<String> {
        let log = self.read("error_log").ok()?;
        let line = log.lines().rfind(|line| line.contains("error:"))?;
        Some(line.split_once("error:")?.1.trim().to_owned())
    }

    /// What to add to an error where the kernel is locked down.
    fn lockdown(&self) -> &'static str {
        if self.sysfs.is_locked_down() {
            " (the kernel is locked down: kernel_lockdown(7))"
        } else {
            ""
        }
    }
}

/// Writes to a file that is there, in one call.
fn write_existing(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn tracefs(folder: &Folder) -> Tracefs {
        let proc = Proc::at(folder.path("proc"));
        Tracefs::at(folder.path("tracing"), proc, Sysfs::at(folder.path("sys")))
    }

    #[test]
    fn reads_and_writes_below_its_root() {
        let folder = Folder::new();
        folder.write("tracing/instances/a/tracing_on", "1\n");
        let tracefs = tracefs(&folder);
        assert_eq!(tracefs.read("instances/a/tracing_on").unwrap(), "1\n");
        tracefs.write("instances/a/tracing_on", "0").unwrap();
        assert_eq!(tracefs.read("instances/a/tracing_on").unwrap(), "0\n");
        // No file is made that the kernel does not have.
        tracefs.write("instances/a/none", "0").unwrap_err();
        assert!(!tracefs.path("instances/a/none").exists());
    }

    #[test]
    fn an_error_tells_of_lockdown() {
        let folder = Folder::new();
        let tracefs = tracefs(&folder);
        let error = || {
            tracefs
                .write("kprobe_events", "-:a/b")
                .unwrap_err()
                .to_string()
        };
        let path = folder.path("tracing/kprobe_events");
        let plain = format!("cannot write '-:a/b' to {}", path.display());
        assert_eq!(error(), plain);
        folder.write(
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        );
        assert_eq!(error(), plain);
        folder.write(
            "sys/kernel/security/lockdown",
            "none integrity [confidentiality]\n",
        );
        let locked = format!("{plain} (the kernel is locked down: kernel_lockdown(7))");
        assert_eq!(error(), locked);
    }

    #[test]
    fn tells_the_last_error_of_the_log() {
        let folder = Folder::new();
        let tracefs = tracefs(&folder);
        assert_eq!(tracefs.last_error(), None);
        let log = "[ 1.5] trace_kprobe: error: Invalid argument\n  Command: p:a/b c\n         ^\n\
                   [ 2.5] trace_kprobe: error: Maxactive is too big\n  Command: r:a/c d\n  ^\n";
        folder.write("tracing/error_log", log);
        assert_eq!(
            tracefs.last_error().as_deref(),
            Some("Maxactive is too big")
        );
    }
}
