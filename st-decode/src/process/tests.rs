mod login;
mod told;

use super::program::arguments;
use super::*;
use crate::field::Layout;
use crate::linux::{
    CLONE_INTO_CGROUP, CLONE_NEWPID, CLONE_PARENT, CLONE_THREAD, SIGNAL_GROUP_EXIT,
};
use st_probe::record::{self, ARGV, Field};
use st_probe::vocabulary::Order;

/// A record with these numbers, of 8 bytes each, and a text.
fn record(numbers: &[(&str, i64)], text: Option<(&str, &str)>) -> (Layout, Vec<u8>) {
    let mut fields = Vec::new();
    let mut data = Vec::new();
    let field = |name: &str, offset: usize, size, ctype: &str| Field {
        name: name.into(),
        offset: offset as u16,
        size,
        signed: true,
        ctype: ctype.into(),
    };
    for (name, value) in numbers {
        let ctype = if *name == "n0" {
            "__data_loc char[]"
        } else {
            "long"
        };
        fields.push(field(name, data.len(), 8, ctype));
        data.extend(value.to_le_bytes());
    }
    if let Some((name, text)) = text {
        fields.push(field(name, data.len(), 16, "char[16]"));
        data.extend(format!("{text:\0<16}").bytes());
    }
    (Layout::new(Order::Little, &fields), data)
}

/// Processes, with all that has been told of them.
#[derive(Default)]
struct World {
    processes: ProcessTable,
    notices: Vec<Notice>,
    effects: Vec<Effect>,
}

impl World {
    fn learn(
        &mut self,
        hook: TaskHook,
        tid: i32,
        numbers: &[(&str, i64)],
        text: Option<(&str, &str)>,
    ) {
        let (layout, data) = record(numbers, text);
        self.learn_record(hook, tid, &layout, &data);
    }

    fn learn_record(&mut self, hook: TaskHook, tid: i32, layout: &Layout, data: &[u8]) {
        let record = TaskRecord {
            tid,
            ts: Unix(5),
            values: layout.values(data),
        };
        self.effects.push(self.processes.learn(hook, &record));
        self.notices.extend(self.processes.take_notices());
    }

    fn fork(&mut self, parent: i32, child: i32, flags: i64) {
        let numbers = [("pid", child.into()), ("clone_flags", flags)];
        self.learn(TaskHook::NewTask, parent, &numbers, Some(("comm", "made")));
    }

    fn execute(&mut self, tid: i32, old: i32) {
        let argv = i64::from_le_bytes(*b"run\0-v\0\0");
        // Where the name is: its offset, and its length in the upper half.
        let name = 3 * 8 + 8;
        let numbers = [
            ("dev", 1),
            ("n0", name | 4 << 16),
            ("argc", 2),
            ("a0", argv),
        ];
        let (layout, mut data) = record(&numbers, None);
        data.extend(b"run\0");
        // The words go on behind the first.
        data.resize(3 * 8 + ARGV, 0);
        self.learn_record(TaskHook::ExecCreds, tid, &layout, &data);
        let numbers = [("pid", tid.into()), ("old_pid", old.into())];
        self.learn(TaskHook::Exec, tid, &numbers, None);
    }

    fn exit(&mut self, tid: i32) {
        self.learn(TaskHook::Exit, tid, &[("pid", tid.into())], None);
    }

    /// The end of a process with one thread.
    fn end(&mut self, pid: i32) {
        self.exit(pid);
        let numbers = [("pid", pid.into()), ("flags", 0), ("code", 0x300)];
        self.learn(TaskHook::ExitFiles, pid, &numbers, None);
    }

    fn alive(&mut self, pid: i32, ppid: i32) {
        self.alive_after_login(pid, ppid, None);
    }

