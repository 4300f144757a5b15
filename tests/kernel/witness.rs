//! What another witness saw programs do below a directory, and which events that must give.

mod operand;

use anyhow::{Context, Result, bail};
use serde_json::{Map, json};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::acls::permissions_of;
use crate::fs::Place;
use crate::log::{Expected, set_bytes};
use crate::strace::{self, Call};
use crate::tree::{File, Tree};
use operand::Operand;

/// Follows calls, and expects events of those that change something.
#[derive(Debug)]
pub struct Witness {
    /// What there is below the directory, as far as the calls tell.
    pub tree: Tree,
    /// The events, in the order of the calls.
    pub expected: Vec<Expected>,
    /// How many calls were about the directory, those that are no event included.
    pub operations: usize,
    dev: String,
    /// Files by the last path that they had, or the one that they were made under.
    nameless: HashMap<PathBuf, usize>,
    /// The thread that made each thread, and whether both are of one process.
    parents: HashMap<i32, (i32, bool)>,
    threads: HashMap<i32, Thread>,
    processes: HashMap<i32, Process>,
}

#[derive(Debug)]
struct Thread {
    process: i32,
    comm: String,
}

/// What a child inherits.
#[derive(Debug, Clone)]
struct Process {
    dir: PathBuf,
    umask: u32,
    open: HashMap<i32, strace::File>,
}

impl Witness {
    /// To follow calls below `place`, where there is `tree` before them. The first thread
    /// works in `dir`.
    pub fn new(place: &Place, dir: &Path, tree: Tree, calls: &[Call]) -> Result<Self> {
        let first = calls.first().context("the witness saw nothing")?.tid;
        let process = Process {
            dir: dir.to_owned(),
            // That of main().
            umask: 0o022,
            open: HashMap::new(),
        };
        let thread = Thread {
            process: first,
            comm: String::new(),
        };
        let forks = calls.iter().filter(|call| is_fork(call));
        Ok(Self {
            tree,
            expected: Vec::new(),
            operations: 0,
            dev: place.dev.clone().context("a place with a device")?,
            nameless: HashMap::new(),
            parents: forks
                .map(|call| (call.result, (call.tid, call.has(0, "CLONE_THREAD"))))
                .collect(),
            threads: HashMap::from([(first, thread)]),
            processes: HashMap::from([(first, process)]),
        })
    }

    /// Follows one more call.
    pub fn follow(&mut self, call: &Call) -> Result<()> {
        self.meet(call.tid)?;
        match call.name.as_str() {
            "open" | "openat" | "openat2" => self.open(call),
            "mkdir" | "mkdirat" => self.mkdir(call),
            "mknod" | "mknodat" => self.mknod(call),
            "bind" => self.bind(call),
            "symlink" | "symlinkat" => self.symlink(call),
            "link" | "linkat" => self.link(call),
            "unlink" | "unlinkat" | "rmdir" => self.remove(call),
            "rename" | "renameat" | "renameat2" => self.rename(call),
            "chmod" | "fchmod" | "fchmodat" | "fchmodat2" => self.chmod(call),
            "chown" | "lchown" | "fchown" | "fchownat" => self.chown(call),
            "setxattr" | "lsetxattr" | "fsetxattr" => self.set_xattr(call),
            "chdir" | "fchdir" => {
                let operand = self.operand(call, 0, true)?;
                self.process(call)?.dir = operand.path;
                Ok(())
            }
            "umask" => {
                self.process(call)?.umask = call.mode(0)?;
                Ok(())
            }
            "execve" => {
                let path = call.string(0)?.context("execve of a path")?;
                let name = path.file_name().context("a program has a name")?;
                self.call_it(call, name)
            }
            "prctl" if call.has(0, "PR_SET_NAME") => {
                let name = call.string(1)?.context("a name")?;
                self.call_it(call, name.as_os_str())
            }
            "prctl" => Ok(()),
            _ if is_fork(call) => self.meet(call.result),
            name => bail!("the witness does not know what {name} does"),
        }
    }

