//! The state of the snapshot: which walks st-probe has made, and which were requested of it.
//!
//! st-probe makes a full walk at the start and after each gap. Further walks are requested of it
//! where directories come to be watched that no walk has met.

use foldhash::HashMap;
use st_decode::record::{Header, Walked};
use st_decode::time::Monotonic;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

/// Takes the paths of the directories below which st-probe is to walk.
pub type Ask = Box<dyn FnMut(&[u8])>;

/// How long to wait for the walk that a request asks for. st-probe makes every walk that it
/// reads a request for, however long that takes on its machine; but a request can be lost on
/// its way to st-probe.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which walks st-probe has made, which are still to come, and what no walk tells.
#[derive(Default)]
pub struct Snapshot {
    /// Takes the requests.
    send: Option<Ask>,
    /// Whether the stream has walks at all.
    taken: bool,
    /// Whether st-probe takes requests.
    answers: bool,
    /// A walk counts if it began at this instant or later: records before it are missing.
    since: Monotonic,
    /// The roots of the full walk.
    roots: Vec<Vec<u8>>,
    /// Whether the full walk left nothing out.
    complete: bool,
    /// Whether a full walk was made that began at `since` or later.
    walked: bool,
    /// The open requests, by path. Of the requests about one path only the first was sent.
    requests: HashMap<Vec<u8>, BTreeSet<Request>>,
    /// [`Request::ts`] and path of every request, until its answer would be late. An answered
    /// request stays here until then.
    deadlines: BinaryHeap<Reverse<(Monotonic, Vec<u8>)>>,
    /// The devices that open requests are about.
    pending: HashMap<String, PendingDevice>,
    /// How many [`PendingDevice::number`]s were given.
    devices: u64,
    /// Directories that were renamed and that no walk below them was requested for yet.
    moved: Vec<MovedDirectory>,
    /// Devices on which a watched directory may be unknown, and until when.
    holes: HashMap<String, Monotonic>,
}

/// A request for a walk below a path.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// When the need for the walk arose: a walk that began before does not answer it.
    ts: Monotonic,
    /// The device of the path's file system.
    dev: String,
    /// [`PendingDevice::number`] of that device.
    device: u64,
    /// The renamed directory that the request is about, if it is about one.
    dir: Option<u64>,
}

impl Request {
    /// The device of the path's file system.
    pub fn dev(&self) -> &str {
        &self.dev
    }

    /// The key of the renamed directory that the request is about, if it is about one.
    pub fn dir(&self) -> Option<u64> {
        self.dir
    }
}

/// A device that open requests are about.
#[derive(Debug)]
struct PendingDevice {
    /// Two file systems that have the same device number, one after the other, differ in this.
    number: u64,
    /// How many requests are open.
    requests: usize,
}

/// A directory that was renamed.
#[derive(Debug, Clone)]
pub struct MovedDirectory {
    /// Its device.
    pub dev: String,
    /// Its key, see [`crate::tree::key`].
    pub dir: u64,
    /// When it was renamed.
    pub ts: Monotonic,
}

impl Snapshot {
    /// A snapshot whose requests go to `ask`.
    pub fn new(ask: Option<Ask>) -> Self {
        Self {
            send: ask,
            ..Self::default()
        }
    }

    /// Begins a new stream. `follows`: the stream tells all that happens to directories, so
    /// that what a walk tells stays of use.
    pub fn begin(&mut self, header: &Header, follows: bool) {
        *self = Self {
            send: self.send.take(),
            taken: header.snapshot && follows,
            answers: header.answers,
            ..Self::default()
        };
    }

    /// Whether the stream has walks.
    pub fn is_taken(&self) -> bool {
        self.taken
    }

    /// Whether the full walk was made since the last gap.
    pub fn is_walked(&self) -> bool {
        self.walked
    }

    /// Whether a walk is still to come.
    pub fn is_pending(&self) -> bool {
        self.taken && !self.walked || !self.pending.is_empty()
    }

    /// The first instant from which on what the stream tells of directories can be trusted.
    pub fn trusted_since(&self) -> Monotonic {
        self.since
    }

    /// Notes that records before an instant are missing: nothing that the stream told of
    /// directories before it can be trusted, and another full walk follows.
    pub fn distrust(&mut self, before: Monotonic) {
        self.since = self.since.max(before);
        self.walked = false;
    }

    /// The roots of the full walk.
    pub fn roots(&self) -> &[Vec<u8>] {
        &self.roots
    }

