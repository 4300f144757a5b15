//! Who did it: processes and threads, from those alive at the start and the task events since.

mod kinship;

use crate::container::container;
use crate::event::{self, Ancestor, Bytes, Ids};
use crate::field::{Chain, Layout};
use st_probe::record::{self, ARGV};
use st_probe::time::Unix;
use st_probe::vocabulary::Value;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

/// CLONE_PARENT, CLONE_THREAD, CLONE_NEWPID: include/uapi/linux/sched.h.
const CLONE_PARENT: i64 = 0x8000;
const CLONE_THREAD: i64 = 0x10000;
const CLONE_NEWPID: i64 = 0x2000_0000;
/// CLONE_INTO_CGROUP: include/uapi/linux/sched.h.
const CLONE_INTO_CGROUP: i64 = 0x2_0000_0000;
/// SIGNAL_GROUP_EXIT: include/linux/sched/signal.h.
const SIGNAL_GROUP_EXIT: i64 = 4;
/// How many threads and processes are remembered after their end: their files and sockets are
/// closed after the kernel has told of it.
const MAX_ENDED: usize = 4096;
/// How many ancestors an event names.
const MAX_ANCESTORS: usize = 8;
/// The hierarchy of cgroup v2.
const V2: u32 = 0;

#[derive(Debug, Default)]
struct Thread {
    pid: Option<i32>,
    comm: Option<Vec<u8>>,
    ids: Option<Ids>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Process {
    /// 0 if it has none.
    ppid: Option<i32>,
    space: Space,
    /// Whether orphans below it become its children, if that is known.
    subreaper: Option<bool>,
    start: Option<Unix>,
    program: Option<Rc<Program>>,
    cgroups: Rc<Cgroups>,
    ended: bool,
}

/// A pid namespace.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Space {
    #[default]
    Unknown,
    /// By its number.
    Numbered(u64),
    /// By its first process.
    Of(i32),
}

/// What a process executes: that of its parent until it executes something itself.
#[derive(Debug, Default)]
struct Program {
    image: Option<u64>,
    argv: Option<Vec<Vec<u8>>>,
    cut: bool,
}

#[derive(Debug, Default)]
struct Cgroups {
    /// By hierarchy.
    paths: Vec<(u32, Vec<u8>)>,
    container: Option<Vec<u8>>,
}

impl Cgroups {
    fn new(paths: Vec<(u32, Vec<u8>)>) -> Rc<Self> {
        let container = paths.iter().find_map(|(_, path)| container(path));
        Rc::new(Self { paths, container })
    }

    /// With another path in one hierarchy; `None`: it is not known.
    fn with(&self, hierarchy: u32, path: Option<&[u8]>) -> Rc<Self> {
        let others = self.paths.iter().filter(|(other, _)| *other != hierarchy);
        let paths = path.map(|path| (hierarchy, path.to_vec()));
        Self::new(paths.into_iter().chain(others.cloned()).collect())
    }

    /// That of cgroup v2, unless it is used for nothing.
    fn shown(&self) -> Option<&[u8]> {
        let used = |(_, path): &&(u32, Vec<u8>)| path != b"/";
        let v2 = self.paths.iter().find(|(hierarchy, _)| *hierarchy == V2);
        let shown = v2.filter(used).or_else(|| self.paths.iter().find(used));
        shown.or(v2).map(|(_, path)| &path[..])
    }
}

/// What a record about a process leads to.
#[derive(Debug)]
pub enum Told {
    /// A thread ended, or its number is another one's now.
    Thread(i32),
    /// A process began.
    Fork {
        /// Who began it.
        parent: i32,
        /// The new one.
        pid: i32,
    },
    /// A file that is executed: its number in the stream.
    Image(u64, File),
    /// Nobody executes it any more.
    Unload(u64),
    /// The thread executes something else now.
    Exec,
    /// Its process ended, with a wait status as of wait(2).
    Exit(i32),
}

/// The file of an image.
#[derive(Debug)]
pub enum File {
    /// As its path was read.
    Path(Vec<u8>, bool),
    /// As the kernel told it: the device, the names, and whether it has no name any more.
    Chain(u32, Chain, bool),
}