    /// A thread that is new is like the one that made it. It may be seen before the call
    /// that made it returns.
    fn meet(&mut self, tid: i32) -> Result<()> {
        if self.threads.contains_key(&tid) {
            return Ok(());
        }
        let parent = self.parents.get(&tid);
        let (parent, same) = *parent.with_context(|| format!("nobody has made {tid}"))?;
        let parent = self.threads.get(&parent).context("its parent is known")?;
        let thread = Thread {
            process: if same { parent.process } else { tid },
            comm: parent.comm.clone(),
        };
        let process = &self.processes[&parent.process];
        self.processes.insert(thread.process, process.clone());
        self.threads.insert(tid, thread);
        Ok(())
    }

    fn process(&mut self, call: &Call) -> Result<&mut Process> {
        let pid = self.threads[&call.tid].process;
        self.processes.get_mut(&pid).context("its process is known")
    }

    /// The thread has a new name, of which the kernel keeps 15 bytes.
    fn call_it(&mut self, call: &Call, name: &OsStr) -> Result<()> {
        let name = name.as_bytes();
        let comm = String::from_utf8_lossy(&name[..name.len().min(15)]).into_owned();
        let thread = self.threads.get_mut(&call.tid);
        thread.context("the thread is known")?.comm = comm;
        Ok(())
    }

    fn open(&mut self, call: &Call) -> Result<()> {
        let flags = if call.string(0)?.is_some() { 1 } else { 2 };
        let opened = call.opened.clone().context("a descriptor has a path")?;
        let process = self.process(call)?;
        process.open.insert(call.result, opened.clone());
        let makes = |flag| call.has(flags, flag);
        if !makes("O_CREAT") && !makes("O_TMPFILE") {
            return Ok(());
        }
        // openat2() has it elsewhere.
        if call.name == "openat2" {
            bail!("the witness does not know what openat2 makes");
        }
        let mode = call.mode(flags + 1)?;
        if makes("O_TMPFILE") {
            let mode = libc::S_IFREG | mode & !process.umask;
            let file = self.tree.add(File { mode, target: None });
            self.nameless.insert(opened.path, file);
            return Ok(());
        }
        let path = self.operand(call, 0, true)?.path;
        if !self.tree.holds(&path) {
            return Ok(());
        }
        if path != opened.path {
            bail!("the witness lost track of {}", path.display());
        }
        if self.tree.index(&path).is_some() {
            self.operations += 1;
            return Ok(());
        }
        self.make(call, "create", path, libc::S_IFREG, mode)
    }

    fn mkdir(&mut self, call: &Call) -> Result<()> {
        let operand = self.operand(call, 0, false)?;
        let mode = call.mode(operand.next)? & 0o1777;
        let parent = operand.path.parent().context("a new directory is in one")?;
        let inherited = match self.tree.at(parent) {
            Ok(parent) => parent.mode & libc::S_ISGID,
            Err(_) => 0,
        };
        let kind = libc::S_IFDIR | inherited;
        self.make(call, "mkdir", operand.path, kind, mode)
    }

    fn mknod(&mut self, call: &Call) -> Result<()> {
        let operand = self.operand(call, 0, false)?;
        let mode = call.mode(operand.next)?;
        let kinds = [
            ("S_IFREG", libc::S_IFREG),
            ("S_IFIFO", libc::S_IFIFO),
            ("S_IFSOCK", libc::S_IFSOCK),
            ("S_IFCHR", libc::S_IFCHR),
            ("S_IFBLK", libc::S_IFBLK),
        ];
        let mut kinds = kinds.into_iter();
        let kind = kinds.find(|(name, _)| call.has(operand.next, name));
        let kind = kind.map_or(libc::S_IFREG, |(_, kind)| kind);
        let event = match kind {
            libc::S_IFREG => "create",
            _ => "mknod",
        };
        self.make(call, event, operand.path, kind, mode)
    }

    fn bind(&mut self, call: &Call) -> Result<()> {
        let Some(path) = call.socket_path(1)? else {
            return Ok(());
        };
        let dir = self.process(call)?.dir.clone();
        let path = self.tree.resolve(&dir, &path, true)?;
        self.make(call, "mknod", path, libc::S_IFSOCK, 0o777)
    }

    /// Something is there that was not.
    fn make(
        &mut self,
        call: &Call,
        event: &str,
        path: PathBuf,
        kind: u32,
        mode: u32,
    ) -> Result<()> {
        if !self.tree.holds(&path) {
            return Ok(());
        }
        if self.tree.index(&path).is_some() {
            bail!("the witness knows of {} already", path.display());
        }
        let mode = kind | mode & !self.process(call)?.umask;
        let expected = self.expect(call, event, &path, false);
        expected.fields.insert("mode".into(), mode.into());
        let file = self.tree.add(File { mode, target: None });
        self.tree.name(path, file);
        Ok(())
    }

