//! The file systems to test on, each mounted when first needed.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::patience::wait_until;

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The root disk.
    Ext4,
    /// In memory.
    Tmpfs,
    /// On a loop device.
    Xfs,
    /// On a loop device.
    Btrfs,
    /// Layers on ext4.
    Overlay,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ext4,
        Self::Tmpfs,
        Self::Xfs,
        Self::Btrfs,
        Self::Overlay,
    ];

    /// Its name, as in mount(8).
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Tmpfs => "tmpfs",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Overlay => "overlay",
        }
    }

    /// Where it is mounted.
    fn root(self) -> PathBuf {
        match self {
            Self::Ext4 => "/".into(),
            _ => Path::new("/mnt").join(self.name()),
        }
    }

    /// A new directory for a case, right below the root of this file system: a rename on
    /// 7.x carries no more than six names, the root's included.
    pub fn place(self, case: &str) -> Result<Place> {
        self.mount()
            .with_context(|| format!("cannot set up {}", self.name()))?;
        let dir = self.root().join(case);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Place {
            dev: Some(device_of(&dir)?),
            dir,
            inos: self != Self::Overlay,
        })
    }

    /// One on each file system.
    pub fn places(case: &str) -> Result<Vec<Place>> {
        Self::ALL.into_iter().map(|kind| kind.place(case)).collect()
    }

    fn mount(self) -> Result<()> {
        let root = self.root();
        if let Some(mount) = mount_of(&root)?.filter(|mount| mount.at == root) {
            if mount.kind != self.name() {
                bail!(
                    "{} is {}: run in scripts/vm --disk",
                    root.display(),
                    mount.kind
                );
            }
            return Ok(());
        }
        fs::create_dir_all(&root)?;
        match self {
            Self::Ext4 => bail!("no root file system"),
            Self::Tmpfs => tmpfs(&root, None),
            // What a newer mkfs makes, an older kernel would not mount.
            Self::Xfs => image(
                &root,
                "mkfs.xfs",
                &[
                    "-q",
                    "-K",
                    "-c",
                    "options=/usr/share/xfsprogs/mkfs/lts_5.10.conf",
                ],
            ),
            Self::Btrfs => image(&root, "mkfs.btrfs", &["-q", "-K"]),
            Self::Overlay => Layers::new("/overlay")?.mount(&root),
        }
    }
}

/// A directory to test in.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory.
    pub dir: PathBuf,
    /// Its device number; `None` where mounts come and go.
    pub dev: Option<String>,
    /// Whether st_ino is the inode's number in the kernel.
    pub inos: bool,
}

impl Place {
    /// A directory whose device is looked up for each path.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            dev: None,
            inos: true,
        }
    }

    /// Another directory of the same file system.
    pub fn at(&self, dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            ..self.clone()
        }
    }
}

/// The layers of an overlay: the directories BASE-lower, BASE-upper and BASE-work.
#[derive(Debug)]
pub struct Layers {
    /// The lower layer.
    pub lower: PathBuf,
    /// The upper layer.
    pub upper: PathBuf,
    /// Where the overlay prepares what it moves to the upper layer.
    pub work: PathBuf,
}

impl Layers {
    /// Makes the directories where they are absent.
    pub fn new(base: &str) -> Result<Self> {
        let dir = |name| -> Result<PathBuf> {
            let dir = PathBuf::from(format!("{base}-{name}"));
            fs::create_dir_all(&dir)?;
            Ok(dir)
        };
        Ok(Self {
            lower: dir("lower")?,
            upper: dir("upper")?,
            work: dir("work")?,
        })
    }

    /// Mounts the overlay.
    pub fn mount(&self, at: &Path) -> Result<()> {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            self.lower.display(),
            self.upper.display(),
            self.work.display()
        );
        mount(
            Some("overlay"),
            at,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .with_context(|| format!("cannot mount an overlay at {}: {options}", at.display()))
    }
}

/// Mounts a new tmpfs.
pub fn tmpfs(at: &Path, options: Option<&str>) -> Result<()> {
    fs::create_dir_all(at)?;
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), options)
        .with_context(|| format!("cannot mount a tmpfs at {}", at.display()))
}

