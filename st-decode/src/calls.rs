//! The calls of all threads: which call a raw record belongs to, and which calls have ended.

use crate::field::Values;
use crate::linux::is_regular;
use crate::operation::Operation;
use crate::pair::{Call, CallStack, Dentry, EntryHook, Function};
use st_probe::time::Monotonic;
use st_probe::vocabulary::{Event, Role, Value};
use std::collections::HashMap;

/// A hook in the call that makes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallHook {
    /// The function is entered.
    Entry(Event, Function, EntryHook),
    /// A function is entered that only announces the operation: a later record of the same
    /// dentry tells that the operation has succeeded.
    Announcement(Event),
    /// Further inside the innermost open call of the event.
    Detail(Event),
    /// A dentry gets a new inode.
    NewInode,
    /// A dentry loses its inode: what was announced on it has succeeded.
    GoneInode(Event),
    /// The function returns.
    Return(Function),
}

impl CallHook {
    /// The hook at a function, by its event and its role. `None`: a hook of a later version.
    pub fn of(event: Event, role: Role, function: Function) -> Option<Self> {
        // No call makes some events.
        Operation::begin(event)?;
        Some(match role {
            Role::Entry if matches!(event, Event::Create | Event::Rmdir) => {
                Self::Announcement(event)
            }
            Role::Entry => Self::Entry(event, function, EntryHook::Entry),
            Role::Old => Self::Entry(event, function, EntryHook::Old),
            Role::Target => Self::Entry(event, function, EntryHook::Target),
            Role::Detail => Self::Detail(event),
            Role::Inode => Self::NewInode,
            Role::Gone => Self::GoneInode(event),
            Role::Return => Self::Return(function),
            Role::Instant | Role::Other => return None,
        })
    }
}

/// A raw record of a [`CallHook`].
#[derive(Debug, Clone, Copy)]
pub struct CallRecord<'a> {
    /// The thread that ran through the hook.
    pub tid: i32,
    /// When it did.
    pub ts: Monotonic,
    /// What the hook fetched.
    pub values: Values<'a>,
}

impl CallRecord<'_> {
    fn sp(&self) -> u64 {
        self.values.u64(Value::Sp).unwrap_or(0)
    }

    /// The call that begins with this record.
    fn begin(&self, event: Event) -> Option<Call> {
        Some(Call {
            began: self.ts,
            sp: self.sp(),
            dentry: None,
            operation: Operation::begin(event)?,
        })
    }
}

/// The calls that a record shows to have ended.
#[derive(Debug, Default)]
pub struct EndedCalls {
    /// Calls that ended without a record of their return: whether they succeeded is not known.
    pub unreturned: Vec<Call>,
    /// The call that makes an event.
    pub succeeded: Option<Call>,
}

/// The calls of all threads.
#[derive(Debug, Default)]
pub struct Calls {
    /// By tid.
    stacks: HashMap<i32, CallStack>,
    /// As [`st_probe::record::Header::stack_delta`].
    stack_delta: u64,
}

impl Calls {
    /// Without calls, for a stream with this [`st_probe::record::Header::stack_delta`].
    pub fn new(stack_delta: u64) -> Self {
        Self {
            stacks: HashMap::new(),
            stack_delta,
        }
    }

    /// Takes a record.
    pub fn learn(&mut self, hook: CallHook, record: &CallRecord) -> EndedCalls {
        let stack = self.stacks.entry(record.tid).or_default();
        let mut succeeded = None;
        match hook {
            CallHook::Entry(event, function, hook) => enter(stack, event, function, hook, record),
            CallHook::Announcement(event) => announce(stack, event, record),
            CallHook::Detail(event) => detail(stack, event, &record.values),
            CallHook::NewInode => succeeded = new_inode(stack, &record.values),
            CallHook::GoneInode(event) => succeeded = gone_inode(stack, event, &record.values),
            CallHook::Return(function) => {
                let sp = record.sp().wrapping_sub(self.stack_delta);
                succeeded = leave(stack, function, sp, &record.values);
            }
        }
        let unreturned = stack.take_unreturned();
        if stack.is_idle() {
            self.stacks.remove(&record.tid);
        }
        EndedCalls {
            unreturned,
            succeeded,
        }
    }

    /// Forgets a thread that has ended. Returns its calls of which it is not known whether they
    /// succeeded.
    pub fn end_thread(&mut self, tid: i32) -> Vec<Call> {
        let Some(mut stack) = self.stacks.remove(&tid) else {
            return Vec::new();
        };
        stack.end_all();
        stack.take_unreturned()
    }

    /// Forgets all calls. Returns how many of them may have made events.
    pub fn forget_all(&mut self) -> u64 {
        let stacks = self.stacks.drain();
        stacks.map(|(_, stack)| stack.count() as u64).sum()
    }
}

fn enter(
    stack: &mut CallStack,
    event: Event,
    function: Function,
    hook: EntryHook,
    record: &CallRecord,
) {
    let Some(begun) = record.begin(event) else {
        return;
    };
    let call = stack.enter(function, hook, begun);
    match hook {
        EntryHook::Entry => {
            call.operation.learn_entry(&record.values);
            call.dentry = Dentry::read(&record.values);
            if let Some(dentry) = call.dentry {
                stack.claim(dentry);
            }
        }
        EntryHook::Old => call.operation.learn_old_name(&record.values),
        EntryHook::Target => call.operation.learn_target(&record.values),
    }
}

fn announce(stack: &mut CallStack, event: Event, record: &CallRecord) {
    if let Some(mut call) = record.begin(event) {
        call.operation.learn_entry(&record.values);
        call.dentry = Dentry::read(&record.values);
        stack.announce(call);
    }
}

fn detail(stack: &mut CallStack, event: Event, values: &Values) {
    if let Some(operation) = stack.innermost(event) {
        operation.learn_detail(values);
    }
}

/// A create has succeeded once its dentry has an inode; other calls go on.
fn new_inode(stack: &mut CallStack, values: &Values) -> Option<Call> {
    let dentry = Dentry::read(values)?;
    if values.u32(Value::Mode).is_some_and(is_regular) {
        if let Some(mut call) = stack.complete(Event::Create, dentry) {
            call.operation.learn_inode(values);
            return Some(call);
        }
    }
    if let Some(operation) = stack.on_dentry(dentry) {
        operation.learn_inode(values);
    }
    None
}

fn gone_inode(stack: &mut CallStack, event: Event, values: &Values) -> Option<Call> {
    stack.complete(event, Dentry::read(values)?)
}

/// The call that was entered at `sp`, if it makes an event.
fn leave(stack: &mut CallStack, function: Function, sp: u64, values: &Values) -> Option<Call> {
    let call = stack.leave(function, sp)?;
    let operation = call.operation.returned(values.number(Value::Ret)?)?;
    Some(Call { operation, ..call })
}
