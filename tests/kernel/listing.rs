//! What was told, applied to a listing from before, gives the listing after: names, types, inode
//! numbers, modes and owners, whatever real programs did in between.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::compare::Got;
use crate::fs::{Kind, run};
use crate::programs::SOURCE;
use crate::trace::{Trace, below};
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

/// The cases.
pub fn cases() -> Vec<Case> {
    let kinds = Kind::ALL.into_iter();
    kinds
        .map(|kind| {
            let name = format!("listing/{}", kind.name());
            Case::new(name, move |report: &mut Report| listed(report, kind))
        })
        .collect()
}

fn listed(report: &mut Report, kind: Kind) -> Result<()> {
    let place = kind.place("listing")?;
    let other = match kind {
        Kind::Tmpfs => Kind::Ext4,
        _ => Kind::Tmpfs,
    };
    let other = other.place(&format!("listing-of-{}", kind.name()))?;
    fs::create_dir(place.dir.join("tmp"))?;
    let shell = |script: &str| run(strace::shell(&place.dir, script).env("OTHER", &other.dir));
    shell(&[SOURCE, PREPARE].concat()).context("cannot prepare")?;

    let mut listing = Listing::read(&place.dir)?;
    let trace = Trace::start(below([&place.dir]))?;
    let worked = shell(WORK);
    let got = trace.events(&mut report.problems)?;
    worked?;
    for event in &got {
        if let Err(error) = listing.apply(event) {
            let event = serde_json::to_string(&event.fields)?;
            report.problems.push(format!("{error:#}: {event}"));
        }
    }
    let after = Listing::read(&place.dir)?;
    // On overlayfs, the number that stat(2) tells need not be that of the kernel's inode.
    let differences = listing.differences(&after, place.inos);
    let count = differences.len();
    report.problems.extend(differences.into_iter().take(SHOWN));
    report.notes.push(format!(
        "{} events, {} names afterwards, {count} differences",
        got.len(),
        after.names.len()
    ));
    Ok(())
}

/// The names below a directory, and what they name.
#[derive(Debug, Default)]
struct Listing {
    /// Keys of `files`; several names may be one file's.
    names: BTreeMap<PathBuf, u64>,
    files: HashMap<u64, File>,
    /// How many files there are whose inode number is not known.
    numberless: u64,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File {
    /// As st_mode in inode(7).
    mode: u32,
    uid: u32,
    gid: u32,
    ino: Option<u64>,
}

impl Listing {
    /// What is there now.
    fn read(root: &Path) -> Result<Self> {
        let mut listing = Self::default();
        let mut found = vec![root.to_owned()];
        while let Some(path) = found.pop() {
            let stat = fs::symlink_metadata(&path)?;
            if stat.is_dir() {
                for entry in fs::read_dir(&path)? {
                    found.push(entry?.path());
                }
            }
            let file = File {
                mode: stat.mode(),
                uid: stat.uid(),
                gid: stat.gid(),
                ino: Some(stat.ino()),
            };
            listing.files.insert(stat.ino(), file);
            listing.names.insert(path, stat.ino());
        }
        Ok(listing)
    }

    /// Does what an event tells.
    fn apply(&mut self, event: &Got) -> Result<()> {
        let path = path(event, "path")?;
        let kind = event.get("event").as_str().unwrap_or_default();
        match kind {
            "create" | "mkdir" | "mknod" => {
                let mode = number(event.get("mode")).context("it has a mode")?;
                self.make(event, path, mode)
            }
            "symlink" => self.make(event, path, libc::S_IFLNK | 0o777),
            "delete" | "rmdir" => {
                self.names.remove(&path).context("no such name")?;
                Ok(())
            }
            "link" => {
                let file = self.key(&self::path(event, "old_path")?)?;
                self.name(path, file)
            }
            "rename" => {
                let old = self::path(event, "old_path")?;
                let moved = self.take(&old)?;
                let other = self.take(&path).unwrap_or_default();
                if event.get("exchange") == &Value::Bool(true) {
                    self.put(&old, other);
                }
                self.put(&path, moved);
                Ok(())
            }
            "attrib" => {
                if event.get("path_status") == "deleted" {
                    return Ok(());
                }
                let key = self.key(&path)?;
                let file = self.files.get_mut(&key).context("no such file")?;
                let set = event.get("attrib");
                file.mode = number(&set["mode"]).unwrap_or(file.mode);
                file.uid = number(&set["uid"]).unwrap_or(file.uid);
                file.gid = number(&set["gid"]).unwrap_or(file.gid);
                Ok(())
            }
            kind => bail!("a {kind} in a listing"),
        }
    }

    /// A new file: its owner is who makes it, its group that of a set-group-id directory.
    fn make(&mut self, event: &Got, path: PathBuf, mode: u32) -> Result<()> {
        let id = |effective, real| {
            let id = number(event.process(effective)).or(number(event.process(real)));
            id.context("it is known who did it")
        };
        let parent = self.key(path.parent().context("a new file is in a directory")?)?;
        let parent = self.files[&parent];
        let gid = match parent.mode & libc::S_ISGID {
            0 => id("egid", "gid")?,
            _ => parent.gid,
        };
        let ino = event.get("ino").as_u64();
        let key = ino.unwrap_or_else(|| {
            self.numberless += 1;
            u64::MAX - self.numberless
        });
        let uid = id("euid", "uid")?;
        self.files.insert(
            key,
            File {
                mode,
                uid,
                gid,
                ino,
            },
        );
        self.name(path, key)
    }

    fn key(&self, path: &Path) -> Result<u64> {
        let key = self.names.get(path).copied();
        key.with_context(|| format!("no such name: {}", path.display()))
    }

    fn name(&mut self, path: PathBuf, file: u64) -> Result<()> {
        match self.names.insert(path, file) {
            None => Ok(()),
            Some(_) => bail!("the name is there already"),
        }
    }

    /// Takes away a name and all below it: their paths from there on.
    fn take(&mut self, path: &Path) -> Result<Vec<(PathBuf, u64)>> {
        self.key(path)?;
        let names: Vec<_> = (self.names.keys())
            .filter(|name| name.starts_with(path))
            .cloned()
            .collect();
        let mut taken = Vec::new();
        for name in names {
            if let Some(file) = self.names.remove(&name) {
                taken.push((name.strip_prefix(path)?.to_owned(), file));
            }
        }
        Ok(taken)
    }

    /// Gives names below a path.
    fn put(&mut self, path: &Path, names: Vec<(PathBuf, u64)>) {
        for (below, file) in names {
            // A join with nothing would add a slash.
            let name = path.join(below).components().collect();
            self.names.insert(name, file);
        }
    }

    /// In what another listing differs.
    fn differences(&self, other: &Self, inos: bool) -> Vec<String> {
        let file = |listing: &Self, path: &PathBuf| {
            let file = *listing.files.get(listing.names.get(path)?)?;
            Some(File {
                ino: file.ino.filter(|_| inos),
                ..file
            })
        };
        let mut differences = Vec::new();
        let added = other
            .names
            .keys()
            .filter(|name| !self.names.contains_key(*name));
        for path in self.names.keys().chain(added) {
            let (told, is) = (file(self, path), file(other, path));
            let same = match (told, is) {
                (Some(told), Some(is)) => {
                    let ino = told.ino.and(is.ino);
                    told == File { ino, ..is }
                }
                (told, is) => told == is,
            };
            if !same {
                let path = path.display();
                differences.push(format!("{path}: told {told:x?}, is {is:x?}"));
            }
        }
        differences
    }
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
