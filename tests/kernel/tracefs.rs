//! What others have in tracefs must stay as it is.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::patience::wait_until;

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

    /// Takes away what has been added since, and sets again what was set.
    pub fn restore(&self) -> Result<()> {
        let before: Vec<_> = self.lines("instances").collect();
        for name in instances()? {
            if !before.contains(&name.as_str()) {
                remove_instance(&name).with_context(|| format!("instance {name}"))?;
            }
        }
        let before: Vec<_> = self.lines("dynamic_events").collect();
        // Later ones may be attached to earlier ones.
        for probe in Self::take()?.lines("dynamic_events").rev() {
            if !before.contains(&probe) {
                remove_probe(probe).with_context(|| format!("probe {probe}"))?;
            }
        }
        let now = Self::take()?;
        for (name, before) in &self.0 {
            if now.0.get(name) != Some(before) && name != "instances" {
                set(name, before).with_context(|| format!("cannot set {name}"))?;
            }
        }
        let mut problems = Vec::new();
        self.check(&mut problems)?;
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }

    fn lines(&self, name: &str) -> std::str::Lines<'_> {
        self.0.get(name).map_or("", String::as_str).lines()
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

/// Removes an instance, as soon as nobody has a file of it open.
fn remove_instance(name: &str) -> Result<()> {
    let dir = Path::new(TRACEFS).join("instances").join(name);
    wait_until(
        || "it is busy".to_owned(),
        || is_done(fs::remove_dir(&dir).map_err(Into::into)),
    )
}

/// Removes a probe, by its line in dynamic_events, as soon as nobody uses it.
fn remove_probe(line: &str) -> Result<()> {
    let (_, name) = line.split_once(':').context("it has no name")?;
    let name = name.split_whitespace().next().unwrap_or_default();
    let enable = Path::new(TRACEFS).join("events").join(name).join("enable");
    fs::write(&enable, "0").with_context(|| format!("cannot write {}", enable.display()))?;
    wait_until(
        || "it is busy".to_owned(),
        || is_done(append("dynamic_events", &format!("-:{name}\n"))),
    )
}

/// Whether it is done, or may be as soon as nobody is busy with it any more.
fn is_done(result: Result<()>) -> Result<bool> {
    let is_busy = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
    match result {
        Err(error) if error.downcast_ref().is_some_and(is_busy) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Writes one more line to a file of tracefs.
fn append(name: &str, text: &str) -> Result<()> {
    let path = Path::new(TRACEFS).join(name);
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Sets one of [`FILES`] to what was read from it.
fn set(name: &str, text: &str) -> Result<()> {
    let text = match name {
        // The chosen one of all is in brackets.
        "trace_clock" => text.split(['[', ']']).nth(1).context("no clock")?,
        _ => text,
    };
    match name {
        "kprobe_events" | "uprobe_events" | "dynamic_events" => bail!("a probe was removed"),
        // To open it for writing empties it. Each line is set on its own.
        "set_event" | "set_event_pid" | "trace_options" => {
            fs::write(Path::new(TRACEFS).join(name), "")?;
            text.lines()
                .try_for_each(|line| append(name, &format!("{line}\n")))
        }
        _ => Ok(fs::write(Path::new(TRACEFS).join(name), text)?),
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
