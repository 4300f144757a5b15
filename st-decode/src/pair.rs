//! Puts the records of one call together again, by thread, function and stack pointer.
//!
//! The kernel's stack grows downwards: a call that still runs has a higher stack pointer than
//! each call within it. So a record whose stack pointer is at or above that of an earlier call of
//! the same thread proves that the earlier call has ended, even if its return was missed.

use crate::field::Values;
use crate::operation::Operation;
use st_probe::time::Monotonic;
use st_probe::vocabulary::{Event, Value};

/// How many announcements of one thread are kept. overlayfs on overlayfs nests a few; those
/// of operations that failed are dropped in this way.
const MAX_ANNOUNCED: usize = 8;

/// How many open calls of one thread are kept: the kernel's stack has room for no more.
const MAX_CALLS: usize = 64;

/// A kernel function, as a number of the decoder's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function(pub usize);

/// A dentry, as far as a record tells which one it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dentry {
    /// Its address. Another dentry may have the address later.
    address: u64,
    /// The address of its parent, and the hash of its name, where the hook fetches them: if
    /// they are the same too, it is the same dentry.
    parent: Option<u64>,
    hash: Option<u64>,
}

impl Dentry {
    /// The dentry that a record is about.
    pub fn read(values: &Values) -> Option<Self> {
        Some(Self {
            address: values.u64(Value::Dentry)?,
            parent: values.u64(Value::Parent),
            hash: values.u64(Value::Hash),
        })
    }
}

/// A hook at the entry of a function. A call passes each at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryHook {
    /// [`st_probe::vocabulary::Role::Entry`].
    Entry,
    /// [`st_probe::vocabulary::Role::Old`].
    Old,
    /// [`st_probe::vocabulary::Role::Target`].
    Target,
}

/// The entry hooks of which a call has a record.
#[derive(Debug, Clone, Copy, Default)]
struct EntryHooks(u8);

impl EntryHooks {
    fn insert(&mut self, hook: EntryHook) {
        self.0 |= 1 << hook as u8;
    }

    fn contains(self, hook: EntryHook) -> bool {
        self.0 & (1 << hook as u8) != 0
    }
}

/// A call of a kernel function, with the operation that it makes.
#[derive(Debug)]
pub struct Call {
    /// When the function was entered.
    pub began: Monotonic,
    /// The stack pointer at the entry.
    pub sp: u64,
    /// The dentry that the call works on.
    pub dentry: Option<Dentry>,
    /// What is known of the operation.
    pub operation: Operation,
}

/// A call that has not returned yet.
#[derive(Debug)]
struct OpenCall {
    function: Function,
    hooks: EntryHooks,
    call: Call,
}

/// The calls of one thread.
#[derive(Debug, Default)]
pub struct CallStack {
    /// The outermost call first.
    open: Vec<OpenCall>,
    /// Calls of functions that only announce an operation: their returns tell nothing.
    announced: Vec<Call>,
    /// Calls that ended without a record of their return: whether they succeeded is not known.
    unreturned: Vec<Call>,
}

impl CallStack {
    /// The call that a record of an entry hook belongs to: `call`, unless another record of the
    /// same call came before.
    pub fn enter(&mut self, function: Function, hook: EntryHook, call: Call) -> &mut Call {
        let sp = call.sp;
        let is_same = |open: &OpenCall| {
            open.call.sp == sp && open.function == function && !open.hooks.contains(hook)
        };
        while (self.open.last()).is_some_and(|last| last.call.sp <= sp && !is_same(last)) {
            self.end_innermost();
        }
        if !self.open.last().is_some_and(is_same) {
            if self.open.len() == MAX_CALLS {
                self.open.remove(0);
            }
            self.open.push(OpenCall {
                function,
                hooks: EntryHooks::default(),
                call,
            });
        }
        let last = self.open.len() - 1;
        let open = &mut self.open[last];
        open.hooks.insert(hook);
        &mut open.call
    }

    /// Notes that a call begins to work on a dentry: an operation that was announced on the same
    /// dentry has failed.
    pub fn claim(&mut self, dentry: Dentry) {
        self.announced.retain(|call| {
            call.dentry
                .is_some_and(|other| other.address != dentry.address)
        });
    }

