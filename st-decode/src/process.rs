//! Processes and threads: who did what an event tells.
//!
//! [`ProcessTable`] begins with the processes that st-probe found alive, and follows the task
//! hooks from then on.

mod alive;
mod cgroup;
mod kinship;
mod login;
mod program;
mod task;
mod told;

use crate::event::{Actor, Ancestor, Bytes, Ids};
use cgroup::Cgroups;
use foldhash::{HashMap, HashSet};
use login::{Login, Setting};
use program::Program;
use st_probe::time::Unix;
use std::collections::VecDeque;
use std::rc::Rc;
use told::Origin;

pub use program::ImageFile;
pub use task::{TaskHook, TaskRecord};
pub use told::Told;

/// How many threads and processes are remembered after they ended: the kernel closes their files
/// and sockets after it has told of their end.
const MAX_ENDED: usize = 4096;
/// How many ancestors an event names.
const MAX_ANCESTORS: usize = 8;

#[derive(Debug, Default)]
struct ThreadState {
    pid: Option<i32>,
    comm: Option<Vec<u8>>,
    ids: Option<Ids>,
    login: Login,
    /// The call that sets `login`, if one is under way.
    setting: Option<Setting>,
    ended: bool,
    /// What its last event told of it, and what that was made of.
    told: Option<Box<(Origin, Told)>>,
}

#[derive(Debug, Default)]
struct ProcessState {
    /// The parent; 0 if the process has none.
    ppid: Option<i32>,
    pid_namespace: PidNamespace,
    /// Whether orphans among its descendants become its children, if that is known.
    subreaper: Option<bool>,
    start: Option<Unix>,
    program: Option<Rc<Program>>,
    cgroups: Rc<Cgroups>,
    ended: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum PidNamespace {
    #[default]
    Unknown,
    /// By its inode number.
    Inode(u64),
    /// By its init process.
    Init(i32),
}

/// What a record about processes tells of them beside what the table remembers.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// The thread that had this tid has ended; a new thread may have the tid now.
    ThreadEnded(i32),
    /// A process executes another program.
    Executed {
        /// The former tid of the thread that did, which has its process's pid as tid now.
        old_tid: Option<i32>,
    },
    /// A process ended.
    ProcessEnded {
        /// As of wait(2).
        wait_status: i32,
    },
}

/// What later stages must be told of processes.
#[derive(Debug)]
pub enum Notice {
    /// A process began another one.
    Fork {
        /// The process that did.
        parent: i32,
        /// The new process.
        pid: i32,
    },
    /// Processes execute a file.
    Image {
        /// The number of the image: no other image in the stream has it.
        image: u64,
        /// The file.
        file: ImageFile,
    },
    /// No process executes this image any more.
    Unload(u64),
}

/// The processes that are alive, and those that ended last.
#[derive(Debug, Default)]
pub struct ProcessTable {
    threads: HashMap<i32, ThreadState>,
    processes: HashMap<i32, ProcessState>,
    /// The children of each parent, whether or not the parent is in `processes`.
    children: HashMap<i32, HashSet<i32>>,
    /// Threads and processes that ended, the first to end first.
    ended: VecDeque<Ended>,
    /// The init processes of pid namespaces, by the inode numbers of these.
    inits: HashMap<u64, i32>,
    /// The cgroups that CLONE_INTO_CGROUP gives to processes whose fork is not recorded yet.
    clone_cgroups: HashMap<i32, Vec<u8>>,
    /// How many images there were so far.
    images: u64,
    /// Whether the stream tells when a process ends, and not only when its threads do.
    tells_process_ends: bool,
    notices: Vec<Notice>,
    /// Changes with each change of what events tell of ancestors.
    lineage: u64,
    /// What was told last of a thread for which it is not kept.
    last_told: Told,
}

#[derive(Debug)]
enum Ended {
    Thread(i32),
    Process(i32),
}

impl ProcessTable {
    /// Begins with a stream; `tells_process_ends` if it has records of [`TaskHook::ExitFiles`].
    pub fn begin_stream(&mut self, tells_process_ends: bool) {
        self.tells_process_ends = tells_process_ends;
        self.forget_all();
    }

    /// Forgets all threads and processes: records that are missing may have changed them.
    pub fn forget_all(&mut self) {
        *self = Self {
            images: self.images,
            tells_process_ends: self.tells_process_ends,
            ..Self::default()
        };
    }

    /// The notices since the last call, in order.
    pub fn take_notices(&mut self) -> impl Iterator<Item = Notice> {
        self.notices.drain(..)
    }

