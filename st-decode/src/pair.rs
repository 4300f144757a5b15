//! Puts the records of one call together again, by thread, function and stack pointer.
//!
//! The kernel's stack grows downwards: a call that still runs has a higher stack pointer than
//! each call within it. So a record whose stack pointer is at or above that of an earlier call of
//! the same thread proves that the earlier call has ended, even if its return was missed.

use crate::field::Values;
use crate::layer::{Layers, Success};
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
    /// What has succeeded within it on other file systems.
    pub layers: Layers,
}

impl Call {
    /// Whether another call that has succeeded while this one was open is part of it: on another
    /// file system, this is carried out so. Whether this one makes an event may turn out later.
    fn encloses(&self, other: &Self) -> bool {
        let dev = |call: &Self| call.operation.file().and_then(|file| file.dev);
        let devs = dev(self).zip(dev(other));
        devs.is_some_and(|(dev, other)| dev != other)
            && self.began <= other.began
            && self.sp > other.sp
    }
}

/// A call that has not returned yet.
#[derive(Debug)]
struct OpenCall {
    function: Function,
    hooks: EntryHooks,
    /// Whether the operation was announced before, and this function carries it out: see
    /// [`st_probe::vocabulary::Role::Carry`].
    carries: bool,
    call: Call,
}

/// What became of a call.
#[derive(Debug)]
pub enum Ended {
    /// It has succeeded.
    Succeeded(Success),
    /// It has succeeded and is kept until the call around it has ended. This is a copy.
    Kept(Success),
    /// It ended without a record of its return: whether it succeeded is not known.
    Unreturned(Call),
}

/// The calls of one thread.
#[derive(Debug, Default)]
pub struct CallStack {
    /// The outermost call first.
    open: Vec<OpenCall>,
    /// Calls of functions that only announce an operation: their returns tell nothing.
    announced: Vec<Call>,
    /// What became of calls since that was last taken.
    ended: Vec<Ended>,
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
            self.open(OpenCall {
                function,
                hooks: EntryHooks::default(),
                carries: false,
                call,
            });
        }
        let last = self.open.len() - 1;
        let open = &mut self.open[last];
        open.hooks.insert(hook);
        &mut open.call
    }

    fn open(&mut self, call: OpenCall) {
        if self.open.len() == MAX_CALLS {
            let outermost = self.open.remove(0);
            self.release(outermost.call.layers);
        }
        self.open.push(call);
    }

    /// Notes that a function begins to carry out what was announced last, if that is an operation
    /// of this event.
    pub fn carry(&mut self, event: Event, function: Function, sp: u64) {
        self.end_up_to(sp);
        let last = self.announced.last();
        if last.is_none_or(|call| call.operation.event() != event) {
            return;
        }
        if let Some(call) = self.announced.pop() {
            self.open(OpenCall {
                function,
                hooks: EntryHooks::default(),
                carries: true,
                call: Call { sp, ..call },
            });
        }
    }

    /// Notes that the function that was entered at `sp` has carried out what was announced, or has
    /// failed to. What has succeeded is completed within it or soon after it.
    pub fn carried(&mut self, function: Function, sp: u64, failed: bool) {
        match self.leave(function, sp) {
            Some(call) if failed => self.release(call.layers),
            Some(call) => self.push_announced(call),
            None => {}
        }
    }

    /// Notes that a call begins to work on a dentry: an operation that was announced on the same
    /// dentry has failed.
    pub fn claim(&mut self, dentry: Dentry) {
        self.drop_announced(|call| {
            call.dentry
                .is_none_or(|other| other.address == dentry.address)
        });
    }

    /// Drops the announcements of what has failed.
    fn drop_announced(&mut self, has_failed: impl Fn(&Call) -> bool) {
        let mut within = Vec::new();
        self.announced.retain_mut(|call| {
            let failed = has_failed(call);
            if failed {
                within.push(std::mem::take(&mut call.layers));
            }
            !failed
        });
        within.into_iter().for_each(|layers| self.release(layers));
    }

    /// Notes that a call has succeeded. If it is part of a call around it, that keeps it.
    pub fn tell(&mut self, mut success: Success) {
        let mut open = self.open.iter_mut().rev().map(|open| &mut open.call);
        let Some(outer) = open.find(|outer| outer.encloses(&success.call)) else {
            // Mostly it is the only one.
            if self.ended.is_empty() {
                self.ended.reserve_exact(1);
            }
            self.ended.push(Ended::Succeeded(success));
            return;
        };
        if !success.is_ahead {
            success.is_ahead = success.call.operation.changes_directories();
            if success.is_ahead {
                self.ended.push(Ended::Kept(success.without_layers()));
            }
        }
        outer.operation.learn_layer(&success.call.operation);
        let too_many = outer.layers.keep(success);
        self.ended
            .extend(too_many.into_iter().map(Ended::Succeeded));
    }

    /// Notes that a call ended without an event: what succeeded within it is part of the next call
    /// around it, or of none.
    pub fn release(&mut self, mut layers: Layers) {
        for success in layers.take() {
            self.tell(success);
        }
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

    /// Ends the open calls that are over if the thread has this stack pointer.
    fn end_up_to(&mut self, sp: u64) {
        while self.open.last().is_some_and(|last| last.call.sp <= sp) {
            self.end_innermost();
        }
    }

    /// Ends the innermost open call, whose return was not recorded.
    fn end_innermost(&mut self) {
        let Some(OpenCall {
            carries, mut call, ..
        }) = self.open.pop()
        else {
            return;
        };
        self.release(std::mem::take(&mut call.layers));
        // What was announced and is not completed by now has failed.
        if !carries && call.operation.makes_event() {
            self.ended.push(Ended::Unreturned(call));
        }
    }

    /// Removes what became of calls.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// Ends all open calls: the thread has ended.
    pub fn end_all(&mut self) {
        while !self.open.is_empty() {
            self.end_innermost();
        }
        self.drop_announced(|_| true);
    }

    /// How many calls may have made events, those apart that are kept.
    pub fn count(&self) -> usize {
        self.open.len() + self.announced.len()
    }

    /// Removes what is kept within calls.
    pub fn take_kept(&mut self) -> Vec<Success> {
        let open = self.open.iter_mut().map(|open| &mut open.call);
        let calls = open.chain(&mut self.announced);
        calls.flat_map(|call| call.layers.take()).collect()
    }

    /// Takes a call that announces an operation: a later record of its dentry tells that the
    /// operation succeeded.
    pub fn announce(&mut self, call: Call) {
        self.end_up_to(call.sp);
        self.drop_announced(|other| other.sp <= call.sp);
        self.push_announced(call);
    }

    fn push_announced(&mut self, call: Call) {
        if self.announced.len() == MAX_ANNOUNCED {
            let oldest = self.announced.remove(0);
            self.release(oldest.layers);
        }
        self.announced.push(call);
    }

    /// Removes the call that announced what has now happened to a dentry.
    pub fn complete(&mut self, event: Event, dentry: Dentry) -> Option<Call> {
        let is_completed =
            |call: &Call| call.operation.event() == event && call.dentry == Some(dentry);
        let carrier = |open: &OpenCall| open.carries && is_completed(&open.call);
        if let Some(at) = self.open.iter().rposition(carrier) {
            while self.open.len() > at + 1 {
                self.end_innermost();
            }
            return Some(self.open.pop()?.call);
        }
        let at = self.announced.iter().rposition(is_completed)?;
        // What was announced later was announced within this call.
        let later = self.announced.split_off(at + 1);
        let completed = self.announced.pop();
        later.into_iter().for_each(|call| self.release(call.layers));
        completed
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
mod tests;