    /// Whether every directory on a device that was below [`Snapshot::roots`] at an instant is
    /// known.
    pub fn is_complete(&self, dev: &str, ts: Monotonic) -> bool {
        self.walked
            && self.complete
            && ts >= self.trusted_since()
            && self.holes.get(dev).is_none_or(|until| *until < ts)
    }

    /// Notes that a watched directory on a device may be unknown until an instant.
    pub fn note_hole(&mut self, dev: &str, until: Monotonic) {
        let known = self.holes.entry(dev.to_owned()).or_insert(until);
        *known = until.max(*known);
    }

    /// Notes that a directory was renamed: it may have come from where no walk has been.
    pub fn note_moved(&mut self, moved: MovedDirectory) {
        if self.taken {
            self.moved.push(moved);
        }
    }

    /// The directories of [`Snapshot::note_moved`], those of [`Snapshot::take_moved`] apart.
    pub fn moved(&self) -> &[MovedDirectory] {
        &self.moved
    }

    /// Removes and returns the directories of [`Snapshot::note_moved`].
    pub fn take_moved(&mut self) -> Vec<MovedDirectory> {
        std::mem::take(&mut self.moved)
    }

    /// Requests a walk below a path. Where st-probe takes no requests, this notes a hole.
    pub fn request(&mut self, path: Vec<u8>, dev: &str, ts: Monotonic) {
        self.request_about(path, dev, None, ts);
    }

    /// Requests a walk below the path of a renamed directory, as [`Snapshot::request`] does.
    pub fn request_below_moved(&mut self, path: Vec<u8>, dev: &str, dir: u64, ts: Monotonic) {
        self.request_about(path, dev, Some(dir), ts);
    }

    /// While a request about the same path is open, the new one is not sent: it is sent when the
    /// open one was answered, for st-probe may have begun that walk before the new need arose.
    fn request_about(&mut self, path: Vec<u8>, dev: &str, dir: Option<u64>, ts: Monotonic) {
        if !self.answers {
            self.note_hole(dev, Monotonic::MAX);
            return;
        }
        let pending = self.pending.entry(dev.to_owned()).or_insert_with(|| {
            self.devices += 1;
            PendingDevice {
                number: self.devices,
                requests: 0,
            }
        });
        let request = Request {
            ts,
            dev: dev.to_owned(),
            device: pending.number,
            dir,
        };
        let requests = self.requests.entry(path.clone()).or_default();
        if !requests.insert(request) {
            return;
        }
        pending.requests += 1;
        if let (Some(send), 1) = (&mut self.send, requests.len()) {
            send(&path);
        }
        self.deadlines.push(Reverse((ts, path)));
    }

    /// Closes the requests whose answers are late at an instant, and notes holes for them.
    /// Returns whether there were any.
    pub fn expire(&mut self, now: Monotonic) -> bool {
        let mut any = false;
        while let Some(Reverse((ts, _))) = self.deadlines.peek() {
            if ts.after(PATIENCE) >= now {
                break;
            }
            let Some(Reverse((ts, path))) = self.deadlines.pop() else {
                break;
            };
            for request in self.close(&path, ts) {
                self.note_hole(&request.dev, Monotonic::MAX);
                any = true;
            }
        }
        any
    }

    /// Takes a `walked` record. Returns the requests that this walk answers.
    pub fn walked(&mut self, walked: &Walked) -> Vec<Request> {
        let mut answered = Vec::new();
        if walked.answer {
            for root in &walked.roots {
                answered.extend(self.close(root, walked.since));
            }
        } else if walked.since >= self.since {
            self.walked = true;
            self.complete = walked.complete;
            self.roots = walked.roots.iter().map(|root| root.to_vec()).collect();
        }
        answered
    }

    /// Forgets a device whose file system is gone: the next file system may get its number.
    pub fn forget(&mut self, dev: &str) {
        self.holes.remove(dev);
        self.pending.remove(dev);
    }

