//! Finds out when the realtime clock was set.
//!
//! The kernel records each setting: see [`Service::Clock`]. So the new time has its place among
//! the records of operations, however long st-probe waits for the reader of the stream meanwhile.
//!
//! [`Service::Clock`]: crate::stream::vocabulary::Service::Clock

use crate::stream::record::{ClockSet, Hook};
use crate::stream::time::{Clock, Monotonic, Unix};
use crate::stream::vocabulary::{Service, Subject};
use crate::stream::wire;
use std::time::Duration;

/// Two readings of both clocks may differ by so much though nobody has set one: the scheduler may
/// stop st-probe between the clocks.
const NOISE: Duration = Duration::from_micros(100);

/// What is known of the realtime clock.
#[derive(Debug)]
pub struct ClockReader {
    /// The hooks that tell when the clock was set.
    hooks: Vec<u16>,
    /// As the stream tells it.
    clock: Clock,
    /// When it was set since it was read, if the kernel has recorded that.
    set: Option<Monotonic>,
    /// Whether it may have been set without a record.
    doubtful: bool,
}

impl ClockReader {
    /// Those of `hooks` that are there for it tell when the clock was set.
    pub fn new(hooks: &[Hook]) -> Self {
        let hooks = hooks.iter();
        let hooks = hooks.filter(|hook| hook.subject == Subject::Service(Service::Clock));
        Self {
            hooks: hooks.map(|hook| hook.id).collect(),
            clock: Clock::default(),
            set: None,
            doubtful: false,
        }
    }

    /// Takes what the header of the stream tells.
    pub fn begin(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Notes a record of the ring buffer.
    pub fn note(&mut self, id: u16, ts: Monotonic) {
        if self.hooks.contains(&id) {
            self.set = Some(self.set.map_or(ts, |set| set.min(ts)));
        }
    }

    /// Notes that the clock may have been set without a record.
    pub fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Whether the clock is to be read: see [`ClockReader::read`].
    pub fn is_due(&self) -> bool {
        self.doubtful || self.set.is_some()
    }

    /// Takes a reading of both clocks at one instant. Returns the record that tells that the clock
    /// was set, and its time, if it was.
    pub fn read(&mut self, now: Monotonic, realtime: Unix) -> Option<(Monotonic, Vec<u8>)> {
        let clock = Clock::new(now, realtime);
        self.doubtful = false;
        let ts = self.set.take().unwrap_or(now);
        if clock.differs(self.clock) <= NOISE {
            return None;
        }
        self.clock = clock;
        let set = ClockSet {
            ts,
            realtime: clock.unix(ts),
        };
        let mut record = Vec::new();
        wire::write(&set, &mut record);
        Some((ts, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::vocabulary::Role;

    const SET: u16 = 7;
    /// Half an hour in nanoseconds.
    const STEP: u64 = 1_800_000_000_000;

    fn reader() -> ClockReader {
        let hook = |id, service: Service| Hook {
            id,
            name: service.name().into(),
            subject: Subject::Service(service),
            role: Role::Instant,
            point: String::new(),
            names: 0,
            fields: Vec::new(),
        };
        let mut reader =
            ClockReader::new(&[hook(SET - 1, Service::Mount), hook(SET, Service::Clock)]);
        reader.begin(Clock::new(Monotonic(0), Unix(10 * STEP)));
        reader
    }

    fn read(reader: &mut ClockReader, now: u64, realtime: u64) -> Option<(u64, u64)> {
        let (at, record) = reader.read(Monotonic(now), Unix(realtime))?;
        let set: ClockSet = wire::read(&record).unwrap();
        assert_eq!(at, set.ts);
        Some((set.ts.0, set.realtime.0))
    }

    #[test]
    fn tells_the_new_time_at_the_instant_of_the_setting() {
        let mut reader = reader();
        reader.note(SET - 1, Monotonic(50));
        assert!(!reader.is_due());
        // The ring buffers are read one after the other.
        for ts in [120, 100, 130] {
            reader.note(SET, Monotonic(ts));
        }
        assert!(reader.is_due());
        // Back by one step: st-probe reads the clocks 400 ns after the setting.
        assert_eq!(
            read(&mut reader, 500, 9 * STEP + 500),
            Some((100, 9 * STEP + 100))
        );
        assert!(!reader.is_due());
        reader.note(SET, Monotonic(700));
        assert_eq!(
            read(&mut reader, 900, 11 * STEP + 900),
            Some((700, 11 * STEP + 700))
        );
    }

    #[test]
    fn noise_is_no_setting() {
        let mut reader = reader();
        let noise = NOISE.as_nanos() as u64;
        for realtime in [10 * STEP + noise, 10 * STEP - noise] {
            reader.note(SET, Monotonic(0));
            assert_eq!(read(&mut reader, 0, realtime), None);
            assert!(!reader.is_due());
        }
    }

    #[test]
    fn a_setting_without_a_record_is_told_when_it_is_found() {
        let mut reader = reader();
        reader.doubt();
        assert!(reader.is_due());
        assert_eq!(read(&mut reader, 500, 10 * STEP + 500), None);
        assert!(!reader.is_due());
        reader.doubt();
        assert_eq!(read(&mut reader, 800, 12 * STEP), Some((800, 12 * STEP)));
    }
}
