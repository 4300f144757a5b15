//! What events tell of a thread: encoded once, and copied until something of it changes.

use super::cgroup::Cgroups;
use super::login::Login;
use super::program::Program;
use super::{ProcessState, ProcessTable, ThreadState};
use crate::event::{Actor, Ancestor, Ids};
use st_probe::time::Unix;
use st_probe::wire::{self, Encoded};
use std::rc::{Rc, Weak};

/// The most bytes of what is told of a thread that are kept for its next event.
const LONGEST: usize = 4096;

/// What an event tells of the thread that did it.
#[derive(Debug, Default)]
pub struct Told {
    actor: Vec<u8>,
    /// Empty if there are none.
    ancestors: Vec<u8>,
    image: Option<u64>,
}

impl Told {
    /// The thread and its process.
    pub fn actor(&self) -> Encoded<'_, Actor<'_>> {
        Encoded::new(&self.actor)
    }

    /// The process's parent, the parent's parent, and so on; `None` if no parent is known.
    pub fn ancestors(&self) -> Option<Encoded<'_, Vec<Ancestor<'_>>>> {
        (!self.ancestors.is_empty()).then(|| Encoded::new(&self.ancestors))
    }

    /// The number of the image that the process executes.
    pub fn image(&self) -> Option<u64> {
        self.image
    }

    /// Whether it is as short as st-probe lets it be: each thread keeps its own.
    fn is_short(&self) -> bool {
        self.actor.len() + self.ancestors.len() <= LONGEST
    }
}

/// What a [`Told`] was made of.
#[derive(Debug)]
pub(super) struct Origin {
    pid: Option<i32>,
    comm: Option<Vec<u8>>,
    ids: Option<Ids>,
    login: Login,
    ppid: Option<i32>,
    start: Option<Unix>,
    /// A program is the same as long as its address is: the reference keeps that from being used
    /// again.
    program: Weak<Program>,
    cgroups: Rc<Cgroups>,
    lineage: u64,
}

impl Origin {
    fn of(thread: &ThreadState, process: &ProcessState, lineage: u64) -> Self {
        let program = process.program.as_ref();
        Self {
            pid: thread.pid,
            comm: thread.comm.clone(),
            ids: thread.ids,
            login: thread.login,
            ppid: process.ppid,
            start: process.start,
            program: program.map(Rc::downgrade).unwrap_or_default(),
            cgroups: Rc::clone(&process.cgroups),
            lineage,
        }
    }

    fn is_of(&self, thread: &ThreadState, process: &ProcessState, lineage: u64) -> bool {
        let program = process.program.as_ref();
        let program = program.map_or(Weak::new().as_ptr(), Rc::as_ptr);
        self.lineage == lineage
            && std::ptr::eq(self.program.as_ptr(), program)
            && Rc::ptr_eq(&self.cgroups, &process.cgroups)
            && self.pid == thread.pid
            && self.ppid == process.ppid
            && self.start == process.start
            && self.ids == thread.ids
            && self.login == thread.login
            && self.comm == thread.comm
    }
}

impl ProcessTable {
    /// What an event of a thread tells of it.
    pub fn told(&mut self, tid: i32) -> &Told {
        if !self.is_current(tid) {
            let told = self.tell(tid);
            let lineage = self.lineage;
            let thread = self.threads.get_mut(&tid);
            let process = (thread.as_ref())
                .and_then(|thread| thread.pid)
                .and_then(|pid| self.processes.get(&pid));
            match (thread, process) {
                // Nobody notes what changes around a process that has ended.
                (Some(thread), Some(process))
                    if !thread.ended && !process.ended && told.is_short() =>
                {
                    let origin = Origin::of(thread, process, lineage);
                    thread.told = Some(Box::new((origin, told)));
                }
                _ => {
                    self.last_told = told;
                    return &self.last_told;
                }
            }
        }
        let thread = self.threads.get(&tid);
        match thread.and_then(|thread| thread.told.as_deref()) {
            Some((_, told)) => told,
            None => &self.last_told,
        }
    }

    /// Whether what was told of a thread last is what is to be told now.
    fn is_current(&self, tid: i32) -> bool {
        let is_current = || {
            let thread = self.threads.get(&tid)?;
            let (origin, told) = thread.told.as_deref()?;
            let process = self.processes.get(&thread.pid?)?;
            let ended = thread.ended || process.ended;
            (!ended && origin.is_of(thread, process, self.lineage)).then_some(told)
        };
        let told = is_current();
        debug_assert!(told.is_none_or(|told| {
            let now = self.tell(tid);
            now.actor == told.actor && now.ancestors == told.ancestors && now.image == told.image
        }));
        told.is_some()
    }

    /// What is to be told of a thread now.
    fn tell(&self, tid: i32) -> Told {
        let mut told = Told {
            image: self.image(tid),
            ..Told::default()
        };
        wire::write(&self.actor(tid), &mut told.actor);
        let ancestors = self.ancestors(tid);
        if !ancestors.is_empty() {
            wire::write(&ancestors, &mut told.ancestors);
        }
        told
    }

    /// Notes that something changed that is told of a process where it is an ancestor.
    pub(super) fn changes_as_ancestor(&mut self, pid: i32) {
        if self.children.contains_key(&pid) {
            self.lineage += 1;
        }
    }
}
