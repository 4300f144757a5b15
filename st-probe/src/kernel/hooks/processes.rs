//! Hooks that tell who the processes are.

use super::Fetch::{Flag, Number, Optional, Return, User, Variable};
use super::Point::{Enter, Leave, Tracepoint};
use super::{Condition, HookRow, row, service};
use crate::stream::vocabulary::{Role, Service, Subject, Value};

/// The last thread of its process ends; also a thread that ends at the same time.
const LAST: &[Condition] = &[Condition::In(Value::Live, &[0])];
/// The call is PR_SET_CHILD_SUBREAPER (include/uapi/linux/prctl.h).
const SUBREAPER: &[Condition] = &[Condition::In(Value::Option, &[36])];
/// The process begins in another cgroup than its parent's: CLONE_INTO_CGROUP
/// (include/uapi/linux/sched.h).
const INTO_CGROUP: &[Condition] = &[Condition::AnyOf(Value::Flags, 0x2_0000_0000)];

/// The rows.
pub const HOOKS: &[HookRow] = &[
    // include/trace/events/task.h, sched.h, cgroup.h
    service(Service::Process, Tracepoint("task/task_newtask"), &[]),
    service(Service::Process, Tracepoint("task/task_rename"), &[]),
    service(
        Service::Process,
        Tracepoint("sched/sched_process_exec"),
        &[],
    ),
    service(
        Service::Process,
        Tracepoint("sched/sched_process_exit"),
        &[],
    ),
    service(
        Service::Process,
        Tracepoint("cgroup/cgroup_attach_task"),
        &[],
    )
    .optional(),
    // kernel/cgroup/cgroup.c: cgroup_attach_task does not tell of a process that begins in another
    // cgroup than its parent's. This comes before task_newtask.
    service(
        Service::Process,
        Enter("cgroup_post_fork"),
        &[
            Number(Value::Pid, "child->pid"),
            Number(Value::Flags, "kargs->flags"),
        ],
    )
    .cgroup("kargs->cgrp->kn")
    .filter(INTO_CGROUP)
    .optional(),
    // kernel/sched/core.c, just after task_newtask, which does not tell the parent.
    service(
        Service::Process,
        Enter("wake_up_new_task"),
        &[
            Number(Value::Pid, "p->pid"),
            Number(Value::Ppid, "p->real_parent->tgid"),
            Number(
                Value::Reaper,
                "p->nsproxy->pid_ns_for_children->child_reaper->tgid",
            ),
            // Without CONFIG_AUDIT there are none.
            Optional(Value::Loginuid, "p->loginuid.val"),
            Optional(Value::Session, "p->sessionid"),
        ],
    )
    .optional(),
    // kernel/audit.c: a thread writes its /proc/PID/loginuid, and gets the next number of a
    // session, which is a counter there. Only that function changes it: whoever finds that it has
    // grown by one knows that the number is the thread's.
    service(
        Service::Process,
        Enter("audit_set_loginuid"),
        &[
            Number(Value::Loginuid, "loginuid.val"),
            Variable(Value::Session, "session_id"),
        ],
    )
    .optional(),
    row(
        Subject::Service(Service::Process),
        Role::Return,
        Leave("audit_set_loginuid"),
        &[Return, Variable(Value::Session, "session_id")],
    )
    .optional(),
    // kernel/cred.c: who the process is. Every exec calls this, too.
    service(
        Service::Process,
        Enter("commit_creds"),
        &[
            Number(Value::Uid, "new->uid.val"),
            Number(Value::Gid, "new->gid.val"),
            Number(Value::Euid, "new->euid.val"),
            Number(Value::Egid, "new->egid.val"),
        ],
    ),
    // fs/exec.c, begin_new_exec(): bprm->p is the address of the arguments, which are where the
    // new stack will be. bprm->file is the file that is executed in the end: of a script, its
    // interpreter.
    service(
        Service::Process,
        Enter("security_bprm_committed_creds"),
        &[
            Number(Value::Dentry, "bprm->file->f_path.dentry"),
            Number(Value::Parent, "bprm->file->f_path.dentry->d_parent"),
            Number(Value::Root, "bprm->file->f_path.dentry->d_sb->s_root"),
            Number(Value::Hashed, "bprm->file->f_path.dentry->d_hash.pprev"),
            Number(Value::Dev, "bprm->file->f_path.dentry->d_sb->s_dev"),
            Number(Value::Argc, "bprm->argc"),
            User("bprm->p"),
        ],
    )
    .names("bprm->file->f_path.dentry"),
    // kernel/exit.c, do_exit(), after sched_process_exit: the process's status, as
    // wait_task_zombie() will tell it to the parent.
    service(
        Service::Process,
        Enter("exit_files"),
        &[
            Number(Value::Pid, "tsk->tgid"),
            Number(Value::Live, "tsk->signal->live.counter"),
            Number(Value::Flags, "tsk->signal->flags"),
            Number(Value::GroupCode, "tsk->signal->group_exit_code"),
            Number(Value::Code, "tsk->group_leader->exit_code"),
        ],
    )
    .filter(LAST),
    // kernel/sys.c: who becomes the parent of orphans.
    service(
        Service::Process,
        Enter("security_task_prctl"),
        &[
            Number(Value::Option, "option"),
            Number(Value::Value, "arg2"),
        ],
    )
    .filter(SUBREAPER),
    // kernel/ptrace.c, ptrace_may_access(), called when the census reads the link /proc/PID/exe:
    // it tells what /proc does not.
    service(
        Service::Alive,
        Enter("security_ptrace_access_check"),
        &[
            Number(Value::Pid, "child->tgid"),
            Flag(Value::Subreaper, "child->signal->is_child_subreaper"),
            // Where one of these is 0, what is fetched behind it means nothing.
            Number(Value::Mm, "child->mm"),
            Number(Value::File, "child->mm->exe_file"),
            Number(Value::Dentry, "child->mm->exe_file->f_path.dentry"),
            Number(
                Value::Parent,
                "child->mm->exe_file->f_path.dentry->d_parent",
            ),
            Number(
                Value::Root,
                "child->mm->exe_file->f_path.dentry->d_sb->s_root",
            ),
            Number(
                Value::Hashed,
                "child->mm->exe_file->f_path.dentry->d_hash.pprev",
            ),
            Number(
                Value::Dev,
                "child->mm->exe_file->f_path.dentry->d_sb->s_dev",
            ),
        ],
    )
    .names("child->mm->exe_file->f_path.dentry")
    .optional(),
];
