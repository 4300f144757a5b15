//! What the records of the task hooks tell of processes and threads.

use super::program::{ImageFile, Program, arguments};
use super::{Effect, Notice, PidNamespace, ProcessState, ProcessTable, ThreadState};
use crate::event::Ids;
use crate::field::Values;
use crate::linux::{
    CGROUP2_HIERARCHY, CLONE_INTO_CGROUP, CLONE_NEWPID, CLONE_PARENT, CLONE_THREAD,
    SIGNAL_GROUP_EXIT,
};
use st_probe::time::Unix;
use st_probe::vocabulary::{Role, Value};
use std::rc::Rc;

/// A hook that tells of processes and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskHook {
    /// A thread or process is made: kernel/fork.c copy_process(), in the context of the parent.
    NewTask,
    /// A new thread or process is made to run: kernel/sched/core.c, just after `NewTask`.
    WakeUpNewTask,
    /// A thread gets another name: fs/exec.c __set_task_comm().
    Rename,
    /// A thread gets other credentials: kernel/cred.c.
    CommitCreds,
    /// A thread is about to execute another program: fs/exec.c begin_new_exec().
    ExecCreds,
    /// A thread executes another program: fs/exec.c exec_binprm(), after `ExecCreds`.
    Exec,
    /// A thread ends: kernel/exit.c do_exit().
    Exit,
    /// The last thread of a process ends, or one of those that end at the same time as the last:
    /// kernel/exit.c do_exit(), after `Exit`.
    ExitFiles,
    /// A process becomes a subreaper or ceases to be one: kernel/sys.c prctl().
    Prctl,
    /// st-probe reads the process's /proc/PID/exe: kernel/ptrace.c ptrace_may_access().
    PtraceAccess,
    /// A process is moved into a cgroup: kernel/cgroup/cgroup.c.
    CgroupAttach,
    /// A process begins in another cgroup than its parent's: kernel/cgroup/cgroup.c, before
    /// `NewTask`.
    CgroupPostFork,
    /// A thread is about to set who logged in: kernel/audit.c audit_set_loginuid().
    SetLoginuid,
    /// It has done so, or failed.
    LoginuidSet,
}

impl TaskHook {
    /// The hook at a kernel function or static tracepoint, by the name that
    /// [`st_probe::record::Hook::point`] has, and its role. `None`: a hook of a later version.
    pub fn at(point: &str, role: Role) -> Option<Self> {
        Some(match point {
            "audit_set_loginuid" if role == Role::Return => Self::LoginuidSet,
            "audit_set_loginuid" => Self::SetLoginuid,
            "task/task_newtask" => Self::NewTask,
            "wake_up_new_task" => Self::WakeUpNewTask,
            "task/task_rename" => Self::Rename,
            "commit_creds" => Self::CommitCreds,
            "security_bprm_committed_creds" => Self::ExecCreds,
            "sched/sched_process_exec" => Self::Exec,
            "sched/sched_process_exit" => Self::Exit,
            "exit_files" => Self::ExitFiles,
            "security_task_prctl" => Self::Prctl,
            "security_ptrace_access_check" => Self::PtraceAccess,
            "cgroup/cgroup_attach_task" => Self::CgroupAttach,
            "cgroup_post_fork" => Self::CgroupPostFork,
            _ => return None,
        })
    }
}

/// A raw record of a task hook.
#[derive(Debug, Clone, Copy)]
pub struct TaskRecord<'a> {
    /// The thread that ran through the hook.
    pub tid: i32,
    /// When it did.
    pub ts: Unix,
    /// What the hook fetched.
    pub values: Values<'a>,
}

impl TaskRecord<'_> {
    /// The thread or process that the record is about, by [`Value::Pid`]; the thread that ran
    /// through the hook if the record has no such value.
    pub(super) fn subject(&self) -> i32 {
        self.values.i32(Value::Pid).unwrap_or(self.tid)
    }
}

