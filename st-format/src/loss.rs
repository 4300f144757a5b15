//! Sums up what was lost, for people.

use st_pathtree::record::Lost;
use st_pathtree::vocabulary::Cause;
use st_pathtree::wire::Record;

/// How many causes have a sum of their own: a stream may have any number of them.
const CAUSES: usize = 16;

/// The records that are missing, by cause.
#[derive(Debug, Default)]
pub struct Losses {
    /// Whether a stream with any of them is a failure.
    pub strict: bool,
    causes: Vec<Total>,
}

/// The records that are missing for one cause.
#[derive(Debug)]
struct Total {
    cause: Cause,
    /// The name of the cause.
    name: String,
    count: u64,
    /// Whether there were more, of which the number is not known.
    more: bool,
}

impl Losses {
    /// None yet. `strict`: a stream with any of them is a failure.
    pub fn new(strict: bool) -> Self {
        Self {
            strict,
            causes: Vec::new(),
        }
    }

    /// Adds the missing records that `lost` tells of. `record` is the same record.
    pub fn add(&mut self, lost: &Lost, record: Record) {
        let name = String::from_utf8_lossy(cause_name(lost.cause, record));
        let known = (self.causes.iter()).position(|total| total.name == name);
        let at = known.unwrap_or_else(|| {
            if self.causes.len() < CAUSES {
                self.causes.push(Total {
                    cause: lost.cause,
                    name: name.into_owned(),
                    count: 0,
                    more: false,
                });
            }
            self.causes.len() - 1
        });
        let total = &mut self.causes[at];
        total.count = total.count.saturating_add(lost.count.unwrap_or(0));
        total.more |= lost.count.is_none();
    }

    /// One line for each cause, with what would have helped.
    pub fn lines(&self) -> Vec<String> {
        self.causes.iter().map(Total::line).collect()
    }
}

impl Total {
    fn line(&self) -> String {
        let records = match (self.count, self.more) {
            (0, _) => "some records were".to_owned(),
            (1, false) => "1 record was".to_owned(),
            (count, false) => format!("{count} records were"),
            (count, true) => format!("{count} records or more were"),
        };
        let help = match self.cause {
            Cause::RingBuffer => {
                ": a larger --buffer-size (of systracer or st-probe) holds longer bursts"
            }
            Cause::SlowReader => {
                ": --record FILE and --replay it later, or let whatever reads the output be faster"
            }
            Cause::MissedReturn => {
                ": more calls of one kind were under way than the kernel follows"
            }
            Cause::Unpaired => ": calls within the gaps, of which records may be missing",
            Cause::TooLarge => ": the event is told without it",
            Cause::SwitchedOff => ": somebody switched tracing off, or removed our probes",
            Cause::MissedProbe | Cause::Other => "",
        };
        format!("{records} lost ({}){help}", self.name)
    }
}

/// The name of a cause, as the record has it if this version does not know it.
pub fn cause_name<'a>(cause: Cause, record: Record<'a>) -> &'a [u8] {
    match cause {
        Cause::Other => record.text(b"cause").unwrap_or_default(),
        cause => cause.name().as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the losses of a cause.
    fn add(losses: &mut Losses, cause: &str, count: Option<u64>) {
        let mut record = b"\x82\xa1t\xa4lost\xa5cause".to_vec();
        record.push(0xa0 | cause.len() as u8);
        record.extend(cause.bytes());
        let lost = Lost {
            cause: Cause::from_name(cause).unwrap_or_default(),
            count,
            ..Lost::default()
        };
        losses.add(&lost, Record::new(&record).unwrap());
    }

    #[test]
    fn sums_up_by_cause() {
        let mut losses = Losses::default();
        assert!(losses.lines().is_empty());
        for (cause, count) in [
            (Cause::RingBuffer.name(), Some(7)),
            (Cause::MissedReturn.name(), Some(1)),
            (Cause::RingBuffer.name(), Some(u64::MAX)),
            ("new", None),
        ] {
            add(&mut losses, cause, count);
        }
        let lines = losses.lines();
        assert!(lines[0].starts_with(&format!("{} records were lost (ring buffer): ", u64::MAX)));
        assert!(lines[1].starts_with("1 record was lost (missed return): "));
        assert_eq!(lines[2], "some records were lost (new)");
    }

    #[test]
    fn invented_causes_fill_no_memory() {
        let mut losses = Losses::default();
        for number in 0..1000 {
            add(&mut losses, &number.to_string(), Some(1));
        }
        assert_eq!(losses.lines().len(), CAUSES);
        let total: u64 = losses.causes.iter().map(|total| total.count).sum();
        assert_eq!(total, 1000);
    }
}