    fn alive_after_login(&mut self, pid: i32, ppid: i32, loginuid: Option<u32>) {
        let thread = record::Thread {
            tid: pid,
            comm: b"old"[..].into(),
            ids: Some(Ids::default()),
            loginuid,
            session: loginuid.map(|_| 1),
        };
        let process = record::Process {
            pid,
            ppid: Some(ppid),
            pid_ns: Some(1),
            first: pid == 1,
            threads: vec![thread],
            ..record::Process::default()
        };
        self.processes.add_alive(&process);
        self.notices.extend(self.processes.take_notices());
    }

    /// What the kernel tells when st-probe looks.
    fn inspect(&mut self, pid: i32, subreaper: i64) {
        let numbers = [("pid", pid.into()), ("subreaper", subreaper), ("mm", 0)];
        self.learn(TaskHook::PtraceAccess, 1, &numbers, None);
    }

    fn ppid(&self, pid: i32) -> Option<i32> {
        self.processes.actor(pid).ppid
    }
}

/// A machine with an init and a shell below it.
fn world() -> World {
    let mut world = World::default();
    world.processes.begin_stream(true);
    for (pid, ppid) in [(1, 0), (10, 1)] {
        world.alive(pid, ppid);
        world.inspect(pid, 0);
    }
    world
}

#[test]
fn a_child_is_what_its_parent_is_until_it_executes() {
    let mut world = world();
    world.fork(10, 11, 0);
    let ids = [("uid", 5), ("gid", 6), ("euid", 0), ("egid", 6)];
    world.learn(TaskHook::CommitCreds, 11, &ids, None);
    world.execute(11, 11);
    world.fork(11, 12, 0);
    let actor = world.processes.actor(12);
    assert_eq!(
        (actor.pid, actor.ppid, actor.start),
        (Some(12), Some(11), Some(Unix(5)))
    );
    assert_eq!(
        (actor.uid, actor.euid, actor.gid, actor.egid),
        (Some(5), Some(0), Some(6), None)
    );
    let argv: Vec<_> = actor
        .argv
        .unwrap()
        .iter()
        .map(|word| word.to_vec())
        .collect();
    assert_eq!(argv, [&b"run"[..], b"-v"]);
    assert_eq!(world.processes.image(12), world.processes.image(11));
    let ancestors: Vec<_> = world
        .processes
        .ancestors(12)
        .iter()
        .map(|it| it.pid)
        .collect();
    assert_eq!(ancestors, [11, 10, 1]);
}

#[test]
fn a_thread_is_of_its_process_and_may_execute_in_its_stead() {
    let mut world = world();
    world.fork(10, 11, 0);
    world.fork(11, 12, CLONE_THREAD);
    assert_eq!(world.processes.actor(12).pid, Some(11));
    // The first thread ends, the other one takes its number.
    world.exit(11);
    world.execute(11, 12);
    assert_eq!(world.processes.actor(11).pid, Some(11));
    assert_eq!(world.processes.actor(12).pid, None);
    assert_eq!(world.ppid(11), Some(10));
}

#[test]
fn a_sibling_has_the_same_parent() {
    let mut world = world();
    world.fork(10, 11, 0);
    world.fork(11, 12, CLONE_PARENT);
    assert_eq!(world.ppid(12), Some(10));
}

#[test]
fn orphans_go_to_init_or_to_the_nearest_subreaper() {
    let mut world = world();
    for (parent, child) in [(10, 11), (11, 12), (12, 13)] {
        world.fork(parent, child, 0);
    }
    world.end(12);
    assert_eq!(world.ppid(13), Some(1));
    world.fork(11, 14, 0);
    world.fork(14, 15, 0);
    world.learn(TaskHook::Prctl, 10, &[("value", 1)], None);
    world.end(14);
    assert_eq!(world.ppid(15), Some(10));
    world.end(10);
    assert_eq!((world.ppid(15), world.ppid(11)), (Some(1), Some(1)));
}

