//! Instants as people read them.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use st_pathtree::time::Unix;

const NANOS: u64 = 1_000_000_000;
const SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

/// Writes instants. Most are of the second of the one before.
#[derive(Debug, Default)]
pub struct Instants {
    /// Seconds since the Unix epoch ...
    second: u64,
    /// ... and these up to the fraction: `2026-11-22T15:49:24`; empty, if there was none yet.
    text: Vec<u8>,
}

impl Instants {
    /// Appends an instant as RFC 3339 in UTC, cut to microseconds: `2026-11-22T15:49:24.123456Z`.
    pub fn rfc3339(&mut self, ts: Unix, out: &mut Vec<u8>) {
        self.second(ts, out);
        let mut fraction = *b".000000Z";
        digits(ts.0 % NANOS / 1000, &mut fraction[1..7]);
        out.extend_from_slice(&fraction);
    }

    /// The same with nanoseconds: `2026-11-22T15:49:24.123456789Z`.
    pub fn rfc3339_nanos(&mut self, ts: Unix, out: &mut Vec<u8>) {
        self.second(ts, out);
        let mut fraction = *b".000000000Z";
        digits(ts.0 % NANOS, &mut fraction[1..10]);
        out.extend_from_slice(&fraction);
    }

    /// Appends an instant up to its fraction of a second.
    fn second(&mut self, Unix(ns): Unix, out: &mut Vec<u8>) {
        let second = ns / NANOS;
        if self.text.is_empty() || self.second != second {
            let instant = Timestamp::from_second(second as i64);
            let instant = instant.expect("64 bits of nanoseconds end in the year 2554");
            self.second = second;
            self.text.clear();
            SECONDS
                .print_timestamp(&instant, &mut self.text)
                .expect("a Vec takes every byte");
            // Without the Z.
            self.text.pop();
        }
        out.extend_from_slice(&self.text);
    }
}

/// Writes the last digits of a number, as many as there is room for.
fn digits(mut number: u64, room: &mut [u8]) {
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, ns: u64) -> String {
        let mut out = Vec::new();
        Instants::default().rfc3339(Unix(seconds * NANOS + ns), &mut out);
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
            Instants::default().rfc3339_nanos(Unix(ns), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn every_instant_has_the_same_width() {
        for ns in [0, 1, u64::MAX / 2, u64::MAX] {
            let mut out = Vec::new();
            Instants::default().rfc3339(Unix(ns), &mut out);
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
            instants.rfc3339(Unix(ns), &mut out);
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
