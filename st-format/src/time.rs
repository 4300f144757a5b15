//! Instants as people and programs read them.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;
use st_pathtree::time::Unix;

const NANOS: u64 = 1_000_000_000;
const SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));
/// The length of `2026-11-22T15:49:24`.
const UP_TO_SECONDS: usize = 19;
/// At least so many characters before the point of a relative instant.
const RELATIVE_WIDTH: usize = 5;

/// How instants are written.
#[derive(Debug, Clone, Default)]
pub enum Notation {
    /// As RFC 3339 in UTC: `2026-11-22T15:49:24.123456Z`.
    #[default]
    Utc,
    /// The same in a time zone: `2026-11-22T16:49:24.123456+01:00`.
    In(TimeZone),
    /// In seconds since the header's instant: `   12.345678`. The clock may have been set
    /// meanwhile.
    Relative,
    /// In seconds since the Unix epoch: `1795362564.123456`.
    Unix,
}

/// Writes instants. Most are of the second of the one before.
#[derive(Debug, Default)]
pub struct Instants {
    notation: Notation,
    /// What relative instants are relative to.
    start: Unix,
    /// Seconds since the Unix epoch ...
    second: u64,
    /// ... and these up to the fraction: `2026-11-22T15:49:24`; empty, if there was none yet ...
    text: Vec<u8>,
    /// ... and from the fraction on: `Z`, or `+01:00`.
    zone: Vec<u8>,
}

impl Instants {
    /// Instants in a notation.
    pub fn new(notation: Notation) -> Self {
        Self {
            notation,
            ..Self::default()
        }
    }

    /// Sets what relative instants are relative to.
    pub fn begin(&mut self, start: Unix) {
        self.start = start;
    }

    /// Appends an instant, cut to microseconds.
    pub fn micros(&mut self, ts: Unix, out: &mut Vec<u8>) {
        self.write::<6>(ts, out);
    }

    /// Appends an instant with nanoseconds.
    pub fn nanos(&mut self, ts: Unix, out: &mut Vec<u8>) {
        self.write::<9>(ts, out);
    }

    fn write<const DIGITS: usize>(&mut self, ts: Unix, out: &mut Vec<u8>) {
        match self.notation {
            Notation::Utc | Notation::In(_) => {
                self.calendar(ts.0 / NANOS);
                out.extend_from_slice(&self.text);
                fraction::<DIGITS>(ts.0, out);
                out.extend_from_slice(&self.zone);
            }
            Notation::Relative => {
                let sign = if ts < self.start { "-" } else { "" };
                let ns = ts.0.abs_diff(self.start.0);
                let seconds = format!("{sign}{}", ns / NANOS);
                crate::put(out, format_args!("{seconds:>RELATIVE_WIDTH$}"));
                fraction::<DIGITS>(ns, out);
            }
            Notation::Unix => {
                crate::put(out, format_args!("{}", ts.0 / NANOS));
                fraction::<DIGITS>(ts.0, out);
            }
        }
    }

    /// Writes down a second, unless it is that of the instant before.
    fn calendar(&mut self, second: u64) {
        if !self.text.is_empty() && self.second == second {
            return;
        }
        let instant = Timestamp::from_second(second as i64);
        let instant = instant.expect("64 bits of nanoseconds end in the year 2554");
        self.second = second;
        self.text.clear();
        let printed = match &self.notation {
            Notation::In(zone) => {
                let offset = zone.to_offset(instant);
                SECONDS.print_timestamp_with_offset(&instant, offset, &mut self.text)
            }
            _ => SECONDS.print_timestamp(&instant, &mut self.text),
        };
        printed.expect("a Vec takes every byte");
        self.zone = self.text.split_off(UP_TO_SECONDS.min(self.text.len()));
    }
}

