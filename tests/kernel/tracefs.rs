//! What others have in tracefs must stay as it is.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Where scripts/vm mounts it.
pub const TRACEFS: &str = "/sys/kernel/tracing";

/// Files that belong to everybody, or to whoever traces without an instance.
const FILES: [&str; 10] = [
    "kprobe_events",
    "uprobe_events",
    "dynamic_events",
    "set_event",
    "set_event_pid",
    "tracing_on",
    "trace_clock",
    "current_tracer",
    "buffer_size_kb",
    "trace_options",
];

/// The state of tracefs, and the mount table.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    /// Reads it.
    pub fn take() -> Result<Self> {
        let mut state = BTreeMap::new();
        for name in FILES {
            let path = Path::new(TRACEFS).join(name);
            // Kernels are built without uprobes or dynamic events, too.
            if path.exists() {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                // Whether the kernel has "(expanded: ...)" its buffers since the start is said,
                // too: any instance makes it.
                let text = match text.split_once(" (expanded") {
                    Some((size, _)) => size.to_owned(),
                    None => text,
                };
                state.insert(name.to_owned(), text.trim_end().to_owned());
            }
        }
        state.insert("instances".to_owned(), instances()?.join("\n"));
        Ok(Self(state))
    }

    /// Whether anything is no longer as it was.
    pub fn differs(&self) -> Result<bool> {
        Ok(Self::take()? != *self)
    }

    /// Says what is no longer as it was.
    pub fn check(&self, problems: &mut Vec<String>) -> Result<()> {
        let after = Self::take()?;
        for (name, before) in &self.0 {
            let after = after.0.get(name).map_or("(gone)", String::as_str);
            if before != after {
                problems.push(format!("{name} was:\n{before}\n{name} is:\n{after}"));
            }
        }
        Ok(())
    }
}

/// The names of the instances.
pub fn instances() -> Result<Vec<String>> {
    let dir = Path::new(TRACEFS).join("instances");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
