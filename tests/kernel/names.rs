//! Names are bytes, and paths may be deeper than one record of the kernel holds.

use anyhow::{Context, Result};
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{mkdir, symlinkat, unlink};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

use crate::attributes::{MODE, chmod};
use crate::compare::Got;
use crate::files::{errno, mode, rename};
use crate::fs::Kind;
use crate::log::path_of;
use crate::spaces::tells_subvolumes;
use crate::trace::{Trace, below, four_each};
use crate::{Case, Report, compare, sys};

/// How deep the directories go. More than any record holds.
const DEPTH: usize = 14;

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        Case::new("names", |report: &mut Report| {
            four_each(
                report,
                &Kind::places("names")?,
                |_| Ok(()),
                |log, _| names(log),
            )
        }),
        Case::new("deep/long", |report: &mut Report| deep(report, "long", 255)),
        Case::new("deep/short", |report: &mut Report| deep(report, "short", 1)),
    ]
}

/// Each name tells what it would break.
const NAMES: [&[u8]; 18] = [
    b"with space",
    b" ",
    b"line\nbreak",
    b"\n",
    b"tab\tand return\r",
    b"\x1b[31mred\x1b]0;title\x07",
    b"\x01\x7f",
    b"quote\"back\\slash'",
    b"{\"event\":\"create\"}",
    b"a -> b",
    b"-dash",
    b"*?[glob]",
    "gr\u{fc}n \u{6f22}\u{5b57} \u{1f600}".as_bytes(),
    // Right-to-left override, byte order mark, C1 control.
    "\u{202e}txt.exe\u{feff}\u{9b}".as_bytes(),
    b"\xff\xfe",
    b"half \xe2\x82",
    // U+FFFD itself is fine UTF-8, and an overlong slash is none.
    "\u{fffd}".as_bytes(),
    b"\xc0\xaf..\xc0\xaf",
];

fn names(log: &mut crate::log::Log) -> Result<()> {
    let longest = [b'n'; 255];
    let longest_bytes = [0xe4; 255];
    for name in NAMES.into_iter().chain([&longest[..], &longest_bytes[..]]) {
        let what = || format!("the name {}", name.escape_ascii());
        (|| -> Result<()> {
            let name = path_of(name);
            let path = log.path(name);
            log.made("create", &path, || sys::creat(&path, 0o644))?;
            log.attrib(&path, MODE, || chmod(&path, 0o600))?;
            let link = log.path("link");
            log.named("link", &path, &link, || errno(fs::hard_link(&path, &link)))?;
            log.removed("delete", &path, || unlink(&path))?;
            // As a directory, with a file of that name in it, renamed to the same.
            log.made("mkdir", &path, || mkdir(&path, mode(0o755)))?;
            let inside = path.join(name);
            log.named("rename", &link, &inside, || {
                rename(&link, &inside, RenameFlags::empty())
            })?;
            log.removed("delete", &inside, || unlink(&inside))?;
            // And as a symbolic link's content.
            log.made("symlink", &inside, || symlinkat(name, AT_FDCWD, &inside))?;
            Ok(())
        })()
        .with_context(what)?;
    }
    Ok(())
}

/// Makes directories one in another, and a file in each, on each file system.
fn deep(report: &mut Report, what: &str, length: usize) -> Result<()> {
    let places = Kind::places(&format!("deep-{what}"))?;
    let trace = Trace::start(below(places.iter().map(|place| &place.dir)))?;
    let mut expected = Vec::new();
    for (kind, place) in Kind::ALL.into_iter().zip(&places) {
        let sure = kind != Kind::Btrfs || tells_subvolumes();
        let status = if sure { "complete" } else { "ambiguous" };
        let made = make_deep(&place.dir, length)?.into_iter();
        expected.extend(made.map(|(event, path)| (event, path, status)));
    }
    let got = trace.events(&mut report.problems)?;
    report.notes.push(compare::count(&got));
    for (number, (event, path, status)) in expected.iter().enumerate() {
        let problem = match got.get(number) {
            None => Err(format!("missing: {event} {}", path.display())),
            Some(got) => check(event, path, got, status),
        };
        report.problems.extend(problem.err());
    }
    for got in got.iter().skip(expected.len()) {
        let fields = Value::Object(got.fields.clone());
        report.problems.push(format!("extra: {fields}"));
    }
    Ok(())
}

/// Their paths do not fit a system call, so each is made from its parent.
fn make_deep(dir: &Path, length: usize) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut path = dir.to_owned();
    let mut expected = Vec::new();
    let mut dir = open(&path, OFlag::O_DIRECTORY, Mode::empty())?;
    for level in 0..DEPTH {
        let letter = (b'a' + level as u8) as char;
        let name = letter.to_string().repeat(length);
        mkdirat(&dir, name.as_str(), mode(0o755))?;
        path.push(&name);
        expected.push(("mkdir", path.clone()));
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        dir = openat(&dir, name.as_str(), flags, Mode::empty())?;
        let file = letter.to_uppercase().to_string().repeat(length);
        openat(
            &dir,
            file.as_str(),
            OFlag::O_CREAT | OFlag::O_WRONLY,
            mode(0o644),
        )?;
        expected.push(("create", path.join(file)));
    }
    Ok(expected)
}

/// Whether the event is the expected one; else what is wrong.
fn check(event: &str, path: &Path, got: &Got, deep: &str) -> Result<(), String> {
    let is = |name: &str, value: &str| *got.get(name) == json!(value);
    let right = Path::new(got.get("path").as_str().unwrap_or_default()) == path;
    if right && is("event", event) && (is("path_status", "complete") || is("path_status", deep)) {
        return Ok(());
    }
    Err(format!(
        "expected {event} {}, got {}",
        path.display(),
        Value::Object(got.fields.clone())
    ))
}
