//! The stage of the outputs that write something for each event and for each gap, one by one.

use crate::loss::{Losses, cause_name};
use crate::text::event_name;
use st_pathtree::event::{Ancestor, EventRecord};
use st_pathtree::record::{ClockSet, Header, Lost};
use st_pathtree::stage::{RecordError, Stage};
use st_pathtree::time::{Clock, Unix};
use st_pathtree::wire::{self, Record};

/// What happened: an event, or missing records.
#[derive(Debug)]
pub struct Row<'a> {
    /// When: of missing records, where they are told in the stream.
    pub ts: Unix,
    /// What.
    pub told: Told<'a>,
    record: Record<'a>,
}

/// What a row tells.
#[derive(Debug)]
pub enum Told<'a> {
    /// An event.
    Event(Box<EventRecord<'a>>),
    /// Missing records.
    Lost {
        /// As the stream has it.
        lost: Lost,
        /// The beginning of the time in which records may be missing.
        since: Unix,
        /// The end of that time, if it is after [`Row::ts`].
        until: Option<Unix>,
    },
}

impl<'a> Row<'a> {
    /// The event, if this is one.
    pub fn event(&self) -> Option<&EventRecord<'a>> {
        match &self.told {
            Told::Event(event) => Some(event),
            Told::Lost { .. } => None,
        }
    }

    /// The name of the event, also of one that this version does not know; `lost` of a gap.
    pub fn name(&self) -> &'a [u8] {
        match &self.told {
            Told::Event(event) => event_name(event.event, self.record),
            Told::Lost { .. } => b"lost",
        }
    }

    /// Why records are missing, also for a cause that this version does not know.
    pub fn cause(&self) -> Option<&'a [u8]> {
        match &self.told {
            Told::Event(_) => None,
            Told::Lost { lost, .. } => Some(cause_name(lost.cause, self.record)),
        }
    }

    /// The name of the event that all missing records are of, if there is one.
    pub fn lost_event(&self) -> Option<&'a [u8]> {
        match &self.told {
            Told::Lost { lost, .. } => lost.event.map(|event| event_name(event, self.record)),
            Told::Event(_) => None,
        }
    }

    /// The ancestors of the event's process, the nearest first. What cannot be read counts as not
    /// known.
    pub fn ancestors(&self) -> Option<Vec<Ancestor<'a>>> {
        self.event()?;
        let entry = self.record.entry(b"ancestors")?;
        wire::read(entry.value).ok()
    }
}

/// How an output writes rows.
pub trait Format {
    /// Takes the header of a stream, and appends what comes before its rows.
    fn begin(&mut self, _header: &Header, _out: &mut Vec<u8>) {}

    /// Appends what comes before a row, and does not belong to it.
    fn before(&mut self, _row: &Row, _losses: &Losses, _out: &mut Vec<u8>) {}

    /// Appends what comes after the last row.
    fn end(&mut self, _losses: &Losses, _out: &mut Vec<u8>) {}

    /// Appends a row.
    fn row(&mut self, row: &Row, out: &mut Vec<u8>);
}

/// The stage that writes rows in a format.
#[derive(Debug, Default)]
pub struct Rows<F> {
    format: F,
    clock: Clock,
    losses: Losses,
}

impl<F> Rows<F> {
    /// Rows in a format. `strict`: a stream in which something was lost is a failure.
    pub fn new(format: F, strict: bool) -> Self {
        Self {
            format,
            clock: Clock::default(),
            losses: Losses::new(strict),
        }
    }
}

impl<F: Format> Stage for Rows<F> {
    const NAME: &'static str = crate::NAME;
    const AFTER: &'static [&'static str] = crate::AFTER;
    const LINES: bool = true;

    fn begin(&mut self, header: &Header, _: Record, out: &mut Vec<u8>) {
        self.clock = header.clock();
        self.format.begin(header, out);
    }

    fn push(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let (ts, told) = match record.kind() {
            "event" => {
                let event: EventRecord = record.read()?;
                (event.ts, Told::Event(Box::new(event)))
            }
            "clock" => {
                self.clock = record.read::<ClockSet>()?.clock();
                return Ok(());
            }
            "lost" => {
                let lost: Lost = record.read()?;
                let (since, ts) = (self.clock.unix(lost.since), self.clock.unix(lost.ts));
                let until = lost.until.map(|until| self.clock.unix(until));
                (ts, Told::Lost { lost, since, until })
            }
            "end" => {
                self.format.end(&self.losses, out);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let row = Row { ts, told, record };
        self.format.before(&row, &self.losses, out);
        if let Told::Lost { lost, .. } = &row.told {
            self.losses.add(lost, record);
        }
        self.format.row(&row, out);
        Ok(())
    }

    fn losses(&self) -> Vec<String> {
        self.losses.lines()
    }

    fn is_strict(&self) -> bool {
        self.losses.strict
    }
}
