//! One line for each event, for people: `TIME EVENT COMM[PID] DETAILS`.
//!
//! TIME is RFC 3339 in UTC with microseconds, or another [`Notation`]. EVENT is 8 characters wide,
//! COMM\[PID\] 24; a longer one moves what follows to the right. [`escape`] tells how names are written; `?` is
//! what is not known. DETAILS:
//!
//! | event | details |
//! |---|---|
//! | create, mkdir | `PATH rw-r--r-- (0644)` |
//! | mknod | `PATH crw-rw---- (0660) 1:3`: the number is that of a device |
//! | delete, rmdir | `PATH` |
//! | rename | `OLD -> NEW`, or `OLD <-> NEW` if both were exchanged; then `whiteout` if one took the old name |
//! | link | `EXISTING -> NEW` |
//! | symlink | `PATH -> CONTENT` |
//! | attrib | `PATH rwxr-xr-x (0755) uid=0 gid=0`: what was set |
//! | connect | `tcp 192.0.2.1:443`, `fastopen` if a send opened it, and the error's name if there is one |
//! | listen | `tcp [2001:db8::1]:443 backlog 128` |
//! | unlisten | `tcp 192.0.2.1:443` |
//! | exec | `PATH argv=[make -j2] uid=0` |
//! | exit | `status 1`, or `signal 9 SIGKILL` if that signal killed the process |
//!
//! An event that is part of another one (what overlayfs does on its layers to carry that out) has no
//! line where that has one, unless it is asked for.
//!
//! A path that is not complete is followed by `[partial]` (and begins with `.../`),
//! `[unmounted]`, `[ambiguous]` or `[deleted]`. If the paths are those of another mount
//! namespace, its number is at the end of the line: `mnt_ns=4026532132`. After that comes what
//! else is asked for of the process: see [`Show`].
//!
//! Missing records have a line, too, with `lost` for the event: `12 records on CPU 3 missing
//! until TIME: ring buffer`, or `1 connect on CPU 0 missing: missed return` if it is known of
//! which event they are.

use crate::line::{self, Line, Style};
use crate::loss::{self, Losses};
use crate::time::{Instants, Notation};
use crate::{errno, escape, put, signal};
use st_pathtree::event::{Actor, EventRecord};
use st_pathtree::layers::Layers;
use st_pathtree::record::{ClockSet, Header, Lost};
use st_pathtree::stage::{RecordError, Stage};
use st_pathtree::time::Clock;
use st_pathtree::vocabulary::Event;
use st_pathtree::wire::{Encoded, Memo, Record};
use std::rc::Rc;

const EVENT_WIDTH: usize = 8;
const WHO_WIDTH: usize = 24;

/// What can be shown of a process beside its name and id, if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Show {
    /// `uid=1000`, the real user, and `euid=0` if the effective user is another one.
    Uid,
    /// `loginuid=1000 session=3`, the user who logged in, and the number of that login.
    Loginuid,
    /// `exe=/usr/bin/make`, the path of the file that it executes.
    Exe,
    /// `argv=[make -j2]`, its arguments; `...` if there are more.
    Argv,
    /// `container=3fa8...`, the container's id.
    Container,
}

/// The stage that renders text.
#[derive(Debug, Default)]
pub struct Text {
    color: bool,
    show: Vec<Show>,
    /// If there: events that are part of another one that is shown are not.
    hidden: Option<Layers>,
    clock: Clock,
    losses: Losses,
    instants: Instants,
    /// The columns of processes, by the processes as events have them.
    columns: Memo<Rc<Columns>>,
}

/// An event whose process is read only if it has not been met before.
type Told<'a> = EventRecord<'a, Encoded<'a, Actor<'a>>>;

/// The columns of a process.
#[derive(Debug, Clone, Default)]
struct Columns {
    /// Who it is.
    who: Vec<u8>,
    /// What is asked for of it.
    shown: Vec<u8>,
}

