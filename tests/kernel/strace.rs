//! strace(1), the other witness: what programs asked of the kernel, and what it answered.

use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::log::Span;
use crate::program::Program;

/// How it is to write its log: every line with its thread and the time; the paths of
/// descriptors; all strings in hexadecimal, so that whatever looks like
/// punctuation is.
const OPTIONS: [&str; 6] = [
    "--follow-forks",
    "--seccomp-bpf",
    "--decode-fds=path",
    "--strings-in-hex=all",
    "--absolute-timestamps=format:unix,precision:ns",
    "--signal=none",
];

/// The calls that it is to write down, where the architecture and the kernel have them:
/// those that change names, modes and owners, and those that tell who calls and what a
/// relative path is relative to.
const CALLS: &str = "?open,?creat,openat,?openat2,?mkdir,mkdirat,?mknod,mknodat,?unlink,\
    unlinkat,?rmdir,?rename,?renameat,renameat2,?link,linkat,?symlink,symlinkat,?chmod,\
    fchmod,fchmodat,?fchmodat2,?chown,?lchown,fchown,fchownat,bind,chdir,fchdir,chroot,\
    umask,setxattr,lsetxattr,fsetxattr,prctl,?fork,?vfork,clone,?clone3,execve,?execveat";

/// Where the log goes: not below a watched directory.
const LOG: &str = "/tmp/strace.log";

/// A shell that runs `script` in `dir`, which is its home too.
pub fn shell(dir: &Path, script: &str) -> Command {
    let mut command = program(dir, "sh");
    command.args(["-eu", "-c", script]);
    command
}

fn program(dir: &Path, name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .current_dir(dir)
        .env("HOME", dir)
        .env("TMPDIR", dir.join("tmp"))
        .env("LC_ALL", "C");
    command
}

/// Runs such a shell to its end, and returns what it and its children did that succeeded,
/// in the order in which it did.
pub fn run(dir: &Path, script: &str) -> Result<Vec<Call>> {
    let mut command = program(dir, "strace");
    command
        .args(OPTIONS)
        .args(["--output", LOG, &format!("--trace={CALLS}")])
        .args(["sh", "-eu", "-c", script]);
    let output = Program::start(&mut command)?.finish()?;
    if !output.status.success() {
        bail!("the programs ended: {}: {}", output.status, output.err);
    }
    parse(&fs::read_to_string(LOG)?)
}

/// A system call that succeeded.
#[derive(Debug)]
pub struct Call {
    /// The thread.
    pub tid: i32,
    /// The system call's name.
    pub name: String,
    /// When it began and ended.
    pub span: Span,
    /// What it returned.
    pub result: i32,
    /// If that is a file descriptor: of what.
    pub opened: Option<File>,
    args: Vec<String>,
}

/// What a file descriptor is open for.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path.
    pub path: PathBuf,
    /// Whether that is its last, or the one that an O_TMPFILE file was made under.
    pub deleted: bool,
}

impl Call {
    fn arg(&self, index: usize) -> Result<&str> {
        let arg = self.args.get(index).map(String::as_str);
        arg.with_context(|| format!("no argument {index}: {self:?}"))
    }

    /// The argument, if it is a string.
    pub fn string(&self, index: usize) -> Result<Option<PathBuf>> {
        let Some(arg) = self.args.get(index) else {
            return Ok(None);
        };
        match arg.strip_prefix('"') {
            Some(text) => quoted(text).map(Some),
            None => Ok(None),
        }
    }

    /// The file of the argument, which is a descriptor or AT_FDCWD.
    pub fn file(&self, index: usize) -> Result<File> {
        let arg = self.arg(index)?;
        file(arg)?.with_context(|| format!("no path in {arg}: {self:?}"))
    }

    /// The path of a socket address in the file system.
    pub fn socket_path(&self, index: usize) -> Result<Option<PathBuf>> {
        match self.arg(index)?.split_once("sun_path=\"") {
            Some((_, text)) => quoted(text).map(Some),
            None => Ok(None),
        }
    }

    /// Whether the argument, which may be left out, has a flag.
    pub fn has(&self, index: usize, flag: &str) -> bool {
        let word = |c: char| !c.is_alphanumeric() && c != '_';
        let arg = self.args.get(index).map(String::as_str);
        arg.unwrap_or_default().split(word).any(|word| word == flag)
    }

    /// The mode of the argument, perhaps after a type; 0 if it is left out.
    pub fn mode(&self, index: usize) -> Result<u32> {
        let Some(arg) = self.args.get(index) else {
            return Ok(0);
        };
        let bits = arg.rsplit('|').next().unwrap_or(arg);
        u32::from_str_radix(bits, 8).with_context(|| format!("no mode: {arg}"))
    }

