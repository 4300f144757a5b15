//! Taking down what an st-probe has in the kernel: its instance and its probes.

use crate::sys::grace;
use crate::tracefs::files::Tracefs;
use crate::tracefs::owner::Owner;
use anyhow::{Context, Error, Result};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How often to try again what somebody keeps busy, and how long to wait before.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Takes down the instance and the probes of an owner's name, if there are any; returns why
/// something could not be.
pub fn take_down(tracefs: &Tracefs, name: &str) -> Vec<Error> {
    grace::shortened(|| take_all_down(tracefs, name))
}

fn take_all_down(tracefs: &Tracefs, name: &str) -> Vec<Error> {
    let mut trouble = Vec::new();
    let instance = Path::new("instances").join(name);
    if tracefs.path(&instance).exists() {
        trouble.extend(tracefs.write(instance.join("events/enable"), "0").err());
        let path = tracefs.path(&instance);
        let removed = remove(&path).with_context(|| format!("cannot remove {}", path.display()));
        trouble.extend(removed.err());
    }
    match probes(tracefs) {
        Ok(probes) => {
            let ours = probes.iter().filter(|probe| group(probe) == name);
            let removed = ours.map(|probe| tracefs.write("kprobe_events", &format!("-:{probe}")));
            trouble.extend(removed.filter_map(Result::err));
        }
        Err(error) => trouble.push(error),
    }
    // Another one may be at it, too.
    trouble.retain(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_none_or(|error| error.kind() != io::ErrorKind::NotFound)
    });
    trouble
}

/// Removes an instance. Somebody may have a file of it open just now, to look at it.
fn remove(instance: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        match fs::remove_dir(instance) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(PAUSE),
            result => return result,
        }
    }
    fs::remove_dir(instance)
}

/// Takes down what belongs to processes that are no more; hands out each owner, and why
/// something of it is left.
pub fn sweep(tracefs: &Tracefs, mut swept: impl FnMut(Owner, Vec<Error>)) -> Result<()> {
    let instances = tracefs.path("instances");
    let mut names = BTreeSet::new();
    for entry in
        fs::read_dir(&instances).with_context(|| format!("cannot list {}", instances.display()))?
    {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    names.extend(probes(tracefs)?.iter().map(|probe| group(probe).to_owned()));
    for owner in names.iter().filter_map(|name| Owner::of(name)) {
        if !owner.is_alive() {
            let trouble = take_down(tracefs, &owner.to_string());
            swept(owner, trouble);
        }
    }
    Ok(())
}

/// All probes, everybody's, as GROUP/EVENT: Documentation/trace/kprobetrace.rst.
pub fn probes(tracefs: &Tracefs) -> Result<Vec<String>> {
    let definitions = tracefs.read("kprobe_events")?;
    let names = definitions.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_ascii_whitespace().next()
    });
    Ok(names.map(String::from).collect())
}

fn group(probe: &str) -> &str {
    probe.split_once('/').map_or("", |(group, _)| group)
}
