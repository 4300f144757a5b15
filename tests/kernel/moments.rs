//! Mounts that live for a moment: what is done on one is told with its whole path, though the
//! mount, and perhaps its namespace, is gone before anybody can look at /proc/PID/mountinfo.
//!
//! What is to happen in another namespace is done by this very program, started once more: its
//! system calls follow each other at once, and it prints the events that it expects.

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{lstat, major, minor};
use nix::unistd::{chdir, mkdir, pivot_root};
use serde_json::json;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compare::compare;
use crate::files::{errno, mode};
use crate::fs::{self as file_systems, Kind, Place, tmpfs};
use crate::inside::{deserialize, serialize};
use crate::log::{Expected, Log};
use crate::trace::{Trace, below, one, worked};
use crate::{Case, Report, sys};

/// The option that makes this program do a part of a case; its name and a directory follow.
pub const OPTION: &str = "--moment";

/// Does a part of a case.
type Part = fn(&mut Log) -> Result<()>;

/// What a process of its own does.
const PARTS: [(&str, Part); 5] = [
    ("propagated", propagated_part),
    ("pivot-below", pivot_below_part),
    ("pivot-over", pivot_over_part),
    ("deep", deep_part),
    ("many", many_part),
];

/// How often most things are done.
const ROUNDS: u32 = 10;
/// How many mounts there are at once ...
const MANY: u32 = 300;
/// ... and the one that a namespace of its own still has when the host has it no more.
const KEPT: u32 = 150;

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("moments/namespaces", namespaces),
        Case::new("moments/own", own),
        Case::new("moments/moved", moved),
        Case::new("moments/bind", bound),
        Case::new("moments/propagated", propagated),
        Case::new("moments/pivot", pivot),
        Case::new("moments/open-tree", open_tree),
        Case::new("moments/deep", deep),
        Case::new("moments/many", many),
    ]
}

/// Does a part, and prints the events that it expects.
pub fn run(words: &[OsString]) -> Result<()> {
    let [name, dir] = words else {
        bail!("a part and a directory are needed");
    };
    let part = PARTS.iter().find(|(part, _)| name == part);
    let (_, work) = part.with_context(|| format!("no such part: {name:?}"))?;
    let mut log = Log::new(&Place::new(dir));
    work(&mut log)?;
    for event in &log.expected {
        println!("{}", serialize(event));
    }
    Ok(())
}

/// Has a part done by a process of its own, and expects what that prints.
fn part(log: &mut Log, name: &str) -> Result<()> {
    let child = Command::new("kernel-tests")
        .args([OPTION, name])
        .arg(&log.dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let pid = child.id() as i32;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{name}: {}", output.status);
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut expected = deserialize(line)?;
        (expected.pid, expected.tid) = (Some(pid), pid);
        log.expected.push(expected);
    }
    Ok(())
}

/// A new directory for a case, with these directories in it.
fn place(case: &str, dirs: &[&str]) -> Result<Place> {
    let place = Kind::Ext4.place(&format!("moments-{case}"))?;
    for dir in dirs {
        fs::create_dir_all(place.dir.join(dir))?;
    }
    Ok(place)
}

impl Expected {
    /// Expects the path to be that of a namespace of its own: the host shows no such file.
    fn only_in(&mut self, namespace: u64) {
        self.fields.insert("mnt_ns".into(), namespace.into());
    }
}

/// Makes a file, and expects it to be told by this path.
fn create<'a>(log: &'a mut Log, path: &Path) -> Result<&'a mut Expected> {
    create_told(log, path, path)
}

/// Makes a file, and expects it to be told by another path.
fn create_told<'a>(log: &'a mut Log, path: &Path, told: &Path) -> Result<&'a mut Expected> {
    made(log, "create", path, told, || sys::creat(path, 0o644))
}

/// Makes something. Its device is its st_dev, as it is on ext4 and tmpfs: a look at mountinfo, as
/// [`Log::made`] takes, takes time, and after pivot_root(2) there is no /proc.
fn made<'a, T>(
    log: &'a mut Log,
    event: &str,
    path: &Path,
    told: &Path,
    operation: impl FnOnce() -> nix::Result<T>,
) -> Result<&'a mut Expected> {
    let what = || format!("{event} {}", path.display());
    let (_, span) = log.run(operation).with_context(what)?;
    let stat = lstat(path).with_context(what)?;
    let fields = json!({
        "event": event,
        "path": told.to_string_lossy(),
        "path_status": "complete",
        "dev": format!("{}:{}", major(stat.st_dev), minor(stat.st_dev)),
        "ino": stat.st_ino,
        "mode": stat.st_mode,
    });
    Ok(log.expect(span, fields))
}

