//! When walks begin: at the start, after a loss, and when st-pathtree asks for one.

use crate::machine::walker::{Purpose, Walker};
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::Service;
use crate::tracefs::session::Session;
use crate::tracing::questions::Questions;
use anyhow::Result;
use std::mem;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the thread that walks tells its id with.
const WALKER: &str = "walk";
/// Bytes of ring buffer that the record of a directory takes at most on average: nine names.
const RECORD: u64 = 400;
/// How long after a loss the next walk begins: its records would add to what overruns the ring
/// buffer.
const PAUSE: Duration = Duration::from_millis(500);
/// How long after a walk a question may come about what the walk has seen.
const LINGER: Duration = Duration::from_millis(100);
/// How long a question may come about what was done just before the end: st-probe and the stages
/// behind it hold records back for a while.
const LAST: Duration = Duration::from_millis(400);

/// The thread that walks, the questions, and which walk is next.
pub struct Walks {
    /// `None` if nobody wants walks, or this kernel cannot record directories.
    walker: Option<Walker>,
    questions: Option<Questions>,
    plan: Plan,
}

impl Walks {
    /// Starts the thread, which walks `roots`, and the paths that come through the named pipe
    /// `questions`. A walk fills a quarter of a ring buffer of `buffer_kb` KiB at most between two
    /// calls of [`Walks::step`].
    pub fn start(
        session: &Session,
        roots: Vec<PathBuf>,
        questions: Option<&Path>,
        buffer_kb: u64,
    ) -> Result<Self> {
        let questions = questions.map(Questions::open).transpose()?;
        let mut walker = None;
        if !roots.is_empty() || questions.is_some() {
            if session.sees_directories() {
                let allowance = (buffer_kb * 1024 / RECORD / 4).max(1);
                let marker = session.marker()?;
                let mut started = Walker::start(allowance as usize, move || marker.leave(WALKER))?;
                started.tid = session.marked(WALKER, started.tid)?;
                walker = Some(started);
            } else {
                say!("this kernel has no function to see directories by: deep paths stay partial");
            }
        }
        Ok(Self {
            walker,
            questions,
            plan: Plan::of(roots),
        })
    }

    /// Whether the directories below the roots are walked.
    pub fn has_roots(&self) -> bool {
        self.walker.is_some() && !self.plan.roots.is_empty()
    }

    /// Whether questions are answered.
    pub fn answers(&self) -> bool {
        self.walker.is_some() && self.questions.is_some()
    }

    /// Readable when there are questions.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.questions.as_ref().map(Questions::fd)
    }

    /// Lets the first walk begin: from now on the kernel records what happens to directories.
    pub fn begin(&mut self) {
        self.plan.begin();
    }

    /// Notes that records were lost until an instant, records of directories maybe.
    pub fn lost(&mut self, until: Monotonic) {
        self.plan.lost(until);
    }

    /// Whether a walk is under way, or will be.
    pub fn is_busy(&self) -> bool {
        self.walker.is_some() && self.plan.is_busy()
    }

    /// Whether a walk is under way or will be, or a question may come.
    pub fn may_be_asked(&self, now: Monotonic) -> bool {
        self.is_busy() || self.answers() && self.plan.lingers(now)
    }

    /// Notes that tracing is to end.
    pub fn ending(&mut self, now: Monotonic) {
        self.plan.linger(now.after(LAST));
    }

    /// To be called whenever the ring buffers have been read: takes questions, lets the walk that
    /// is under way go on, or the next one begin. Returns the `walked` record, and its time, of a
    /// walk that has ended.
    pub fn step(
        &mut self,
        session: &mut Session,
        now: Monotonic,
    ) -> Result<Option<(Monotonic, Vec<u8>)>> {
        let asked = match &mut self.questions {
            Some(questions) => questions.read()?,
            None => Vec::new(),
        };
        let Some(walker) = &self.walker else {
            return Ok(None);
        };
        self.plan.asked(asked);
        let ended = walker.done();
        if ended.is_some() {
            self.plan.ended(now);
        }
        if let Some(next) = self.plan.next(now) {
            session.follow(Service::Directory, walker.tid)?;
            walker.walk(next.roots, next.purpose)?;
        } else if ended.is_some() {
            session.unfollow(Service::Directory)?;
        }
        walker.allow();
        Ok(ended)
    }
}

/// A walk that is to begin.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    roots: Vec<PathBuf>,
    purpose: Purpose,
}

/// Which walk is next, and when: pure.
#[derive(Debug, Default)]
struct Plan {
    roots: Vec<PathBuf>,
    /// Whether walks of the roots may begin.
    begun: bool,
    /// Whether a walk is under way.
    under_way: bool,
    /// When the next walk of the roots begins.
    again: Option<Monotonic>,
    /// The paths that somebody asked for.
    asked: Vec<PathBuf>,
    /// Until when a question may come.
    linger: Monotonic,
}

impl Plan {
    fn of(roots: Vec<PathBuf>) -> Self {
        Self {
            roots,
            ..Self::default()
        }
    }

    fn begin(&mut self) {
        self.begun = true;
        if !self.roots.is_empty() {
            self.again = Some(Monotonic::default());
        }
    }