impl ProcessTable {
    /// Takes a record of a task hook.
    pub fn learn(&mut self, hook: TaskHook, record: &TaskRecord) -> Effect {
        match hook {
            TaskHook::NewTask => return self.new_task(record),
            TaskHook::Exec => return self.exec(record),
            TaskHook::Exit => return self.exit(record),
            TaskHook::ExitFiles => return self.exit_files(record),
            TaskHook::WakeUpNewTask => self.wake_up_new_task(record),
            TaskHook::Rename => self.rename(record),
            TaskHook::CommitCreds => self.commit_creds(record),
            TaskHook::ExecCreds => self.exec_creds(record),
            TaskHook::Prctl => self.prctl(record),
            TaskHook::PtraceAccess => self.ptrace_access(record),
            TaskHook::CgroupAttach => self.cgroup_attach(record),
            TaskHook::CgroupPostFork => self.cgroup_post_fork(record),
            TaskHook::SetLoginuid => self.set_loginuid(record),
            TaskHook::LoginuidSet => self.loginuid_set(record),
        }
        Effect::Nothing
    }

    fn new_task(&mut self, record: &TaskRecord) -> Effect {
        let child = record.subject();
        let flags = record.values.number(Value::CloneFlags).unwrap_or(0);
        let cgroup = self.clone_cgroups.remove(&child);
        let is_thread = flags & CLONE_THREAD != 0;
        let parent = self.pid(record.tid);
        let caller = self.threads.get(&record.tid);
        let thread = ThreadState {
            pid: if is_thread { parent } else { Some(child) },
            comm: record.values.text(Value::Comm).map(<[u8]>::to_vec),
            ids: caller.and_then(|caller| caller.ids),
            login: caller.map(|caller| caller.login).unwrap_or_default(),
            setting: None,
            ended: false,
            told: None,
        };
        self.changes_as_ancestor(child);
        self.threads.insert(child, thread);
        if !is_thread {
            self.fork(record, parent, child, flags, cgroup.as_deref());
        }
        Effect::ThreadEnded(child)
    }

    /// Enters a new process: kernel/fork.c copy_process().
    fn fork(
        &mut self,
        record: &TaskRecord,
        parent: Option<i32>,
        child: i32,
        flags: i64,
        cgroup: Option<&[u8]>,
    ) {
        let mut process = ProcessState {
            subreaper: Some(false),
            start: Some(record.ts),
            ..ProcessState::default()
        };
        let mut ppid = parent;
        if let Some(parent) = parent.and_then(|parent| self.processes.get(&parent)) {
            process.pid_namespace = parent.pid_namespace;
            process.program = parent.program.clone();
            process.cgroups = Rc::clone(&parent.cgroups);
            if flags & CLONE_PARENT != 0 {
                ppid = parent.ppid;
            }
        }
        if flags & CLONE_INTO_CGROUP != 0 {
            process.cgroups = process.cgroups.with(CGROUP2_HIERARCHY, cgroup);
        }
        if flags & CLONE_NEWPID != 0 {
            process.pid_namespace = PidNamespace::Init(child);
        }
        // An earlier process with this pid may have ended without a record of it.
        self.reparent_children(child, None);
        self.insert(child, process, ppid);
        if let Some(parent) = parent {
            self.notices.push(Notice::Fork { parent, pid: child });
        }
    }

    fn wake_up_new_task(&mut self, record: &TaskRecord) {
        let tid = record.subject();
        self.inherit_login(record);
        if !self.is_leader(tid) {
            return;
        }
        self.set_parent(tid, record.values.i32(Value::Ppid));
        let init = record.values.i32(Value::Reaper);
        if let (Some(process), Some(init)) = (self.processes.get_mut(&tid), init) {
            process.pid_namespace = PidNamespace::Init(init);
        }
    }

    fn rename(&mut self, record: &TaskRecord) {
        let comm = record.values.text(Value::Newcomm).map(<[u8]>::to_vec);
        self.changes_as_ancestor(record.subject());
        self.threads.entry(record.subject()).or_default().comm = comm;
    }

    fn commit_creds(&mut self, record: &TaskRecord) {
        let ids = ids(&record.values);
        self.threads.entry(record.tid).or_default().ids = ids;
    }