/// Appends the fraction of a second in so many digits.
fn fraction<const DIGITS: usize>(ns: u64, out: &mut Vec<u8>) {
    // 32 bits are divided faster than 64.
    let mut number = (ns % NANOS) as u32 / 10_u32.pow(9 - DIGITS as u32);
    let mut text = *b".000000000";
    for digit in text[1..=DIGITS].iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text[..=DIGITS]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, ns: u64) -> String {
        let mut out = Vec::new();
        Instants::default().micros(Unix(seconds * NANOS + ns), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn instants() {
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399, 0), "2000-02-28T23:59:59.000000Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(951_868_800, 0), "2000-03-01T00:00:00.000000Z");
        assert_eq!(at(1_735_689_599, 0), "2024-12-31T23:59:59.000000Z");
        assert_eq!(
            at(1_795_362_564, 123_456_000),
            "2026-11-22T15:49:24.123456Z"
        );
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn microseconds_are_cut_not_rounded() {
        assert_eq!(at(0, 999_999_999), "1970-01-01T00:00:00.999999Z");
        assert_eq!(at(0, 1_999), "1970-01-01T00:00:00.000001Z");
    }

    #[test]
    fn nanoseconds_are_told_where_programs_read() {
        for (ns, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_795_362_564_123_456_789, "2026-11-22T15:49:24.123456789Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ] {
            let mut out = Vec::new();
            Instants::default().nanos(Unix(ns), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    fn shown(notation: Notation, ns: u64) -> String {
        let mut instants = Instants::new(notation);
        instants.begin(Unix(10 * NANOS));
        let mut out = Vec::new();
        instants.micros(Unix(ns), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn seconds_since_the_epoch_and_since_the_start() {
        for (ns, unix, relative) in [
            (0, "0.000000", "  -10.000000"),
            (9_999_999_000, "9.999999", "   -0.000001"),
            (10 * NANOS, "10.000000", "    0.000000"),
            (22_345_678_999, "22.345678", "   12.345678"),
            (u64::MAX, "18446744073.709551", "18446744063.709551"),
        ] {
            assert_eq!(shown(Notation::Unix, ns), unix);
            assert_eq!(shown(Notation::Relative, ns), relative);
        }
    }

    #[test]
    fn a_zone_has_its_offset_at_that_moment() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let mut instants = Instants::new(Notation::In(berlin));
        for (second, expected) in [
            (1_795_362_564, "2026-11-22T16:49:24.000000+01:00"),
            (1_782_864_000, "2026-07-01T02:00:00.000000+02:00"),
            (1_792_889_999, "2026-10-25T02:59:59.000000+02:00"),
            (1_792_890_000, "2026-10-25T02:00:00.000000+01:00"),
            (0, "1970-01-01T01:00:00.000000+01:00"),
        ] {
            let mut out = Vec::new();
            instants.micros(Unix(second * NANOS), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let west = TimeZone::posix("<-0930>9:30").unwrap();
        let shown = shown(Notation::In(west), 0);
        assert_eq!(shown, "1969-12-31T14:30:00.000000-09:30");
    }

    #[test]
    fn every_instant_has_the_same_width() {
        for ns in [0, 1, u64::MAX / 2, u64::MAX] {
            let mut out = Vec::new();
            Instants::default().micros(Unix(ns), &mut out);
            assert_eq!(out.len(), 27);
        }
    }

    #[test]
    fn instants_follow_one_another_in_any_order() {
        let mut instants = Instants::default();
        for (ns, expected) in [
            (999_999_000, "1970-01-01T00:00:00.999999Z"),
            (NANOS, "1970-01-01T00:00:01.000000Z"),
            (NANOS + 7000, "1970-01-01T00:00:01.000007Z"),
            (0, "1970-01-01T00:00:00.000000Z"),
        ] {
            let mut out = Vec::new();
            instants.micros(Unix(ns), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    /// Every day from 1970 to 2554, counted with the calendar's rules.
    #[test]
    fn days_follow_the_calendar() {
        let mut expected = (1970, 1, 1);
        for days in 0..213_503 {
            let (year, month, day) = expected;
            assert_eq!(
                at(days * 86_400, 0),
                format!("{year:04}-{month:02}-{day:02}T00:00:00.000000Z")
            );
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (day == last, month) {
                (false, _) => (year, month, day + 1),
                (true, 12) => (year + 1, 1, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
    }
}
