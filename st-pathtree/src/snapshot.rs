//! What st-probe has looked at, and what it was or is to be asked for.

use st_decode::record::Walked;
use st_decode::time::{Clock, Monotonic, Unix};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

/// Takes the paths of directories that st-probe is to look below.
pub type Ask = Box<dyn FnMut(&[u8])>;

/// How long an answer is waited for. st-probe always answers, however long its
/// machine takes; a question can only be lost on the way.
const PATIENCE: Duration = Duration::from_secs(30);

/// What of the directories was or will be looked at.
#[derive(Default)]
pub struct Snapshot {
    /// Takes questions.
    pub send: Option<Ask>,
    /// Whether there is one.
    pub taken: bool,
    /// Whether more can be asked for.
    pub answers: bool,
    /// That of the stream.
    pub clock: Clock,
    /// Since when it must have been taken: records were lost before.
    pub since: Monotonic,
    /// The roots of the one that is taken.
    pub roots: Vec<Vec<u8>>,
    /// Whether nothing was left out of it.
    pub complete: bool,
    /// Whether it was taken since [`Snapshot::since`].
    pub done: bool,
    /// What was asked for, by path. Only the first question about each was sent.
    pub asked: HashMap<Vec<u8>, BTreeSet<Asked>>,
    /// Every question's [`Asked::ts`] and path, until it would be late, answered or not.
    pub due: BinaryHeap<Reverse<(Unix, Vec<u8>)>>,
    /// The devices that an answer is waited for about: [`Asked::device`], and how many.
    pub waited: HashMap<String, (u64, usize)>,
    /// How many [`Asked::device`] there were.
    pub devices: u64,
    /// Directories that were renamed meanwhile: device, key, when.
    pub moved: Vec<(String, u64, Unix)>,
    /// Devices on which there may be watched directories that nobody looked at, and until
    /// when.
    pub holes: HashMap<String, Unix>,
}

/// A question to st-probe: what is below some path?
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Since when it is one.
    pub ts: Unix,
    /// The device of the path's file system, ...
    pub dev: String,
    /// ... which has another number here when it is another one.
    pub device: u64,
    /// The directory, if it is one that was renamed.
    pub dir: Option<u64>,
}

impl Snapshot {
    /// Whether there is more to be learned.
    pub fn is_pending(&self) -> bool {
        self.taken && !self.done || !self.waited.is_empty()
    }

    /// Since when what is told of directories can be trusted.
    pub fn trusted(&self) -> Unix {
        self.clock.unix(self.since)
    }

    /// Notes that until some time there may be watched directories that nobody looked at.
    pub fn hole(&mut self, dev: &str, until: Unix) {
        let known = self.holes.entry(dev.to_owned()).or_insert(until);
        *known = until.max(*known);
    }

    /// Asks st-probe to look below a path, `dir` being the directory if it is one that was
    /// renamed. While it is asked that already, this waits for the answer: it may have begun
    /// to look before the question came up.
    pub fn ask(&mut self, path: Vec<u8>, dev: &str, dir: Option<u64>, ts: Unix) {
        let waited = self.waited.entry(dev.to_owned()).or_insert_with(|| {
            self.devices += 1;
            (self.devices, 0)
        });
        let questions = self.asked.entry(path.clone()).or_default();
        let asked = Asked {
            ts,
            dev: dev.to_owned(),
            device: waited.0,
            dir,
        };
        if !questions.insert(asked) {
            return;
        }
        waited.1 += 1;
        if let (Some(send), 1) = (&mut self.send, questions.len()) {
            send(&path);
        }
        self.due.push(Reverse((ts, path)));
    }

    /// Gives up waiting for answers that are late. True: there were some.
    pub fn expire(&mut self, ts: Unix) -> bool {
        let late = |asked: Unix| asked.after(PATIENCE) < ts;
        let mut any = false;
        while self.due.peek().is_some_and(|Reverse(due)| late(due.0)) {
            let Some(Reverse((until, path))) = self.due.pop() else {
                break;
            };
            for asked in self.settle(&path, until) {
                self.hole(&asked.dev, Unix::MAX);
                any = true;
            }
        }
        any
    }

    /// Takes a `walked` record; returns the questions that it answers.
    pub fn walked(&mut self, walked: &Walked) -> Vec<Asked> {
        let mut answered = Vec::new();
        if walked.answer {
            let since = self.clock.unix(walked.since);
            for root in &walked.roots {
                answered.extend(self.settle(root, since));
            }
        } else if walked.since >= self.since {
            self.done = true;
            self.complete = walked.complete;
            self.roots = walked.roots.iter().map(|root| root.to_vec()).collect();
        }
        answered
    }

    /// Forgets a device: its number may be another's next.
    pub fn forget(&mut self, dev: &str) {
        self.holes.remove(dev);
        self.waited.remove(dev);
    }

