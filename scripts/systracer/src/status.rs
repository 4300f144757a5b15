//! What exit status comes of those of the stages.

use st_probe::stage::{FAILED, USAGE};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// The exit status of a process, as a shell has it: 128 + N if signal N killed it.
pub fn of(status: ExitStatus) -> u8 {
    let killed = || status.signal().map(|signal| 128 + signal);
    let status = status.code().or_else(killed);
    status
        .and_then(|status| status.try_into().ok())
        .unwrap_or(FAILED)
}

/// The status that tells most: 2 (wrong usage), else 1 (failed), else the largest. A stage that
/// fails or that was told nonsense leaves the stages after it with a cut input, which is no
/// more than what follows from it.
pub fn worst(statuses: impl IntoIterator<Item = u8>) -> u8 {
    let weight = |status: &u8| match *status {
        USAGE => 257,
        FAILED => 256,
        other => u16::from(other),
    };
    statuses.into_iter().max_by_key(weight).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use st_probe::stage::{CUT, LOST};

    #[test]
    fn the_worst_status_tells_most() {
        for (statuses, expected) in [
            (&[][..], 0),
            (&[0, 0, 0, 0], 0),
            // st-format lost something; a recording was cut.
            (&[0, 0, 0, LOST], LOST),
            (&[0, CUT, CUT, LOST], CUT),
            // st-probe failed, and those after it had no end record.
            (&[FAILED, CUT, CUT, CUT], FAILED),
            (&[0, CUT, FAILED, CUT], FAILED),
            (&[FAILED, USAGE, CUT], USAGE),
            (&[USAGE, FAILED], USAGE),
            // A stage was killed.
            (&[0, 0, 137, CUT], 137),
            (&[FAILED, 137, CUT], FAILED),
            // The command's own.
            (&[7, 0, 0, 0], 7),
            (&[7, 0, 0, LOST], 7),
            (&[143, CUT, CUT], 143),
            (&[255, 0], 255),
        ] {
            assert_eq!(worst(statuses.iter().copied()), expected, "{statuses:?}");
        }
    }

    #[test]
    fn a_signal_has_a_status_too() {
        // As wait(2) tells them: the status in the second byte, the signal in the first.
        assert_eq!(of(ExitStatus::from_raw(0)), 0);
        assert_eq!(of(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(of(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(of(ExitStatus::from_raw(9)), 137);
        assert_eq!(of(ExitStatus::from_raw(11 | 0x80)), 139);
    }
}
