//! The threads and processes that do it together, and how they are told when.

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{major, minor};
use nix::unistd::{getpid, gettid};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::thread::{self, JoinHandle};

use super::actor::{Actor, Done};
use super::op::{Op, Outcome};
use super::plan::{ACTORS, Plan, Settings, Step};
use crate::fs::Place;
use crate::log::{Expected, Span};
use crate::sys;

/// The hidden sub-command of a process.
const WORKER: &str = "--random-worker";
/// Which of the others is a thread of the test's own process, and no process.
const THREAD: usize = 1;

/// All of them.
pub struct Crew {
    own: Actor,
    own_name: Who,
    others: Vec<Other>,
}

/// Who a thread is.
struct Who {
    pid: i32,
    tid: i32,
    comm: String,
}

/// Another one: it is told `go`, does its part of the next step that has one for it, and
/// answers with a line for each operation.
struct Other {
    number: usize,
    who: Who,
    lines: BufReader<UnixStream>,
    runs: Runs,
}

enum Runs {
    Thread(JoinHandle<Result<()>>),
    Process(Child),
}

impl Who {
    fn this() -> Result<Self> {
        let comm = fs::read_to_string("/proc/thread-self/comm")?;
        Ok(Self {
            pid: getpid().as_raw(),
            tid: gettid().as_raw(),
            comm: comm.trim_end().to_owned(),
        })
    }

    /// Of its first line.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.trim_end().splitn(3, ' ');
        Some(Self {
            pid: fields.next()?.parse().ok()?,
            tid: fields.next()?.parse().ok()?,
            comm: fields.next()?.to_owned(),
        })
    }
}

impl Crew {
    /// Starts them; the caller is the first.
    pub fn start(settings: &Settings) -> Result<Self> {
        let others = (1..ACTORS).map(|number| Other::start(number, settings));
        Ok(Self {
            own: Actor::default(),
            own_name: Who::this()?,
            others: others.collect::<Result<_>>()?,
        })
    }

    /// Does a step, and appends what is to be reported of it. An error does not keep the
    /// others from theirs.
    pub fn perform(&mut self, step: &Step, place: &Place, told: &mut Vec<Expected>) -> Result<()> {
        for other in &mut self.others {
            if !step.work[other.number].is_empty() {
                other.lines.get_mut().write_all(b"go\n")?;
            }
        }
        let mut result = step.work[0].iter().try_for_each(|op| {
            told.extend(expected(op, self.own.perform(op)?, &self.own_name, place));
            Ok(())
        });
        for other in &mut self.others {
            let theirs = step.work[other.number].iter().try_for_each(|op| {
                told.extend(expected(op, other.done()?, &other.who, place));
                Ok(())
            });
            result = result.and(theirs);
        }
        result
    }

    /// Does operations of which nothing is expected.
    pub fn perform_all(&mut self, ops: &[Op]) -> Result<()> {
        ops.iter().try_for_each(|op| self.own.perform(op).map(drop))
    }

    /// Lets the others end.
    pub fn dismiss(&mut self) -> Result<()> {
        for other in std::mem::take(&mut self.others) {
            drop(other.lines);
            match other.runs {
                Runs::Thread(thread) => thread.join().ok().context("a thread panicked")??,
                Runs::Process(mut child) => {
                    let status = child.wait()?;
                    ensure!(status.success(), "a process ended: {status}");
                }
            }
        }
        Ok(())
    }
}

impl Other {
    fn start(number: usize, settings: &Settings) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let runs = if number == THREAD {
            let settings = settings.clone();
            let thread = thread::Builder::new().name(format!("random {number}"));
            Runs::Thread(thread.spawn(move || serve(number, &settings, theirs))?)
        } else {
            let child = Command::new(env::current_exe()?)
                .args([WORKER, &number.to_string()])
                .args(settings.arguments())
                .stdin(OwnedFd::from(theirs))
                .spawn();
            Runs::Process(child.context("cannot start a process")?)
        };
        let mut lines = BufReader::new(ours);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let who = Who::parse(&line).with_context(|| format!("no worker says {line:?}"))?;
        Ok(Self {
            number,
            who,
            lines,
            runs,
        })
    }

    fn done(&mut self) -> Result<Done> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        parse(&line).with_context(|| format!("thread {}: {}", self.number, line.trim_end()))
    }
}

/// What [`serve`] writes.
fn parse(line: &str) -> Option<Done> {
    let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
    let mut number = || -> Option<u64> { numbers.next()? };
    let span = Span {
        before: number()?,
        after: number()?,
    };
    Some(Done {
        span,
        ino: number()?,
        dev: number()?,
    })
}

/// The event that is to be reported of an operation.
fn expected(op: &Op, done: Done, who: &Who, place: &Place) -> Option<Expected> {
    let Outcome::Told(fields, fs) = &op.outcome else {
        return None;
    };
    let mut fields = fields.clone();
    let mut optional = Vec::new();
    // On btrfs stat(2) has another number.
    let dev = match &place.dev {
        Some(dev) if *fs == 0 => dev.clone(),
        _ => format!("{}:{}", major(done.dev), minor(done.dev)),
    };
    fields.insert("dev".into(), dev.into());
    if place.inos || *fs != 0 {
        fields.insert("ino".into(), done.ino.into());
    } else {
        optional.push("ino");
    }
    // See Log::expect_made().
    if fields["event"] == "mknod" {
        optional.push("ino");
    }
    Some(Expected {
        fields,
        optional,
        pid: Some(who.pid),
        tid: who.tid,
        comm: Some(who.comm.clone()),
        who: serde_json::Map::new(),
        span: done.span,
    })
}

/// Runs the hidden sub-command, if these are its arguments.
pub fn worker(arguments: &[OsString]) -> Option<Result<()>> {
    let (name, arguments) = arguments.split_first()?;
    if name != WORKER {
        return None;
    }
    let run = || {
        let (number, settings) = arguments.split_first().context("no number")?;
        let number = number.to_str().and_then(|number| number.parse().ok());
        let stream = std::io::stdin().as_fd().try_clone_to_owned()?;
        let settings = Settings::parse(settings)?;
        serve(number.context("no number")?, &settings, stream.into())
    };
    Some(run())
}

/// Does one thread's part of the plan, until the stream ends.
fn serve(number: usize, settings: &Settings, stream: UnixStream) -> Result<()> {
    sys::unshare_working_directory()?;
    let (mut lines, mut stream) = (BufReader::new(stream.try_clone()?), stream);
    let Who { pid, tid, comm } = Who::this()?;
    writeln!(stream, "{pid} {tid} {comm}")?;
    let mut actor = Actor::default();
    let mut line = String::new();
    for step in Plan::new(settings) {
        let ops = &step.work[number];
        if ops.is_empty() {
            continue;
        }
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            break;
        }
        for op in ops {
            match actor.perform(op) {
                Ok(Done { span, ino, dev }) => {
                    writeln!(stream, "{} {} {ino} {dev}", span.before, span.after)?;
                }
                Err(error) => {
                    writeln!(stream, "{error:#}")?;
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
