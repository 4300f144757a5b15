//! Puts the hooks of one call together again, by thread, function and stack pointer.
//!
//! The stack grows downwards: a call that is still running has a higher stack pointer than
//! whatever it calls. So a record that shows a stack pointer at or above that of an
//! earlier call of the same thread proves that this call has ended, even if its return was
//! missed.

use crate::event::{Attrib, Inode};
use crate::field::Chain;
use crate::socket::Socket;
use st_probe::time::Monotonic;
use st_probe::vocabulary::Event;

/// Entries that one thread may have waiting for what happens to their dentry: overlayfs on
/// overlayfs nests a few; those of operations that failed are forgotten in this way.
const MAX_WAITING: usize = 8;

/// Calls that one thread may have open: the kernel's stack holds no more.
const MAX_CALLS: usize = 64;

/// A dentry, as far as a record tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dentry {
    /// Its address, which another one has once it is gone.
    pub address: u64,
    /// Its parent's address and the hash of its name, where the hook fetches them: with
    /// these it is the same one.
    pub place: [Option<i64>; 2],
}

/// What is known of a call that has not returned yet.
#[derive(Debug, Default)]
pub struct Call {
    /// The function, as a number of the decoder's.
    pub point: usize,
    /// The stack pointer at its entry.
    pub sp: u64,
    /// The roles that were seen, a bit each: none comes twice in a call.
    pub roles: u8,
    /// The dentry that it works on.
    pub dentry: Option<Dentry>,
    /// What it will have done.
    pub known: Known,
}

/// The parts of an event that a call's hooks tell.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Known {
    pub dev: Option<u32>,
    pub ino: Option<u64>,
    /// When the call was entered.
    pub began: Monotonic,
    pub path: Option<Chain>,
    pub old_path: Option<Chain>,
    pub dir: Option<Inode>,
    pub other_dir: Option<Inode>,
    pub deleted: bool,
    pub mode: Option<u32>,
    pub rdev: Option<u32>,
    pub flags: u32,
    /// rename: the inodes of the two names, by address.
    pub inodes: [Option<u64>; 2],
    pub target: Option<Vec<u8>>,
    pub attrib: Option<Attrib>,
    pub fd: Option<i32>,
    pub socket: Option<Socket>,
    /// exit: as of wait(2).
    pub wait_status: Option<i32>,
}

/// One thread's calls.
#[derive(Debug, Default)]
pub struct Thread {
    /// Outermost first; each with its event.
    calls: Vec<(Event, Call)>,
    /// Calls of functions that only announce an operation, whose returns tell nothing.
    waiting: Vec<(Event, Call)>,
    /// Calls that have ended without a return, which would have told whether there is an event.
    unreturned: Vec<(Event, Known)>,
}

impl Thread {
    /// The call that an entry hook's record belongs to: a new one, unless another hook of
    /// the same call came before.
    pub fn enter(&mut self, event: Event, point: usize, sp: u64, role: u8) -> &mut Call {
        let same = |call: &(Event, Call)| {
            call.1.sp == sp && call.1.point == point && call.1.roles & role == 0
        };
        while self
            .calls
            .last()
            .is_some_and(|call| call.1.sp <= sp && !same(call))
        {
            self.give_up();
        }
        if !self.calls.last().is_some_and(same) {
            if self.calls.len() == MAX_CALLS {
                self.calls.remove(0);
            }
            self.calls.push((
                event,
                Call {
                    point,
                    sp,
                    ..Call::default()
                },
            ));
        }
        let last = self.calls.len() - 1;
        let call = &mut self.calls[last].1;
        call.roles |= role;
        call
    }

    /// Notes that a call begins to work on a dentry: what was announced there has failed.
    pub fn claim(&mut self, dentry: Dentry) {
        let other =
            |waits: Option<Dentry>| waits.is_some_and(|waits| waits.address != dentry.address);
        self.waiting.retain(|(_, call)| other(call.dentry));
    }

    /// The innermost open call of an event.
    pub fn innermost(&mut self, event: Event) -> Option<&mut Call> {
        self.calls
            .iter_mut()
            .rev()
            .find(|call| call.0 == event)
            .map(|call| &mut call.1)
    }

    /// Ends the call that entered at `sp`; if its entry is known, with what it told. A
    /// connect or listen inside another one of the same event inherits its descriptor.
    pub fn leave(&mut self, point: usize, sp: u64) -> Option<(Event, Known)> {
        while self.calls.last().is_some_and(|call| call.1.sp < sp) {
            self.give_up();
        }
        if !self
            .calls
            .last()
            .is_some_and(|call| call.1.sp == sp && call.1.point == point)
        {
            return None;
        }
        let (event, call) = self.calls.pop()?;
        let mut known = call.known;
        if known.fd.is_none() {
            known.fd = self.innermost(event).and_then(|outer| outer.known.fd);
        }
        Some((event, known))
    }

    /// Ends the innermost call, whose return was not seen.
    fn give_up(&mut self) {
        let Some((event, call)) = self.calls.pop() else {
            return;
        };
        let tells = match event {
            // Of two such calls, one within the other, the inner one tells.
            Event::Connect | Event::Listen => call.known.socket.is_some(),
            // Not of times and sizes.
            Event::Attrib => call.known.attrib.is_some(),
            _ => true,
        };
        if tells {
            self.unreturned.push((event, call.known));
        }
    }

