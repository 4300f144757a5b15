//! Takes down what an st-probe has in the kernel: its instance and its probes.

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

/// How often to try to remove an instance that is in use, and the pause before the next try.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Takes down the instance and the probes of an owner's name, if there are any; returns an error
/// for each that is left.
pub fn take_down(tracefs: &Tracefs, name: &str) -> Vec<Error> {
    grace::shortened(|| take_all_down(tracefs, name))
}

fn take_all_down(tracefs: &Tracefs, name: &str) -> Vec<Error> {
    let mut errors = Vec::new();
    let instance = Path::new("instances").join(name);
    if tracefs.path(&instance).exists() {
        errors.extend(tracefs.write(instance.join("events/enable"), "0").err());
        let path = tracefs.path(&instance);
        let removed = remove(&path).with_context(|| format!("cannot remove {}", path.display()));
        errors.extend(removed.err());
    }
    match probes(tracefs) {
        Ok(probes) => {
            for probe in probes.iter().filter(|probe| group(probe) == name) {
                let removed = tracefs.write("kprobe_events", &format!("-:{probe}"));
                errors.extend(removed.err());
            }
        }
        Err(error) => errors.push(error),
    }
    // Another st-probe may take them down at the same time.
    errors.retain(|error| !is_not_found(error));
    errors
}

fn is_not_found(error: &Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Removes an instance. Another process may have one of its files open for a short time.
fn remove(instance: &Path) -> io::Result<()> {
    for _ in 0..TRIES {
        match fs::remove_dir(instance) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(PAUSE),
            result => return result,
        }
    }
    fs::remove_dir(instance)
}

/// Takes down what belongs to processes that have ended. Calls `swept` with each owner and an
/// error for each thing of it that is left.
pub fn sweep(tracefs: &Tracefs, mut swept: impl FnMut(Owner, Vec<Error>)) -> Result<()> {
    for owner in owners(tracefs)? {
        if !owner.may_be_alive(tracefs.proc()) {
            let errors = take_down(tracefs, &owner.to_string());
            swept(owner, errors);
        }
    }
    Ok(())
}

/// The owners of all instances and probes that an st-probe has made.
fn owners(tracefs: &Tracefs) -> Result<BTreeSet<Owner>> {
    let mut owners = BTreeSet::new();
    let instances = tracefs.path("instances");
    for entry in
        fs::read_dir(&instances).with_context(|| format!("cannot list {}", instances.display()))?
    {
        let name = entry?.file_name();
        owners.extend(name.to_str().and_then(Owner::of));
    }
    for probe in probes(tracefs)? {
        owners.extend(Owner::of(group(&probe)));
    }
    Ok(owners)
}

/// The probes of everybody, as GROUP/EVENT: Documentation/trace/kprobetrace.rst.
pub fn probes(tracefs: &Tracefs) -> Result<Vec<String>> {
    let definitions = tracefs.read("kprobe_events")?;
    let names = definitions.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_ascii_whitespace().next()
    });
    Ok(names.map(String::from).collect())
}

/// The group of a probe; empty if the name has none.
fn group(probe: &str) -> &str {
    probe.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::proc::Proc;
    use crate::sys::sysfs::Sysfs;
    use crate::testing::Folder;

    /// The probes of three st-probes and of somebody else.
    const PROBES: &str = "\
        p:systracer_7_100_4026531836/mkdir vfs_mkdir name=+0($arg2):string\n\
        r64:systracer_7_100_4026531836/mkdir_ret vfs_mkdir ret=$retval\n\
        p:systracer_70_100_4026531836/mkdir vfs_mkdir\n\
        p:systracer_7_100_40265318361/mkdir vfs_mkdir\n\
        p:kprobes/systracer_7_100_4026531836 vfs_mkdir\n\
        p:kprobes/mine vfs_mkdir name=+0($arg2):string a=@systracer_7_100_4026531836/b\n";

    fn folder() -> Folder {
        let folder = Folder::new();
        folder.write("tracing/kprobe_events", PROBES);
        for instance in [
            "systracer_7_100_4026531836",
            "systracer_8_100_4026531836",
            "mine",
        ] {
            folder.directory(Path::new("tracing/instances").join(instance));
        }
        folder.link("proc/self/ns/pid", "pid:[4026531836]");
        folder
    }

    fn tracefs(folder: &Folder) -> Tracefs {
        let proc = Proc::at(folder.path("proc"));
        Tracefs::at(folder.path("tracing"), proc, Sysfs::at(folder.path("sys")))
    }

    fn alive(folder: &Folder, pid: i32) {
        let zeros = "0 ".repeat(18);
        let stat = format!("{pid} (st-probe) S {zeros}100");
        folder.write(format!("proc/{pid}/stat"), stat);
        let status = format!("Name:\ta\nPPid:\t1\nUid:\t0\t0\nGid:\t0\t0\nNSpid:\t{pid}\n");
        folder.write(format!("proc/{pid}/status"), status);
        folder.link(format!("proc/{pid}/ns/pid"), "pid:[4026531836]");
    }

    #[test]
    fn names_the_probes_of_everybody() {
        let expected = [
            "systracer_7_100_4026531836/mkdir",
            "systracer_7_100_4026531836/mkdir_ret",
            "systracer_70_100_4026531836/mkdir",
            "systracer_7_100_40265318361/mkdir",
            "kprobes/systracer_7_100_4026531836",
            "kprobes/mine",
        ];
        assert_eq!(probes(&tracefs(&folder())).unwrap(), expected);
    }

    #[test]
    fn takes_down_an_instance_and_its_probes_only() {
        let folder = folder();
        let tracefs = tracefs(&folder);
        let errors = take_down(&tracefs, "systracer_7_100_4026531836");
        assert!(errors.is_empty(), "{errors:?}");
        let left = |instance| tracefs.path("instances").join(instance).exists();
        assert!(!left("systracer_7_100_4026531836"));
        assert!(left("systracer_8_100_4026531836") && left("mine"));
        // A file that is no tracefs keeps the last command at its beginning.
        let command = "-:systracer_7_100_4026531836/mkdir_ret";
        assert!(tracefs.read("kprobe_events").unwrap().starts_with(command));
    }

    #[test]
    fn takes_down_no_probe_of_another_group() {
        let folder = folder();
        let tracefs = tracefs(&folder);
        let errors = take_down(&tracefs, "systracer_8_100_4026531836");
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(tracefs.read("kprobe_events").unwrap(), PROBES);
    }

    #[test]
    fn tells_what_is_left() {
        let folder = folder();
        folder.write("tracing/instances/systracer_8_100_4026531836/file", "");
        let errors = take_down(&tracefs(&folder), "systracer_8_100_4026531836");
        let [error] = &errors[..] else {
            panic!("{errors:?}");
        };
        assert!(error.to_string().starts_with("cannot remove "), "{error}");
    }

    #[test]
    fn sweeps_what_belongs_to_processes_that_have_ended() {
        let folder = folder();
        alive(&folder, 7);
        let mut swept = Vec::new();
        let tracefs = tracefs(&folder);
        sweep(&tracefs, |owner, errors| {
            assert!(errors.is_empty(), "{errors:?}");
            swept.push(owner.to_string());
        })
        .unwrap();
        let expected = [
            "systracer_7_100_40265318361",
            "systracer_8_100_4026531836",
            "systracer_70_100_4026531836",
        ];
        assert_eq!(swept, expected);
        let left = |instance| tracefs.path("instances").join(instance).exists();
        assert!(left("systracer_7_100_4026531836") && left("mine"));
        assert!(!left("systracer_8_100_4026531836"));
    }
}
