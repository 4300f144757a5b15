//! How tracing ends: pure.

use crate::stream::time::Monotonic;
use crate::stream::vocabulary::Why;
use crate::sys::signals::Caught;
use nix::sys::signal::Signal;
use std::time::Duration;

/// How long the end waits for walks and questions.
const FINISH: Duration = Duration::from_secs(2);

/// What tracing has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Tracing goes on, until an instant at most.
    Tracing(Monotonic),
    /// Tracing is to end, for a reason. st-probe waits for the walk that is under way and for
    /// questions, since paths of events hang on them, until an instant at most.
    Finishing(Why, Monotonic),
    /// Tracing has ended, for a reason.
    Over(Why),
}

/// What is to be done about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing.
    Ignore,
    /// Send it to the command.
    PassOn,
    /// End tracing.
    End,
}

/// What was seen in one cycle.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Nobody reads the stream any more.
    pub reader_gone: bool,
    /// Somebody has removed the session's probes.
    pub probes_removed: bool,
    /// The command has ended.
    pub command_ended: bool,
    /// A signal came that ends tracing.
    pub signal: bool,
    /// A walk is under way or will be, or a question may come.
    pub may_be_asked: bool,
}

impl Phase {
    /// When the phase ends at the latest.
    pub fn until(self) -> Monotonic {
        match self {
            Self::Tracing(until) | Self::Finishing(_, until) => until,
            Self::Over(_) => Monotonic::default(),
        }
    }

    /// What is to be done about a signal, which is `urgent` if it is not the first one.
    pub fn react(self, caught: Caught, urgent: bool, with_command: bool) -> Reaction {
        match (self, caught.signal) {
            // A child has ended.
            (_, Signal::SIGCHLD) => Reaction::Ignore,
            // A terminal sends Ctrl-C to the command as well. Tracing ends with the command.
            (Self::Tracing(_), _) if with_command && caught.by_key => Reaction::Ignore,
            (Self::Tracing(_), _) if with_command && !urgent => Reaction::PassOn,
            (Self::Tracing(_), _) => Reaction::End,
            // Tracing is to end already. A second signal says not to wait for walks.
            (Self::Finishing(..), _) if !urgent => Reaction::Ignore,
            (Self::Finishing(..) | Self::Over(_), _) => Reaction::End,
        }
    }

    /// The phase after a cycle that began `now`.
    pub fn next(self, now: Monotonic, seen: Seen) -> Self {
        if let Self::Over(_) = self {
            return self;
        }
        if seen.reader_gone {
            return Self::Over(Why::Reader);
        }
        if seen.probes_removed {
            return Self::Over(Why::Failure);
        }
        match self {
            // Nobody has asked to end, so the walks may take as long as they need.
            Self::Tracing(_) if seen.command_ended => Self::Finishing(Why::Command, Monotonic::MAX),
            Self::Tracing(until) if now >= until => {
                Self::Finishing(Why::Duration, now.after(FINISH))
            }
            Self::Tracing(_) if seen.signal => Self::Finishing(Why::Signal, now.after(FINISH)),
            Self::Finishing(why, until) if seen.signal || now >= until || !seen.may_be_asked => {
                Self::Over(why)
            }
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(5_000_000_000);
    const LATER: Monotonic = Monotonic(6_000_000_000);
    const TRACING: Phase = Phase::Tracing(LATER);
    const FINISHING: Phase = Phase::Finishing(Why::Signal, LATER);

    fn sent(signal: Signal) -> Caught {
        let by_key = false;
        Caught { signal, by_key }
    }

    fn seen() -> Seen {
        Seen {
            may_be_asked: true,
            ..Seen::default()
        }
    }

    #[test]
    fn goes_on_until_something_ends_it() {
        assert_eq!(TRACING.next(NOW, seen()), TRACING);
        assert_eq!(TRACING.next(NOW, Seen::default()), TRACING);
        let finish = NOW.after(FINISH);
        let signal = Seen {
            signal: true,
            ..seen()
        };
        assert_eq!(
            TRACING.next(NOW, signal),
            Phase::Finishing(Why::Signal, finish)
        );
        assert_eq!(
            Phase::Tracing(NOW).next(NOW, seen()),
            Phase::Finishing(Why::Duration, finish)
        );
        // The command's end counts, whatever else ends tracing at the same time.
        let command = Seen {
            command_ended: true,
            ..signal
        };
        assert_eq!(
            Phase::Tracing(NOW).next(NOW, command),
            Phase::Finishing(Why::Command, Monotonic::MAX)
        );
    }

    #[test]
    fn waits_for_walks_at_its_end() {
        assert_eq!(FINISHING.next(NOW, seen()), FINISHING);
        // What ends tracing does not matter any more.
        let command = Seen {
            command_ended: true,
            ..seen()
        };
        assert_eq!(FINISHING.next(NOW, command), FINISHING);
        let over = Phase::Over(Why::Signal);
        assert_eq!(FINISHING.next(LATER, seen()), over);
        assert_eq!(FINISHING.next(NOW, Seen::default()), over);
        let signal = Seen {
            signal: true,
            ..seen()
        };
        assert_eq!(FINISHING.next(NOW, signal), over);
    }

    #[test]
    fn does_not_go_on_without_a_reader_or_probes() {
        for phase in [TRACING, FINISHING] {
            let mut all = Seen {
                reader_gone: true,
                probes_removed: true,
                command_ended: true,
                signal: true,
                may_be_asked: true,
            };
            assert_eq!(phase.next(LATER, all), Phase::Over(Why::Reader));
            all.reader_gone = false;
            assert_eq!(phase.next(LATER, all), Phase::Over(Why::Failure));
        }
        let over = Phase::Over(Why::Command);
        let gone = Seen {
            reader_gone: true,
            ..seen()
        };
        assert_eq!(over.next(NOW, gone), over);
    }

    #[test]
    fn a_signal_ends_tracing() {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            for urgent in [false, true] {
                assert_eq!(TRACING.react(sent(signal), urgent, false), Reaction::End);
            }
        }
        assert_eq!(
            TRACING.react(sent(Signal::SIGCHLD), true, false),
            Reaction::Ignore
        );
    }

    #[test]
    fn a_command_gets_signals_that_it_does_not_get_from_a_terminal() {
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
            let react = |urgent| TRACING.react(sent(signal), urgent, true);
            assert_eq!(react(false), Reaction::PassOn);
            assert_eq!(react(true), Reaction::End);
            let by_key = Caught {
                signal,
                by_key: true,
            };
            for urgent in [false, true] {
                assert_eq!(TRACING.react(by_key, urgent, true), Reaction::Ignore);
                assert_eq!(TRACING.react(by_key, urgent, false), Reaction::End);
            }
        }
        assert_eq!(
            TRACING.react(sent(Signal::SIGCHLD), false, true),
            Reaction::Ignore
        );
    }

    #[test]
    fn a_second_signal_ends_the_wait_for_walks() {
        for with_command in [false, true] {
            let react = |signal, urgent| FINISHING.react(sent(signal), urgent, with_command);
            assert_eq!(react(Signal::SIGINT, false), Reaction::Ignore);
            assert_eq!(react(Signal::SIGINT, true), Reaction::End);
            assert_eq!(react(Signal::SIGCHLD, true), Reaction::Ignore);
        }
    }
}