    /// Hands out the calls of which it is not known how they ended.
    pub fn unreturned(&mut self) -> impl Iterator<Item = (Event, Known)> {
        self.unreturned.drain(..)
    }

    /// Ends all calls: the thread is no more.
    pub fn end(&mut self) {
        while !self.calls.is_empty() {
            self.give_up();
        }
    }

    /// How many calls may have had something to tell that now is not.
    pub fn abandon(self) -> u64 {
        (self.calls.len() + self.unreturned.len() + self.waiting.len()) as u64
    }

    /// Begins to wait for what happens to a call's dentry.
    pub fn announce(&mut self, event: Event, call: Call) {
        self.waiting.retain(|(_, other)| other.sp > call.sp);
        if self.waiting.len() == MAX_WAITING {
            self.waiting.remove(0);
        }
        self.waiting.push((event, call));
    }

    /// The announced operation of an event that something that happens to a dentry
    /// completes.
    pub fn complete(&mut self, event: Event, dentry: Dentry) -> Option<Known> {
        let completed =
            |(kind, call): &(Event, Call)| *kind == event && call.dentry == Some(dentry);
        let at = self.waiting.iter().rposition(completed)?;
        // What was announced after it happened within it.
        self.waiting.drain(at..).next().map(|(_, call)| call.known)
    }

    /// The open call that was to make a dentry's file.
    pub fn making(&mut self, dentry: Dentry) -> Option<(Event, &mut Known)> {
        self.calls
            .iter_mut()
            .rev()
            .find(|call| {
                call.1
                    .dentry
                    .is_some_and(|made| made.address == dentry.address)
            })
            .map(|call| (call.0, &mut call.1.known))
    }

    /// Whether nothing is open.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENTRY: Dentry = Dentry {
        address: 5,
        place: [Some(4), Some(77)],
    };

    #[test]
    fn another_dentry_at_the_same_address_completes_nothing() {
        let mut thread = Thread::default();
        let call = Call {
            sp: 1000,
            dentry: Some(DENTRY),
            ..Call::default()
        };
        thread.announce(Event::Create, call);
        let other = Dentry {
            place: [Some(5), Some(78)],
            ..DENTRY
        };
        assert!(thread.complete(Event::Create, other).is_none());
        assert!(thread.complete(Event::Create, DENTRY).is_some());
    }

    #[test]
    fn pairs_nested_calls() {
        let mut thread = Thread::default();
        thread.enter(Event::Delete, 0, 1000, 1).known.ino = Some(1);
        thread.enter(Event::Delete, 0, 900, 1).known.ino = Some(2);
        assert_eq!(thread.leave(0, 900).unwrap().1.ino, Some(2));
        assert_eq!(thread.leave(0, 1000).unwrap().1.ino, Some(1));
        assert!(thread.is_idle());
    }

    #[test]
    fn a_missed_return_pairs_with_nothing() {
        let mut thread = Thread::default();
        thread.enter(Event::Delete, 0, 1000, 1).known.ino = Some(1);
        thread.enter(Event::Delete, 0, 1000, 1).known.ino = Some(2);
        let missed: Vec<_> = thread.unreturned().map(|call| call.1.ino).collect();
        assert_eq!(missed, [Some(1)]);
        assert_eq!(thread.leave(0, 1000).unwrap().1.ino, Some(2));
        assert!(thread.leave(0, 1000).is_none());
        // Another function at the same place proves the end as well.
        thread.enter(Event::Delete, 0, 1000, 1);
        thread.enter(Event::Mkdir, 1, 1000, 1);
        assert!(thread.leave(0, 1000).is_none());
        assert_eq!(thread.unreturned().count(), 1);
        thread.end();
        assert_eq!(thread.unreturned().count(), 1);
    }

    #[test]
    fn what_would_have_told_nothing_is_not_missed() {
        let mut thread = Thread::default();
        // utimes(2) reaches notify_change() as chmod(2) does.
        thread.enter(Event::Attrib, 0, 1000, 1);
        // __sys_connect() and, within it, __sys_connect_file(), whose return was seen.
        thread.enter(Event::Connect, 1, 1000, 1);
        thread.enter(Event::Connect, 2, 900, 1);
        assert!(thread.leave(2, 900).is_some());
        thread.end();
        assert_eq!(thread.unreturned().count(), 0);
    }

    #[test]
    fn a_missed_entry_pairs_with_nothing() {
        let mut thread = Thread::default();
        thread.enter(Event::Mkdir, 1, 1200, 1);
        assert!(thread.leave(0, 1000).is_none());
        assert!(thread.leave(1, 1200).is_some());
    }

    #[test]
    fn hooks_of_one_call_meet_in_any_order() {
        for (first, second) in [(1, 2), (2, 1)] {
            let mut thread = Thread::default();
            thread.enter(Event::Rename, 0, 1000, first).known.ino = Some(7);
            thread.enter(Event::Rename, 0, 1000, second).known.flags = 2;
            let (_, known) = thread.leave(0, 1000).unwrap();
            assert_eq!((known.ino, known.flags), (Some(7), 2));
        }
    }

    #[test]
    fn a_create_that_failed_is_not_completed_by_another_call() {
        let mut thread = Thread::default();
        let call = Call {
            sp: 1000,
            dentry: Some(DENTRY),
            ..Call::default()
        };
        thread.announce(Event::Create, call);
        thread.claim(DENTRY);
        assert!(thread.complete(Event::Create, DENTRY).is_none());
    }
}