impl Text {
    /// Text with or without colours, and with these parts of a process.
    pub fn new(color: bool, show: Vec<Show>) -> Self {
        Self {
            color,
            show,
            hidden: Some(Layers::default()),
            ..Self::default()
        }
    }

    /// Sets how instants are written.
    pub fn time(mut self, notation: Notation) -> Self {
        self.instants = Instants::new(notation);
        self
    }

    /// Sets whether events that are part of another one are shown, too.
    pub fn layers(mut self, shown: bool) -> Self {
        self.hidden = (!shown).then(Layers::default);
        self
    }

    /// Sets whether a stream in which something was lost is a failure.
    pub fn strict(mut self, strict: bool) -> Self {
        self.losses.strict = strict;
        self
    }

    /// Appends the line of an event, unless it is hidden. `name` is that of the event.
    fn event(&mut self, event: &Told, name: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
        let process = event.process.bytes();
        let (mut actor, columns) = (None, self.columns.find(process));
        let columns = match columns {
            Some((_, columns)) if event.event != Event::Exec => Rc::clone(columns),
            _ => {
                let read = event.process.read()?;
                let columns = Rc::new(self.columns(event.event, &read));
                if event.event == Event::Exec {
                    actor = Some(read);
                } else {
                    self.columns.keep(process, Rc::clone(&columns));
                }
                columns
            }
        };
        let hidden = self.hidden.as_mut();
        if hidden.is_none_or(|layers| !layers.is_part(event)) {
            self.line(event, name, actor.as_ref(), &columns, out);
        }
        Ok(())
    }

    /// Appends the line of an event with the columns of its process. `actor`: the process, where
    /// the event itself is told with more of it.
    fn line<P>(
        &mut self,
        event: &EventRecord<P>,
        name: &[u8],
        actor: Option<&Actor>,
        columns: &Columns,
        out: &mut Vec<u8>,
    ) {
        let mut line = Line::begin(self.color, out);
        line.instant(&mut self.instants, event.ts);
        line.column(EVENT_WIDTH, style(event.event), |out| {
            escape::word(name, out)
        });
        line.ready(&columns.who);
        details(&mut line, event);
        for show in of_exec(event.event) {
            if let Some(actor) = actor {
                process(&mut line, actor, *show);
            }
        }
        if let Some(ns) = event.mnt_ns {
            line.put(Style::Plain, format_args!("mnt_ns={ns}"));
        }
        line.ready(&columns.shown);
        line.end();
    }

    /// The columns of the process that did what an event tells.
    fn columns(&self, event: Event, actor: &Actor) -> Columns {
        let mut columns = Columns::default();
        let mut line = Line::begin(self.color, &mut columns.who);
        line.column(WHO_WIDTH, Style::Plain, |out| who(actor, out));
        let mut line = Line::begin(self.color, &mut columns.shown);
        for show in &self.show {
            if !of_exec(event).contains(show) {
                process(&mut line, actor, *show);
            }
        }
        columns
    }

    /// Appends the line of missing records. `record` is the same record as `lost`.
    fn lost(&mut self, lost: &Lost, record: Record, out: &mut Vec<u8>) {
        let mut line = Line::begin(self.color, out);
        line.instant(&mut self.instants, self.clock.unix(lost.ts));
        line.column(EVENT_WIDTH, Style::Alarm, |out| out.extend(b"lost"));
        line.column(WHO_WIDTH, Style::Plain, |out| out.push(b'-'));
        line.column(0, Style::Alarm, |out| {
            match lost.count {
                Some(count) => put(out, format_args!("{count} ")),
                None => out.extend(b"some "),
            }
            match lost.event {
                Some(event) => escape::word(event_name(event, record), out),
                None if lost.count == Some(1) => out.extend(b"record"),
                None => out.extend(b"records"),
            }
        });
        if let Some(cpu) = lost.cpu {
            line.put(Style::Plain, format_args!("on CPU {cpu}"));
        }
        line.column(0, Style::Plain, |out| {
            out.extend(b"missing");
            if let Some(until) = lost.until {
                out.extend(b" until ");
                self.instants.micros(self.clock.unix(until), out);
            }
            out.push(b':');
        });
        line.column(0, Style::Plain, |out| {
            escape::text(loss::cause_name(lost.cause, record), out);
        });
        line.end();
    }
}