#[test]
fn orphans_stay_in_their_pid_namespace() {
    let mut world = world();
    world.learn(TaskHook::Prctl, 10, &[("value", 1)], None);
    world.fork(10, 11, CLONE_NEWPID);
    for (parent, child) in [(11, 12), (12, 13)] {
        world.fork(parent, child, 0);
        let numbers = [
            ("pid", child.into()),
            ("ppid", parent.into()),
            ("reaper", 11),
        ];
        world.learn(TaskHook::WakeUpNewTask, parent, &numbers, None);
    }
    world.end(12);
    assert_eq!(world.ppid(13), Some(11));
}

#[test]
fn whose_ancestors_are_not_known_has_an_unknown_heir() {
    let mut world = World::default();
    world.processes.begin_stream(true);
    world.fork(10, 11, 0);
    world.fork(11, 12, 0);
    assert_eq!(world.ppid(12), Some(11));
    world.end(11);
    assert_eq!(world.ppid(12), None);
}

#[test]
fn where_ends_are_not_told_a_parent_that_may_have_ended_is_not_either() {
    let mut world = world();
    world.processes.begin_stream(false);
    world.fork(10, 11, 0);
    world.fork(11, 12, 0);
    world.exit(11);
    assert_eq!(world.ppid(12), None);
}

#[test]
fn a_number_used_again_is_another_process() {
    let mut world = world();
    world.fork(10, 11, 0);
    world.execute(11, 11);
    world.fork(11, 12, 0);
    world.end(11);
    world.fork(1, 11, 0);
    assert_eq!(world.processes.actor(11).argv, None);
    assert_eq!(world.ppid(12), Some(1));
    world.end(11);
    assert_eq!(world.ppid(12), Some(1));
}

#[test]
fn the_ended_are_known_for_a_while_and_their_images_as_long() {
    let mut world = world();
    world.fork(10, 11, 0);
    world.execute(11, 11);
    let image = world.processes.image(11).unwrap();
    world.fork(11, 12, 0);
    world.end(11);
    assert_eq!(world.processes.image(11), Some(image));
    let unloaded = |world: &World| {
        let notices = world.notices.iter();
        notices
            .filter(|notice| matches!(notice, Notice::Unload(it) if *it == image))
            .count()
    };
    for end in [11, 12] {
        assert_eq!(unloaded(&world), 0);
        for other in 0..MAX_ENDED as i32 {
            world.fork(10, 100 + other, 0);
            world.end(100 + other);
        }
        assert_eq!(world.processes.actor(11).pid, None);
        if end == 11 {
            world.end(12);
        }
    }
    assert_eq!(unloaded(&world), 1);
    let ProcessTable {
        threads, processes, ..
    } = &world.processes;
    assert!(threads.len().max(processes.len()) <= MAX_ENDED + 3);
}

#[test]
fn an_exit_tells_the_wait_status() {
    let mut world = world();
    world.fork(10, 11, 0);
    world.end(11);
    let ended = |wait_status| Effect::ProcessEnded { wait_status };
    assert_eq!(world.effects.last(), Some(&ended(0x300)));
    let numbers = [
        ("pid", 10),
        ("flags", SIGNAL_GROUP_EXIT),
        ("group_code", 9),
        ("code", 0),
    ];
    world.learn(TaskHook::ExitFiles, 10, &numbers, None);
    assert_eq!(world.effects.last(), Some(&ended(9)));
}

#[test]
fn threads_that_end_together_end_their_process_once() {
    let mut world = world();
    world.fork(10, 11, 0);
    world.fork(11, 12, CLONE_THREAD);
    for tid in [11, 12] {
        world.exit(tid);
        let numbers = [
            ("pid", 11),
            ("flags", SIGNAL_GROUP_EXIT),
            ("group_code", 9),
            ("code", 0),
        ];
        world.learn(TaskHook::ExitFiles, tid, &numbers, None);
    }
    let is_end = |effect: &&Effect| matches!(effect, Effect::ProcessEnded { .. });
    assert_eq!(world.effects.iter().filter(is_end).count(), 1);
}

