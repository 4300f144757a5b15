//! Real programs, deep below a watched directory: what was reported of them is what
//! another witness saw them do.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs;

use crate::compare::{Got, compare, key};
use crate::fs::{Kind, run};
use crate::log::Expected;
use crate::spaces::tells_subvolumes;
use crate::trace::{Trace, watch};
use crate::tree::Tree;
use crate::witness::Witness;
use crate::{Case, Report, strace};

/// How many directories there are between the watched one and the programs' work.
const DEPTH: usize = 12;

/// Programs, and what they need, as scripts for a shell.
struct Row {
    name: &'static str,
    kind: Kind,
    /// Before anything is traced.
    prepare: &'static [&'static str],
    work: &'static [&'static str],
}

/// Some hundred files of every kind, in directories, with odd names and modes among them.
pub const SOURCE: &str = r#"
mkdir source
cp -a /usr/include/linux/netfilter* /usr/include/net /usr/lib/python3.*/json source
cd source
mkdir empty group 'two words'
chmod 2775 group
ln net/if.h hard
ln net/if.h net/harder
ln -s net/if.h soft
ln -s nowhere dangling
ln -s ../.. group/up
mkfifo pipe
mknod null c 1 3
touch "two words/$(printf 'back\\slash \042 \377 \303\244')"
touch set-uid set-gid
chown 1:2 set-uid
chmod 4755 set-uid
chmod 2755 set-gid
cd ..
"#;