impl Stage for Text {
    const NAME: &'static str = crate::NAME;
    const AFTER: &'static [&'static str] = crate::AFTER;
    const LINES: bool = true;

    fn begin(&mut self, header: &Header, _: Record, _: &mut Vec<u8>) {
        self.clock = header.clock();
        self.instants.begin(header.realtime);
    }

    fn push(&mut self, record: Record, out: &mut Vec<u8>) -> Result<(), RecordError> {
        match record.kind() {
            "event" => {
                let event: Told = record.read()?;
                self.event(&event, event_name(event.event, record), out)?;
            }
            "clock" => self.clock = record.read::<ClockSet>()?.clock(),
            "lost" => {
                let lost: Lost = record.read()?;
                self.losses.add(&lost, record);
                self.lost(&lost, record, out);
            }
            _ => {}
        }
        Ok(())
    }

    fn losses(&self) -> Vec<String> {
        self.losses.lines()
    }

    fn is_strict(&self) -> bool {
        self.losses.strict
    }
}

/// The name of an event, as the record has it if this version does not know it.
pub(crate) fn event_name<'a>(event: Event, record: Record<'a>) -> &'a [u8] {
    match event {
        Event::Other => record.text(b"event").unwrap_or_default(),
        event => event.name().as_bytes(),
    }
}

fn style(event: Event) -> Style {
    match event {
        Event::Create | Event::Mkdir | Event::Mknod | Event::Symlink | Event::Link => Style::Green,
        Event::Delete | Event::Rmdir => Style::Red,
        Event::Rename | Event::Attrib => Style::Yellow,
        Event::Connect | Event::Listen | Event::Unlisten => Style::Cyan,
        Event::Exec | Event::Exit | Event::Other => Style::Plain,
    }
}

/// `make[1234]`: the process that did it.
fn who(actor: &Actor, out: &mut Vec<u8>) {
    line::process(actor.comm.as_deref(), actor.pid.unwrap_or(actor.tid), out);
}

fn details<P>(line: &mut Line, event: &EventRecord<P>) {
    let path = |line: &mut Line| line.path(event.path.as_ref(), event.path_status);
    let old_path = |line: &mut Line| line.path(event.old_path.as_ref(), event.old_path_status);
    match event.event {
        Event::Create | Event::Mkdir => {
            path(line);
            if let Some(mode) = event.mode {
                line.permissions(mode);
            }
        }
        Event::Mknod => {
            path(line);
            if let Some(mode) = event.mode {
                line.mode(mode);
            }
            if let Some(rdev) = event.rdev {
                line.word(Some(rdev.as_bytes()));
            }
        }
        Event::Delete | Event::Rmdir => path(line),
        Event::Rename | Event::Link => {
            old_path(line);
            let arrow = if event.exchange { "<->" } else { "->" };
            line.put(Style::Plain, format_args!("{arrow}"));
            path(line);
            if event.whiteout {
                line.put(Style::Plain, format_args!("whiteout"));
            }
        }
        Event::Symlink => {
            path(line);
            line.put(Style::Plain, format_args!("->"));
            line.word(event.target.as_deref());
        }
        Event::Attrib => {
            path(line);
            let set = event.attrib.unwrap_or_default();
            if let Some(mode) = set.mode {
                line.permissions(mode);
            }
            if let Some(uid) = set.uid {
                line.put(Style::Plain, format_args!("uid={uid}"));
            }
            if let Some(gid) = set.gid {
                line.put(Style::Plain, format_args!("gid={gid}"));
            }
        }
        Event::Connect => {
            endpoint(line, event);
            if event.fastopen {
                line.put(Style::Plain, format_args!("fastopen"));
            }
            result(line, event.ret.unwrap_or(0));
        }
        Event::Listen => {
            endpoint(line, event);
            if let Some(backlog) = event.backlog {
                line.put(Style::Plain, format_args!("backlog {backlog}"));
            }
        }
        Event::Unlisten => endpoint(line, event),
        Event::Exec => path(line),
        Event::Exit => match (event.signal, event.status) {
            (Some(signal), _) => {
                let name = signal::name(signal).unwrap_or_default();
                line.put(Style::Alarm, format_args!("signal {signal} {name}"));
            }
            (None, Some(0)) => line.put(Style::Plain, format_args!("status 0")),
            (None, Some(status)) => line.put(Style::Alarm, format_args!("status {status}")),
            (None, None) => line.word(None),
        },
        Event::Other if event.path.is_some() => path(line),
        Event::Other => {}
    }
}

