//! Instants of two clocks, one type for each so that they cannot be mixed up, and the
//! conversion from one to the other.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An instant of CLOCK_MONOTONIC, clock_gettime(2): nanoseconds since the machine was booted,
/// without the time in which it was suspended.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Monotonic(pub u64);

/// An instant of CLOCK_REALTIME, clock_gettime(2): nanoseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Unix(pub u64);

/// Arithmetic that saturates at the first and the last instant.
macro_rules! instant {
    ($Instant:ident) => {
        impl $Instant {
            /// The last instant.
            pub const MAX: Self = Self(u64::MAX);

            /// The instant that is so much later.
            pub fn after(self, duration: Duration) -> Self {
                Self(self.0.saturating_add(nanos(duration)))
            }

            /// The instant that is so much earlier.
            pub fn before(self, duration: Duration) -> Self {
                Self(self.0.saturating_sub(nanos(duration)))
            }

            /// The time from an earlier instant to this one; zero, if that one is later.
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_nanos(self.0.saturating_sub(earlier.0))
            }
        }
    };
}
instant!(Monotonic);
instant!(Unix);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Converts instants of CLOCK_MONOTONIC to CLOCK_REALTIME: see
/// [`crate::record::Header::clock`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clock {
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, in nanoseconds.
    offset: i64,
}

impl Clock {
    /// The conversion where both clocks showed these at one instant.
    pub fn new(monotonic: Monotonic, realtime: Unix) -> Self {
        Self {
            offset: realtime.0.wrapping_sub(monotonic.0) as i64,
        }
    }

    /// How far apart the readings of CLOCK_REALTIME by two such conversions are at any instant.
    pub fn differs(self, other: Self) -> Duration {
        Duration::from_nanos(self.offset.abs_diff(other.offset))
    }

    /// CLOCK_REALTIME at an instant.
    pub fn unix(self, instant: Monotonic) -> Unix {
        Unix(instant.0.saturating_add_signed(self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run_before_and_after_the_header() {
        let clock = Clock::new(Monotonic(500), Unix(10_000));
        for (monotonic, unix) in [(500, 10_000), (600, 10_100), (400, 9_900)] {
            assert_eq!(clock.unix(Monotonic(monotonic)), Unix(unix));
        }
        assert_eq!(clock.unix(Monotonic::MAX), Unix::MAX);
        assert_eq!(clock.differs(clock), Duration::ZERO);
        let set = Clock::new(Monotonic(600), Unix(10_070));
        assert_eq!(clock.differs(set), Duration::from_nanos(30));
        assert_eq!(set.differs(clock), Duration::from_nanos(30));
        let behind = Clock { offset: -500 };
        assert_eq!(behind.unix(Monotonic(400)), Unix(0));
    }

    #[test]
    fn durations_are_between_instants_of_one_clock() {
        let second = Duration::from_secs(1);
        let instant = Monotonic(0).after(second);
        assert_eq!(instant.before(second), Monotonic(0));
        assert_eq!(instant.since(Monotonic(0)), second);
        assert_eq!(Monotonic(0).since(instant), Duration::ZERO);
        assert_eq!(Unix::MAX.after(Duration::MAX), Unix::MAX);
        assert_eq!(Unix(7).before(second), Unix(0));
    }
}
