//! A thread that walks on request, no faster than its records are read.

use crate::machine::walk::Walk;
use crate::stream::record::{Bytes, Walked};
use crate::stream::time::Monotonic;
use crate::stream::wire;
use crate::sys::clock::now;
use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// The thread.
pub struct Walker {
    /// Its id, for the filter of the probe.
    pub tid: Pid,
    requests: Sender<Request>,
    results: Receiver<Done>,
    budget: Arc<Budget>,
    /// How many directories it may visit between two calls of [`Walker::allow`].
    allowance: usize,
}

/// Why a walk is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To see the directories below the roots of the snapshot.
    Snapshot,
    /// To answer the questions of st-pathtree.
    Answer,
}

struct Request {
    roots: Vec<PathBuf>,
    purpose: Purpose,
}

/// The `walked` record of a walk, and its time.
type Done = (Monotonic, Vec<u8>);

impl Walker {
    /// Starts the thread, which tells its id by `identify`.
    pub fn start(
        allowance: usize,
        identify: impl FnOnce() -> Result<Pid> + Send + 'static,
    ) -> Result<Self> {
        // A walk has one descriptor open for each level that it is below its root.
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read a limit")?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise a limit")?;
        let (requests, requested) = channel();
        let (done, results) = channel();
        let (tell_tid, tid) = channel();
        let budget = Arc::new(Budget::default());
        let own = Arc::clone(&budget);
        // Without the walker, and after an error, the thread ends.
        let work = move || -> Option<()> {
            tell_tid.send(identify()).ok()?;
            while let Ok(request) = requested.recv() {
                done.send(walk(&request, &own).ok()?).ok()?;
            }
            Some(())
        };
        thread::Builder::new()
            .name("walk".into())
            .spawn(work)
            .context("cannot make a thread")?;
        Ok(Self {
            tid: tid.recv().context("the walking thread ended")??,
            requests,
            results,
            budget,
            allowance,
        })
    }

    /// Begins a walk below these directories.
    pub fn walk(&self, roots: Vec<PathBuf>, purpose: Purpose) -> Result<()> {
        let request = Request { roots, purpose };
        let sent = self.requests.send(request).ok();
        sent.context("the walking thread ended")
    }

    /// Lets the thread visit some more directories: what the kernel has recorded of the others has
    /// been read.
    pub fn allow(&self) {
        self.budget.refill(self.allowance);
    }

    /// Waits for the end of a walk; returns its `walked` record and the record's time.
    pub fn wait(&self) -> Result<(Monotonic, Vec<u8>)> {
        self.results.recv().context("the walking thread ended")
    }

    /// The `walked` record of a walk, and the record's time, if one has ended.
    pub fn done(&self) -> Option<(Monotonic, Vec<u8>)> {
        self.results.try_recv().ok()
    }
}

/// Walks below the roots of a request.
fn walk(request: &Request, budget: &Budget) -> Result<Done> {
    let since = now()?;
    let mut walk = Walk::new(|| budget.take());
    for root in &request.roots {
        walk.below(root);
    }
    let ts = now()?;
    let roots = request.roots.iter();
    let walked = Walked {
        ts,
        since,
        answer: request.purpose == Purpose::Answer,
        roots: roots
            .map(|root| Bytes::from(root.as_os_str().as_bytes()))
            .collect(),
        directories: walk.directories(),
        complete: walk.is_complete(),
    };
    let mut record = Vec::new();
    wire::write(&walked, &mut record);
    Ok((ts, record))
}

/// How many more directories may be visited.
#[derive(Default)]
struct Budget {
    left: Mutex<usize>,
    more: Condvar,
}

impl Budget {
    fn refill(&self, amount: usize) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = amount;
        self.more.notify_one();
    }

    /// Waits until one may be visited, and counts it.
    fn take(&self) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.more.wait_while(left, |left| *left == 0);
        *left.unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use nix::unistd::gettid;

    #[test]
    fn tells_what_a_walk_was_for_and_what_it_saw() {
        let folder = Folder::new();
        folder.directory("a/b");
        let roots = vec![folder.path("a"), folder.path("none")];
        let walker = Walker::start(usize::MAX, || Ok(gettid())).unwrap();
        for (purpose, answer) in [(Purpose::Snapshot, false), (Purpose::Answer, true)] {
            assert!(walker.done().is_none());
            walker.walk(roots.clone(), purpose).unwrap();
            walker.allow();
            let (ts, record) = walker.wait().unwrap();
            let walked: Walked = wire::read(&record).unwrap();
            assert_eq!(walked.ts, ts);
            assert!(walked.since <= walked.ts);
            assert_eq!(walked.answer, answer);
            let expected = roots.iter().map(|root| root.as_os_str().as_bytes());
            assert!(walked.roots.iter().map(|root| &root[..]).eq(expected));
            assert_eq!((walked.directories, walked.complete), (2, true));
        }
    }

    #[test]
    fn visits_no_more_directories_than_are_allowed() {
        let folder = Folder::new();
        for name in 0..10 {
            folder.directory(format!("{name}"));
        }
        let root = folder.path("");
        let ancestors = root.ancestors().skip(1).count();
        let walker = Walker::start(1, || Ok(gettid())).unwrap();
        walker.walk(vec![root], Purpose::Snapshot).unwrap();
        // The root and its subdirectories are 11.
        for _ in 1..11 + ancestors {
            walker.allow();
            while *walker.budget.left.lock().unwrap() > 0 {
                thread::yield_now();
            }
            assert!(walker.done().is_none());
        }
        walker.allow();
        let (_, record) = walker.wait().unwrap();
        let walked: Walked = wire::read(&record).unwrap();
        assert_eq!((walked.directories, walked.complete), (11, true));
    }
}