    /// The operation of the innermost open call of an event.
    pub fn innermost(&mut self, event: Event) -> Option<&mut Operation> {
        let mut operations = self.open.iter_mut().map(|open| &mut open.call.operation);
        operations.rfind(|operation| operation.event() == event)
    }

    /// Ends the call that was entered at `sp`, if its entry is known. A call on a socket has the
    /// file descriptor of the call of the same event around it, if it names none itself. Of two
    /// sends that open a connection the outer one makes the event: that of an MPTCP socket may
    /// open one of a TCP socket within (net/mptcp/protocol.c, mptcp_connect() in Linux 6.2 to 6.5).
    pub fn leave(&mut self, function: Function, sp: u64) -> Option<Call> {
        while self.open.last().is_some_and(|last| last.call.sp < sp) {
            self.end_innermost();
        }
        let last = self.open.last()?;
        if last.call.sp != sp || last.function != function {
            return None;
        }
        let mut call = self.open.pop()?.call;
        let event = call.operation.event();
        if let Some(inner) = call.operation.socket_call() {
            if let Some(outer) = self.innermost(event).and_then(Operation::socket_call) {
                inner.fd = inner.fd.or(outer.fd);
                if inner.by_send && outer.by_send {
                    inner.socket = None;
                }
            }
        }
        Some(call)
    }

    /// Ends the innermost open call, whose return was not recorded.
    fn end_innermost(&mut self) {
        let Some(OpenCall { call, .. }) = self.open.pop() else {
            return;
        };
        if call.operation.makes_event() {
            self.unreturned.push(call);
        }
    }

    /// Removes the calls of which it is not known whether they succeeded.
    pub fn take_unreturned(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.unreturned)
    }

    /// Ends all open calls: the thread has ended.
    pub fn end_all(&mut self) {
        while !self.open.is_empty() {
            self.end_innermost();
        }
    }

    /// How many calls may have made events.
    pub fn count(&self) -> usize {
        self.open.len() + self.unreturned.len() + self.announced.len()
    }

    /// Takes a call that announces an operation: a later record of its dentry tells that the
    /// operation succeeded.
    pub fn announce(&mut self, call: Call) {
        self.announced.retain(|other| other.sp > call.sp);
        if self.announced.len() == MAX_ANNOUNCED {
            self.announced.remove(0);
        }
        self.announced.push(call);
    }

    /// Removes the call that announced what has now happened to a dentry.
    pub fn complete(&mut self, event: Event, dentry: Dentry) -> Option<Call> {
        let is_completed =
            |call: &Call| call.operation.event() == event && call.dentry == Some(dentry);
        let at = self.announced.iter().rposition(is_completed)?;
        // What was announced later was announced within this call.
        self.announced.drain(at..).next()
    }

    /// The operation of the innermost open call that works on a dentry.
    pub fn on_dentry(&mut self, dentry: Dentry) -> Option<&mut Operation> {
        let calls = self.open.iter_mut().rev().map(|open| &mut open.call);
        for call in calls {
            if call
                .dentry
                .is_some_and(|other| other.address == dentry.address)
            {
                return Some(&mut call.operation);
            }
        }
        None
    }

    /// Whether no call is open or announced.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.announced.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::Socket;
    use EntryHook::{Entry, Old};

    const DENTRY: Dentry = Dentry {
        address: 5,
        parent: Some(4),
        hash: Some(77),
    };
    const UNLINK: Function = Function(0);
    const MKDIR: Function = Function(1);

    fn call(event: Event, sp: u64) -> Call {
        Call {
            began: Monotonic(0),
            sp,
            dentry: None,
            operation: Operation::begin(event).unwrap(),
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
        let missed: Vec<_> = stack.take_unreturned().iter().map(deleted).collect();
        assert_eq!(missed, [Some(1)]);
        assert_eq!(deleted(&stack.leave(UNLINK, 1000).unwrap()), Some(2));
        assert!(stack.leave(UNLINK, 1000).is_none());
        // Another function at the same place proves the end as well.
        stack.enter(UNLINK, Entry, call(Event::Delete, 1000));
        stack.enter(MKDIR, Entry, call(Event::Mkdir, 1000));
        assert!(stack.leave(UNLINK, 1000).is_none());
        assert_eq!(stack.take_unreturned().len(), 1);
        stack.end_all();
        assert_eq!(stack.take_unreturned().len(), 1);
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
        assert_eq!(stack.take_unreturned().len(), 0);
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
}