/// Makes a file in `tree` through a mount of that at `at`. Of two paths that are watched, that on
/// the mount that was made first is told.
fn create_through(log: &mut Log, tree: &Path, at: &Path, name: &str) -> Result<()> {
    let (first, path) = (tree.join(name), at.join(name));
    let has_two = first.starts_with(&log.dir);
    let told = if has_two { &first } else { &path };
    create_told(log, &path, told).map(drop)
}

/// mount(2) of what is there already: with these flags it is mounted once more, moved, or changed.
fn mount_again(from: Option<&Path>, at: &Path, flags: MsFlags) -> Result<()> {
    mount(from, at, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot mount {from:?} at {}: {flags:?}", at.display()))
}

/// Unmounts at once, unless somebody looks at it: st-probe may.
fn unmount(at: &Path) -> Result<()> {
    match umount2(at, MntFlags::empty()) {
        Err(Errno::EBUSY) => file_systems::unmount(at),
        result => result.with_context(|| format!("cannot unmount {}", at.display())),
    }
}

/// Takes a mount, and those below it, out of the namespace, whoever looks at it.
fn detach(at: &Path) -> Result<()> {
    umount2(at, MntFlags::MNT_DETACH).with_context(|| format!("cannot detach {}", at.display()))
}

/// The mount namespace of this process.
fn namespace() -> Result<File> {
    File::open("/proc/self/ns/mnt").context("no mount namespace")
}

/// Leaves the host's mount namespace for a copy of it that takes no part in its changes, as
/// unshare(1) does. Returns the copy's inode number.
fn leave_host() -> Result<u64> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_again(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    Ok(namespace()?.metadata()?.ino())
}

/// Namespaces that end with the one thing that was done in them. The kernel gives the number of
/// one, and the device number of its tmpfs, to the next.
fn namespaces(report: &mut Report) -> Result<()> {
    let place = place("namespaces", &["q"])?;
    let script = r#"stat -L -c %i /proc/self/ns/mnt; mount -t tmpfs t "$1"; touch "$2""#;
    one(report, &place, below([&place.dir]), |log, _| {
        for round in 1..=ROUNDS {
            let at = log.path("q");
            let path = at.join(format!("hidden-{round}"));
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-e", "-c", script, "sh"]);
            command.args([&at, &path]);
            let (output, span) = log.run(|| errno(command.output()))?;
            ensure!(output.status.success(), "the script: {output:?}");
            let namespace: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
            let fields = json!({
                "event": "create",
                "path": path.to_string_lossy(),
                "path_status": "complete",
                "mode": libc::S_IFREG | 0o644,
                "mnt_ns": namespace,
            });
            let expected = log.expect(span, fields);
            // Nobody has seen the file.
            expected.optional = vec!["dev", "ino"];
            (expected.pid, expected.tid, expected.comm) = (None, 0, Some("touch".into()));
        }
        Ok(())
    })
}

/// File systems that come and go, with the same device number at one place and then another.
fn own(report: &mut Report) -> Result<()> {
    let names = ["a", "b", "c"];
    let place = place("own", &names)?;
    one(report, &place, below([&place.dir]), |log, _| {
        for (number, name) in names.into_iter().cycle().take(50).enumerate() {
            let at = log.path(name);
            tmpfs(&at, None)?;
            create(log, &at.join(format!("file-{number}")))?;
            let remove = if number % 2 == 0 { unmount } else { detach };
            remove(&at)?;
            // In the directory that the mount had covered.
            create(log, &at.join(format!("below-{number}")))?;
        }
        Ok(())
    })
}

/// A mount, and one that is on it, go to another place and back. The kernel moves none that is on
/// a shared one; the root is private, as no init of the VM has made it shared.
fn moved(report: &mut Report) -> Result<()> {
    let place = place("moved", &["a", "b"])?;
    one(report, &place, below([&place.dir]), |log, _| {
        let (a, inner) = (log.path("a"), log.path("a/inner"));
        tmpfs(&a, None)?;
        made(log, "mkdir", &inner, &inner, || mkdir(&inner, mode(0o755)))?;
        tmpfs(&inner, None)?;
        create(log, &a.join("first"))?;
        for round in 0..ROUNDS {
            for (from, to) in [("a", "b"), ("b", "a")] {
                let (from, at) = (log.path(from), log.path(to));
                mount_again(Some(&from), &at, MsFlags::MS_MOVE)?;
                create(log, &at.join(format!("in-{to}-{round}")))?;
                create(log, &at.join(format!("inner/in-{to}-{round}")))?;
            }
        }
        detach(&a)
    })
}

/// A directory, and then the tree that it is in, mounted at a second place. A tree inside the
/// watch has two paths there, one outside only that second one.
fn bound(report: &mut Report) -> Result<()> {
    let place = place("bind", &["src/deep", "src/inner", "at"])?;
    let outside = place.dir.with_extension("outside");
    for name in ["deep", "inner"] {
        fs::create_dir_all(outside.join(name))?;
    }
    one(report, &place, below([&place.dir]), |log, _| {
        let (at, trees) = (log.path("at"), [log.path("src"), outside.clone()]);
        for round in 0..ROUNDS {
            for tree in &trees {
                let deep = tree.join("deep");
                file_systems::bind(&deep, &at)?;
                create_through(log, &deep, &at, &format!("bound-{round}"))?;
                unmount(&at)?;

                let inner = tree.join("inner");
                tmpfs(&inner, None)?;
                mount_again(Some(tree), &at, MsFlags::MS_BIND | MsFlags::MS_REC)?;
                create_through(log, tree, &at, &format!("inner/file-{round}"))?;
                create_through(log, tree, &at, &format!("deep/file-{round}"))?;
                detach(&at)?;
                detach(&inner)?;
            }
            // Without a mount inside the watch it is not below that.
            let unseen = outside.join(format!("deep/unseen-{round}"));
            log.silent("create", || sys::creat(&unseen, 0o644))?;
        }
        Ok(())
    })
}

/// What a namespace mounts on a shared mount, the host has at once, and no longer than that.
fn propagated(report: &mut Report) -> Result<()> {
    let place = place("propagated", &["s"])?;
    let shared = place.dir.join("s");
    tmpfs(&shared, None)?;
    mount_again(None, &shared, MsFlags::MS_SHARED)?;
    fs::create_dir(shared.join("x"))?;
    one(report, &place, below([&place.dir]), |log, _| {
        part(log, "propagated")?;
        detach(&shared)
    })
}

fn propagated_part(log: &mut Log) -> Result<()> {
    let at = log.path("s/x");
    let host = namespace()?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let own = namespace()?;
    for round in 0..ROUNDS {
        tmpfs(&at, None)?;
        create(log, &at.join(format!("inner-{round}")))?;
        setns(&host, CloneFlags::CLONE_NEWNS)?;
        create(log, &at.join(format!("outer-{round}")))?;
        setns(&own, CloneFlags::CLONE_NEWNS)?;
        unmount(&at)?;
        create(log, &at.join(format!("below-{round}")))?;
    }
    Ok(())
}

/// A namespace gets another root. The mount that this is has no place on the host then, and is
/// below no watch.
fn pivot(report: &mut Report) -> Result<()> {
    let place = place("pivot", &["root"])?;
    let trace = Trace::start(["--json", "--all"])?;
    let mut log = Log::new(&place);
    let result = part(&mut log, "pivot-below").and_then(|()| part(&mut log, "pivot-over"));
    let expected = worked(report, vec![(log, result)]);
    let mut got = trace.events(&mut report.problems)?;
    // Others may do something, too.
    got.retain(|got| expected.iter().any(|expected| expected.tid == got.tid()));
    compare(&expected, &got, &mut report.problems);
    Ok(())
}

/// Mounts what is to be the root of a namespace of its own, with a mount on it, and works there.
/// Returns the namespace's inode number.
fn new_root(log: &mut Log) -> Result<u64> {
    let namespace = leave_host()?;
    let root = log.path("root");
    tmpfs(&root, None)?;
    create(log, &root.join("before"))?.only_in(namespace);
    let old = root.join("old");
    made(log, "mkdir", &old, &old, || mkdir(&old, mode(0o755)))?.only_in(namespace);
    let volume = root.join("volume");
    made(log, "mkdir", &volume, &volume, || {
        mkdir(&volume, mode(0o755))
    })?
    .only_in(namespace);
    tmpfs(&volume, None)?;
    chdir(&root)?;
    Ok(namespace)
}

/// The old root is below the new one until it is unmounted.
fn pivot_below_part(log: &mut Log) -> Result<()> {
    let namespace = new_root(log)?;
    pivot_root(".", "old")?;
    create(log, Path::new("/between"))?.only_in(namespace);
    let of_host = log.path("of-host");
    let here = Path::new("/old").join(of_host.strip_prefix("/")?);
    create_told(log, &here, &of_host)?;
    detach(Path::new("/old"))?;
    create(log, Path::new("/new-file"))?.only_in(namespace);
    create(log, Path::new("/old/new-file"))?.only_in(namespace);
    create(log, Path::new("/volume/new-file"))?.only_in(namespace);
    Ok(())
}

/// The old root is mounted on the new one until it is unmounted, as runc does it: pivot_root(2),
/// `pivot_root(".", ".")`.
fn pivot_over_part(log: &mut Log) -> Result<()> {
    let namespace = new_root(log)?;
    pivot_root(".", ".")?;
    detach(Path::new("."))?;
    create(log, Path::new("/new-file"))?.only_in(namespace);
    create(log, Path::new("/volume/new-file"))?.only_in(namespace);
    Ok(())
}

/// Mounts that are made first and get their place afterwards: a new file system, and a copy of a
/// tree that outlives a mount of the original.
fn open_tree(report: &mut Report) -> Result<()> {
    let place = place("open-tree", &["n", "c", "src/inner"])?;
    one(report, &place, below([&place.dir]), |log, _| {
        let [n, c, src] = ["n", "c", "src"].map(|name| log.path(name));
        let inner = src.join("inner");
        for round in 0..ROUNDS {
            let new = sys::new_mount(c"tmpfs").context("cannot make a tmpfs")?;
            sys::attach(&new, &n).context("cannot attach it")?;
            create(log, &n.join(format!("file-{round}")))?;
            detach(&n)?;

            tmpfs(&inner, None)?;
            let tree = sys::clone_tree(&src).context("cannot copy a tree")?;
            sys::attach(&tree, &c).context("cannot attach it")?;
            create_through(log, &src, &c, &format!("inner/both-{round}"))?;
            detach(&inner)?;
            create(log, &c.join(format!("inner/copy-{round}")))?;
            detach(&c)?;
        }
        Ok(())
    })
}

/// Deeper than any record holds, with long names.
fn deep_in(dir: &Path) -> PathBuf {
    (0..14).fold(dir.to_owned(), |dir, level| {
        dir.join(format!("{level:-<100}"))
    })
}

fn deep(report: &mut Report) -> Result<()> {
    let place = place("deep", &[])?;
    fs::create_dir_all(deep_in(&place.dir))?;
    one(report, &place, below([&place.dir]), |log, _| {
        part(log, "deep")
    })
}

fn deep_part(log: &mut Log) -> Result<()> {
    let namespace = leave_host()?;
    let at = deep_in(&log.dir);
    tmpfs(&at, None)?;
    create(log, &at.join("file"))?.only_in(namespace);
    Ok(())
}

/// Many mounts, one right after the other, and a copy of them all.
fn many(report: &mut Report) -> Result<()> {
    let place = place("many", &[])?;
    let at = |number: u32| place.dir.join(format!("many/{number}"));
    for number in 0..MANY {
        fs::create_dir_all(at(number))?;
    }
    one(report, &place, below([&place.dir]), |log, _| {
        for number in 0..MANY {
            tmpfs(&at(number), None)?;
            create(log, &at(number).join("file"))?;
        }
        part(log, "many")?;
        (0..MANY)
            .filter(|&number| number != KEPT)
            .try_for_each(|number| detach(&at(number)))
    })
}

fn many_part(log: &mut Log) -> Result<()> {
    let at = log.path(format!("many/{KEPT}"));
    let host = namespace()?;
    let number = leave_host()?;
    let own = namespace()?;
    create(log, &at.join("both"))?;
    setns(&host, CloneFlags::CLONE_NEWNS)?;
    detach(&at)?;
    setns(&own, CloneFlags::CLONE_NEWNS)?;
    create(log, &at.join("kept"))?.only_in(number);
    Ok(())
}
