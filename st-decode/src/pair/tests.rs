use super::*;
use crate::operation::NamedFile;
use crate::socket::Socket;
use EntryHook::{Entry, Old};
use st_probe::time::Unix;

const DENTRY: Dentry = Dentry {
    address: 5,
    parent: Some(4),
    hash: Some(77),
};
const UNLINK: Function = Function(0);
const MKDIR: Function = Function(1);

const OVL_CREATE: Function = Function(2);

fn call(event: Event, sp: u64) -> Call {
    Call {
        began: Monotonic(0),
        sp,
        dentry: None,
        operation: Operation::begin(event).unwrap(),
        layers: Layers::default(),
    }
}

/// A delete of the file with this inode number.
fn delete(sp: u64, ino: u64) -> Call {
    let mut call = call(Event::Delete, sp);
    if let Operation::Delete(file) = &mut call.operation {
        file.ino = Some(ino);
    }
    call
}

fn deleted(call: &Call) -> Option<u64> {
    match &call.operation {
        Operation::Delete(file) => file.ino,
        _ => None,
    }
}

/// The deletes that ended without a record of their return.
fn unreturned(stack: &mut CallStack) -> Vec<Option<u64>> {
    let ended = stack.take_ended().into_iter();
    ended
        .map(|ended| match ended {
            Ended::Unreturned(call) => deleted(&call),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn create() -> Call {
    Call {
        dentry: Some(DENTRY),
        ..call(Event::Create, 1000)
    }
}

#[test]
fn another_dentry_at_the_same_address_completes_nothing() {
    let mut stack = CallStack::default();
    stack.announce(create());
    let other = Dentry {
        parent: Some(5),
        hash: Some(78),
        ..DENTRY
    };
    assert!(stack.complete(Event::Create, other).is_none());
    assert!(stack.complete(Event::Create, DENTRY).is_some());
}

#[test]
fn pairs_nested_calls() {
    let mut stack = CallStack::default();
    stack.enter(UNLINK, Entry, delete(1000, 1));
    stack.enter(UNLINK, Entry, delete(900, 2));
    assert_eq!(deleted(&stack.leave(UNLINK, 900).unwrap()), Some(2));
    assert_eq!(deleted(&stack.leave(UNLINK, 1000).unwrap()), Some(1));
    assert!(stack.is_idle());
}

#[test]
fn a_missed_return_pairs_with_nothing() {
    let mut stack = CallStack::default();
    stack.enter(UNLINK, Entry, delete(1000, 1));
    stack.enter(UNLINK, Entry, delete(1000, 2));
    assert_eq!(unreturned(&mut stack), [Some(1)]);
    assert_eq!(deleted(&stack.leave(UNLINK, 1000).unwrap()), Some(2));
    assert!(stack.leave(UNLINK, 1000).is_none());
    // Another function at the same place proves the end as well.
    stack.enter(UNLINK, Entry, call(Event::Delete, 1000));
    stack.enter(MKDIR, Entry, call(Event::Mkdir, 1000));
    assert!(stack.leave(UNLINK, 1000).is_none());
    assert_eq!(unreturned(&mut stack).len(), 1);
    stack.end_all();
    assert_eq!(unreturned(&mut stack).len(), 1);
}

#[test]
fn a_call_that_makes_no_event_is_not_missed() {
    let mut stack = CallStack::default();
    // utimes(2) reaches notify_change() as chmod(2) does.
    stack.enter(Function(0), Entry, call(Event::Attrib, 1000));
    // __sys_connect() and, within it, __sys_connect_file(), whose return was seen.
    stack.enter(Function(1), Entry, call(Event::Connect, 1000));
    stack.enter(Function(2), Entry, call(Event::Connect, 900));
    assert!(stack.leave(Function(2), 900).is_some());
    stack.end_all();
    assert_eq!(unreturned(&mut stack).len(), 0);
}

#[test]
fn a_missed_entry_pairs_with_nothing() {
    let mut stack = CallStack::default();
    stack.enter(MKDIR, Entry, call(Event::Mkdir, 1200));
    assert!(stack.leave(MKDIR, 1000).is_none());
    assert!(stack.leave(MKDIR, 1200).is_some());
}

#[test]
fn hooks_of_one_call_meet_in_any_order() {
    for hooks in [[Entry, Old], [Old, Entry]] {
        let mut stack = CallStack::default();
        let rename = Function(0);
        for hook in hooks {
            let call = stack.enter(rename, hook, call(Event::Rename, 1000));
            if let Operation::Rename(rename) = &mut call.operation {
                match hook {
                    Old => rename.file.ino = Some(7),
                    _ => rename.exchange = true,
                }
            }
        }
        let call = stack.leave(rename, 1000).unwrap();
        let Operation::Rename(rename) = call.operation else {
            panic!("{:?}", call.operation);
        };
        assert_eq!((rename.file.ino, rename.exchange), (Some(7), true));
        assert!(stack.is_idle());
    }
}

#[test]
fn a_create_that_failed_is_not_completed_by_another_call() {
    let mut stack = CallStack::default();
    stack.announce(create());
    stack.claim(DENTRY);
    assert!(stack.complete(Event::Create, DENTRY).is_none());
}

#[test]
fn an_inner_connect_has_the_descriptor_of_the_outer_one() {
    let mut stack = CallStack::default();
    let outer = stack.enter(Function(1), Entry, call(Event::Connect, 1000));
    outer.operation.socket_call().unwrap().fd = Some(3);
    stack.enter(Function(2), Entry, call(Event::Connect, 900));
    let mut inner = stack.leave(Function(2), 900).unwrap();
    assert_eq!(inner.operation.socket_call().unwrap().fd, Some(3));
}

/// The device numbers of an overlay, of its upper layer, and of an overlay above both.
const MERGED: u32 = 1;
const UPPER: u32 = 2;
const ABOVE: u32 = 3;

/// A call on a file of this device, which began at this time.
fn on(dev: u32, event: Event, sp: u64, began: u64) -> Call {
    let named = NamedFile {
        dev: Some(dev),
        ..NamedFile::default()
    };
    let mut call = Call {
        began: Monotonic(began),
        ..call(event, sp)
    };
    match &mut call.operation {
        Operation::Create(new) | Operation::Mkdir(new) | Operation::Mknod { new, .. } => {
            new.file = named;
        }
        Operation::Delete(file) | Operation::Rmdir(file) | Operation::Attrib { file, .. } => {
            *file = named;
        }
        other => panic!("{other:?}"),
    }
    call
}

/// Enters a call of a function of its own.
fn enter(stack: &mut CallStack, call: Call) {
    stack.enter(Function(call.sp as usize), Entry, call);
}

/// The call that was entered at `sp` returns and has succeeded.
fn succeed(stack: &mut CallStack, sp: u64) {
    let call = stack.leave(Function(sp as usize), sp).unwrap();
    tell(stack, call);
}

/// The same; it has failed.
fn fail(stack: &mut CallStack, sp: u64) {
    let call = stack.leave(Function(sp as usize), sp).unwrap();
    stack.release(call.layers);
}

fn tell(stack: &mut CallStack, call: Call) {
    stack.tell(Success {
        call,
        ts: Monotonic(0),
        time: Unix(0),
        cpu: 0,
        is_ahead: false,
    });
}

/// A call from its entry to its return.
fn whole(stack: &mut CallStack, call: Call) {
    let sp = call.sp;
    enter(stack, call);
    succeed(stack, sp);
}

/// An announcement, by the device of its dentry.
fn announce(stack: &mut CallStack, dev: u32, event: Event, sp: u64, began: u64) -> Dentry {
    let dentry = Dentry {
        address: dev.into(),
        ..DENTRY
    };
    stack.announce(Call {
        dentry: Some(dentry),
        ..on(dev, event, sp, began)
    });
    dentry
}

/// What was announced is done.
fn complete(stack: &mut CallStack, event: Event, dentry: Dentry) {
    let call = stack.complete(event, dentry).unwrap();
    tell(stack, call);
}

/// `delete(mknod attrib)`: what is within an event, in brackets; `+mkdir` is kept.
fn name(success: &Success) -> String {
    let call = &success.call;
    let event = call.operation.event().name().to_owned();
    let within: Vec<_> = call.layers.iter().map(name).collect();
    if within.is_empty() {
        event
    } else {
        format!("{event}({})", within.join(" "))
    }
}

/// What became of calls.
fn ended(stack: &mut CallStack) -> String {
    let names = stack.take_ended().into_iter().map(|ended| match ended {
        Ended::Succeeded(success) => name(&success),
        Ended::Kept(success) => format!("+{}", name(&success)),
        Ended::Unreturned(call) => format!("?{}", call.operation.event()),
    });
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_done_on_a_layer_is_part_of_the_call_around_it() {
    let mut stack = CallStack::default();
    enter(&mut stack, on(MERGED, Event::Delete, 1000, 1));
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 2));
    whole(&mut stack, on(UPPER, Event::Delete, 800, 3));
    assert_eq!(ended(&mut stack), "");
    succeed(&mut stack, 1000);
    assert_eq!(ended(&mut stack), "delete(mknod delete)");
    assert!(stack.is_idle());
}

#[test]
fn what_was_done_for_a_call_that_made_no_event_is_part_of_none() {
    let mut stack = CallStack::default();
    enter(&mut stack, on(MERGED, Event::Delete, 1000, 1));
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 2));
    fail(&mut stack, 1000);
    assert_eq!(ended(&mut stack), "mknod");
    // Its return is missing.
    enter(&mut stack, on(MERGED, Event::Delete, 1000, 3));
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 4));
    enter(&mut stack, on(MERGED, Event::Mknod, 1000, 5));
    assert_eq!(ended(&mut stack), "mknod ?delete");
    whole(&mut stack, on(UPPER, Event::Delete, 900, 6));
    stack.end_all();
    assert_eq!(ended(&mut stack), "delete ?mknod");
    // utimes(2): such a call makes none.
    enter(&mut stack, on(MERGED, Event::Attrib, 1000, 7));
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 8));
    stack.end_all();
    assert_eq!(ended(&mut stack), "mknod");
}

