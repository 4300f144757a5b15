//! A creation that fails for want of room had begun like any other. What is then made
//! under that name, by that thread, is told rightly.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::mount::{MsFlags, mount};
use nix::unistd::ftruncate;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::failures::MAKING;
use crate::files::open_with;
use crate::fs::{self as file_systems, Kind, Layers, Place};
use crate::log::Log;
use crate::trace::{below, one};
use crate::{Case, Report, sys};

/// The cases. Not btrfs: it has room for a million names when it has none for data.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("full/tmpfs", |report| {
            let dir = Path::new(TINY).join("full");
            let mut room = Inodes::mount()?;
            fs::create_dir(&dir)?;
            let result = full(report, &Place::new(&dir), &mut room);
            file_systems::unmount(Path::new(TINY))?;
            result
        }),
        Case::new("full/overlay", |report| {
            let merged = PathBuf::from("/mnt/tiny-overlay");
            let mut room = Inodes::mount()?;
            fs::create_dir_all(&merged)?;
            Layers::new(&format!("{TINY}/layer"))?.mount(&merged)?;
            let mut place = Place::new(merged.join("full"));
            place.inos = false;
            fs::create_dir(&place.dir)?;
            let result = full(report, &place, &mut room);
            file_systems::unmount(&merged)?;
            file_systems::unmount(Path::new(TINY))?;
            result
        }),
        Case::new("full/ext4", |report| full_disk(report, Kind::Ext4)),
        Case::new("full/xfs", |report| full_disk(report, Kind::Xfs)),
    ]
}

fn full_disk(report: &mut Report, kind: Kind) -> Result<()> {
    let place = kind.place("full")?;
    let filler = place.dir.with_file_name("filler");
    let mut room = Blocks {
        file: File::create(&filler)?,
        length: 0,
    };
    let result = full(report, &place, &mut room);
    fs::remove_file(filler)?;
    result
}

/// Room on a file system.
trait Room {
    /// Leaves none, but perhaps for a few more names in a directory that has them already.
    fn fill(&mut self) -> Result<()>;
    /// Makes a little.
    fn free(&mut self) -> Result<()>;
}

/// Where the small file systems are.
const TINY: &str = "/mnt/tiny";

/// A tmpfs that may hold so many inodes.
struct Inodes(u32);

impl Inodes {
    fn mount() -> Result<Self> {
        file_systems::tmpfs(Path::new(TINY), Some("nr_inodes=32"))?;
        Ok(Self(32))
    }
}

impl Room for Inodes {
    fn fill(&mut self) -> Result<()> {
        Ok(())
    }

    fn free(&mut self) -> Result<()> {
        self.0 += 4;
        let options = format!("nr_inodes={}", self.0);
        let none = None::<&str>;
        mount(
            none,
            TINY,
            none,
            MsFlags::MS_REMOUNT,
            Some(options.as_str()),
        )
        .context("cannot enlarge the tmpfs")
    }
}

/// A file that takes all blocks: no directory can grow.
struct Blocks {
    file: File,
    length: i64,
}

impl Room for Blocks {
    fn fill(&mut self) -> Result<()> {
        let mut step = 1 << 30;
        while step >= 4096 {
            match fallocate(&self.file, FallocateFlags::empty(), self.length, step) {
                Ok(()) => self.length += step,
                Err(Errno::ENOSPC) => step /= 2,
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
        Ok(())
    }

    fn free(&mut self) -> Result<()> {
        self.length -= 1 << 20;
        ftruncate(&self.file, self.length).context("cannot free room")
    }
}

fn full(report: &mut Report, place: &Place, room: &mut dyn Room) -> Result<()> {
    one(report, place, below([&place.dir]), |log, _| {
        let mut names = (0..).map(|number| format!("{number:0>250}"));
        let mut old = log.path("old");
        log.made("create", &old, || sys::creat(&old, 0o644))?;
        for (what, make) in MAKING {
            room.fill()?;
            let path = first_that_fails(log, &mut names)?;
            log.fails(&[Errno::ENOSPC], "create", || {
                open_with(&path, OFlag::O_CREAT | OFlag::O_EXCL)
            })?;
            room.free()?;
            match what {
                "link" => drop(log.named(what, &old, &path, || make(&old, &path))?),
                "rename" => {
                    log.named(what, &old, &path, || make(&old, &path))?;
                    old = path;
                }
                "creat" | "O_EXCL" => log.made("create", &path, || make(&old, &path))?,
                event => log.made(event, &path, || make(&old, &path))?,
            }
        }
        Ok(())
    })
}

/// Makes files until there is no room for the next: returns its path.
fn first_that_fails(log: &mut Log, names: &mut dyn Iterator<Item = String>) -> Result<PathBuf> {
    for name in names {
        let path = log.path(name);
        match log.run(|| sys::creat(&path, 0o644)) {
            Ok((_, span)) => drop(log.expect_made(span, "create", &path)?),
            Err(error) if error.downcast_ref() == Some(&Errno::ENOSPC) => return Ok(path),
            Err(error) => return Err(error),
        }
    }
    unreachable!("there is always one more number")
}