    /// After a loss, what earlier walks have seen is no longer trusted.
    fn lost(&mut self, until: Monotonic) {
        if self.begun && !self.roots.is_empty() {
            self.again = self.again.max(Some(until.after(PAUSE)));
        }
    }

    /// A question that comes twice before it is answered is one question.
    fn asked(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            if !self.asked.contains(&path) {
                self.asked.push(path);
            }
        }
    }

    fn ended(&mut self, now: Monotonic) {
        self.under_way = false;
        self.linger(now.after(LINGER));
    }

    fn linger(&mut self, until: Monotonic) {
        self.linger = self.linger.max(until);
    }

    fn lingers(&self, now: Monotonic) -> bool {
        now < self.linger
    }

    fn is_busy(&self) -> bool {
        self.under_way || self.again.is_some() || !self.asked.is_empty()
    }

    /// The walk that begins now. Only one walk is under way at a time, and a walk of the roots comes
    /// before a walk that somebody asked for.
    fn next(&mut self, now: Monotonic) -> Option<Next> {
        if self.under_way {
            return None;
        }
        let next = if self.again.is_some_and(|again| again <= now) {
            self.again = None;
            Next {
                roots: self.roots.clone(),
                purpose: Purpose::Snapshot,
            }
        } else if self.asked.is_empty() {
            return None;
        } else {
            Next {
                roots: mem::take(&mut self.asked),
                purpose: Purpose::Answer,
            }
        };
        self.under_way = true;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(10_000_000_000);

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    fn roots() -> Next {
        Next {
            roots: paths(&["/a", "/b"]),
            purpose: Purpose::Snapshot,
        }
    }

    fn answer(names: &[&str]) -> Next {
        Next {
            roots: paths(names),
            purpose: Purpose::Answer,
        }
    }

    /// A plan whose first walk has ended.
    fn walked() -> Plan {
        let mut plan = Plan::of(paths(&["/a", "/b"]));
        plan.begin();
        assert_eq!(plan.next(NOW), Some(roots()));
        plan.ended(NOW);
        plan
    }

    #[test]
    fn walks_the_roots_once_it_has_begun() {
        let mut plan = Plan::of(paths(&["/a", "/b"]));
        // The first walk is still to come, and it comes after the loss.
        plan.lost(NOW);
        assert!(!plan.is_busy());
        assert_eq!(plan.next(Monotonic::MAX), None);
        plan.begin();
        assert!(plan.is_busy());
        assert_eq!(plan.next(Monotonic(0)), Some(roots()));
        assert!(plan.is_busy());
        assert_eq!(plan.next(Monotonic::MAX), None);
        plan.ended(NOW);
        assert!(!plan.is_busy());
    }

    #[test]
    fn walks_again_some_time_after_the_last_loss() {
        let mut plan = walked();
        plan.lost(NOW);
        plan.lost(NOW.before(PAUSE));
        assert!(plan.is_busy());
        assert_eq!(plan.next(Monotonic(NOW.after(PAUSE).0 - 1)), None);
        assert_eq!(plan.next(NOW.after(PAUSE)), Some(roots()));
        // This walk may have seen already what a record that is lost has changed.
        plan.lost(NOW.after(PAUSE));
        assert_eq!(plan.next(Monotonic::MAX), None);
        plan.ended(NOW.after(PAUSE));
        assert_eq!(plan.next(Monotonic::MAX), Some(roots()));
    }

    #[test]
    fn nothing_is_walked_after_a_loss_if_nothing_was_before() {
        let mut plan = Plan::of(Vec::new());
        plan.begin();
        plan.lost(NOW);
        assert!(!plan.is_busy());
        assert_eq!(plan.next(Monotonic::MAX), None);
    }

    #[test]
    fn one_walk_answers_all_questions_that_have_come() {
        let mut plan = walked();
        plan.asked(paths(&["/c", "/d"]));
        plan.asked(paths(&["/d", "/e"]));
        assert_eq!(plan.next(NOW), Some(answer(&["/c", "/d", "/e"])));
        plan.asked(paths(&["/c"]));
        assert_eq!(plan.next(NOW), None);
        plan.ended(NOW);
        assert_eq!(plan.next(NOW), Some(answer(&["/c"])));
    }

    #[test]
    fn the_roots_come_before_questions() {
        let mut plan = Plan::of(paths(&["/a", "/b"]));
        plan.asked(paths(&["/c"]));
        plan.begin();
        assert_eq!(plan.next(NOW), Some(roots()));
        plan.ended(NOW);
        plan.lost(NOW);
        // That walk is not due yet.
        assert_eq!(plan.next(NOW), Some(answer(&["/c"])));
    }

    #[test]
    fn a_question_may_come_some_time_after_a_walk_and_before_the_end() {
        let mut plan = walked();
        assert!(plan.lingers(Monotonic(NOW.after(LINGER).0 - 1)));
        assert!(!plan.lingers(NOW.after(LINGER)));
        plan.linger(NOW.after(LAST));
        plan.ended(NOW);
        assert!(plan.lingers(Monotonic(NOW.after(LAST).0 - 1)));
        assert!(!plan.lingers(NOW.after(LAST)));
    }
}
