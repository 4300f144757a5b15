//! Who the processes are.

use super::Fetch::{Cgroup, Flag, Names, Number, User};
use super::Point::{Enter, Tracepoint};
use super::{ALIVE, Hook, PROCESS, Role, hook};

/// The last thread of its process, or one of those that end at the same time as it.
const LAST: &str = "live == 0";
/// PR_SET_CHILD_SUBREAPER: include/uapi/linux/prctl.h.
const SUBREAPER: &str = "option == 36";
/// CLONE_INTO_CGROUP: include/uapi/linux/sched.h.
const INTO_CGROUP: &str = "flags & 0x200000000";

/// The rows.
pub const HOOKS: &[Hook] = &[
    // include/trace/events/task.h, sched.h, cgroup.h
    hook(PROCESS, Role::Instant, Tracepoint("task/task_newtask"), &[]),
    hook(PROCESS, Role::Instant, Tracepoint("task/task_rename"), &[]),
    hook(
        PROCESS,
        Role::Instant,
        Tracepoint("sched/sched_process_exec"),
        &[],
    ),
    hook(
        PROCESS,
        Role::Instant,
        Tracepoint("sched/sched_process_exit"),
        &[],
    ),
    hook(
        PROCESS,
        Role::Instant,
        Tracepoint("cgroup/cgroup_attach_task"),
        &[],
    )
    .optional(),
    // kernel/cgroup/cgroup.c: a process that begins in another cgroup than its parent's does
    // not pass cgroup_attach_task. Before task_newtask.
    hook(
        PROCESS,
        Role::Instant,
        Enter("cgroup_post_fork"),
        &[
            Number("pid", "child->pid"),
            Number("flags", "kargs->flags"),
            Cgroup("kargs->cgrp->kn"),
        ],
    )
    .filter(INTO_CGROUP)
    .optional(),
    // kernel/sched/core.c: what task_newtask leaves out. Just after it.
    hook(
        PROCESS,
        Role::Instant,
        Enter("wake_up_new_task"),
        &[
            Number("pid", "p->pid"),
            Number("ppid", "p->real_parent->tgid"),
            Number(
                "reaper",
                "p->nsproxy->pid_ns_for_children->child_reaper->tgid",
            ),
        ],
    )
    .optional(),
    // kernel/cred.c, also at every exec.
    hook(
        PROCESS,
        Role::Instant,
        Enter("commit_creds"),
        &[
            Number("uid", "new->uid.val"),
            Number("gid", "new->gid.val"),
            Number("euid", "new->euid.val"),
            Number("egid", "new->egid.val"),
        ],
    ),
    // fs/exec.c begin_new_exec(): the arguments are where the new stack will be; bprm->file is
    // what is executed in the end, an interpreter of a script.
    hook(
        PROCESS,
        Role::Instant,
        Enter("security_bprm_committed_creds"),
        &[
            Number("dentry", "bprm->file->f_path.dentry"),
            Number("parent", "bprm->file->f_path.dentry->d_parent"),
            Number("root", "bprm->file->f_path.dentry->d_sb->s_root"),
            Number("hashed", "bprm->file->f_path.dentry->d_hash.pprev"),
            Number("dev", "bprm->file->f_path.dentry->d_sb->s_dev"),
            Number("argc", "bprm->argc"),
            User("bprm->p"),
            Names("bprm->file->f_path.dentry"),
        ],
    ),
    // kernel/exit.c do_exit(), after sched_process_exit: how the process is seen to have ended
    // (wait_task_zombie()).
    hook(
        PROCESS,
        Role::Instant,
        Enter("exit_files"),
        &[
            Number("pid", "tsk->tgid"),
            Number("live", "tsk->signal->live.counter"),
            Number("flags", "tsk->signal->flags"),
            Number("group_code", "tsk->signal->group_exit_code"),
            Number("code", "tsk->group_leader->exit_code"),
        ],
    )
    .filter(LAST),
    // kernel/sys.c: who inherits orphans.
    hook(
        PROCESS,
        Role::Instant,
        Enter("security_task_prctl"),
        &[Number("option", "option"), Number("value", "arg2")],
    )
    .filter(SUBREAPER),
    // kernel/ptrace.c ptrace_may_access(), when st-probe looks at /proc/PID/exe: what is told
    // nowhere in /proc.
    hook(
        ALIVE,
        Role::Instant,
        Enter("security_ptrace_access_check"),
        &[
            Number("pid", "child->tgid"),
            Flag("subreaper", "child->signal->is_child_subreaper"),
            // There is nothing behind those that are 0.
            Number("mm", "child->mm"),
            Number("file", "child->mm->exe_file"),
            Number("dentry", "child->mm->exe_file->f_path.dentry"),
            Number("parent", "child->mm->exe_file->f_path.dentry->d_parent"),
            Number("root", "child->mm->exe_file->f_path.dentry->d_sb->s_root"),
            Number("hashed", "child->mm->exe_file->f_path.dentry->d_hash.pprev"),
            Number("dev", "child->mm->exe_file->f_path.dentry->d_sb->s_dev"),
            Names("child->mm->exe_file->f_path.dentry"),
        ],
    )
    .optional(),
];