    /// The owner or group of the argument; -1 is none.
    pub fn id(&self, index: usize) -> Result<Option<u32>> {
        match self.arg(index)? {
            "-1" => Ok(None),
            arg => Ok(Some(arg.parse().with_context(|| format!("no id: {arg}"))?)),
        }
    }
}

/// The calls of a log, in the order in which they ended; failed ones left out.
fn parse(log: &str) -> Result<Vec<Call>> {
    let (mut calls, mut unfinished) = (Vec::<Call>::new(), HashMap::new());
    let mut open = None;
    for line in log.lines() {
        let strange = || format!("strace's line is strange: {line}");
        let (tid, text) = line.split_once(' ').with_context(strange)?;
        let (at, text) = text.trim_start().split_once(' ').with_context(strange)?;
        let (tid, at) = (tid.parse()?, nanoseconds(at).with_context(strange)?);
        // A line has the time of its beginning. strace does one thing after the other: when
        // it began the next line, it had seen the end of the call before.
        if let Some(call) = open.take() {
            calls.push(ended(call, at));
        }
        open = parse_line(tid, at, text, &mut unfinished).with_context(strange)?;
    }
    Ok(calls)
}

fn ended(mut call: Call, at: u64) -> Call {
    call.span.after = at;
    call
}

/// The call that ends with this line. `unfinished` has, by thread, when others began, and
/// their beginnings.
fn parse_line(
    tid: i32,
    at: u64,
    text: &str,
    unfinished: &mut HashMap<i32, (u64, String)>,
) -> Result<Option<Call>> {
    if text.starts_with("+++") || text.starts_with("---") {
        return Ok(None);
    }
    if let Some(begin) = text.strip_suffix("<unfinished ...>") {
        unfinished.insert(tid, (at, begin.trim_end().to_owned()));
        return Ok(None);
    }
    let (mut began, mut text) = (at, text.to_owned());
    if let Some((_, rest)) = text
        .split_once(" resumed>")
        .filter(|_| text.starts_with("<..."))
    {
        let (at, begin) = unfinished
            .remove(&tid)
            .context("resumed, but never begun")?;
        (began, text) = (at, begin + rest);
    }
    let (name, rest) = text.split_once('(').context("no name")?;
    let (args, rest) = arguments(rest)?;
    let result = rest.trim_start().strip_prefix("= ").context("no result")?;
    if result.starts_with(['-', '?']) {
        return Ok(None);
    }
    let digits = result.find(|c: char| !c.is_ascii_digit());
    Ok(Some(Call {
        tid,
        name: name.to_owned(),
        span: Span {
            before: began,
            after: at,
        },
        result: result[..digits.unwrap_or(result.len())].parse()?,
        opened: file(result)?,
        args,
    }))
}

/// Splits at the commas that are in no brackets, up to the closing one; and what follows.
fn arguments(text: &str) -> Result<(Vec<String>, &str)> {
    let (mut args, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ',' | ')' if depth == 0 => {
                args.push(text[from..at].trim().to_owned());
                from = at + 1;
                if c == ')' {
                    return Ok((args, &text[from..]));
                }
            }
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    bail!("no closing bracket")
}

/// `3<PATH>`, `3<PATH>(deleted)` or `AT_FDCWD<PATH>`.
fn file(text: &str) -> Result<Option<File>> {
    let Some((_, path)) = text.split_once('<') else {
        return Ok(None);
    };
    let (path, rest) = path.split_once('>').context("no end of a path")?;
    let path = unescape(path)?;
    Ok(Some(File {
        path,
        deleted: rest.starts_with("(deleted)"),
    }))
}

/// A string after its opening quote.
fn quoted(text: &str) -> Result<PathBuf> {
    let (text, rest) = text.split_once('"').context("no closing quote")?;
    if rest.starts_with("...") {
        bail!("strace has cut a string");
    }
    unescape(text)
}

fn unescape(text: &str) -> Result<PathBuf> {
    let mut codes = text.split("\\x");
    if codes.next() != Some("") {
        bail!("not in hexadecimal: {text}");
    }
    let bytes = codes.map(|code| u8::from_str_radix(code, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    Ok(OsString::from_vec(bytes).into())
}

/// Seconds with nine decimals.
fn nanoseconds(text: &str) -> Result<u64> {
    let (seconds, fraction) = text.split_once('.').context("no fraction of a second")?;
    if fraction.len() != 9 {
        bail!("not in nanoseconds: {text}");
    }
    Ok(seconds.parse::<u64>()? * 1_000_000_000 + fraction.parse::<u64>()?)
}