#[test]
fn a_call_that_is_over_keeps_nothing_of_later_ones() {
    let mut stack = CallStack::default();
    // Its return is missed. What comes next in the thread is less deep, or as deep.
    for sp in [1100, 1000] {
        enter(&mut stack, on(MERGED, Event::Delete, 1000, 1));
        let dentry = announce(&mut stack, UPPER, Event::Create, sp, 2);
        assert_eq!(ended(&mut stack), "?delete");
        complete(&mut stack, Event::Create, dentry);
        assert_eq!(ended(&mut stack), "create");
    }
}

#[test]
fn a_call_on_the_same_device_or_on_none_is_no_part() {
    let mut stack = CallStack::default();
    enter(&mut stack, on(MERGED, Event::Delete, 1000, 1));
    whole(&mut stack, on(MERGED, Event::Mknod, 900, 2));
    assert_eq!(ended(&mut stack), "mknod");
    whole(&mut stack, call(Event::Delete, 900));
    assert_eq!(ended(&mut stack), "delete");
}

#[test]
fn overlays_nest() {
    let mut stack = CallStack::default();
    for fails in [false, true] {
        enter(&mut stack, on(ABOVE, Event::Delete, 1000, 1));
        enter(&mut stack, on(MERGED, Event::Attrib, 900, 2));
        if let Some(Operation::Attrib { set, .. }) = stack.innermost(Event::Attrib) {
            *set = Some(Default::default());
        }
        whole(&mut stack, on(UPPER, Event::Mknod, 800, 3));
        if fails {
            fail(&mut stack, 900);
        } else {
            succeed(&mut stack, 900);
        }
        whole(&mut stack, on(MERGED, Event::Delete, 900, 4));
        assert_eq!(ended(&mut stack), "");
        succeed(&mut stack, 1000);
        let expected = match fails {
            false => "delete(attrib(mknod) delete)",
            true => "delete(mknod delete)",
        };
        assert_eq!(ended(&mut stack), expected);
    }
}