/// Changes to that: of content, mode and kind, and things that go, come and move.
const CHANGES: &str = r#"
cd source
rm -r net/if.h soft json
mkdir json soft new
mv netfilter new
echo more >>hard
chmod 600 netfilter_ipv4/*
chown 3:4 netfilter_ipv6/*
ln -sfn elsewhere dangling
rm pipe
touch pipe
cd ..
"#;

const ROWS: &[Row] = &[
    Row {
        name: "git-clone",
        kind: Kind::Ext4,
        prepare: &[
            SOURCE,
            r#"
git config --global user.email tester@example.org
git config --global user.name Tester
git config --global init.defaultBranch main
git config --global gc.auto 0
git config --global maintenance.auto false
rm source/pipe source/null
mv source repository
cd repository
git init --quiet
git add .
git commit --quiet --message=one
git checkout --quiet -b other
git mv json other
git rm --quiet -r net
git commit --quiet --all --message=two
git checkout --quiet main
echo more >>set-uid
git commit --quiet --all --message=three
"#,
        ],
        work: &[r#"
git clone --quiet repository clone
cd clone
git checkout --quiet other
git checkout --quiet -b third main
git mv netfilter moved
git commit --quiet --all --message=four
git merge --quiet --no-edit other
git gc --quiet
"#],
    },
    Row {
        name: "tar",
        kind: Kind::Xfs,
        prepare: &[SOURCE, "tar --create --file=archive source; rm -r source"],
        work: &[r#"
tar --extract --file=archive
tar --extract --file=archive --overwrite source/group source/net
tar --extract --file=archive --recursive-unlink
"#],
    },
    Row {
        name: "cp",
        kind: Kind::Btrfs,
        prepare: &[SOURCE],
        work: &[r#"
cp -a source copy
cp -al source linked
cp -a --remove-destination --backup=numbered source/. copy
"#],
    },
    Row {
        name: "rsync",
        kind: Kind::Overlay,
        prepare: &[SOURCE],
        work: &[
            "rsync --archive --hard-links source/ copy",
            CHANGES,
            r#"
rsync --archive --hard-links --delete source/ copy
rsync --archive --hard-links --delete --backup --delay-updates source/json/ copy
"#,
        ],
    },
    Row {
        name: "dpkg",
        kind: Kind::Ext4,
        prepare: &[
            SOURCE,
            r#"
mkdir -p package/DEBIAN package/etc package/usr root/var/lib/dpkg/info root/var/lib/dpkg/updates
: >root/var/lib/dpkg/status
echo one >package/etc/test.conf
echo /etc/test.conf >package/DEBIAN/conffiles
build() {
    rm -rf package/usr/source
    cp -a source package/usr
    cat >package/DEBIAN/control <<END
Package: test
Version: $1
Architecture: all
Maintainer: Tester <tester@example.org>
Description: test
END
    dpkg-deb -Znone --build package "test-$1.deb"
}
build 1
"#,
            CHANGES,
            "echo two >package/etc/test.conf; build 2",
        ],
        work: &[r#"
for version in 1 2; do
    dpkg --force-unsafe-io --root="$PWD/root" --install "test-$version.deb"
done
dpkg --root="$PWD/root" --purge test
"#],
    },
    Row {
        name: "gcc",
        kind: Kind::Tmpfs,
        prepare: &[r#"
for n in 1 2 3 4 5 6; do
    printf '#include <stdio.h>\nint f%s(void) { return printf("%s"); }\n' $n $n >f$n.c
done
echo 'int f1(void), f2(void); int main() { return f1() + f2() - 2; }' >main.c
"#],
        work: &[r#"
for n in 1 2 3 4; do
    gcc -O1 -c f$n.c
done
gcc -c f1.c f2.c
ar rcs libf.a f?.o
ar d libf.a f2.o
ar r libf.a f2.o
gcc -shared -fPIC -save-temps=obj -o libg.so f5.c f6.c
gcc -flto -save-temps -o main main.c libf.a
strip main
./main
objcopy main other
"#],
    },
    Row {
        name: "coreutils",
        kind: Kind::Xfs,
        prepare: &[SOURCE],
        work: &[r#"
install -D -m 4751 -o 1 -g 2 source/net/if.h one/two/program
install -d -m 1777 one/shared
mktemp >/dev/null
mktemp -d >/dev/null
ln -L source/soft one/followed
ln -P source/soft one/itself
mv --exchange --no-target-directory source/net source/netfilter
mv --exchange source/net/xt_mac.h source/netfilter/if.h
mv --no-target-directory source/json source/empty
mkdir source/empty/below
cp --parents --preserve=mode source/empty/*.py one
ln -f source/hard source/set-uid
ln -fs elsewhere source/soft
split -l 100 source/netfilter/if.h one/part.
shred -u -n 1 one/part.aa
chmod -R g+w,o= source
chown -R --no-dereference 5:6 source
chgrp -R 7 source/netfilter_ipv6
rm -r source
mkdir -p three/four/five
rmdir -p three/four/five
"#],
    },
    Row {
        name: "python",
        kind: Kind::Ext4,
        prepare: &[],
        work: &[PYTHON],
    },
];

/// What programs may do, but seldom do.
const PYTHON: &str = r#"
exec python3 - <<'END'
import os, socket, subprocess, threading

here = os.open(".", os.O_RDONLY)

def touch(path, **at):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666, **at))

# A file that gets its name later.
file = os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o640)
os.fchmod(file, 0o600)
os.link(f"/proc/self/fd/{file}", "later", src_dir_fd=here, follow_symlinks=True)
os.chmod("later", 0o644)

# One that loses it.
file = os.open("early", os.O_CREAT | os.O_WRONLY)
os.rename("early", "late")
os.fchmod(file, 0o6755)
os.unlink("late")
os.fchmod(file, 0o4711)
os.fchown(file, -1, 1)

# Directories that move away while somebody is in them.
os.makedirs("one/two/three/four")
os.chdir("one/two/three")
inside = os.open("four", os.O_RDONLY)
os.rename("../../../one", "../../../uno")
touch("a")
touch("b", dir_fd=inside)
os.rename("../../two", "../../../dos")
os.mkdir("c")
os.mkdir("../d", dir_fd=inside)
os.umask(0o077)
subprocess.run(["mkdir", "e", "../f"], check=True)
subprocess.run("mv four ../quatro; mkdir g; cd ../quatro; touch h", shell=True, check=True)
touch("i", dir_fd=inside)
os.rename("b", "../j", src_dir_fd=inside, dst_dir_fd=inside)
os.unlink("../j", dir_fd=inside)
os.rmdir("c")
os.fchdir(here)

# What is there by other ways.
sockets = [socket.socket(socket.AF_UNIX) for _ in range(3)]
sockets[0].bind("socket")
sockets[1].bind("dos/socket")
sockets[2].bind("\0of no file system")
os.fchmod(sockets[0].fileno(), 0o600)
os.chmod("socket", 0o600)
os.mknod("regular", 0o100644)
os.mkfifo("pipe")
os.symlink("regular", "soft")
os.chmod("soft", 0o604)
os.chown("soft", 1, 2)
os.lchown("soft", 3, -1)
os.chown("regular", -1, -1)
os.symlink("dos/created", "dangling")
touch("dangling")
os.utime("regular")
os.setxattr("regular", "user.attribute", b"value")
os.truncate("regular", 100)

def work(name):
    os.mkdir(name)
    at = os.open(name, os.O_RDONLY)
    for number in range(20):
        touch(f"{name}/{number}")
        os.rename(f"{number}", f"{number}-renamed", src_dir_fd=at, dst_dir_fd=at)
        if number % 2:
            os.unlink(f"{number}-renamed", dir_fd=at)

# At once: threads, and processes.
threads = [threading.Thread(target=work, args=[f"thread{n}"]) for n in range(3)]
for thread in threads:
    thread.start()
children = []
for n in range(3):
    child = os.fork()
    if child == 0:
        work(f"process{n}")
        os._exit(0)
    children.append(child)
for thread in threads:
    thread.join()
for child in children:
    assert os.waitpid(child, 0)[1] == 0
END
"#;

/// The cases.
pub fn cases() -> Vec<Case> {
    ROWS.iter()
        .map(|row| {
            Case::new(
                format!("witness/{}", row.name),
                move |report: &mut Report| witnessed(report, row),
            )
        })
        .collect()
}

fn witnessed(report: &mut Report, row: &Row) -> Result<()> {
    // Where inode numbers repeat, paths say that they may be others.
    let kind = match row.kind {
        Kind::Btrfs if !tells_subvolumes() => Kind::Ext4,
        kind => kind,
    };
    let place = kind.place(&format!("witness-{}", row.name))?;
    let mut dir = place.dir.clone();
    dir.extend((1..=DEPTH).map(|depth| format!("deep{depth}")));
    fs::create_dir_all(dir.join("tmp"))?;
    run(&mut strace::shell(&dir, &row.prepare.concat())).context("cannot prepare")?;
    let before = Tree::walk(&place.dir)?;

    let mut arguments = vec!["--json".into()];
    arguments.extend(watch("all", &place.dir));
    let trace = Trace::start(arguments)?;
    let calls = strace::run(&dir, &row.work.concat());
    let got = trace.events(&mut report.problems)?;

    let calls = calls?;
    let mut witness = Witness::new(&place, &dir, before, &calls)?;
    for call in &calls {
        let followed = witness.follow(call);
        followed.with_context(|| format!("the witness is confused: {call:?}"))?;
    }
    let differences = witness.tree.differences(&Tree::walk(&place.dir)?);
    let wrong = differences
        .iter()
        .map(|difference| format!("the witness errs: {difference}"));
    report.problems.extend(wrong);
    if witness.expected.is_empty() {
        report.problems.push("nothing happened".to_owned());
    }
    compare(&witness.expected, &got, &mut report.problems);
    report.notes.push(tally(&witness, &got));
    Ok(())
}

/// How many operations there were, and what was reported of them.
fn tally(witness: &Witness, got: &[Got]) -> String {
    let mut left: HashMap<_, usize> = HashMap::new();
    for got in got {
        *left.entry((got.tid(), key(&got.fields))).or_default() += 1;
    }
    let is_there = |expected: &&Expected| {
        match left.get_mut(&(expected.tid, key(&expected.fields))) {
            Some(count) if *count > 0 => *count -= 1,
            _ => return false,
        }
        true
    };
    let matched = witness.expected.iter().filter(is_there).count();
    format!(
        "{} operations, {} of them events: {matched} matched, {} missing, {} extra",
        witness.operations,
        witness.expected.len(),
        witness.expected.len() - matched,
        got.len() - matched,
    )
}
