//! What events tell of processes, kept from one event to the next.

use super::*;

/// The names of the ancestors that an event of a thread tells.
fn ancestors(world: &mut World, tid: i32) -> Vec<String> {
    let told = world.processes.told(tid);
    let Some(encoded) = told.ancestors() else {
        return Vec::new();
    };
    let ancestors = encoded.read().unwrap();
    let name = |comm: &Bytes| String::from_utf8(comm.to_vec()).unwrap();
    let names = ancestors.iter().map(|ancestor| ancestor.comm.as_ref());
    names
        .map(|comm| comm.map(name).unwrap_or_default())
        .collect()
}

#[test]
fn what_is_told_of_ancestors_follows_their_changes() {
    let mut world = world();
    world.fork(1, 10, 0);
    world.fork(10, 20, 0);
    let before = ancestors(&mut world, 20);
    assert_eq!(ancestors(&mut world, 20), before);
    world.learn(
        TaskHook::Rename,
        10,
        &[("pid", 10)],
        Some(("newcomm", "new")),
    );
    assert_eq!(ancestors(&mut world, 20)[0], "new");
    world.end(10);
    assert_ne!(ancestors(&mut world, 20)[0], "new");
}

#[test]
fn an_init_that_has_ended_inherits_no_child() {
    let mut world = World::default();
    world.processes.begin_stream(true);
    world.alive(1, 0);
    world.alive(10, 1);
    world.fork(10, 20, CLONE_NEWPID);
    world.fork(20, 30, 0);
    world.end(30);
    world.end(20);
    // No kernel tells this, but a stream may.
    world.fork(30, 40, 0);
    assert!(ancestors(&mut world, 40).is_empty());
    world.learn(
        TaskHook::Rename,
        10,
        &[("pid", 10)],
        Some(("newcomm", "new")),
    );
    assert!(ancestors(&mut world, 40).is_empty());
}

#[test]
fn what_is_too_long_to_be_kept_is_told_all_the_same() {
    let mut world = world();
    let long = "x".repeat(10_000);
    let process = record::Process {
        pid: 50,
        argv: Some(vec![record::Bytes::from(long.as_bytes())]),
        threads: vec![record::Thread {
            tid: 50,
            comm: record::Bytes::default(),
            ids: None,
            loginuid: None,
            session: None,
        }],
        ..record::Process::default()
    };
    world.processes.add_alive(&process);
    for _ in 0..2 {
        let actor = world.processes.told(50).actor();
        let actor = actor.read().unwrap();
        assert_eq!(*actor.argv.unwrap()[0], *long.as_bytes());
        assert!(world.processes.threads[&50].told.is_none());
    }
}