    /// A thread and its process, as far as they are known.
    fn actor(&self, tid: i32) -> Actor<'_> {
        let mut actor = Actor {
            tid,
            ..Actor::default()
        };
        let Some(thread) = self.threads.get(&tid) else {
            return actor;
        };
        actor.pid = thread.pid;
        actor.comm = thread.comm.as_deref().map(Bytes::from);
        if let Some(ids) = thread.ids {
            actor.uid = Some(ids.uid);
            actor.gid = Some(ids.gid);
            actor.euid = (ids.euid != ids.uid).then_some(ids.euid);
            actor.egid = (ids.egid != ids.gid).then_some(ids.egid);
        }
        actor.loginuid = thread.login.loginuid;
        actor.session = thread.login.session;
        let process = thread.pid.and_then(|pid| self.processes.get(&pid));
        let Some(process) = process else {
            return actor;
        };
        actor.ppid = process.ppid;
        actor.start = process.start;
        actor.cgroup = process.cgroups.shown().map(Bytes::from);
        actor.container = process.cgroups.container().map(Bytes::from);
        if let Some(program) = &process.program {
            if let Some(argv) = &program.argv {
                actor.argv = Some(argv.iter().map(|word| Bytes::from(&word[..])).collect());
            }
            actor.argv_cut = program.argv_cut;
        }
        actor
    }

    /// The number of the image that the process of a thread executes.
    fn image(&self, tid: i32) -> Option<u64> {
        let process = self.processes.get(&self.pid(tid)?)?;
        process.program.as_ref()?.image
    }

    /// The parent of a thread's process, the parent's parent, and so on.
    fn ancestors(&self, tid: i32) -> Vec<Ancestor<'_>> {
        let mut ancestors = Vec::new();
        let mut descendant = self.pid(tid);
        while ancestors.len() < MAX_ANCESTORS {
            let process = descendant.and_then(|pid| self.processes.get(&pid));
            let parent = process.and_then(|process| process.ppid);
            let Some(pid) = parent.filter(|&ppid| ppid > 0) else {
                break;
            };
            let leader = self.threads.get(&pid);
            let comm = leader.and_then(|leader| leader.comm.as_deref());
            ancestors.push(Ancestor {
                pid,
                comm: comm.map(Bytes::from),
            });
            descendant = Some(pid);
        }
        ancestors
    }

    /// The process of a thread, if it is known.
    fn pid(&self, tid: i32) -> Option<i32> {
        self.threads.get(&tid)?.pid
    }

    /// Whether a thread is known to be the first of its process.
    fn is_leader(&self, tid: i32) -> bool {
        self.pid(tid) == Some(tid)
    }

    /// Enters a process into the table, in place of an earlier one with this pid.
    fn insert(&mut self, pid: i32, process: ProcessState, ppid: Option<i32>) {
        self.set_parent(pid, None);
        if let Some(former) = self.processes.insert(pid, process) {
            self.unload(former.program);
        }
        self.set_parent(pid, ppid);
    }

    /// Notes that the thread whose tid is the pid runs, and that the process does.
    fn ensure_leader(&mut self, pid: i32) {
        let thread = self.threads.entry(pid).or_default();
        thread.pid = Some(pid);
        thread.ended = false;
        if (self.processes.get(&pid)).is_none_or(|process| process.ended) {
            self.insert(pid, ProcessState::default(), None);
        }
    }

    /// Notes the end of a thread.
    fn end_thread(&mut self, tid: i32) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.ended = true;
            thread.told = None;
            self.ended.push_back(Ended::Thread(tid));
        }
    }

    /// Notes the end of a process, and who inherits its children. False: the process had ended
    /// before.
    fn end_process(&mut self, pid: i32) -> bool {
        let process = self.processes.entry(pid).or_default();
        if std::mem::replace(&mut process.ended, true) {
            return false;
        }
        self.ended.push_back(Ended::Process(pid));
        self.reparent_children_of_ended(pid);
        true
    }

    /// Forgets the threads and processes that ended long ago.
    fn forget_ended(&mut self) {
        while self.ended.len() > MAX_ENDED {
            match self.ended.pop_front() {
                Some(Ended::Thread(tid)) => self.forget_thread(tid),
                Some(Ended::Process(pid)) => self.forget_process(pid),
                None => {}
            }
        }
    }

    /// Forgets a thread that has ended, unless a new thread has the tid by now.
    fn forget_thread(&mut self, tid: i32) {
        if self.threads.get(&tid).is_some_and(|thread| thread.ended) {
            self.changes_as_ancestor(tid);
            self.threads.remove(&tid);
        }
    }

    /// Forgets a process that has ended, unless a new process has the pid by now.
    fn forget_process(&mut self, pid: i32) {
        if (self.processes.get(&pid)).is_some_and(|process| process.ended) {
            self.changes_as_ancestor(pid);
            let process = self.processes.remove(&pid);
            self.unload(process.and_then(|process| process.program));
        }
    }
}

#[cfg(test)]
mod tests;
