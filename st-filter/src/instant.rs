//! Instants as options take them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use st_pathtree::time::Unix;

const HINT: &str = "write 2026-11-30T08:00:00Z, 2026-11-30T08:00 (local time), 2026-11-30 or -2h";

/// Reads an instant: RFC 3339; a date, with or without a time, in the time zone of TZ, or else of
/// this machine; or so long before now, as `-2h` or `-1h30m`. Errors are messages for people.
pub fn read(text: &str) -> Result<Unix, String> {
    if text.starts_with('-') {
        let span: SignedDuration = text.parse().map_err(|_| HINT)?;
        return unix(Timestamp::now().checked_add(span).map_err(|_| HINT)?);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return unix(instant);
    }
    let local: DateTime = text.parse().map_err(|_| HINT)?;
    let zone = TimeZone::try_system()
        .map_err(|error| format!("cannot find the time zone: {error}: set TZ, or end with Z"))?;
    unix(zone.to_timestamp(local).map_err(|_| HINT)?)
}

fn unix(instant: Timestamp) -> Result<Unix, String> {
    let nanoseconds = u64::try_from(instant.as_nanosecond());
    let nanoseconds = nanoseconds.map_err(|_| "an instant from 1970 to 2554 is needed")?;
    Ok(Unix(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn rfc_3339_is_read_to_the_nanosecond() {
        let expected = Ok(Unix(1_796_025_600 * SECOND + 5));
        assert_eq!(read("2026-11-30T08:00:00.000000005Z"), expected);
        assert_eq!(read("2026-11-30T09:00:00.000000005+01:00"), expected);
        assert_eq!(read("2026-11-30 08:00:00.000000005Z"), expected);
    }

    #[test]
    fn local_time_is_that_of_the_zone() {
        let zone = TimeZone::try_system().unwrap();
        let midnight: DateTime = "2026-11-30T00:00:00".parse().unwrap();
        let expected = unix(zone.to_timestamp(midnight).unwrap());
        assert_eq!(read("2026-11-30"), expected);
        assert_eq!(read("2026-11-30T00:00"), expected);
    }

    #[test]
    fn a_span_goes_back_from_now() {
        let now = unix(Timestamp::now()).unwrap();
        let two_hours = read("-2h").unwrap();
        let passed = now.0 - two_hours.0;
        assert!(passed <= 7200 * SECOND && passed > 7000 * SECOND);
        assert!(read("-1h30m").unwrap() > two_hours);
    }

    #[test]
    fn anything_else_is_a_message() {
        for text in [
            "",
            "yesterday",
            "-",
            "-2",
            "08:00",
            "2026-13-01",
            "1795999806",
        ] {
            assert_eq!(read(text), Err(HINT.into()), "{text}");
        }
        assert!(read("1969-12-31T23:59:59Z").unwrap_err().contains("1970"));
    }
}