    /// Takes the questions about a path that came up until some time, and asks the others
    /// anew. Those about forgotten devices are dropped.
    fn settle(&mut self, path: &[u8], until: Unix) -> Vec<Asked> {
        let Some(questions) = self.asked.get_mut(path) else {
            return Vec::new();
        };
        let mut settled = Vec::new();
        while questions.first().is_some_and(|asked| asked.ts <= until) {
            settled.extend(questions.pop_first());
        }
        if questions.is_empty() {
            self.asked.remove(path);
        } else if let (Some(send), false) = (&mut self.send, settled.is_empty()) {
            send(path);
        }
        settled.retain(|asked| {
            let waited = self.waited.get_mut(&asked.dev);
            let Some((_, count)) = waited.filter(|waited| waited.0 == asked.device) else {
                return false;
            };
            *count -= 1;
            if *count == 0 {
                self.waited.remove(&asked.dev);
            }
            true
        });
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use st_decode::record::Bytes;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn seconds(seconds: u64) -> Unix {
        Unix(0).after(Duration::from_secs(seconds))
    }

    /// A snapshot, and the questions that it sends.
    fn snapshot() -> (Snapshot, Rc<RefCell<Vec<Vec<u8>>>>) {
        let sent = Rc::new(RefCell::new(Vec::new()));
        let snapshot = Snapshot {
            send: Some(Box::new({
                let sent = sent.clone();
                move |path| sent.borrow_mut().push(path.to_vec())
            })),
            ..Snapshot::default()
        };
        (snapshot, sent)
    }

    fn ask(snapshot: &mut Snapshot, path: &str, dir: u64, ts: Unix) {
        snapshot.ask(path.into(), "8:1", Some(dir), ts);
    }

    /// The directories of the questions that a walk since some time answers.
    fn answer(snapshot: &mut Snapshot, path: &str, since: Unix) -> Vec<u64> {
        let answered = snapshot.walked(&Walked {
            since: Monotonic(since.0),
            answer: true,
            roots: vec![Bytes::from(path.as_bytes())],
            ..Walked::default()
        });
        answered.iter().filter_map(|asked| asked.dir).collect()
    }

    #[test]
    fn asks_once_until_the_answer_and_again_for_what_came_since() {
        let (mut snapshot, sent) = snapshot();
        for dir in 1..=1000 {
            ask(&mut snapshot, "/w", dir, Unix(dir));
        }
        ask(&mut snapshot, "/v", 1, Unix(1));
        assert_eq!(*sent.borrow(), [b"/w", b"/v"]);
        assert_eq!(answer(&mut snapshot, "/w", Unix(999)).len(), 999);
        assert_eq!(*sent.borrow(), [b"/w", b"/v", b"/w"]);
        assert_eq!(answer(&mut snapshot, "/w", Unix(2000)), [1000]);
        assert_eq!(answer(&mut snapshot, "/w", Unix(2001)), []);
        assert_eq!(answer(&mut snapshot, "/v", Unix(2001)), [1]);
        assert_eq!(sent.borrow().len(), 3);
        assert!(!snapshot.is_pending());
    }

    #[test]
    fn gives_up_what_is_late_and_nothing_else() {
        let (mut snapshot, sent) = snapshot();
        ask(&mut snapshot, "/answered", 1, Unix(1));
        ask(&mut snapshot, "/w", 2, seconds(2));
        ask(&mut snapshot, "/w", 3, seconds(3));
        assert_eq!(answer(&mut snapshot, "/answered", seconds(1)), [1]);
        assert!(!snapshot.expire(seconds(2).after(PATIENCE)));
        // Only what is late is looked at.
        assert_eq!(snapshot.due.len(), 2);
        assert!(snapshot.holes.is_empty());
        assert!(snapshot.expire(Unix(seconds(2).after(PATIENCE).0 + 1)));
        assert_eq!(snapshot.holes["8:1"], Unix::MAX);
        assert_eq!(*sent.borrow(), [&b"/answered"[..], b"/w", b"/w"]);
        assert_eq!(answer(&mut snapshot, "/w", seconds(4)), [3]);
        assert!(!snapshot.expire(Unix::MAX));
    }

    #[test]
    fn forgets_the_questions_of_a_device() {
        let (mut snapshot, sent) = snapshot();
        ask(&mut snapshot, "/w", 1, Unix(1));
        snapshot.forget("8:2");
        assert!(snapshot.is_pending());
        snapshot.forget("8:1");
        assert!(!snapshot.is_pending());
        // One about another device of that number.
        ask(&mut snapshot, "/w", 2, Unix(2));
        assert!(snapshot.is_pending());
        assert_eq!(answer(&mut snapshot, "/w", Unix(1)), []);
        assert_eq!(*sent.borrow(), [b"/w", b"/w"]);
        assert_eq!(answer(&mut snapshot, "/w", Unix(2)), [2]);
        assert!(!snapshot.is_pending());
        assert!(!snapshot.expire(Unix::MAX));
    }
}