/// Mounts a directory at a second place.
pub fn bind(dir: &Path, at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    mount(Some(dir), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind {} at {}", dir.display(), at.display()))
}

/// Makes a bind mount read-only.
pub fn make_read_only(at: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot remount {} read-only", at.display()))
}

/// Unmounts what is mounted there, as soon as nobody looks at it any more: st-probe may. An
/// attempt that fails would count as a change of the mounts that may have been made.
pub fn unmount(at: &Path) -> Result<()> {
    wait_until(
        || format!("{} is busy", at.display()),
        || {
            if is_looked_at(at) {
                return Ok(false);
            }
            match umount2(at, MntFlags::empty()) {
                Err(Errno::EBUSY) => Ok(false),
                result => {
                    result.with_context(|| format!("cannot unmount {}", at.display()))?;
                    Ok(true)
                }
            }
        },
    )
}

/// Whether a process has something open at or below a path.
fn is_looked_at(at: &Path) -> bool {
    let files = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let is_there =
        |link: fs::DirEntry| fs::read_link(link.path()).is_ok_and(|to| to.starts_with(at));
    files("/proc".into()).any(|process| files(process.path().join("fd")).any(is_there))
}

/// Makes a file system on an image and mounts it.
///
/// The image has all of its blocks, and keeps them: a case fills the disk that it is on, and what
/// the kernel then cannot write back is an I/O error, after which btrfs takes no more writes.
fn image(at: &Path, mkfs: &str, arguments: &[&str]) -> Result<()> {
    let image = format!("/var/tmp/{mkfs}.image");
    let file = fs::File::create(&image)?;
    fallocate(&file, FallocateFlags::empty(), 0, 400 << 20).context("no room for an image")?;
    run(Command::new(mkfs).args(arguments).arg(&image))
        .context("this needs the Debian disk: scripts/vm --disk")?;
    run(Command::new("mount")
        .args(["-o", "loop,nodiscard"])
        .arg(&image)
        .arg(at))
}

/// Runs a program that must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let err = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {err}", output.status);
    }
    Ok(())
}

/// A line of proc_pid_mountinfo(5).
#[derive(Debug)]
pub struct Mount {
    /// Its number, which a later one may have again.
    pub id: u32,
    /// `major:minor`.
    pub dev: String,
    /// The mount point.
    pub at: PathBuf,
    /// The file system's type.
    pub kind: String,
}

/// The mounts of this namespace, in the kernel's order.
pub fn mounts() -> Result<Vec<Mount>> {
    // Names of mount points may be anything.
    let table = fs::read("/proc/self/mountinfo")?;
    let table = String::from_utf8_lossy(&table);
    let mounts = table.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let id = fields.next()?.parse().ok()?;
        let mut fields = fields.skip(1);
        Some(Mount {
            id,
            dev: fields.next()?.to_owned(),
            at: unescape(fields.nth(1)?),
            kind: file_system.split(' ').next()?.to_owned(),
        })
    });
    Ok(mounts.collect())
}

/// Whether a file system of a [`Kind`] is mounted there: it stays for other cases.
pub fn is_for_all_cases(at: &Path) -> bool {
    Kind::ALL.iter().any(|kind| kind.root() == at)
}

/// The mount that shows a path: the last one at the longest prefix.
pub fn mount_of(path: &Path) -> Result<Option<Mount>> {
    Ok((mounts()?.into_iter())
        .filter(|mount| path.starts_with(&mount.at))
        .max_by_key(|mount| mount.at.components().count()))
}

/// The number of the device that a path is on. Not st_dev: that differs on btrfs.
pub fn device_of(path: &Path) -> Result<String> {
    let mount = mount_of(path)?.with_context(|| format!("no mount shows {}", path.display()))?;
    Ok(mount.dev)
}

/// Undoes the octal escapes of mountinfo.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let code = after
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok());
        bytes.push(code.unwrap_or(b'\\'));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    bytes.extend_from_slice(rest.as_bytes());
    OsString::from_vec(bytes).into()
}