#[test]
fn a_child_that_is_met_before_its_parent_is_its_child() {
    let mut world = World::default();
    world.processes.begin_stream(true);
    for (pid, ppid) in [(1, 0), (5, 10), (10, 1)] {
        world.alive(pid, ppid);
    }
    world.inspect(10, 0);
    world.end(10);
    assert_eq!(world.ppid(5), Some(1));
    // One whose parent was read just before that ended.
    world.alive(6, 10);
    assert_eq!(world.ppid(6), Some(1));
}

#[test]
fn where_a_subreaper_may_be_an_heir_is_unknown() {
    let mut world = World::default();
    world.processes.begin_stream(true);
    for (pid, ppid) in [(1, 0), (10, 1), (11, 10), (12, 11)] {
        world.alive(pid, ppid);
    }
    world.end(11);
    assert_eq!(world.ppid(12), None);
}

#[test]
fn what_the_trace_told_is_not_made_less_exact_by_a_look() {
    let mut world = world();
    world.fork(10, 11, 0);
    world.execute(11, 11);
    world.alive(11, 10);
    let actor = world.processes.actor(11);
    assert_eq!(
        (actor.start, actor.argv.map(|argv| argv.len())),
        (Some(Unix(5)), Some(2))
    );
}

#[test]
fn after_a_loss_nothing_is_known_but_what_comes() {
    let mut world = world();
    world.processes.forget_all();
    let actor = world.processes.actor(10);
    assert_eq!((actor.pid, actor.tid, actor.comm), (None, 10, None));
    world.fork(10, 11, 0);
    let actor = world.processes.actor(11);
    assert_eq!((actor.pid, actor.ppid, actor.uid), (Some(11), None, None));
    world.alive(10, 1);
    assert_eq!(world.processes.actor(10).pid, Some(10));
}

#[test]
fn cgroups_are_followed_by_hierarchy() {
    let mut world = world();
    let attach = |world: &mut World, root: i64, path: &str| {
        let numbers = [("pid", 10), ("dst_root", root)];
        world.learn(
            TaskHook::CgroupAttach,
            1,
            &numbers,
            Some(("dst_path", path)),
        );
        world.processes.actor(10).cgroup.map(|path| path.to_vec())
    };
    assert_eq!(attach(&mut world, 0, "/"), Some(b"/".to_vec()));
    assert_eq!(attach(&mut world, 4, "/four"), Some(b"/four".to_vec()));
    assert_eq!(attach(&mut world, 0, "/two"), Some(b"/two".to_vec()));
    world.fork(10, 11, 0);
    world.fork(10, 12, CLONE_INTO_CGROUP);
    let cgroup = |pid| world.processes.actor(pid).cgroup.map(|path| path.to_vec());
    assert_eq!(cgroup(11), Some(b"/two".to_vec()));
    assert_eq!(
        cgroup(12),
        Some(b"/four".to_vec()),
        "where in v2 is unknown"
    );
}

#[test]
fn arguments_end_where_the_kernel_counts() {
    let parse = |text: &[u8], argc| {
        let mut data = vec![b'x'; ARGV];
        data[..text.len()].copy_from_slice(text);
        let (layout, start) = record(&[("argc", argc), ("a0", 0)], None);
        let data = [&start[..8], &data].concat();
        let (words, cut) = arguments(&layout.values(&data));
        (words.iter().map(|word| word.len()).collect::<Vec<_>>(), cut)
    };
    assert_eq!(parse(b"a\0\0bc\0SECRET=1\0", 3), (vec![1, 0, 2], false));
    assert_eq!(parse(b"a\0", 2), (vec![1, ARGV - 2], true));
    assert_eq!(parse(b"", 0), (vec![], false));
    assert_eq!(parse(b"", -1), (vec![], false));
    let full = [&[b'y'; ARGV - 1][..], b"\0"].concat();
    assert_eq!(parse(&full, 2), (vec![ARGV - 1], true));
}
