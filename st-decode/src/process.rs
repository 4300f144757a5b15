//! Who did it: threads, from those alive at the start and the task events since.

use crate::field::{Layout, Number};
use st_probe::record;
use std::collections::{HashMap, VecDeque};

/// CLONE_THREAD: include/uapi/linux/sched.h.
const CLONE_THREAD: i64 = 0x10000;
/// How many threads are remembered after their end: their files and sockets are closed
/// after the kernel has told of it.
const MAX_ENDED: usize = 4096;

#[derive(Debug, Default)]
struct Thread {
    pid: Option<i32>,
    comm: Option<Vec<u8>>,
    ended: bool,
}

/// The threads that are alive, and the last that were.
#[derive(Debug, Default)]
pub struct Processes {
    threads: HashMap<i32, Thread>,
    ended: VecDeque<i32>,
}

impl Processes {
    /// The process of a thread and the thread's name, as far as they are known.
    pub fn find(&self, tid: i32) -> (Option<i32>, Option<&[u8]>) {
        self.threads
            .get(&tid)
            .map_or((None, None), |thread| (thread.pid, thread.comm.as_deref()))
    }

    /// Takes a process that was alive at the start.
    pub fn alive(&mut self, process: &record::Process) {
        for thread in &process.threads {
            self.insert(thread.tid, Some(process.pid), Some(thread.comm.to_vec()));
        }
    }

    /// Takes a record of one of the task events. Returns the thread that ended with it, or
    /// whose number another one has now.
    pub fn learn(&mut self, point: &str, tid: i32, layout: &Layout, data: &[u8]) -> Option<i32> {
        let subject = layout
            .number(data, Number::Pid)
            .map_or(tid, |pid| pid as i32);
        match point {
            // kernel/fork.c copy_process(): in the context of the parent.
            "task/task_newtask" => {
                let thread = layout
                    .number(data, Number::CloneFlags)
                    .is_some_and(|flags| flags & CLONE_THREAD != 0);
                let pid = if thread {
                    self.find(tid).0
                } else {
                    Some(subject)
                };
                self.insert(subject, pid, layout.text(data, "comm").map(<[u8]>::to_vec));
                return Some(subject);
            }
            // fs/exec.c __set_task_comm()
            "task/task_rename" => {
                let comm = layout.text(data, "newcomm").map(<[u8]>::to_vec);
                self.threads.entry(subject).or_default().comm = comm;
            }
            // fs/exec.c exec_binprm(): the caller has become its process's only thread, under
            // the process's id.
            "sched/sched_process_exec" => {
                if let Some(old) = layout.number(data, Number::OldPid).map(|old| old as i32) {
                    if old != subject {
                        self.threads.remove(&old);
                    }
                }
                let thread = self.threads.entry(subject).or_default();
                (thread.pid, thread.ended) = (Some(subject), false);
            }
            "sched/sched_process_exit" => {
                if let Some(thread) = self.threads.get_mut(&subject) {
                    thread.ended = true;
                    self.ended.push_back(subject);
                }
                if self.ended.len() > MAX_ENDED {
                    // The number may be another thread's by now.
                    let gone = |tid: &i32| self.threads.get(tid).is_some_and(|thread| thread.ended);
                    if let Some(tid) = self.ended.pop_front().filter(gone) {
                        self.threads.remove(&tid);
                    }
                }
                return Some(subject);
            }
            _ => {}
        }
        None
    }

    fn insert(&mut self, tid: i32, pid: Option<i32>, comm: Option<Vec<u8>>) {
        self.threads.insert(
            tid,
            Thread {
                pid,
                comm,
                ended: false,
            },
        );
    }
}