/// The processes that are alive, and the last that were.
#[derive(Debug, Default)]
pub struct Processes {
    threads: HashMap<i32, Thread>,
    processes: HashMap<i32, Process>,
    /// By parent, whether that is known or not.
    children: HashMap<i32, HashSet<i32>>,
    /// Threads and processes that ended, oldest first.
    ended: VecDeque<Ended>,
    /// The first processes of pid namespaces, by their numbers.
    reapers: HashMap<u64, i32>,
    /// Cgroups of processes that are just beginning.
    into: HashMap<i32, Vec<u8>>,
    /// Images so far.
    images: u64,
    /// Whether the stream tells when a process ends, not only its threads.
    tells_ends: bool,
}

#[derive(Debug)]
enum Ended {
    Thread(i32),
    Process(i32),
}

impl Processes {
    /// Begins with a stream that tells when processes end, or one that does not.
    pub fn begin_stream(&mut self, tells_ends: bool) {
        self.tells_ends = tells_ends;
        self.lost();
    }

    /// Who a thread is, as far as that is known.
    pub fn who(&self, tid: i32) -> event::Actor<'_> {
        let thread = self.threads.get(&tid);
        let pid = thread.and_then(|thread| thread.pid);
        let process = pid.and_then(|pid| self.processes.get(&pid));
        let ids = thread.and_then(|thread| thread.ids);
        let program = process.and_then(|process| process.program.as_deref());
        let words = program.and_then(|program| program.argv.as_ref());
        event::Actor {
            pid,
            tid,
            ppid: process.and_then(|process| process.ppid),
            uid: ids.map(|ids| ids.uid),
            gid: ids.map(|ids| ids.gid),
            euid: ids.filter(|ids| ids.euid != ids.uid).map(|ids| ids.euid),
            egid: ids.filter(|ids| ids.egid != ids.gid).map(|ids| ids.egid),
            comm: thread
                .and_then(|thread| thread.comm.as_deref())
                .map(Bytes::from),
            argv: words.map(|words| words.iter().map(|word| Bytes::from(&word[..])).collect()),
            argv_cut: program.is_some_and(|program| program.cut),
            start: process.and_then(|process| process.start),
            cgroup: process
                .and_then(|process| process.cgroups.shown())
                .map(Bytes::from),
            container: process
                .and_then(|process| process.cgroups.container.as_deref())
                .map(Bytes::from),
        }
    }

    /// What the process of a thread executes.
    pub fn image(&self, tid: i32) -> Option<u64> {
        let pid = self.threads.get(&tid)?.pid?;
        self.processes.get(&pid)?.program.as_ref()?.image
    }

    /// The process's parent, its parent, and so on.
    pub fn ancestors(&self, tid: i32) -> Vec<Ancestor<'_>> {
        let mut ancestors = Vec::new();
        let mut next = self.threads.get(&tid).and_then(|thread| thread.pid);
        while let Some(pid) = next.filter(|_| ancestors.len() < MAX_ANCESTORS) {
            let process = self.processes.get(&pid);
            next = process
                .and_then(|process| process.ppid)
                .filter(|&ppid| ppid > 0);
            ancestors.extend(next.map(|pid| {
                let leader = self
                    .threads
                    .get(&pid)
                    .and_then(|leader| leader.comm.as_deref());
                Ancestor {
                    pid,
                    comm: leader.map(Bytes::from),
                }
            }));
        }
        ancestors
    }

    /// Trusts nothing of what is known: records were lost.
    pub fn lost(&mut self) {
        *self = Self {
            images: self.images,
            tells_ends: self.tells_ends,
            ..Self::default()
        };
    }

    /// Takes a process that was looked at.
    pub fn alive(&mut self, seen: &record::Process, told: &mut Vec<Told>) {
        // What is known of one that began meanwhile was told more exactly.
        let whole = |process: &Process| !process.ended && process.program.is_some();
        let leader = self.threads.get(&seen.pid);
        if leader.is_some_and(|leader| leader.ids.is_some())
            && self.processes.get(&seen.pid).is_some_and(whole)
        {
            return;
        }
        for thread in &seen.threads {
            let known = Thread {
                pid: Some(seen.pid),
                comm: Some(thread.comm.to_vec()),
                ids: thread.ids,
                ended: false,
            };
            self.threads.insert(thread.tid, known);
        }
        if let Some(space) = seen.pid_ns.filter(|_| seen.first) {
            self.reapers.insert(space, seen.pid);
        }
        let image = seen.exe.as_ref().map(|exe| {
            let file = File::Path(exe.to_vec(), seen.exe_deleted);
            self.load(file, told)
        });
        let words = |argv: &Vec<Bytes>| argv.iter().map(|word| word.to_vec()).collect();
        let program = Program {
            image,
            argv: seen.argv.as_ref().map(words),
            cut: seen.argv_cut,
        };
        let path = |cgroup: &record::Cgroup| (cgroup.hierarchy, cgroup.path.to_vec());
        let process = Process {
            space: seen.pid_ns.map_or(Space::Unknown, Space::Numbered),
            start: seen.start,
            program: Some(Rc::new(program)),
            cgroups: Cgroups::new(seen.cgroups.iter().map(path).collect()),
            ..Process::default()
        };
        self.begin(seen.pid, process, seen.ppid, told);
    }

    /// Takes a record of one of the task events.
    pub fn learn(
        &mut self,
        point: &str,
        tid: i32,
        ts: Unix,
        (layout, data): (&Layout, &[u8]),
        told: &mut Vec<Told>,
    ) {
        let number = |value| layout.number(data, value);
        let subject = number(Value::Pid).map_or(tid, |pid| pid as i32);
        match point {
            // kernel/fork.c copy_process(): in the context of the parent.
            "task/task_newtask" => {
                let flags = number(Value::CloneFlags).unwrap_or(0);
                let comm = layout.text(data, Value::Comm).map(<[u8]>::to_vec);
                self.fork(tid, subject, flags, comm, ts, told);
            }
            // kernel/sched/core.c, just after it.
            "wake_up_new_task" => {
                let ppid = number(Value::Ppid).map(|ppid| ppid as i32);
                if self.is_leader(subject) {
                    self.adopt(subject, ppid);
                    if let Some(process) = self.processes.get_mut(&subject) {
                        let reaper = number(Value::Reaper).map(|reaper| reaper as i32);
                        process.space = reaper.map_or(process.space, Space::Of);
                    }
                }
            }
            // fs/exec.c __set_task_comm()
            "task/task_rename" => {
                let comm = layout.text(data, Value::Newcomm).map(<[u8]>::to_vec);
                self.threads.entry(subject).or_default().comm = comm;
            }
            // kernel/cred.c
            "commit_creds" => {
                let id = |id| number(id).map(|id| id as u32);
                let real = id(Value::Uid).zip(id(Value::Gid));
                let effective = id(Value::Euid).zip(id(Value::Egid));
                let ids = real.zip(effective);
                self.threads.entry(tid).or_default().ids =
                    ids.map(|((uid, gid), (euid, egid))| Ids {
                        uid,
                        gid,
                        euid,
                        egid,
                    });
            }
            // fs/exec.c begin_new_exec(): the caller has become its process's only thread,
            // under the process's id.
            "security_bprm_committed_creds" => {
                let (argv, cut) = arguments(layout, data);
                let image = file(layout, data).map(|file| self.load(file, told));
                let argv = Some(argv);
                self.lead(tid, told);
                self.execute(tid, Program { image, argv, cut }, told);
            }
            // fs/exec.c exec_binprm()
            "sched/sched_process_exec" => {
                if let Some(old) = number(Value::OldPid).map(|old| old as i32) {
                    if old != subject {
                        self.threads.remove(&old);
                        told.push(Told::Thread(old));
                    }
                }
                self.lead(subject, told);
                told.push(Told::Exec);
            }
            "sched/sched_process_exit" => {
                if let Some(thread) = self.threads.get_mut(&subject) {
                    thread.ended = true;
                    self.ended.push_back(Ended::Thread(subject));
                }
                told.push(Told::Thread(subject));
                // Others of its threads may go on, or not.
                if !self.tells_ends && self.is_leader(subject) {
                    self.end(subject);
                }
                self.forget(told);
            }
            // kernel/exit.c do_exit(), wait_task_zombie(): its last thread.
            "exit_files" => {
                let group = number(Value::Flags).unwrap_or(0) & SIGNAL_GROUP_EXIT != 0;
                let code = if group { Value::GroupCode } else { Value::Code };
                // Threads that end at the same time may each be taken for the last one.
                if self.end(subject) {
                    told.extend(number(code).map(|code| Told::Exit(code as i32)));
                }
            }
            // kernel/sys.c prctl()
            "security_task_prctl" => {
                let pid = self.threads.get(&tid).and_then(|thread| thread.pid);
                if let Some(process) = pid.and_then(|pid| self.processes.get_mut(&pid)) {
                    process.subreaper = number(Value::Value).map(|value| value != 0);
                }
            }
            // kernel/ptrace.c, while st-probe looks at a process.
            "security_ptrace_access_check" => self.inspect(subject, layout, data, told),
            // kernel/cgroup/cgroup.c
            "cgroup/cgroup_attach_task" => {
                let path = layout.text(data, Value::DstPath);
                let hierarchy = number(Value::DstRoot).map(|root| root as u32);
                let process = self.processes.get_mut(&subject);
                if let (Some(process), Some(hierarchy)) = (process, hierarchy) {
                    process.cgroups = process.cgroups.with(hierarchy, path);
                }
            }
            "cgroup_post_fork" => {
                if let Some(path) = layout.cgroup(data) {
                    self.into.insert(subject, path);
                }
            }
            _ => {}
        }
    }

    fn fork(
        &mut self,
        tid: i32,
        child: i32,
        flags: i64,
        comm: Option<Vec<u8>>,
        ts: Unix,
        told: &mut Vec<Told>,
    ) {
        told.push(Told::Thread(child));
        let into = self.into.remove(&child);
        let parent = self.threads.get(&tid);
        let ids = parent.and_then(|parent| parent.ids);
        let parent = parent.and_then(|parent| parent.pid);
        let is_thread = flags & CLONE_THREAD != 0;
        let thread = Thread {
            pid: if is_thread { parent } else { Some(child) },
            comm,
            ids,
            ended: false,
        };
        self.threads.insert(child, thread);
        if is_thread {
            return;
        }
        let model = parent.and_then(|parent| self.processes.get(&parent));
        let ppid = match model {
            Some(model) if flags & CLONE_PARENT != 0 => model.ppid,
            _ => parent,
        };
        let mut process = Process {
            subreaper: Some(false),
            start: Some(ts),
            ..Process::default()
        };
        if let Some(model) = model {
            process.space = model.space;
            process.program = model.program.clone();
            process.cgroups = Rc::clone(&model.cgroups);
        }
        if flags & CLONE_INTO_CGROUP != 0 {
            process.cgroups = process.cgroups.with(V2, into.as_deref());
        }
        if flags & CLONE_NEWPID != 0 {
            process.space = Space::Of(child);
        }
        // Those of one that ended unseen, whose number it has.
        self.hand_on(child, None);
        self.begin(child, process, ppid, told);
        told.extend(parent.map(|parent| Told::Fork { parent, pid: child }));
    }

    /// Enters a process, in place of an earlier one of its number.
    fn begin(&mut self, pid: i32, process: Process, ppid: Option<i32>, told: &mut Vec<Told>) {
        self.adopt(pid, None);
        if let Some(former) = self.processes.insert(pid, process) {
            self.unload(former.program, told);
        }
        self.adopt(pid, ppid);
    }

    /// Whether a thread is its process's first.
    fn is_leader(&self, tid: i32) -> bool {
        self.threads
            .get(&tid)
            .is_some_and(|thread| thread.pid == Some(tid))
    }

    /// Notes that a thread is the only one of its process, and has its number.
    fn lead(&mut self, pid: i32, told: &mut Vec<Told>) {
        let thread = self.threads.entry(pid).or_default();
        (thread.pid, thread.ended) = (Some(pid), false);
        if self.processes.get(&pid).is_none_or(|process| process.ended) {
            self.begin(pid, Process::default(), None, told);
        }
    }

    fn execute(&mut self, pid: i32, program: Program, told: &mut Vec<Told>) {
        if let Some(process) = self.processes.get_mut(&pid) {
            let former = process.program.replace(Rc::new(program));
            self.unload(former, told);
        }
    }

    /// Numbers an image.
    fn load(&mut self, file: File, told: &mut Vec<Told>) -> u64 {
        self.images += 1;
        told.push(Told::Image(self.images, file));
        self.images
    }

    /// Drops a program; tells if nobody else executes its image.
    fn unload(&self, program: Option<Rc<Program>>, told: &mut Vec<Told>) {
        let image = program
            .and_then(Rc::into_inner)
            .and_then(|program| program.image);
        told.extend(image.map(Told::Unload));
    }

    /// Takes what the kernel tells of a process that st-probe looks at.
    fn inspect(&mut self, pid: i32, layout: &Layout, data: &[u8], told: &mut Vec<Told>) {
        let number = |value| layout.number(data, value);
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        process.subreaper = number(Value::Subreaper).map(|flag| flag != 0);
        let there = [Value::Mm, Value::File].map(number);
        let program = process.program.clone().unwrap_or_default();
        // Its path was read, if it is one of this mount namespace.
        if there.contains(&Some(0)) || program.image.is_some() {
            return;
        }
        if let Some(file) = file(layout, data) {
            let program = Program {
                image: Some(self.load(file, told)),
                argv: program.argv.clone(),
                cut: program.cut,
            };
            self.execute(pid, program, told);
        }
    }

    /// Ends a process: its children become another's. False: it had ended before.
    fn end(&mut self, pid: i32) -> bool {
        let process = self.processes.entry(pid).or_default();
        if std::mem::replace(&mut process.ended, true) {
            return false;
        }
        self.ended.push_back(Ended::Process(pid));
        // It still has a parent, but none that it could be handed on from.
        if let Some(ppid) = process.ppid {
            self.leave(pid, ppid);
        }
        if self.children.contains_key(&pid) {
            let heir = self.heir(pid).filter(|_| self.tells_ends);
            self.hand_on(pid, heir);
        }
        true
    }

    /// Forgets those that ended long ago.
    fn forget(&mut self, told: &mut Vec<Told>) {
        while self.ended.len() > MAX_ENDED {
            // The number may be another one's by now.
            match self.ended.pop_front() {
                Some(Ended::Thread(tid)) => drop(remove_if(&mut self.threads, tid, |it| it.ended)),
                Some(Ended::Process(pid)) => {
                    let process = remove_if(&mut self.processes, pid, |it| it.ended);
                    self.unload(process.and_then(|process| process.program), told);
                }
                None => {}
            }
        }
    }
}

