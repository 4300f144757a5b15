//! What was lost, summed up for people.

use st_pathtree::record::Lost;

/// How many causes are told apart: whoever writes a stream may invent them.
const CAUSES: usize = 16;

/// The records that are missing, by cause.
#[derive(Debug, Default)]
pub struct Losses {
    /// Whether there must be none.
    pub strict: bool,
    causes: Vec<Cause>,
}

#[derive(Debug)]
struct Cause {
    name: String,
    count: u64,
    /// Whether there were some more.
    more: bool,
}

impl Losses {
    /// Counts a record's.
    pub fn add(&mut self, lost: &Lost) {
        let known = (self.causes.iter()).position(|cause| cause.name == lost.cause);
        let at = known.unwrap_or_else(|| {
            if self.causes.len() < CAUSES {
                self.causes.push(Cause {
                    name: lost.cause.clone(),
                    count: 0,
                    more: false,
                });
            }
            self.causes.len() - 1
        });
        let cause = &mut self.causes[at];
        cause.count = cause.count.saturating_add(lost.count.unwrap_or(0));
        cause.more |= lost.count.is_none();
    }

    /// A line a cause, with what would have helped.
    pub fn lines(&self) -> Vec<String> {
        self.causes.iter().map(Cause::line).collect()
    }
}

impl Cause {
    fn line(&self) -> String {
        let records = match (self.count, self.more) {
            (0, _) => "some records were".to_owned(),
            (1, false) => "1 record was".to_owned(),
            (count, false) => format!("{count} records were"),
            (count, true) => format!("{count} records or more were"),
        };
        let help = match self.name.as_str() {
            Lost::RING_BUFFER => {
                ": a larger --buffer-size (of systracer or st-probe) holds longer bursts"
            }
            Lost::SLOW_READER => {
                ": --record FILE and --replay it later, or let whatever reads the output be faster"
            }
            Lost::MISSED_RETURN => {
                ": more calls of one kind were under way than the kernel follows"
            }
            Lost::UNPAIRED => ": calls within the gaps, of which records may be missing",
            Lost::TOO_LARGE => ": the event is told without it",
            Lost::SWITCHED_OFF => ": somebody switched tracing off, or removed our probes",
            _ => "",
        };
        format!("{records} lost ({}){help}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(cause: &str, count: Option<u64>) -> Lost {
        Lost {
            cause: cause.into(),
            count,
            ..Lost::default()
        }
    }

    #[test]
    fn sums_up_by_cause() {
        let mut losses = Losses::default();
        assert!(losses.lines().is_empty());
        for (cause, count) in [
            (Lost::RING_BUFFER, Some(7)),
            (Lost::MISSED_RETURN, Some(1)),
            (Lost::RING_BUFFER, Some(u64::MAX)),
            ("new", None),
        ] {
            losses.add(&lost(cause, count));
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
            losses.add(&lost(&number.to_string(), Some(1)));
        }
        assert_eq!(losses.lines().len(), CAUSES);
        let total: u64 = losses.causes.iter().map(|cause| cause.count).sum();
        assert_eq!(total, 1000);
    }
}
