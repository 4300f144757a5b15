//! The kernel's tracing file system, below an injected root.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where tracefs is usually mounted: Documentation/trace/ftrace.rst.
const MOUNTED: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// A tracefs.
pub struct Tracefs {
    root: PathBuf,
    /// Keeps a mount of our own, which is in no mount namespace.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    /// The one that is mounted, else a mount that nobody else sees.
    pub fn find() -> Result<Self> {
        let mounted = MOUNTED
            .iter()
            .map(PathBuf::from)
            .find(|root| root.join("instances").is_dir());
        let tracefs = match mounted {
            Some(root) => Self { root, _mount: None },
            None => {
                let mount = mount_detached().context(
                    "cannot mount tracefs: this kernel has none (CONFIG_TRACING), or does not let us have it",
                )?;
                let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
                Self {
                    root,
                    _mount: Some(mount),
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

    /// A file's full path.
    pub fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.root.join(file)
    }

    /// Reads a file.
    pub fn read(&self, file: impl AsRef<Path>) -> Result<String> {
        let path = self.path(file);
        fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}{}", path.display(), lockdown()))
    }

    /// Writes a setting or a command. Never truncates: that would clear other people's
    /// probes.
    pub fn write(&self, file: impl AsRef<Path>, text: &str) -> Result<()> {
        let path = self.path(file);
        let write = || {
            fs::OpenOptions::new()
                .write(true)
                .open(&path)?
                .write_all(text.as_bytes())
        };
        write()
            .with_context(|| format!("cannot write '{text}' to {}{}", path.display(), lockdown()))
    }

    /// What the kernel said of the last command that it refused.
    pub fn last_error(&self) -> Option<String> {
        let log = self.read("error_log").ok()?;
        let line = log.lines().rfind(|line| line.contains("error:"))?;
        Some(line.split_once("error:")?.1.trim().to_owned())
    }
}

/// Says so where the kernel is locked down: kernel_lockdown(7).
fn lockdown() -> &'static str {
    let state = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if state.contains("[confidentiality]") {
        " (the kernel is locked down: kernel_lockdown(7))"
    } else {
        ""
    }
}

/// Mounts tracefs without attaching it anywhere: fsopen(2), fsmount(2), Linux 5.2.
#[allow(unsafe_code)]
fn mount_detached() -> std::io::Result<OwnedFd> {
    let owned = |fd: libc::c_long| match i32::try_from(fd) {
        // SAFETY: the kernel has just given us this descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: constant strings and null pointers where the system calls allow them.
    unsafe {
        let context = owned(libc::syscall(
            libc::SYS_fsopen,
            c"tracefs".as_ptr(),
            libc::FSOPEN_CLOEXEC,
        ))?;
        let fd = context.as_raw_fd();
        let null = std::ptr::null::<u8>();
        if libc::syscall(
            libc::SYS_fsconfig,
            fd,
            libc::FSCONFIG_CMD_CREATE,
            null,
            null,
            0,
        ) < 0
        {
            return Err(std::io::Error::last_os_error());
        }
        owned(libc::syscall(
            libc::SYS_fsmount,
            fd,
            libc::FSMOUNT_CLOEXEC,
            0,
        ))
    }
}
