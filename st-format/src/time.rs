//! Instants as RFC 3339.

use st_pathtree::time::Unix;

/// Appends an instant as RFC 3339 in UTC, cut to microseconds: `2026-11-22T15:49:24.123456Z`.
pub fn rfc3339(Unix(ns): Unix, out: &mut Vec<u8>) {
    let seconds = ns / 1_000_000_000;
    let (year, month, day) = civil(seconds / 86_400);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    for (start, end, number) in [
        (0, 4, year),
        (5, 7, month),
        (8, 10, day),
        (11, 13, seconds / 3600 % 24),
        (14, 16, seconds / 60 % 60),
        (17, 19, seconds % 60),
        (20, 26, ns / 1000 % 1_000_000),
    ] {
        let mut left = number;
        for digit in text[start..end].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
    }
    out.extend(text);
}

/// Year, month and day of the Gregorian calendar, of a number of days since 1970-01-01.
///
/// `civil_from_days` of <https://howardhinnant.github.io/date_algorithms.html>: years begin
/// in March there, so that a leap day is the last of its year; 400 years are one era.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, ns: u64) -> String {
        let mut out = Vec::new();
        rfc3339(Unix(seconds * 1_000_000_000 + ns), &mut out);
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
    fn every_instant_has_the_same_width() {
        for ns in [0, 1, u64::MAX / 2, u64::MAX] {
            let mut out = Vec::new();
            rfc3339(Unix(ns), &mut out);
            assert_eq!(out.len(), 27);
        }
    }

    /// Every day from 1970 to 2554, counted with the calendar's rules.
    #[test]
    fn days_follow_the_calendar() {
        let mut expected = (1970, 1, 1);
        for days in 0..213_503 {
            assert_eq!(civil(days), expected);
            let (year, month, day) = expected;
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
