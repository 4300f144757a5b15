//! The calls of all threads: which call a raw record belongs to, and which calls have ended.

use crate::field::Values;
use crate::layer::{Layers, Success};
use crate::linux::is_regular;
use crate::operation::Operation;
use crate::pair::{Call, CallStack, Dentry, Ended, EntryHook, Function};
use foldhash::HashMap;
use st_probe::time::{Monotonic, Unix};
use st_probe::vocabulary::{Event, Role, Value};

/// A hook in the call that makes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallHook {
    /// The function is entered.
    Entry(Event, Function, EntryHook),
    /// A function is entered that only announces the operation: a later record of the same
    /// dentry tells that the operation has succeeded.
    Announcement(Event),
    /// A function is entered that carries out what was announced last.
    Carry(Event, Function),
    /// That function returns.
    Carried(Function),
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
            Role::Carry => Self::Carry(event, function),
            Role::Carried => Self::Carried(function),
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
    /// The same, by the realtime clock as it was set then.
    pub time: Unix,
    /// The CPU on which it did.
    pub cpu: u32,
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
            layers: Layers::default(),
        })
    }

    /// The result of the function that returns.
    fn ret(&self) -> Option<i64> {
        self.values.number(Value::Ret)
    }

    /// A call that has succeeded with this record.
    fn success(&self, call: Call) -> Success {
        Success {
            call,
            ts: self.ts,
            time: self.time,
            cpu: self.cpu,
            is_ahead: false,
        }
    }
}

/// What is left when all calls are forgotten.
#[derive(Debug)]
pub struct Forgotten {
    /// How many calls may have made events.
    pub calls: u64,
    /// What was kept within them, with its thread, in the order of time.
    pub kept: Vec<(i32, Success)>,
}

impl Forgotten {
    /// How many events all of them would have made.
    pub fn count(&self) -> u64 {
        let kept = self.kept.iter().map(|(_, success)| success.count() as u64);
        self.calls + kept.sum::<u64>()
    }
}

/// The calls of all threads.
#[derive(Debug, Default)]
pub struct Calls {
    /// By tid.
    stacks: HashMap<i32, CallStack>,
    /// The stack of a thread whose last call has ended: its memory is of use to the next one.
    idle: CallStack,
    /// As [`st_probe::record::Header::stack_delta`].
    stack_delta: u64,
}

impl Calls {
    /// Without calls, for a stream with this [`st_probe::record::Header::stack_delta`].
    pub fn new(stack_delta: u64) -> Self {
        Self {
            stack_delta,
            ..Self::default()
        }
    }

    /// Takes a record. Returns what it shows to have become of calls.
    pub fn learn(&mut self, hook: CallHook, record: &CallRecord) -> Vec<Ended> {
        let known = self.stacks.remove(&record.tid);
        let mut stack = known.unwrap_or_else(|| std::mem::take(&mut self.idle));
        let entered = || record.sp().wrapping_sub(self.stack_delta);
        match hook {
            CallHook::Entry(event, function, hook) => {
                enter(&mut stack, event, function, hook, record)
            }
            CallHook::Announcement(event) => announce(&mut stack, event, record),
            CallHook::Carry(event, function) => stack.carry(event, function, record.sp()),
            CallHook::Carried(function) => {
                let failed = record.ret().is_none_or(|ret| ret < 0);
                stack.carried(function, entered(), failed);
            }
            CallHook::Detail(event) => detail(&mut stack, event, &record.values),
            CallHook::NewInode => new_inode(&mut stack, record),
            CallHook::GoneInode(event) => gone_inode(&mut stack, event, record),
            CallHook::Return(function) => leave(&mut stack, function, entered(), record),
        }
        let ended = stack.take_ended();
        if stack.is_idle() {
            self.idle = stack;
        } else {
            self.stacks.insert(record.tid, stack);
        }
        ended
    }

    /// Forgets a thread that has ended. Returns what became of its calls.
    pub fn end_thread(&mut self, tid: i32) -> Vec<Ended> {
        let Some(mut stack) = self.stacks.remove(&tid) else {
            return Vec::new();
        };
        stack.end_all();
        stack.take_ended()
    }

    /// Forgets all calls.
    pub fn forget_all(&mut self) -> Forgotten {
        let (mut calls, mut kept) = (0, Vec::new());
        for (tid, mut stack) in self.stacks.drain() {
            calls += stack.count() as u64;
            kept.extend(stack.take_kept().into_iter().map(|success| (tid, success)));
        }
        kept.sort_by_key(|(tid, success)| (success.ts, success.cpu, *tid));
        Forgotten { calls, kept }
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
fn new_inode(stack: &mut CallStack, record: &CallRecord) {
    let values = &record.values;
    let Some(dentry) = Dentry::read(values) else {
        return;
    };
    if values.u32(Value::Mode).is_some_and(is_regular) {
        if let Some(mut call) = stack.complete(Event::Create, dentry) {
            call.operation.learn_inode(values);
            stack.tell(record.success(call));
            return;
        }
    }
    if let Some(operation) = stack.on_dentry(dentry) {
        operation.learn_inode(values);
    }
}

fn gone_inode(stack: &mut CallStack, event: Event, record: &CallRecord) {
    let dentry = Dentry::read(&record.values);
    if let Some(call) = dentry.and_then(|dentry| stack.complete(event, dentry)) {
        stack.tell(record.success(call));
    }
}

/// The function that was entered at `sp` has returned.
fn leave(stack: &mut CallStack, function: Function, sp: u64, record: &CallRecord) {
    let Some(call) = stack.leave(function, sp) else {
        return;
    };
    let returned = record.ret().and_then(|ret| call.operation.returned(ret));
    match returned {
        Some(operation) => stack.tell(record.success(Call { operation, ..call })),
        None => stack.release(call.layers),
    }
}