    /// Closes the requests about a path that are not newer than `until`. If newer ones are left,
    /// this sends a request. Returns the closed requests, without those about forgotten devices.
    fn close(&mut self, path: &[u8], until: Monotonic) -> Vec<Request> {
        let Some(requests) = self.requests.get_mut(path) else {
            return Vec::new();
        };
        let mut closed = Vec::new();
        while requests.first().is_some_and(|request| request.ts <= until) {
            closed.extend(requests.pop_first());
        }
        if requests.is_empty() {
            self.requests.remove(path);
        } else if let (Some(send), false) = (&mut self.send, closed.is_empty()) {
            send(path);
        }
        closed.retain(|request| {
            let Some(pending) = self.pending.get_mut(&request.dev) else {
                return false;
            };
            if pending.number != request.device {
                return false;
            }
            pending.requests -= 1;
            if pending.requests == 0 {
                self.pending.remove(&request.dev);
            }
            true
        });
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use st_decode::record::Bytes;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn seconds(seconds: u64) -> Monotonic {
        Monotonic(0).after(Duration::from_secs(seconds))
    }

    /// A snapshot, and the requests that it sends.
    fn snapshot() -> (Snapshot, Rc<RefCell<Vec<Vec<u8>>>>) {
        let sent = Rc::new(RefCell::new(Vec::new()));
        let mut snapshot = Snapshot::new(Some(Box::new({
            let sent = sent.clone();
            move |path| sent.borrow_mut().push(path.to_vec())
        })));
        let header = Header {
            answers: true,
            ..Header::default()
        };
        snapshot.begin(&header, true);
        (snapshot, sent)
    }

    fn request(snapshot: &mut Snapshot, path: &str, dir: u64, ts: Monotonic) {
        snapshot.request_below_moved(path.into(), "8:1", dir, ts);
    }

    /// The directories of the requests that a walk since an instant answers.
    fn answer(snapshot: &mut Snapshot, path: &str, since: Monotonic) -> Vec<u64> {
        let answered = snapshot.walked(&Walked {
            since,
            answer: true,
            roots: vec![Bytes::from(path.as_bytes())],
            ..Walked::default()
        });
        answered.iter().filter_map(Request::dir).collect()
    }

    #[test]
    fn requests_once_until_the_answer_and_again_for_what_came_since() {
        let (mut snapshot, sent) = snapshot();
        for dir in 1..=1000 {
            request(&mut snapshot, "/w", dir, Monotonic(dir));
        }
        request(&mut snapshot, "/v", 1, Monotonic(1));
        assert_eq!(*sent.borrow(), [b"/w", b"/v"]);
        assert_eq!(answer(&mut snapshot, "/w", Monotonic(999)).len(), 999);
        assert_eq!(*sent.borrow(), [b"/w", b"/v", b"/w"]);
        assert_eq!(answer(&mut snapshot, "/w", Monotonic(2000)), [1000]);
        assert_eq!(answer(&mut snapshot, "/w", Monotonic(2001)), []);
        assert_eq!(answer(&mut snapshot, "/v", Monotonic(2001)), [1]);
        assert_eq!(sent.borrow().len(), 3);
        assert!(!snapshot.is_pending());
    }

    #[test]
    fn closes_what_is_late_and_nothing_else() {
        let (mut snapshot, sent) = snapshot();
        request(&mut snapshot, "/answered", 1, Monotonic(1));
        request(&mut snapshot, "/w", 2, seconds(2));
        request(&mut snapshot, "/w", 3, seconds(3));
        assert_eq!(answer(&mut snapshot, "/answered", seconds(1)), [1]);
        assert!(!snapshot.expire(seconds(2).after(PATIENCE)));
        // Only the late deadline was removed.
        assert_eq!(snapshot.deadlines.len(), 2);
        assert!(snapshot.holes.is_empty());
        assert!(snapshot.expire(Monotonic(seconds(2).after(PATIENCE).0 + 1)));
        assert_eq!(snapshot.holes["8:1"], Monotonic::MAX);
        assert_eq!(*sent.borrow(), [&b"/answered"[..], b"/w", b"/w"]);
        assert_eq!(answer(&mut snapshot, "/w", seconds(4)), [3]);
        assert!(!snapshot.expire(Monotonic::MAX));
    }

    #[test]
    fn forgets_the_requests_of_a_device() {
        let (mut snapshot, sent) = snapshot();
        request(&mut snapshot, "/w", 1, Monotonic(1));
        snapshot.forget("8:2");
        assert!(snapshot.is_pending());
        snapshot.forget("8:1");
        assert!(!snapshot.is_pending());
        // The next file system with that device number.
        request(&mut snapshot, "/w", 2, Monotonic(2));
        assert!(snapshot.is_pending());
        assert_eq!(answer(&mut snapshot, "/w", Monotonic(1)), []);
        assert_eq!(*sent.borrow(), [b"/w", b"/w"]);
        assert_eq!(answer(&mut snapshot, "/w", Monotonic(2)), [2]);
        assert!(!snapshot.is_pending());
        assert!(!snapshot.expire(Monotonic::MAX));
    }
}