    /// By now the caller is the only thread of its process, and has the process's pid as tid.
    fn exec_creds(&mut self, record: &TaskRecord) {
        let (argv, argv_cut) = arguments(&record.values);
        let file = ImageFile::read(&record.values);
        let image = file.map(|file| self.load(file));
        self.ensure_leader(record.tid);
        let program = Program {
            image,
            argv: Some(argv),
            argv_cut,
        };
        self.set_program(record.tid, program);
    }

    fn exec(&mut self, record: &TaskRecord) -> Effect {
        let pid = record.subject();
        let old_tid = record.values.i32(Value::OldPid).filter(|&old| old != pid);
        self.ensure_leader(pid);
        if let Some(old_tid) = old_tid {
            self.changes_as_ancestor(old_tid);
            let former = self.threads.remove(&old_tid);
            if let Some(leader) = self.threads.get_mut(&pid) {
                leader.login = former.map(|former| former.login).unwrap_or_default();
            }
        }
        Effect::Executed { old_tid }
    }

    fn exit(&mut self, record: &TaskRecord) -> Effect {
        let tid = record.subject();
        self.end_thread(tid);
        // Other threads of the process may go on, or not.
        if !self.tells_process_ends && self.is_leader(tid) {
            self.end_process(tid);
        }
        self.forget_ended();
        Effect::ThreadEnded(tid)
    }

    /// The wait status is that of kernel/exit.c wait_task_zombie().
    fn exit_files(&mut self, record: &TaskRecord) -> Effect {
        let values = &record.values;
        let is_group_exit = values.number(Value::Flags).unwrap_or(0) & SIGNAL_GROUP_EXIT != 0;
        let code = if is_group_exit {
            Value::GroupCode
        } else {
            Value::Code
        };
        // Of threads that end at the same time, each may be taken for the last one.
        if !self.end_process(record.subject()) {
            return Effect::Nothing;
        }
        match values.i32(code) {
            Some(wait_status) => Effect::ProcessEnded { wait_status },
            None => Effect::Nothing,
        }
    }

    fn prctl(&mut self, record: &TaskRecord) {
        let pid = self.pid(record.tid);
        if let Some(process) = pid.and_then(|pid| self.processes.get_mut(&pid)) {
            let value = record.values.number(Value::Value);
            process.subreaper = value.map(|value| value != 0);
        }
    }

    /// Takes what /proc does not tell of a process that st-probe found alive.
    fn ptrace_access(&mut self, record: &TaskRecord) {
        let (pid, values) = (record.subject(), &record.values);
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let subreaper = values.number(Value::Subreaper);
        process.subreaper = subreaper.map(|flag| flag != 0);
        let program = process.program.clone().unwrap_or_default();
        // st-probe could read the path of a file that is in its own mount namespace.
        if program.image.is_some() || has_no_executable(values) {
            return;
        }
        if let Some(file) = ImageFile::read(values) {
            let program = Program {
                image: Some(self.load(file)),
                argv: program.argv.clone(),
                argv_cut: program.argv_cut,
            };
            self.set_program(pid, program);
        }
    }

    fn cgroup_attach(&mut self, record: &TaskRecord) {
        let process = self.processes.get_mut(&record.subject());
        let hierarchy = record.values.u32(Value::DstRoot);
        if let (Some(process), Some(hierarchy)) = (process, hierarchy) {
            let path = record.values.text(Value::DstPath);
            process.cgroups = process.cgroups.with(hierarchy, path);
        }
    }

    fn cgroup_post_fork(&mut self, record: &TaskRecord) {
        if let Some(path) = record.values.cgroup() {
            self.clone_cgroups.insert(record.subject(), path);
        }
    }
}

/// The users and groups that a record tells, if it tells all.
fn ids(values: &Values) -> Option<Ids> {
    Some(Ids {
        uid: values.u32(Value::Uid)?,
        gid: values.u32(Value::Gid)?,
        euid: values.u32(Value::Euid)?,
        egid: values.u32(Value::Egid)?,
    })
}

/// Whether a record of [`TaskHook::PtraceAccess`] tells that the process executes no file: it is
/// a kernel thread. What the record tells of the file is then nonsense.
fn has_no_executable(values: &Values) -> bool {
    values.number(Value::Mm) == Some(0) || values.number(Value::File) == Some(0)
}
