//! When the walking thread walks: at the start, after a loss, and when somebody asks.

use crate::machine::walker::{Purpose, Walker};
use crate::stream::time::Monotonic;
use crate::stream::vocabulary::Service;
use crate::tracefs::session::Session;
use crate::tracing::run::Options;
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;
use std::{ffi::OsStr, mem};

/// Bytes of ring buffer that a directory's record takes at most, on the whole: nine names.
const RECORD: u64 = 400;
/// How long after a loss the next walk begins: it is not to add to what overruns.
const PAUSE: Duration = Duration::from_millis(500);
/// How long it takes at most until a question about what was seen comes.
const LINGER: Duration = Duration::from_millis(100);
/// The same, about what was done just before tracing is to end: it is held back, too.
const LAST: Duration = Duration::from_millis(400);
/// The longest path that is taken for a question.
const LONGEST: usize = 1 << 16;

/// What of the directories is to be looked at.
pub struct Snapshot<'a> {
    session: &'a Session,
    /// `None` if nothing ever is.
    walker: Option<Walker>,
    roots: Vec<PathBuf>,
    questions: Option<File>,
    /// The beginning of a question.
    asked: Vec<u8>,
    /// What somebody asked for.
    queue: Vec<PathBuf>,
    begun: bool,
    walking: bool,
    /// Until when a question may come.
    linger: Monotonic,
    /// When to look at the roots next.
    again: Option<Monotonic>,
}

impl<'a> Snapshot<'a> {
    /// As the options say.
    pub fn new(session: &'a Session, options: &Options) -> Result<Self> {
        let questions = options.answer.as_ref().map(|path| {
            // It is a pipe whose writers may come and go.
            let mut file = OpenOptions::new();
            file.read(true).write(true).custom_flags(libc::O_NONBLOCK);
            file.open(path)
                .with_context(|| format!("cannot open {}", path.display()))
        });
        let questions = questions.transpose()?;
        let allowance = (options.buffer_kb * 1024 / RECORD / 4).max(1) as usize;
        let wanted = !options.snapshot.is_empty() || questions.is_some();
        let walker = if wanted && session.sees_directories() {
            Some(Walker::start(allowance)?)
        } else {
            None
        };
        if wanted && walker.is_none() {
            say!("this kernel has no function to see directories by: deep paths stay partial");
        }
        Ok(Self {
            session,
            walker,
            roots: options.snapshot.clone(),
            questions,
            asked: Vec::new(),
            queue: Vec::new(),
            begun: false,
            walking: false,
            linger: Monotonic::default(),
            again: None,
        })
    }

    /// Whether the directories below the roots are looked at.
    pub fn is_taken(&self) -> bool {
        self.walker.is_some() && !self.roots.is_empty()
    }

    /// Whether questions are answered.
    pub fn answers(&self) -> bool {
        self.walker.is_some() && self.questions.is_some()
    }

    /// To poll for.
    pub fn questions(&self) -> Option<BorrowedFd<'_>> {
        self.questions.as_ref().map(AsFd::as_fd)
    }

    /// Lets the first walk begin: what happens to directories is recorded by now.
    pub fn begin(&mut self) {
        self.begun = true;
        self.again = self.is_taken().then_some(Monotonic::default());
    }

    /// Notes that records were lost until some time, those of directories or of renames maybe.
    pub fn lost(&mut self, until: Monotonic) {
        if self.is_taken() && self.begun {
            self.again = self.again.max(Some(until.after(PAUSE)));
        }
    }

    /// Whether there is more to come.
    pub fn is_busy(&self) -> bool {
        let next = !self.queue.is_empty() || self.again.is_some();
        self.walker.is_some() && (self.walking || next)
    }

    /// Whether there may be more to come: what was seen last may lead to a question.
    pub fn may_be_asked(&self, now: Monotonic) -> bool {
        self.is_busy() || self.answers() && now < self.linger
    }

    /// Notes that tracing is to end.
    pub fn ending(&mut self, now: Monotonic) {
        self.linger = self.linger.max(now.after(LAST));
    }

    /// To be called whenever the ring buffers have been read: takes questions, lets the
    /// walk go on or the next one begin. Returns the `walked` record, and its time, of one
    /// that is done.
    pub fn step(&mut self, now: Monotonic) -> Result<Option<(Monotonic, Vec<u8>)>> {
        self.listen()?;
        let Some(walker) = &self.walker else {
            return Ok(None);
        };
        let done = walker.done();
        if done.is_some() {
            self.walking = false;
            self.linger = self.linger.max(now.after(LINGER));
        }
        let roots = self.again.take_if(|again| !self.walking && *again <= now);
        if roots.is_some() {
            self.session.follow(Service::Directory, Some(walker.tid))?;
            walker.walk(self.roots.clone(), Purpose::Snapshot)?;
            self.walking = true;
        } else if !self.walking && !self.queue.is_empty() {
            self.session.follow(Service::Directory, Some(walker.tid))?;
            walker.walk(mem::take(&mut self.queue), Purpose::Answer)?;
            self.walking = true;
        } else if done.is_some() {
            self.session.follow(Service::Directory, None)?;
        }
        walker.allow();
        Ok(done)
    }

    /// Reads paths, each ended by a NUL.
    fn listen(&mut self) -> Result<()> {
        let Some(questions) = &mut self.questions else {
            return Ok(());
        };
        let mut bytes = [0; 4096];
        loop {
            let count = match questions.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read what to look at"),
            };
            for &byte in &bytes[..count] {
                if byte == 0 {
                    let path = PathBuf::from(OsStr::from_bytes(&mem::take(&mut self.asked)));
                    if path.is_absolute() && !self.queue.contains(&path) {
                        self.queue.push(path);
                    }
                } else if self.asked.len() < LONGEST {
                    self.asked.push(byte);
                }
            }
        }
    }
}
