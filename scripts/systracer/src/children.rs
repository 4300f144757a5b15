//! The stages as processes.

use crate::arguments::{Environment, Invocation};
use crate::{say, status};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use st_probe::stage::CUT;
use st_probe::sys::signals::Caught;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A stage that was started.
struct Running {
    name: &'static str,
    /// Whether its status may be that of a command, which is no word of the stage's.
    runs_command: bool,
    child: Child,
    /// Its exit status, once it has ended.
    status: Option<u8>,
}

/// The stages that were started, in their order. The first one is that which signals are for:
/// the later ones end when their input does.
#[derive(Default)]
pub struct Children {
    running: Vec<Running>,
    /// The signals that this process was sent. Whoever sends one to all of the process group
    /// needs not be told that it ends them.
    received: Vec<Signal>,
}

impl Children {
    /// Starts a stage's program from `input` to `output`.
    pub fn start(
        &mut self,
        stage: &Invocation,
        program: &Path,
        input: Stdio,
        output: Stdio,
    ) -> Result<()> {
        let mut command = Command::new(program);
        command.args(&stage.arguments).stdin(input).stdout(output);
        if let Environment::Only(names) = stage.environment {
            command.env_clear();
            let set = names
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?)));
            command.envs(set);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        self.running.push(Running {
            name: stage.name,
            runs_command: stage.environment == Environment::Whole,
            child,
            status: None,
        });
        Ok(())
    }

    /// Sends a signal that was caught on to the first stage, unless that has it from a key.
    pub fn pass_on(&mut self, caught: Caught) {
        self.received.push(caught.signal);
        if !caught.by_key {
            self.signal_first(caught.signal);
        }
    }

    /// Sends a signal to the first stage, if that has not ended.
    pub fn signal_first(&self, signal: Signal) {
        if let Some(first) = self.running.first().filter(|first| first.status.is_none()) {
            // It is there at least as a zombie, until it is waited for.
            let _ = kill(Pid::from_raw(first.child.id() as i32), signal);
        }
    }

    /// Takes note of those that have ended. What none of them can have said itself is said.
    pub fn reap(&mut self) -> Result<()> {
        for running in &mut self.running {
            if running.status.is_some() {
                continue;
            }
            let ended = running.child.try_wait();
            let Some(ended) = ended.with_context(|| format!("cannot wait for {}", running.name))?
            else {
                continue;
            };
            running.status = Some(status::of(ended));
            if let Some(how) = unsaid(ended, running.runs_command, &self.received) {
                say(&format!("{} {how}", running.name));
            }
        }
        Ok(())
    }

    /// Whether all have ended.
    pub fn are_over(&self) -> bool {
        self.running.iter().all(|running| running.status.is_some())
    }

    /// The exit statuses of those that have ended.
    pub fn statuses(&self) -> impl Iterator<Item = u8> {
        self.running.iter().filter_map(|running| running.status)
    }
}

/// How a stage ended, if it cannot have said so itself: it was killed, or has a status that no
/// stage gives.
fn unsaid(ended: ExitStatus, runs_command: bool, received: &[Signal]) -> Option<String> {
    if let Some(number) = ended.signal() {
        return match Signal::try_from(number) {
            Ok(signal) if received.contains(&signal) => None,
            Ok(signal) => Some(format!("was killed by {signal}")),
            Err(_) => Some(format!("was killed by signal {number}")),
        };
    }
    match ended.code() {
        Some(code) if code > CUT.into() && !runs_command => {
            Some(format!("failed with status {code}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How it ended, as wait(2) tells it: the status in the second byte, the signal in the first.
    fn said(raw: i32, runs_command: bool) -> Option<String> {
        unsaid(ExitStatus::from_raw(raw), runs_command, &[Signal::SIGTERM])
    }

    #[test]
    fn what_a_stage_cannot_say_itself_is_said() {
        assert_eq!(said(9, false).unwrap(), "was killed by SIGKILL");
        assert_eq!(said(9, true).unwrap(), "was killed by SIGKILL");
        assert_eq!(said(11 | 0x80, false).unwrap(), "was killed by SIGSEGV");
        assert_eq!(said(40, false).unwrap(), "was killed by signal 40");
        assert_eq!(said(101 << 8, false).unwrap(), "failed with status 101");
    }

    #[test]
    fn what_is_known_is_not_said() {
        for status in 0..=4 {
            assert_eq!(said(status << 8, false), None);
        }
        // The command's own status.
        assert_eq!(said(101 << 8, true), None);
        // The signal went to all of the process group.
        assert_eq!(said(15, false), None);
    }
}
