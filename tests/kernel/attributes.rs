//! Mode, owner and group: what is set, and what that brings with it.

use anyhow::Result;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags, open};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat};
use nix::unistd::{Gid, Uid, chown, fchown, fchownat, unlink};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::files::{as_nobody, directory, errno, mode, open_with, rename, split};
use crate::log::{Log, Set};

/// Sets the mode.
pub const MODE: Set = Set {
    mode: true,
    uid: false,
    gid: false,
};

/// chmod(2).
pub fn chmod(path: &Path, bits: u32) -> nix::Result<()> {
    errno(fs::set_permissions(path, fs::Permissions::from_mode(bits)))
}

/// Sets modes in every way.
pub fn modes(log: &mut Log) -> Result<()> {
    for name in ["open", "dir-renamed", "pipe-renamed", "char", "socket"] {
        let path = log.path(name);
        log.attrib(&path, MODE, || chmod(&path, 0o1751))?;
        // The same again: it was set, too.
        log.attrib(&path, MODE, || chmod(&path, 0o1751))?;
        log.attrib(&path, MODE, || {
            let (dir, name) = split(&path)?;
            fchmodat(dir, name, mode(0o4700), FchmodatFlags::FollowSymlink)
        })?;
    }
    let (path, link) = (log.path("target"), log.path("dangling"));
    log.attrib(&path, MODE, || chmod(&link, 0o641))?;
    let dir = log.path("dir-renamed");
    log.attrib(&dir, MODE, || fchmod(directory(&dir)?, mode(0o711)))?;

    // By an open file, whose name changes meanwhile and then goes.
    let (old, new) = (log.path("modes"), log.path("modes2"));
    let file = log.made("create", &old, || open_with(&old, OFlag::O_CREAT))?;
    log.attrib(&old, MODE, || fchmod(&file, mode(0o600)))?;
    log.named("rename", &old, &new, || {
        rename(&old, &new, RenameFlags::empty())
    })?;
    log.attrib(&new, MODE, || fchmod(&file, mode(0o640)))?;
    log.removed("delete", &new, || unlink(&new))?;
    let span = log.run(|| fchmod(&file, mode(0o604)))?.1;
    let expected = log.expect_file(span, "attrib", &new, &fstat(&file)?)?;
    expected
        .fields
        .insert("path_status".into(), "deleted".into());
    expected
        .fields
        .insert("attrib".into(), json!({"mode": libc::S_IFREG | 0o604}));
    Ok(())
}

/// Sets owners and groups in every way.
pub fn owners(log: &mut Log) -> Result<()> {
    let link = log.path("symlink-renamed");
    let sets = [(Some(1001), None), (None, Some(1002)), (Some(0), Some(0))];
    for (uid, gid) in sets {
        let set = Set {
            mode: false,
            uid: uid.is_some(),
            gid: gid.is_some(),
        };
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        for name in ["openat2", "dir-renamed", "pipe-renamed", "block"] {
            let path = log.path(name);
            log.attrib(&path, set, || chown(&path, uid, gid))?;
            log.attrib(&path, set, || {
                let (dir, name) = split(&path)?;
                fchownat(dir, name, uid, gid, AtFlags::empty())
            })?;
            if name != "pipe-renamed" && name != "block" {
                log.attrib(&path, set, || {
                    fchown(open(&path, OFlag::O_RDONLY, Mode::empty())?, uid, gid)
                })?;
            }
        }
        log.attrib(&link, set, || lchown(&link, uid, gid))?;
        log.attrib(&link, set, || {
            fchownat(AT_FDCWD, &link, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
        })?;
        let (target, link) = (log.path("target"), log.path("dangling"));
        log.attrib(&target, set, || chown(&link, uid, gid))?;
    }
    Ok(())
}

fn lchown(path: &Path, uid: Option<Uid>, gid: Option<Gid>) -> nix::Result<()> {
    let (uid, gid) = (uid.map(Uid::as_raw), gid.map(Gid::as_raw));
    errno(std::os::unix::fs::lchown(path, uid, gid))
}

/// A new owner takes set-id bits away, by root too; a write by anybody else as well.
pub fn set_ids(log: &mut Log, clears_at_write: bool) -> Result<()> {
    let path = log.path("set-id");
    log.made("create", &path, || open_with(&path, OFlag::O_CREAT))?;
    let uid = Set {
        uid: true,
        ..Set::default()
    };
    let gid = Set {
        gid: true,
        ..Set::default()
    };
    // 0o2745 is no set-id program: the bit stays.
    for bits in [0o4755, 0o6755, 0o2755, 0o2745] {
        log.attrib(&path, MODE, || chmod(&path, bits))?;
        log.attrib(&path, uid, || chown(&path, Some(Uid::from_raw(1000)), None))?;
        log.attrib(&path, MODE, || chmod(&path, bits))?;
        log.attrib(&path, gid, || chown(&path, None, Some(Gid::from_raw(1000))))?;
    }
    log.attrib(&path, MODE, || chmod(&path, 0o4777))?;
    log.attrib(&path, Set::default(), || chown(&path, None, None))?;
    if clears_at_write {
        log.attrib(&path, MODE, || chmod(&path, 0o6777))?;
        log.attrib(&path, Set::default(), || {
            as_nobody(|| nix::unistd::write(open_with(&path, OFlag::empty())?, b"x"))
        })?;
    }
    Ok(())
}
