//! What was told, applied to a listing from before, gives the listing after: names, types, inode
//! numbers, modes and owners, whatever real programs did in between.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::{self, Debug};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compare::Got;
use crate::container::{self, IMAGE, STORAGE};
use crate::fs::{Kind, Place, device_of, run};
use crate::patience::wait_until;
use crate::programs::SOURCE;
use crate::trace::{Trace, below};
use crate::tree::Tree;
use crate::{Case, Report, strace};

/// How many differences are shown.
const SHOWN: usize = 40;

/// What the programs find. `$OTHER` is a directory on another file system.
const PREPARE: &str = r#"
rm source/two*/*
cp -a source "$OTHER/tree"
chmod 751 "$OTHER/tree/net"
tar --create --file=archive source
zip --quiet --recurse-paths archive.zip source/json source/net
mkdir -p host/etc host/home host/var/log root/var/lib/dpkg/info root/var/lib/dpkg/updates
printf 'root:x:0:0:root:/root:/bin/sh\n' >host/etc/passwd
printf 'root:x:0:\n' >host/etc/group
printf 'root:*:20000:0:99999:7:::\n' >host/etc/shadow
chmod 640 host/etc/shadow
: >root/var/lib/dpkg/status
mkdir -p package/DEBIAN package/etc package/usr
echo one >package/etc/test.conf
echo /etc/test.conf >package/DEBIAN/conffiles
cp -a source package/usr
cat >package/DEBIAN/control <<END
Package: test
Version: 1
Architecture: all
Maintainer: Tester <tester@example.org>
Description: test
END
dpkg-deb -Znone --build package test.deb
git config --global user.email tester@example.org
git config --global user.name Tester
git config --global gc.auto 0
git config --global maintenance.auto false
"#;

const WORK: &str = r#"
cp -a source copy
cp -p source/set-uid plain
cp source/set-gid plain
mkdir moved
mv "$OTHER/tree" moved
mv moved/tree/net "$OTHER"
mv "$OTHER/net" moved
chmod -R g+w copy/json
chown -R 5:6 copy/net

mkdir unpacked unzipped
tar --extract --file=archive --directory=unpacked
unzip -q archive.zip -d unzipped
rsync --archive --acls source/ synchronized
rm -r synchronized/json
rsync --archive --acls --delete copy/ synchronized

mkdir log
echo one >log/a
echo two >log/b
chmod 640 log/b
chown 1:2 log/b
printf '%s/log/a {\n rotate 2\n create\n su root root\n}\n%s/log/b {\n copytruncate\n}\n' \
    "$PWD" "$PWD" >rotate
for time in 1 2 3; do
    logrotate --force --state "$PWD/log.state" rotate
    echo more >>log/a
done

dpkg --force-unsafe-io --root="$PWD/root" --install test.deb
dpkg --root="$PWD/root" --purge test

git init --quiet repository
cd repository
cp -a ../source/json ../source/group .
git add .
git commit --quiet --message=one
git mv json moved
git commit --quiet --message=two
git gc --quiet
git checkout --quiet -b other HEAD~1
cd ..

sqlite3 data.db 'create table t(a); insert into t values(1),(2); delete from t; vacuum;'
sqlite3 data.db 'pragma journal_mode=wal; insert into t values(3);' >wal

useradd --prefix "$PWD/host" --create-home --shell /bin/sh tester
usermod --prefix "$PWD/host" --comment Tester tester
userdel --prefix "$PWD/host" tester

setfacl --modify user:1000:rwx plain
setfacl --modify mask::r plain
setfacl --remove-all plain
setfacl --recursive --modify group:7:rx copy/group
mkdir shared
setfacl --default --modify user:1000:rwx shared
echo new >shared/new
mkdir shared/dir
cp -a plain shared
cp --preserve=all shared/new plain
setfacl --remove-default shared
chmod 600 shared/new
"#;

/// Containers come and go. Their image holds nothing but this program, which refuses to work there.
const CONTAINERS: [&str; 9] = [
    "create --network=none --name=listed $IMAGE /kernel-tests",
    "cp /etc/passwd listed:/copied",
    "start --attach listed || :",
    "cp /etc/group listed:/copied",
    "start --attach listed || :",
    "commit --quiet listed localhost/committed",
    "rm listed",
    "run --rm --network=none localhost/committed /kernel-tests || :",
    "rmi localhost/committed",
];

/// The cases.
pub fn cases() -> Vec<Case> {
    // Each takes a while. What the others do differently, shorter cases show.
    let kinds = [Kind::Ext4, Kind::Btrfs, Kind::Overlay].into_iter();
    kinds
        .map(|kind| {
            let name = format!("listing/{}", kind.name());
            Case::new(name, move |report: &mut Report| listed(report, kind))
        })
        .chain([Case::new("listing/podman", contained)])
        .collect()
}

fn listed(report: &mut Report, kind: Kind) -> Result<()> {
    let place = kind.place("listing")?;
    let other = Kind::Tmpfs.place(&format!("listing-of-{}", kind.name()))?;
    fs::create_dir(place.dir.join("tmp"))?;
    let shell = |script: &str| run(strace::shell(&place.dir, script).env("OTHER", &other.dir));
    shell(&[SOURCE, PREPARE].concat()).context("cannot prepare")?;

    let before = listing(&place)?;
    let trace = Trace::start(below([&place.dir]))?;
    let worked = shell(WORK);
    let got = trace.events(&mut report.problems)?;
    worked?;
    compare(report, &place, before, &got)
}

/// What podman keeps of images and containers.
fn contained(report: &mut Report) -> Result<()> {
    container::make_image()?;
    let place = Place::new(STORAGE);
    let device = device_of(&place.dir)?;
    let before = listing(&place)?;
    let trace = Trace::start(below([&place.dir]))?;
    let worked = CONTAINERS.into_iter().try_for_each(contain);
    let mut got = trace.events(&mut report.problems)?;
    worked?;
    // What is done on the merged directory of a container is seen as well on its layers.
    got.retain(|event| *event.get("dev") == *device);
    compare(report, &place, before, &got)
}

/// Lets podman do something. What watches a container ends after it, and unmounts its root: a
/// podman that came before could write below where that was.
fn contain(arguments: &str) -> Result<()> {
    let mut script = Command::new("sh");
    script.arg("-euc");
    script.arg(format!("podman --root {STORAGE} {arguments}"));
    run(script.env("IMAGE", IMAGE))?;
    wait_until(
        || format!("podman is still at work, after: {arguments}"),
        || Ok(!is_running("conmon")? && !is_running("podman")?),
    )
}

/// Whether a program runs.
fn is_running(name: &str) -> Result<bool> {
    let processes = fs::read_dir("/proc")?.flatten();
    let mut comms = processes.flat_map(|process| fs::read_to_string(process.path().join("comm")));
    Ok(comms.any(|comm| comm.trim_end() == name))
}

/// Compares a listing from before, changed by what was told, with what is there now.
fn compare(report: &mut Report, place: &Place, mut told: Tree<File>, got: &[Got]) -> Result<()> {
    for event in got {
        if let Err(error) = apply(&mut told, event, place.inos) {
            let event = serde_json::to_string(&event.fields)?;
            report.problems.push(format!("{error:#}: {event}"));
        }
    }
    let after = listing(place)?;
    // Of pipes and sockets no inode number need be told.
    for path in after.names() {
        if let (Some(index), Ok(is)) = (told.index(path), after.at(path)) {
            let file = told.file(index);
            file.ino = file.ino.or(is.ino);
        }
    }
    let differences = told.differences(&after);
    let count = differences.len();
    report.problems.extend(differences.into_iter().take(SHOWN));
    report.notes.push(format!(
        "{} events, {} names afterwards, {count} differences",
        got.len(),
        after.names().count()
    ));
    Ok(())
}

/// What is known of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct File {
    /// As st_mode in inode(7).
    mode: u32,
    uid: u32,
    gid: u32,
    /// The number of its inode, where that is known.
    ino: Option<u64>,
}

impl Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mode,
            uid,
            gid,
            ino,
        } = self;
        write!(f, "mode {mode:o} uid {uid} gid {gid} ino {ino:?}")
    }
}

/// What is there now.
fn listing(place: &Place) -> Result<Tree<File>> {
    Tree::read(&place.dir, |_, stat| {
        Ok(File {
            mode: stat.mode(),
            uid: stat.uid(),
            gid: stat.gid(),
            // On overlayfs, the number that stat(2) tells need not be that of the kernel's inode.
            ino: place.inos.then_some(stat.ino()),
        })
    })
}

/// Does what an event tells.
fn apply(tree: &mut Tree<File>, event: &Got, inos: bool) -> Result<()> {
    let path = path(event, "path")?;
    let old = || self::path(event, "old_path");
    let kind = event.get("event").as_str().unwrap_or_default();
    match kind {
        "create" | "mkdir" | "mknod" | "symlink" => {
            let file = made(tree, event, &path, inos)?;
            let file = tree.add(file);
            name(tree, path, file)
        }
        "delete" | "rmdir" => tree.remove(&path),
        "link" => {
            let file = index(tree, &old()?)?;
            name(tree, path, file)
        }
        "rename" if event.get("exchange") == &Value::Bool(true) => tree.exchange(&old()?, &path),
        "rename" => {
            let old = old()?;
            tree.rename(&old, &path)?;
            if event.get("whiteout") == &Value::Bool(true) {
                let (uid, gid) = owner(tree, event, &old)?;
                let whiteout = File {
                    mode: libc::S_IFCHR,
                    uid,
                    gid,
                    ino: None,
                };
                let file = tree.add(whiteout);
                name(tree, old, file)?;
            }
            Ok(())
        }
        "attrib" if event.get("path_status") == "deleted" => Ok(()),
        "attrib" => {
            let index = index(tree, &path)?;
            let file = tree.file(index);
            let set = event.get("attrib");
            file.mode = number(&set["mode"]).unwrap_or(file.mode);
            file.uid = number(&set["uid"]).unwrap_or(file.uid);
            file.gid = number(&set["gid"]).unwrap_or(file.gid);
            Ok(())
        }
        kind => bail!("a {kind} in a listing"),
    }
}

/// The owner and group of a new file: who makes it, and the group of a set-group-id directory.
fn owner(tree: &Tree<File>, event: &Got, path: &Path) -> Result<(u32, u32)> {
    let id = |effective, real| {
        let id = number(event.process(effective)).or(number(event.process(real)));
        id.context("it is known who did it")
    };
    let parent = tree.at(path.parent().context("a new file is in a directory")?)?;
    let gid = match parent.mode & libc::S_ISGID {
        0 => id("egid", "gid")?,
        _ => parent.gid,
    };
    Ok((id("euid", "uid")?, gid))
}

/// A new file.
fn made(tree: &Tree<File>, event: &Got, path: &Path, inos: bool) -> Result<File> {
    let (uid, gid) = owner(tree, event, path)?;
    let mode = match event.get("event") == "symlink" {
        true => libc::S_IFLNK | 0o777,
        false => number(event.get("mode")).context("it has a mode")?,
    };
    Ok(File {
        mode,
        uid,
        gid,
        ino: event.get("ino").as_u64().filter(|_| inos),
    })
}

fn index(tree: &Tree<File>, path: &Path) -> Result<usize> {
    let index = tree.index(path);
    index.with_context(|| format!("no such name is known: {}", path.display()))
}

/// Gives a file a name, which must be new.
fn name(tree: &mut Tree<File>, path: PathBuf, file: usize) -> Result<()> {
    if tree.index(&path).is_some() {
        bail!("the name is there already");
    }
    tree.name(path, file);
    Ok(())
}

/// A path of an event.
fn path(event: &Got, name: &str) -> Result<PathBuf> {
    let bytes = event.get(&format!("{name}_bytes"));
    if !bytes.is_null() {
        bail!("a name that is no UTF-8");
    }
    let path = event.get(name).as_str().context("it has a path")?;
    Ok(path.into())
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}