    fn symlink(&mut self, call: &Call) -> Result<()> {
        let target = call.string(0)?.context("a symbolic link has a content")?;
        let path = self.operand(call, 1, false)?.path;
        if !self.tree.holds(&path) {
            return Ok(());
        }
        let expected = self.expect(call, "symlink", &path, false);
        let bytes = target.as_os_str().as_bytes();
        set_bytes(&mut expected.fields, "target", bytes);
        let file = self.tree.add(File {
            mode: libc::S_IFLNK | 0o777,
            target: Some(target),
        });
        self.tree.name(path, file);
        Ok(())
    }

    fn link(&mut self, call: &Call) -> Result<()> {
        // Only linkat() has flags.
        let follow = call.has(4, "AT_SYMLINK_FOLLOW");
        let old = self.operand(call, 0, follow)?;
        let path = self.operand(call, old.next, false)?.path;
        if !self.both(&old.path, &path)? {
            return Ok(());
        }
        let file = self.index(&old)?;
        if old.deleted {
            // Of a file whose names are gone link(2) makes none: it was made without one.
            let mode = self.tree.file(file).mode;
            let expected = self.expect(call, "create", &path, false);
            expected.fields.insert("mode".into(), mode.into());
        } else {
            let expected = self.expect(call, "link", &path, false);
            set_old_path(&mut expected.fields, &old.path);
        }
        self.tree.name(path, file);
        Ok(())
    }

    fn remove(&mut self, call: &Call) -> Result<()> {
        let operand = self.operand(call, 0, false)?;
        if !self.tree.holds(&operand.path) {
            return Ok(());
        }
        let dir = call.name == "rmdir" || call.has(operand.next, "AT_REMOVEDIR");
        let event = if dir { "rmdir" } else { "delete" };
        self.expect(call, event, &operand.path, false);
        let file = self.index(&operand)?;
        self.tree.remove(&operand.path)?;
        self.nameless.insert(operand.path, file);
        Ok(())
    }

    fn rename(&mut self, call: &Call) -> Result<()> {
        let old = self.operand(call, 0, false)?;
        let new = self.operand(call, old.next, false)?;
        if !self.both(&old.path, &new.path)? {
            return Ok(());
        }
        let file = self.index(&old)?;
        if self.tree.index(&new.path) == Some(file) {
            // rename(2): nothing is done if both are names of the same file.
            self.operations += 1;
            return Ok(());
        }
        let exchange = call.has(new.next, "RENAME_EXCHANGE");
        let expected = self.expect(call, "rename", &new.path, false);
        set_old_path(&mut expected.fields, &old.path);
        if exchange {
            expected.fields.insert("exchange".into(), true.into());
            return self.tree.exchange(&old.path, &new.path);
        }
        self.move_open(&old.path, &new.path);
        self.tree.rename(&old.path, &new.path)
    }

    /// Who works in what is renamed, or has it open, goes along.
    fn move_open(&mut self, old: &Path, new: &Path) {
        for process in self.processes.values_mut() {
            let open = process.open.values_mut().map(|file| &mut file.path);
            for path in open.chain([&mut process.dir]) {
                if let Ok(below) = path.strip_prefix(old) {
                    // A join with nothing would add a slash.
                    *path = new.join(below).components().collect();
                }
            }
        }
    }

    fn chmod(&mut self, call: &Call) -> Result<()> {
        // Only the longest have flags, as their last argument.
        let operand = self.operand(call, 0, !call.has(3, "AT_SYMLINK_NOFOLLOW"))?;
        if !self.tree.holds(&operand.path) {
            return Ok(());
        }
        let index = self.index(&operand)?;
        let file = self.tree.file(index);
        file.mode = file.mode & libc::S_IFMT | call.mode(operand.next)? & 0o7777;
        let attrib = json!({"mode": file.mode});
        let expected = self.expect(call, "attrib", &operand.path, operand.deleted);
        expected.fields.insert("attrib".into(), attrib);
        Ok(())
    }

