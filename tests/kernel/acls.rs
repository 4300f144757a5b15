//! Access control lists: the mode that comes of one is set without chmod(2).

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, chown, mkdir, unlink};
use serde_json::json;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::attributes::{MODE, chmod};
use crate::files::{as_nobody, mode, open_with};
use crate::log::{Log, Set};
use crate::sys::{remove_xattr, set_xattr};

/// The ACL of a file itself.
const ACCESS: &str = "system.posix_acl_access";
/// The ACL that what is made in a directory begins with.
const DEFAULT: &str = "system.posix_acl_default";

/// include/uapi/linux/posix_acl.h.
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An entry: whose, which, and what is allowed: r is 4, w is 2, x is 1.
type Entry = (u16, u32, u16);

/// An ACL as the extended attribute has it: include/uapi/linux/posix_acl_xattr.h.
fn acl(entries: &[Entry]) -> Vec<u8> {
    let version = 2u32.to_le_bytes();
    let entries = entries.iter().flat_map(|(tag, id, allowed)| {
        let (tag, allowed) = (tag.to_le_bytes(), allowed.to_le_bytes());
        [&tag[..], &allowed, &id.to_le_bytes()].concat()
    });
    version.into_iter().chain(entries).collect()
}

/// The permissions that come of an ACL, as its extended attribute has it: acl(5).
pub fn permissions_of(value: &[u8]) -> Result<u32> {
    let (_version, entries) = value.split_at_checked(4).context("an ACL has a version")?;
    let (mut permissions, mut mask) = (0, None);
    for entry in entries.chunks_exact(8) {
        let allowed = u32::from(entry[2]);
        match u16::from(entry[0]) {
            USER_OBJ => permissions |= allowed << 6,
            GROUP_OBJ => permissions |= allowed << 3,
            OTHER => permissions |= allowed,
            MASK => mask = Some(allowed),
            _ => {}
        }
    }
    Ok(mask.map_or(permissions, |mask| permissions & 0o707 | mask << 3))
}

/// One that says no more than a mode, as cp(1) copies it.
fn minimal(user: u16, group: u16, other: u16) -> Vec<u8> {
    let nobody = u32::MAX;
    acl(&[
        (USER_OBJ, nobody, user),
        (GROUP_OBJ, nobody, group),
        (OTHER, nobody, other),
    ])
}

/// One that allows a user more than others, whom the mask limits: the mode's group is the mask.
fn extended(mask: u16) -> Vec<u8> {
    let nobody = u32::MAX;
    acl(&[
        (USER_OBJ, nobody, 6),
        (USER, 1000, 7),
        (GROUP_OBJ, nobody, 4),
        (MASK, nobody, mask),
        (OTHER, nobody, 0),
    ])
}

/// Sets and removes ACLs in every way: an event is what changes the mode.
pub fn acls(log: &mut Log) -> Result<()> {
    let dir = log.path("acl-dir");
    log.made("mkdir", &dir, || mkdir(&dir, mode(0o755)))?;
    let path = dir.join("file");
    let file = log.made("create", &path, || open_with(&path, OFlag::O_CREAT))?;
    for path in [&path, &dir] {
        for value in [
            minimal(6, 4, 0),
            minimal(6, 4, 0),
            minimal(7, 5, 5),
            extended(7),
            extended(4),
        ] {
            // An attrib is expected if the mode is another one afterwards.
            log.attrib(path, Set::default(), || set_xattr(path, ACCESS, &value))?;
        }
        log.attrib(path, Set::default(), || remove_xattr(path, ACCESS))?;
        log.attrib(path, MODE, || chmod(path, 0o755))?;
    }
    // By an open file.
    let open = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    log.attrib(&path, Set::default(), || {
        set_xattr(&open, ACCESS, &extended(6))
    })?;
    without_effect(log, &path, &dir)?;
    set_group_id(log)?;

    // What is made below a default ACL has its mode from the beginning.
    log.silent("a default ACL", || set_xattr(&dir, DEFAULT, &extended(5)))?;
    let below = dir.join("below");
    log.made("create", &below, || open_with(&below, OFlag::O_CREAT))?;
    let below = dir.join("dir-below");
    log.made("mkdir", &below, || mkdir(&below, mode(0o777)))?;
    log.silent("no default ACL", || remove_xattr(&dir, DEFAULT))?;

    log.removed("delete", &path, || unlink(&path))?;
    let span = log.run(|| set_xattr(&open, ACCESS, &minimal(4, 0, 0)))?.1;
    let stat = fstat(&file)?;
    let expected = log.expect_file(span, "attrib", &path, &stat)?;
    expected
        .fields
        .insert("path_status".into(), "deleted".into());
    let attrib = json!({"mode": libc::S_IFREG | 0o400});
    expected.fields.insert("attrib".into(), attrib);
    Ok(())
}

/// What fails, and what is about other attributes.
fn without_effect(log: &mut Log, path: &Path, dir: &Path) -> Result<()> {
    let broken = acl(&[(USER_OBJ, u32::MAX, 7)]);
    log.fails(&[Errno::EINVAL], "a broken ACL", || {
        set_xattr(path, ACCESS, &broken)
    })?;
    log.fails(&[Errno::EPERM], "the ACL of another's file", || {
        as_nobody(|| set_xattr(path, ACCESS, &minimal(7, 7, 7)))
    })?;
    log.fails(
        &[Errno::EPERM],
        "to remove the ACL of another's file",
        || as_nobody(|| remove_xattr(path, ACCESS)),
    )?;
    log.silent("an attribute that is no ACL", || {
        set_xattr(path, "trusted.other", b"value")
    })?;
    log.silent("to remove it", || remove_xattr(path, "trusted.other"))?;
    let removed = remove_xattr(dir, DEFAULT);
    if !matches!(removed, Ok(()) | Err(Errno::ENODATA)) {
        removed?;
    }
    Ok(())
}

/// Who is not in a file's group takes its set-group-id bit away with an ACL.
fn set_group_id(log: &mut Log) -> Result<()> {
    for bits in [0o2755, 0o2745] {
        let path = log.path(format!("acl-{bits:o}"));
        log.made("create", &path, || open_with(&path, OFlag::O_CREAT))?;
        let owner = Set {
            uid: true,
            gid: true,
            ..Set::default()
        };
        log.attrib(&path, owner, || {
            chown(&path, Some(Uid::from_raw(65534)), Some(Gid::from_raw(1000)))
        })?;
        log.attrib(&path, MODE, || chmod(&path, bits))?;
        log.attrib(&path, Set::default(), || {
            as_nobody(|| set_xattr(&path, ACCESS, &extended(5)))
        })?;
        log.attrib(&path, MODE, || chmod(&path, bits))?;
        log.attrib(&path, Set::default(), || {
            as_nobody(|| remove_xattr(&path, ACCESS))
        })?;
    }
    Ok(())
}
