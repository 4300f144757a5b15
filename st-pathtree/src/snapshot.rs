//! What st-probe has looked at, and what it was or is to be asked for.

use st_decode::record::Walked;
use std::collections::HashMap;

/// How long an answer is waited for: nanoseconds. st-probe always answers, however long its
/// machine takes; a question can only be lost on the way.
const PATIENCE: u64 = 30_000_000_000;

/// What of the directories was or will be looked at.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Whether there is one.
    pub taken: bool,
    /// Whether more can be asked for.
    pub answers: bool,
    /// What to add to a monotonic time for nanoseconds since the Unix epoch.
    pub epoch: i64,
    /// Since when it must have been taken: records were lost before.
    pub since: u64,
    /// The roots of the one that is taken.
    pub roots: Vec<Vec<u8>>,
    /// Whether nothing was left out of it.
    pub complete: bool,
    /// Whether it was taken since [`Snapshot::since`].
    pub done: bool,
    /// What was asked for.
    pub asked: Vec<Asked>,
    /// Directories that were renamed meanwhile: device, key, when.
    pub moved: Vec<(String, u64, u64)>,
    /// Devices on which there may be watched directories that nobody looked at, and until
    /// when.
    pub holes: HashMap<String, u64>,
}

/// A question to st-probe.
#[derive(Debug)]
pub struct Asked {
    /// What st-probe is to look below.
    pub path: Vec<u8>,
    /// The device of its file system.
    pub dev: String,
    /// The directory, if it is one that was renamed.
    pub dir: Option<u64>,
    /// Until when an answer is waited for: nanoseconds since the Unix epoch.
    pub until: u64,
}

impl Snapshot {
    /// Whether there is more to be learned.
    pub fn is_pending(&self) -> bool {
        self.taken && !self.done || !self.asked.is_empty()
    }

    /// Notes that until some time there may be watched directories that nobody looked at.
    pub fn hole(&mut self, dev: &str, until: u64) {
        let known = self.holes.entry(dev.to_owned()).or_insert(until);
        *known = until.max(*known);
    }

    /// Notes a question, `dir` being the directory if it is one that was renamed.
    pub fn ask(&mut self, path: Vec<u8>, dev: &str, dir: Option<u64>, ts: u64) {
        self.asked.push(Asked {
            path,
            dev: dev.to_owned(),
            dir,
            until: ts.saturating_add(PATIENCE),
        });
    }

    /// Gives up waiting for answers that are late.
    pub fn expire(&mut self, ts: u64) -> bool {
        let (late, asked) = std::mem::take(&mut self.asked)
            .into_iter()
            .partition(|asked| asked.until < ts);
        self.asked = asked;
        for late in &late as &Vec<Asked> {
            self.hole(&late.dev, u64::MAX);
        }
        !late.is_empty()
    }

    /// Takes a `walked` record; returns the questions that it answers.
    pub fn walked(&mut self, walked: &Walked) -> Vec<Asked> {
        if walked.answer {
            let answers = |asked: &Asked| walked.roots.iter().any(|root| **root == *asked.path);
            let (answered, asked) = std::mem::take(&mut self.asked)
                .into_iter()
                .partition(answers);
            self.asked = asked;
            return answered;
        }
        if walked.since >= self.since {
            self.done = true;
            self.complete = walked.complete;
            self.roots = walked.roots.iter().map(|root| root.to_vec()).collect();
        }
        Vec::new()
    }
}