#[test]
fn a_create_that_is_carried_out_keeps_what_is_done_for_it() {
    let mut stack = CallStack::default();
    let merged = announce(&mut stack, MERGED, Event::Create, 950, 1);
    stack.carry(Event::Create, OVL_CREATE, 940);
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 2));
    let upper = announce(&mut stack, UPPER, Event::Create, 800, 3);
    complete(&mut stack, Event::Create, upper);
    assert_eq!(ended(&mut stack), "");
    complete(&mut stack, Event::Create, merged);
    assert_eq!(ended(&mut stack), "create(mknod create)");
    stack.carried(OVL_CREATE, 940, false);
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 4));
    assert_eq!(ended(&mut stack), "mknod");
    assert!(stack.is_idle());
}

#[test]
fn a_create_that_failed_keeps_nothing() {
    let mut stack = CallStack::default();
    let merged = announce(&mut stack, MERGED, Event::Create, 950, 1);
    stack.carry(Event::Create, OVL_CREATE, 940);
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 2));
    stack.carried(OVL_CREATE, 940, true);
    assert_eq!(ended(&mut stack), "mknod");
    assert!(stack.is_idle());
    assert!(stack.complete(Event::Create, merged).is_none());
}

#[test]
fn a_directory_is_gone_after_its_removal_was_carried_out() {
    let ovl_rmdir = Function(3);
    // With and without the record of the return.
    for returns in [true, false] {
        let mut stack = CallStack::default();
        let merged = announce(&mut stack, MERGED, Event::Rmdir, 950, 1);
        stack.carry(Event::Rmdir, ovl_rmdir, 950);
        let upper = announce(&mut stack, UPPER, Event::Rmdir, 800, 2);
        complete(&mut stack, Event::Rmdir, upper);
        assert_eq!(ended(&mut stack), "+rmdir");
        if returns {
            stack.carried(ovl_rmdir, 950, false);
        }
        assert_eq!(ended(&mut stack), "");
        complete(&mut stack, Event::Rmdir, merged);
        assert_eq!(ended(&mut stack), "rmdir(rmdir)");
        assert!(stack.is_idle());
    }
    // It is never told to be gone.
    let mut stack = CallStack::default();
    announce(&mut stack, MERGED, Event::Rmdir, 950, 1);
    stack.carry(Event::Rmdir, ovl_rmdir, 950);
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 2));
    stack.carried(ovl_rmdir, 950, false);
    announce(&mut stack, MERGED, Event::Rmdir, 950, 3);
    assert_eq!(ended(&mut stack), "mknod");
}