/// What an exec event tells of its process, whether or not it is asked for.
fn of_exec(event: Event) -> &'static [Show] {
    match event {
        Event::Exec => &[Show::Argv, Show::Uid],
        _ => &[],
    }
}

/// Appends a part of the process that did it.
fn process(line: &mut Line, process: &Actor, show: Show) {
    match show {
        Show::Uid => numbers(line, [("uid", process.uid), ("euid", process.euid)]),
        Show::Loginuid => numbers(
            line,
            [("loginuid", process.loginuid), ("session", process.session)],
        ),
        Show::Exe => {
            if let Some(exe) = &process.exe {
                line.named_path("exe=", exe, process.exe_status);
            }
            if let Some(ns) = process.exe_mnt_ns {
                line.put(Style::Plain, format_args!("exe_mnt_ns={ns}"));
            }
        }
        Show::Argv => {
            let Some(argv) = &process.argv else { return };
            line.column(0, Style::Plain, |out| {
                out.extend(b"argv=[");
                for (place, word) in argv.iter().enumerate() {
                    if place > 0 {
                        out.push(b' ');
                    }
                    escape::word(word, out);
                }
                out.extend(if process.argv_cut { &b"...]"[..] } else { b"]" });
            });
        }
        Show::Container => {
            if let Some(container) = &process.container {
                line.column(0, Style::Plain, |out| {
                    out.extend(b"container=");
                    escape::word(container, out);
                });
            }
        }
    }
}

/// Appends the numbers that are known, with their names: `uid=1000`.
fn numbers(line: &mut Line, numbers: [(&str, Option<u32>); 2]) {
    for (name, number) in numbers {
        if let Some(number) = number {
            line.put(Style::Plain, format_args!("{name}={number}"));
        }
    }
}

/// Appends the protocol, address and port of an event on a socket: `tcp 192.0.2.1:443`.
fn endpoint<P>(line: &mut Line, event: &EventRecord<P>) {
    line.word(event.proto.map(str::as_bytes));
    line.column(0, Style::Plain, |out| {
        match event.addr {
            Some(addr) if addr.contains(':') => {
                out.push(b'[');
                escape::word(addr.as_bytes(), out);
                out.push(b']');
            }
            Some(addr) => escape::word(addr.as_bytes(), out),
            None => out.push(b'?'),
        }
        if let Some(port) = event.port {
            put(out, format_args!(":{port}"));
        }
    });
}

/// Appends what a call returned, unless that is 0.
fn result(line: &mut Line, ret: i32) {
    if ret == 0 {
        return;
    }
    let name = if ret < 0 {
        errno::name(ret.unsigned_abs())
    } else {
        None
    };
    match name {
        Some(name @ "EINPROGRESS") => line.put(Style::Plain, format_args!("{name}")),
        Some(name) => line.put(Style::Alarm, format_args!("{name}")),
        None => line.put(Style::Alarm, format_args!("{ret}")),
    }
}

#[cfg(test)]
mod tests;
