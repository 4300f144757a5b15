//! Who logged in.

use super::*;

const UNSET: i64 = 0xffff_ffff;

/// User and session of a thread.
type Told = (Option<u32>, Option<u32>);

impl World {
    /// A thread begins to set its user, when `last` is the number of the last session.
    fn begin_login(&mut self, tid: i32, loginuid: i64, last: i64) {
        let numbers = [("loginuid", loginuid), ("session", last)];
        self.learn(TaskHook::SetLoginuid, tid, &numbers, None);
    }

    fn end_login(&mut self, tid: i32, ret: i64, last: i64) {
        let numbers = [("ret", ret), ("session", last)];
        self.learn(TaskHook::LoginuidSet, tid, &numbers, None);
    }

    fn log_in(&mut self, tid: i32, loginuid: i64, session: i64) {
        self.begin_login(tid, loginuid, session - 1);
        self.end_login(tid, 0, session);
    }

    /// A fork of which the kernel tells who logged in.
    fn fork_after_login(&mut self, parent: i32, child: i32, loginuid: i64, session: i64) {
        self.fork(parent, child, 0);
        let numbers = [
            ("pid", child.into()),
            ("ppid", parent.into()),
            ("loginuid", loginuid),
            ("session", session),
        ];
        self.learn(TaskHook::WakeUpNewTask, parent, &numbers, None);
    }

    fn login(&self, tid: i32) -> Told {
        let actor = self.processes.actor(tid);
        (actor.loginuid, actor.session)
    }
}

fn told(loginuid: u32, session: u32) -> Told {
    (Some(loginuid), Some(session))
}

const NOBODY: Told = (None, None);

#[test]
fn a_login_is_inherited_by_processes_and_threads_and_survives_programs_and_users() {
    let mut world = world();
    world.fork(10, 11, 0);
    assert_eq!(world.login(11), NOBODY);
    world.log_in(11, 1000, 7);
    assert_eq!(world.login(11), told(1000, 7));
    world.fork(11, 12, 0);
    world.fork(11, 13, CLONE_THREAD);
    world.execute(12, 12);
    let root = [("uid", 0), ("gid", 0), ("euid", 0), ("egid", 0)];
    world.learn(TaskHook::CommitCreds, 12, &root, None);
    for tid in [12, 13] {
        assert_eq!(world.login(tid), told(1000, 7));
    }
    // One thread logs in by itself, and executes: then it is the process.
    world.log_in(13, 1001, 8);
    assert_eq!(world.login(11), told(1000, 7));
    world.execute(11, 13);
    assert_eq!(world.login(11), told(1001, 8));
    assert_eq!(world.login(10), NOBODY);
}

#[test]
fn a_login_that_fails_changes_nothing_and_one_under_way_is_not_known() {
    let mut world = world();
    world.log_in(10, 1000, 7);
    world.begin_login(10, 1001, 7);
    assert_eq!(world.login(10), NOBODY);
    world.end_login(10, -1, 7);
    assert_eq!(world.login(10), told(1000, 7));
    // The return of this one is missed.
    world.begin_login(10, 1001, 7);
    world.begin_login(10, 1002, 8);
    world.end_login(10, -1, 8);
    assert_eq!(world.login(10), NOBODY);
    // The entry of this one.
    world.log_in(10, 1000, 9);
    world.end_login(10, 0, 10);
    assert_eq!(world.login(10), NOBODY);
    world.log_in(10, 1000, 11);
    world.end_login(10, -1, 11);
    assert_eq!(world.login(10), told(1000, 11));
}

#[test]
fn a_user_can_be_taken_back() {
    let mut world = world();
    world.log_in(10, 1000, 7);
    world.begin_login(10, UNSET, 7);
    world.end_login(10, 0, 7);
    assert_eq!(world.login(10), NOBODY);
    // Others log in meanwhile: the number is that of one of them.
    world.begin_login(10, UNSET, 7);
    world.end_login(10, 0, 8);
    assert_eq!(world.login(10), NOBODY);
}

#[test]
fn the_number_of_a_login_is_told_if_nobody_else_logs_in_at_the_same_time() {
    let mut world = world();
    for (before, after) in [(7, 9), (7, 7), (UNSET - 1, UNSET), (7, 0)] {
        world.begin_login(10, 1000, before);
        world.end_login(10, 0, after);
        assert_eq!(world.login(10), (Some(1000), None), "{before} {after}");
    }
    // Where the kernel does not tell the number of the last one.
    world.learn(TaskHook::SetLoginuid, 10, &[("loginuid", 5)], None);
    world.learn(TaskHook::LoginuidSet, 10, &[("ret", 0)], None);
    assert_eq!(world.login(10), (Some(5), None));
    // A fork tells it.
    world.fork_after_login(10, 11, 1000, 8);
    for tid in [10, 11] {
        assert_eq!(world.login(tid), told(1000, 8));
    }
    world.fork_after_login(10, 12, UNSET, UNSET);
    for (tid, login) in [(10, NOBODY), (11, told(1000, 8)), (12, NOBODY)] {
        assert_eq!(world.login(tid), login);
    }
}

#[test]
fn who_logged_in_before_is_found() {
    let mut world = world();
    world.alive_after_login(20, 1, Some(1000));
    assert_eq!(world.login(20), told(1000, 1));
    // One that began before its parent was found, and has executed a program.
    world.fork(30, 31, 0);
    let ids = [("uid", 5), ("gid", 6), ("euid", 5), ("egid", 6)];
    world.learn(TaskHook::CommitCreds, 31, &ids, None);
    world.execute(31, 31);
    world.alive_after_login(31, 30, Some(1001));
    let actor = world.processes.actor(31);
    assert_eq!((actor.loginuid, actor.uid), (Some(1001), Some(5)));
    // What could not be read takes nothing away.
    world.alive(31, 30);
    assert_eq!(world.login(31), told(1001, 1));
}

#[test]
fn after_a_loss_nobody_knows_who_logged_in() {
    let mut world = world();
    world.log_in(10, 1000, 7);
    world.processes.forget_all();
    assert_eq!(world.login(10), NOBODY);
    world.begin_login(10, 1000, 7);
    world.processes.forget_all();
    world.end_login(10, 0, 8);
    assert_eq!(world.login(10), NOBODY);
    world.alive_after_login(10, 1, Some(1000));
    assert_eq!(world.login(10), told(1000, 1));
}
