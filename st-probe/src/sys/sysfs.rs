//! Files of sysfs, and of the file systems that are mounted below it.

use std::fs;
use std::path::PathBuf;

/// A sysfs.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

/// The one of this machine.
impl Default for Sysfs {
    fn default() -> Self {
        Self::at("/sys")
    }
}

impl Sysfs {
    /// The one that is mounted at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where tracefs is usually mounted: Documentation/trace/ftrace.rst.
    pub fn tracefs(&self) -> [PathBuf; 2] {
        ["kernel/tracing", "kernel/debug/tracing"].map(|place| self.root.join(place))
    }

    /// The types of the kernel (`vmlinux`) or of a module that is loaded:
    /// Documentation/ABI/testing/sysfs-kernel-btf.
    pub fn btf(&self, module: &str) -> PathBuf {
        self.root.join("kernel/btf").join(module)
    }

    /// What switches all kprobes off: Documentation/trace/kprobes.rst.
    pub fn kprobes_enabled(&self) -> PathBuf {
        self.root.join("kernel/debug/kprobes/enabled")
    }

    /// Whether the kernel does not let root read its memory, by probes neither:
    /// kernel_lockdown(7).
    pub fn is_locked_down(&self) -> bool {
        let state = fs::read_to_string(self.root.join("kernel/security/lockdown"));
        state.is_ok_and(|state| state.contains("[confidentiality]"))
    }
}
