//! Programs that run beside the test: their output is collected as it comes, and whoever
//! waits for something waits for that, not for time to pass.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::patience::{Patience, SLICE, wait_until};

/// The budget of a program that is told to end, for each signal.
pub const ENDING: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct State {
    out: Vec<u8>,
    err: Vec<u8>,
    /// How many of the outputs that are collected have ended.
    ended: u32,
    status: Option<ExitStatus>,
}

/// What a program left when it had ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its standard output.
    pub out: Vec<u8>,
    /// Its standard error.
    pub err: String,
    /// Its exit status.
    pub status: ExitStatus,
}

/// A program in a process group of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Program {
    name: String,
    group: Pid,
    /// How many outputs are collected.
    outputs: u32,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Program {
    /// Starts it and collects both of its outputs.
    pub fn start(command: &mut Command) -> Result<Self> {
        let (mut program, mut out) = Self::start_uncollected(command)?;
        program.collect(move |bytes| out.read(bytes), |state| &mut state.out);
        Ok(program)
    }

    /// Starts it; its standard output is the caller's to read.
    pub fn start_uncollected(command: &mut Command) -> Result<(Self, ChildStdout)> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let out = child.stdout.take().expect("it is piped");
        let mut err = child.stderr.take().expect("it is piped");
        let mut program = Self {
            name,
            group: Pid::from_raw(child.id() as i32),
            outputs: 0,
            shared: Arc::default(),
        };
        program.collect(move |bytes| err.read(bytes), |state| &mut state.err);
        let shared = Arc::clone(&program.shared);
        thread::spawn(move || {
            let status = child.wait().expect("it is our child");
            shared.0.lock().expect(UNPOISONED).status = Some(status);
            shared.1.notify_all();
        });
        Ok((program, out))
    }

    fn collect(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize> + Send + 'static,
        to: fn(&mut State) -> &mut Vec<u8>,
    ) {
        self.outputs += 1;
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            loop {
                let count = read(&mut bytes).unwrap_or(0);
                let mut state = shared.0.lock().expect(UNPOISONED);
                to(&mut state).extend_from_slice(&bytes[..count]);
                state.ended += u32::from(count == 0);
                shared.1.notify_all();
                if count == 0 {
                    break;
                }
            }
        });
    }

    /// Waits until `is` holds, as long as `patience` lasts; or not even so.
    fn wait(
        &self,
        patience: &mut Patience,
        is: impl Fn(&State) -> bool,
    ) -> (MutexGuard<'_, State>, bool) {
        let (state, changed) = &*self.shared;
        loop {
            let held = state.lock().expect(UNPOISONED);
            let (held, _) = changed
                .wait_timeout_while(held, SLICE, |state| !is(state))
                .expect(UNPOISONED);
            if is(&held) {
                return (held, true);
            }
            // The program's output is collected meanwhile.
            drop(held);
            if !patience.lasts() {
                let held = state.lock().expect(UNPOISONED);
                let holds = is(&held);
                return (held, holds);
            }
        }
    }

    /// What it has printed so far.
    pub fn out(&self) -> Vec<u8> {
        self.shared.0.lock().expect(UNPOISONED).out.clone()
    }

    /// What it has printed on its standard error so far.
    pub fn err(&self) -> String {
        let state = self.shared.0.lock().expect(UNPOISONED);
        String::from_utf8_lossy(&state.err).into_owned()
    }

    /// Waits until its standard error satisfies `is`.
    pub fn wait_err(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<()> {
        let now = |state: &State| is(&String::from_utf8_lossy(&state.err));
        let mut patience = Patience::new();
        let (state, _) = self.wait(&mut patience, |state| now(state) || self.is_over(state));
        if now(&state) {
            return Ok(());
        }
        let err = String::from_utf8_lossy(&state.err);
        match state.status {
            Some(status) => bail!("{} ended ({status}) before {what}:\n{err}", self.name),
            None => bail!("{}: not {what}: {patience}:\n{err}", self.name),
        }
    }

    /// Waits until its standard output contains `bytes`.
    pub fn wait_out(&self, bytes: &[u8]) -> Result<()> {
        self.wait_out_after(0, bytes)
    }

    /// The same, without a look at the first `seen` bytes.
    pub fn wait_out_after(&self, seen: usize, bytes: &[u8]) -> Result<()> {
        // What has been searched is not searched again when more comes.
        let begin = Cell::new(seen);
        let contains = |state: &State| {
            let found = find(&state.out[begin.get()..], bytes);
            if !found {
                let searched = (state.out.len() + 1).saturating_sub(bytes.len());
                begin.set(searched.max(begin.get()));
            }
            found
        };
        let mut patience = Patience::new();
        let (state, _) = self.wait(&mut patience, |state| {
            contains(state) || self.is_over(state)
        });
        if contains(&state) {
            return Ok(());
        }
        let what = String::from_utf8_lossy(bytes);
        let out = String::from_utf8_lossy(&state.out);
        let (lines, last) = (out.lines().count(), out.lines().last().unwrap_or("nothing"));
        let err = String::from_utf8_lossy(&state.err);
        let why = match state.status {
            Some(status) => format!("it ended ({status})"),
            None => patience.to_string(),
        };
        bail!(
            "{} has not printed {what}: {why}; {lines} lines were printed, the last: {last}\n{err}",
            self.name
        );
    }

    /// Whether its standard output contains `bytes` by now.
    pub fn has_out(&self, bytes: &[u8]) -> bool {
        find(&self.shared.0.lock().expect(UNPOISONED).out, bytes)
    }

    /// How many bytes of its standard output have come.
    pub fn seen(&self) -> usize {
        self.shared.0.lock().expect(UNPOISONED).out.len()
    }

    /// Whether it has ended and all of its output is here.
    fn is_over(&self, state: &State) -> bool {
        state.status.is_some() && state.ended == self.outputs
    }

    /// Whether it has ended by now.
    pub fn has_ended(&self) -> bool {
        self.shared.0.lock().expect(UNPOISONED).status.is_some()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.group, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Sends a signal to all of its process group.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        killpg(self.group, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Its process group.
    pub fn group(&self) -> Pid {
        self.group
    }

    /// The processes of its group, with their names, and the guardian of the st-probe there.
    pub fn family(&self) -> Result<Vec<(Pid, String)>> {
        let is_ours = |pid| look(pid).is_some_and(|(_, _, group)| group == self.group.as_raw());
        let mut family = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Some((name, ppid, _)) = look(pid) else {
                continue;
            };
            if is_ours(pid) || name == "guardian" && is_ours(ppid) {
                family.push((Pid::from_raw(pid), name));
            }
        }
        Ok(family)
    }

    /// The process of that name among them, once it is there: systracer starts the later stages
    /// when st-probe traces already.
    pub fn member(&self, name: &str) -> Result<Pid> {
        let mut found = None;
        wait_until(
            || format!("there is no {name}: {}", self.err()),
            || {
                let family = self.family()?;
                found = family.into_iter().find(|member| member.1 == name);
                Ok(found.is_some())
            },
        )?;
        Ok(found.context("it was found")?.0)
    }

    /// Waits for its end and that of the outputs that are collected.
    pub fn finish(self) -> Result<Output> {
        let mut patience = Patience::new();
        let (mut state, ended) = self.wait(&mut patience, |state| self.is_over(state));
        if !ended {
            let err = String::from_utf8_lossy(&state.err).into_owned();
            drop(state);
            bail!("{} or a child does not end: {patience}:\n{err}", self.name);
        }
        let status = state.status.expect("it has ended");
        Ok(Output {
            out: std::mem::take(&mut state.out),
            err: String::from_utf8_lossy(&state.err).into_owned(),
            status,
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nicely first: a killed st-probe cannot take its probes down, a stopped one neither.
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
            if self.has_ended() {
                break;
            }
            for signal in [signal, Signal::SIGCONT] {
                let _ = killpg(self.group, signal);
            }
            drop(self.wait(&mut Patience::of(ENDING), |state| state.status.is_some()));
        }
    }
}

const UNPOISONED: &str = "no thread panics while it holds the lock";

/// Stops a process of one thread, and waits until it has stopped.
pub fn stop(pid: Pid) -> Result<()> {
    kill(pid, Signal::SIGSTOP)?;
    wait_until(
        || format!("process {pid} does not stop"),
        || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let state = stat
                .rsplit_once(") ")
                .map(|(_, rest)| rest.starts_with('T'));
            state.context("no state in a stat")
        },
    )
}

/// Whether `bytes` are somewhere in `all`.
fn find(all: &[u8], bytes: &[u8]) -> bool {
    all.windows(bytes.len()).any(|window| window == bytes)
}

/// A process's name, parent and group: proc_pid_stat(5). Not that of one that has ended.
pub fn look(pid: i32) -> Option<(String, i32, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    Some((
        name.to_owned(),
        fields.next()?.parse().ok()?,
        fields.next()?.parse().ok()?,
    ))
}