fn remove_if<V>(map: &mut HashMap<i32, V>, key: i32, is: impl Fn(&V) -> bool) -> Option<V> {
    map.get(&key).is_some_and(is).then(|| map.remove(&key))?
}

/// The file that a record shows to be executed.
fn file(layout: &Layout, data: &[u8]) -> Option<File> {
    let number = |value| layout.number(data, value);
    let nameless = number(Value::Hashed) == Some(0) && number(Value::Root) != number(Value::Dentry);
    Some(File::Chain(
        number(Value::Dev)? as u32,
        layout.chain(data)?,
        nameless,
    ))
}

/// The arguments in a record, and whether there are more.
fn arguments(layout: &Layout, data: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let count = layout.number(data, Value::Argc).unwrap_or(0).max(0) as usize;
    let text = layout.words::<ARGV>(data).unwrap_or([0; ARGV]);
    let mut rest = &text[..];
    let mut words = Vec::new();
    while words.len() < count {
        let Some(end) = rest.iter().position(|&byte| byte == 0) else {
            words.push(rest.to_vec());
            return (words, true);
        };
        words.push(rest[..end].to_vec());
        rest = &rest[end + 1..];
        if rest.is_empty() {
            break;
        }
    }
    let cut = words.len() < count;
    (words, cut)
}

#[cfg(test)]
mod tests;