#[test]
fn what_was_only_announced_keeps_nothing() {
    let mut stack = CallStack::default();
    // open(O_CREAT) of a file that exists.
    let merged = announce(&mut stack, MERGED, Event::Create, 950, 1);
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 2));
    assert_eq!(ended(&mut stack), "mknod");
    // Another operation is carried out.
    stack.carry(Event::Rmdir, OVL_CREATE, 940);
    whole(&mut stack, on(UPPER, Event::Mknod, 900, 3));
    assert_eq!(ended(&mut stack), "mknod");
    // A call that began later is not around it.
    enter(&mut stack, on(UPPER, Event::Delete, 900, 4));
    complete(&mut stack, Event::Create, merged);
    assert_eq!(ended(&mut stack), "create");
}

#[test]
fn directories_that_change_are_told_of_at_once_and_once() {
    let mut stack = CallStack::default();
    enter(&mut stack, on(ABOVE, Event::Delete, 1000, 1));
    enter(&mut stack, on(MERGED, Event::Mknod, 900, 2));
    whole(&mut stack, on(UPPER, Event::Mkdir, 800, 3));
    assert_eq!(ended(&mut stack), "+mkdir");
    fail(&mut stack, 900);
    assert_eq!(ended(&mut stack), "");
    fail(&mut stack, 1000);
    let told = stack.take_ended();
    assert!(
        matches!(&told[..], [Ended::Succeeded(mkdir)] if mkdir.is_ahead),
        "{told:?}"
    );
}

#[test]
fn what_is_kept_is_bounded() {
    let mut stack = CallStack::default();
    enter(&mut stack, on(MERGED, Event::Delete, 1000, 1));
    for began in 2..2000 {
        whole(&mut stack, on(UPPER, Event::Mknod, 900, began));
    }
    assert_eq!(stack.take_ended().len(), 1024);
    succeed(&mut stack, 1000);
    match &stack.take_ended()[..] {
        [Ended::Succeeded(delete)] => assert_eq!(delete.count(), 1 + 1998 - 1024),
        other => panic!("{other:?}"),
    }
    // The calls that are open are, too.
    for at in 0..100 {
        enter(&mut stack, on(MERGED, Event::Delete, 1000 - at, at));
        whole(&mut stack, on(UPPER, Event::Mknod, 1, at));
    }
    // The innermost of them takes the place of one.
    assert_eq!(ended(&mut stack), ["mknod"; 37].join(" "));
    assert_eq!(stack.take_kept().len(), 63);
}

#[test]
fn of_two_sends_that_open_a_connection_the_outer_one_makes_the_event() {
    let mut stack = CallStack::default();
    for sp in [1000, 900] {
        let call = stack.enter(Function(1), Entry, call(Event::Connect, sp));
        let call = call.operation.socket_call().unwrap();
        (call.socket, call.by_send) = (Some(Socket::default()), true);
    }
    let made = [900, 1000].map(|sp| {
        let call = stack.leave(Function(1), sp).unwrap();
        call.operation.returned(-115).is_some()
    });
    assert_eq!(made, [false, true]);
}