    /// An ACL sets the mode, and is an event if that becomes another one.
    fn set_xattr(&mut self, call: &Call) -> Result<()> {
        let operand = self.operand(call, 0, call.name != "lsetxattr")?;
        if !self.tree.holds(&operand.path) {
            return Ok(());
        }
        let name = call
            .string(operand.next)?
            .context("an attribute has a name")?;
        if name != Path::new("system.posix_acl_access") {
            self.operations += 1;
            return Ok(());
        }
        let value = call
            .string(operand.next + 1)?
            .context("an ACL has a value")?;
        let permissions = permissions_of(value.as_os_str().as_bytes())?;
        let index = self.index(&operand)?;
        let file = self.tree.file(index);
        let mode = file.mode & !0o777 | permissions;
        if mode == file.mode {
            self.operations += 1;
            return Ok(());
        }
        file.mode = mode;
        let expected = self.expect(call, "attrib", &operand.path, operand.deleted);
        let attrib = json!({"mode": mode});
        expected.fields.insert("attrib".into(), attrib);
        Ok(())
    }

    fn chown(&mut self, call: &Call) -> Result<()> {
        let nofollow = call.name == "lchown" || call.has(4, "AT_SYMLINK_NOFOLLOW");
        let operand = self.operand(call, 0, !nofollow)?;
        if !self.tree.holds(&operand.path) {
            return Ok(());
        }
        let (uid, gid) = (call.id(operand.next)?, call.id(operand.next + 1)?);
        let mut attrib = Map::new();
        if let Some(uid) = uid {
            attrib.insert("uid".into(), uid.into());
        }
        if let Some(gid) = gid {
            attrib.insert("gid".into(), gid.into());
        }
        let index = self.index(&operand)?;
        let file = self.tree.file(index);
        let mode = without_set_ids(file);
        if mode != file.mode {
            file.mode = mode;
            attrib.insert("mode".into(), mode.into());
        }
        if attrib.is_empty() {
            self.operations += 1;
            return Ok(());
        }
        let expected = self.expect(call, "attrib", &operand.path, operand.deleted);
        expected.fields.insert("attrib".into(), attrib.into());
        Ok(())
    }

    /// Whether both paths are below the directory; one alone cannot be followed.
    fn both(&self, old: &Path, new: &Path) -> Result<bool> {
        match (self.tree.holds(old), self.tree.holds(new)) {
            (true, true) => Ok(true),
            (false, false) => Ok(false),
            _ => bail!("from {} to {}", old.display(), new.display()),
        }
    }

    fn index(&self, operand: &Operand) -> Result<usize> {
        let index = match operand.deleted {
            true => self.nameless.get(&operand.path).copied(),
            false => self.tree.index(&operand.path),
        };
        index.with_context(|| format!("no such file is known: {operand:?}"))
    }

    /// Expects an event of this call.
    fn expect(&mut self, call: &Call, event: &str, path: &Path, deleted: bool) -> &mut Expected {
        self.operations += 1;
        let mut fields = Map::new();
        fields.insert("event".into(), event.into());
        fields.insert("dev".into(), self.dev.clone().into());
        set_bytes(&mut fields, "path", path.as_os_str().as_bytes());
        fields.insert("path_status".into(), status(deleted).into());
        let thread = &self.threads[&call.tid];
        self.expected.push(Expected {
            fields,
            optional: vec!["ino", "rdev"],
            pid: Some(thread.process),
            tid: call.tid,
            comm: Some(thread.comm.clone()),
            who: Map::new(),
            span: call.span,
        });
        self.expected.last_mut().expect("one was just pushed")
    }
}

fn is_fork(call: &Call) -> bool {
    ["fork", "vfork", "clone", "clone3"].contains(&call.name.as_str())
}

fn status(deleted: bool) -> &'static str {
    if deleted { "deleted" } else { "complete" }
}

fn set_old_path(fields: &mut Map<String, serde_json::Value>, path: &Path) {
    set_bytes(fields, "old_path", path.as_os_str().as_bytes());
    fields.insert("old_path_status".into(), status(false).into());
}

/// A new owner takes set-id bits away from what is no directory: chown(2).
fn without_set_ids(file: &File) -> u32 {
    if file.is(libc::S_IFDIR) {
        return file.mode;
    }
    let mode = file.mode & !libc::S_ISUID;
    match mode & libc::S_IXGRP {
        0 => mode,
        _ => mode & !libc::S_ISGID,
    }
}
