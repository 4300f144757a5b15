//! The optional fourth stage: passes the events that match, and leaves out all others.
//!
//! Every record that is no event passes, and no byte of a record changes. Any number of filters
//! can follow one another.

#[cfg(feature = "cli")]
pub mod cli;
pub mod expression;
pub mod family;
pub mod glob;
#[cfg(feature = "cli")]
pub mod instant;
pub mod predicate;

use expression::Expression;
use family::Family;
use st_pathtree::event::EventRecord;
use st_pathtree::layers::Layers;
use st_pathtree::record::{Header, Lost};
use st_pathtree::stage::{self, RecordError, Stage};
use st_pathtree::wire::Record;

/// The stage that passes the events which `expression` matches.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// What an event must be like to pass.
    pub expression: Expression,
    /// The processes of which one must have caused the event; `None`: any process.
    pub family: Option<Family>,
    /// If there: events that are part of one that passes do not pass.
    pub layers: Option<Layers>,
}

impl Stage for Filter {
    const NAME: &'static str = "st-filter";
    const AFTER: &'static [&'static str] = &["st-probe", "st-decode", "st-pathtree"];
    const REPEATABLE: bool = true;

    fn begin(&mut self, header: &Header, record: Record, out: &mut Vec<u8>) {
        if let Some(family) = &mut self.family {
            family.begin(header);
        }
        stage::pass_header(header, record, Self::NAME, out);
    }

    fn push(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if record.kind() == "event" {
            let event: EventRecord = record.read()?;
            let within = self.is_within(&event);
            if !self.expression.matches(&event, within) {
                return Ok(());
            }
            let layers = self.layers.as_mut();
            if layers.is_some_and(|layers| layers.is_part(&event)) {
                return Ok(());
            }
        } else if let Some(family) = &mut self.family {
            follow(family, record)?;
        }
        out.extend_from_slice(record.bytes());
        Ok(())
    }
}

impl Filter {
    /// Whether the process of an event is of the family.
    fn is_within(&mut self, event: &EventRecord) -> bool {
        match (&mut self.family, event.process.pid) {
            (Some(family), Some(pid)) => family.contains(pid),
            // After a loss the process of an event may not be known. It counts as one of the
            // family, so that the event is not lost, too.
            (Some(_), None) | (None, _) => true,
        }
    }
}

/// Tells a family what a record that is no event says of processes.
fn follow(family: &mut Family, record: Record) -> Result<(), RecordError> {
    match record.kind() {
        "process" => family.alive(&record.read()?),
        "fork" => family.fork(&record.read()?),
        "lost" => {
            let lost: Lost = record.read()?;
            if lost.event.is_none() {
                family.lost();
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use st_pathtree::wire;

    /// The event `name` of process 7, with a field that this version does not know.
    fn event(name: &str) -> Vec<u8> {
        let mut record = b"\x87\xa1t\xa5event\xa5event".to_vec();
        record.push(0xa0 | name.len() as u8);
        record.extend(name.as_bytes());
        record.extend(b"\xa2ts\x01\xa3seq\x02\xa3cpu\x00\xa7process\x82\xa3tid\x07\xa3pid\x07");
        record.extend(b"\xa5later\x91\x2a");
        record
    }

    fn header() -> Header {
        Header {
            magic: st_pathtree::record::MAGIC.into(),
            version: st_pathtree::record::VERSION,
            stages: Filter::AFTER.iter().map(|&stage| stage.into()).collect(),
            byte_order: st_pathtree::vocabulary::Order::Little,
            ..Header::default()
        }
    }

    fn pushed(filter: &mut Filter, record: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let record = Record::new(record).unwrap();
        filter.push(record, &mut out).unwrap();
        out
    }

    fn filter(expression: Expression) -> Filter {
        Filter {
            expression,
            ..Filter::default()
        }
    }

    #[test]
    fn hands_on_matching_events_byte_for_byte() {
        let mut filter = filter(Expression {
            events: vec![predicate::event("create").unwrap()],
            ..Expression::default()
        });
        assert_eq!(pushed(&mut filter, &event("create")), event("create"));
        assert_eq!(pushed(&mut filter, &event("mkdir")), b"");
        assert_eq!(pushed(&mut filter, &event("teleport")), b"");
    }

    #[test]
    fn events_of_a_later_version_are_matched_like_others() {
        let mut filter = filter(Expression {
            pids: vec![7],
            ..Expression::default()
        });
        assert_eq!(pushed(&mut filter, &event("teleport")), event("teleport"));
    }

    #[test]
    fn layers_of_what_passes_can_be_left_out() {
        /// An event as [`event`], with its number and the event that it is part of.
        fn numbered(name: &str, seq: u8, layer_of: u8) -> Vec<u8> {
            let mut record = event(name);
            // One entry more.
            record[0] += 1;
            let key = b"\xa3seq";
            let at = record.windows(key.len()).position(|part| part == key);
            record[at.unwrap() + key.len()] = seq;
            record.extend(b"\xa8layer_of");
            record.push(layer_of);
            record
        }
        let outer = event("delete");
        let inner = [numbered("mknod", 3, 2), numbered("rename", 4, 2)];
        let mut filter = filter(Expression::default());
        assert_eq!(pushed(&mut filter, &inner[0]), inner[0]);
        filter.layers = Some(Layers::default());
        assert_eq!(pushed(&mut filter, &outer), outer);
        for inner in &inner {
            assert_eq!(pushed(&mut filter, inner), b"");
        }
        // The event that they are part of does not pass.
        filter.layers = Some(Layers::default());
        filter.expression.events = vec![predicate::event("rename").unwrap()];
        assert_eq!(pushed(&mut filter, &outer), b"");
        assert_eq!(pushed(&mut filter, &inner[0]), b"");
        assert_eq!(pushed(&mut filter, &inner[1]), inner[1]);
    }

    #[test]
    fn other_records_pass_even_a_filter_that_no_event_passes() {
        let mut filter = filter(Expression {
            invert: true,
            ..Expression::default()
        });
        assert_eq!(pushed(&mut filter, &event("create")), b"");
        for kind in ["lost", "end", "mounts", "not known yet"] {
            let mut record = b"\x81\xa1t".to_vec();
            record.push(0xa0 | kind.len() as u8);
            record.extend(kind.bytes());
            assert_eq!(pushed(&mut filter, &record), record);
        }
    }

    #[test]
    fn an_unreadable_event_is_an_error_and_writes_nothing() {
        let mut out = Vec::new();
        let record = b"\x82\xa1t\xa5event\xa2ts\xa3now";
        let record = Record::new(record).unwrap();
        assert!(Filter::default().push(record, &mut out).is_err());
        assert_eq!(out, b"");
    }

    #[test]
    fn the_header_tells_of_each_pass() {
        let mut input = Vec::new();
        wire::write(&header(), &mut input);
        input.extend(b"\x81\xa1t\xa5later");
        for _ in 0..2 {
            let mut output = Vec::new();
            stage::run(&mut Filter::default(), &input[..], &mut output, &mut |_| {}).unwrap();
            input = output;
        }
        let read = wire::read::<Header>(&input).unwrap();
        assert_eq!(
            read.stages.join(" "),
            "st-probe st-decode st-pathtree st-filter st-filter"
        );
    }
}
