//! Records file and socket operations from the kernel's ring buffer to standard output.

use crate::stream::args;
use crate::stream::stage::{FAILED, USAGE, to_terminal};
use crate::stream::vocabulary::{Class, Event, Service, Subject};
use crate::sys::signals::Signals;
use crate::tracefs::absent::Absent;
use crate::tracefs::teardown;
use crate::tracing::run::{self, Options};
use anyhow::Result;
use clap::Parser;
use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What `--buffer-size` may be, in KiB.
pub const BUFFER_SIZES: RangeInclusive<u64> = 8..=4 << 20;
/// What `--buffer-size` is unless given, in KiB.
pub const BUFFER_SIZE: u64 = 4096;

/// Records operations on files and sockets from the kernel's ring buffer, as a raw stream
/// of MessagePack records on standard output.
///
/// Needs root. Ends on SIGINT, SIGTERM, SIGHUP, when the reader goes away, and after
/// --duration or with COMMAND; then nothing of it is left in the kernel.
#[derive(Parser)]
#[command(name = "st-probe", version, after_help = EXIT_STATUS)]
struct Args {
    /// Events to trace, separated by commas; all unless given. Whose they are is always recorded,
    /// exec and exit with it
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = PossibleValuesParser::new(Event::ALL.iter().map(|event| event.name())).map(|name| Event::from_name(&name).unwrap_or_default()))]
    event: Vec<Event>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Ring buffer of each CPU, in KiB
    #[arg(long, value_name = "KIB", default_value_t = BUFFER_SIZE, value_parser = clap::value_parser!(u64).range(BUFFER_SIZES))]
    buffer_size: u64,
    /// Look at all directories below PATH, so that later stages know where in the file system
    /// each is (repeatable); with it, paths below PATH are complete however deep
    #[arg(long, value_name = "PATH", value_parser = OsStringValueParser::new().try_map(absolute))]
    snapshot: Vec<PathBuf>,
    /// Look also below the directories whose paths, each ended by a NUL, come through this
    /// named pipe, from st-pathtree --ask
    #[arg(long, value_name = "PIPE")]
    answer: Option<PathBuf>,
    /// Tell what can be traced on this kernel, and without which optional hooks, and trace nothing
    #[arg(long, conflicts_with_all = ["duration", "command", "die_with_parent"])]
    check: bool,
    /// Take down the probes that an st-probe left which was killed together with its guardian,
    /// and trace nothing; whoever traces next does so, too
    #[arg(long, exclusive = true)]
    cleanup: bool,
    /// End when the process that started this one does
    #[arg(long)]
    die_with_parent: bool,
    /// Trace while this runs, and exit with its status; its output goes to standard error
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const EXIT_STATUS: &str =
    "Exit status: 0 done (or COMMAND's own, 128 + N if signal N killed it), 1 failed, 2 usage.";

/// Runs the program.
pub fn main() -> ExitCode {
    let args = args::parse::<Args>();
    let mut events = args.event;
    if events.is_empty() {
        events = Event::ALL.to_vec();
    }
    let followed = || (Event::ALL.iter().copied()).filter(|event| event.changes_directories());
    if !args.snapshot.is_empty() && !followed().all(|event| events.contains(&event)) {
        let followed = Event::list(followed());
        say!("a snapshot grows old: trace {followed} with --snapshot");
        return ExitCode::from(USAGE);
    }
    let options = Options {
        events,
        duration: args.duration,
        buffer_kb: args.buffer_size,
        snapshot: args.snapshot,
        answer: args.answer,
        die_with_parent: args.die_with_parent,
        command: args.command,
    };
    if !args.check && !args.cleanup && std::io::stdout().is_terminal() {
        say!("{}", to_terminal("st-probe", &[]));
        return ExitCode::from(USAGE);
    }
    let result = if args.cleanup {
        cleanup()
    } else if args.check {
        check(&options)
    } else {
        run::trace(options)
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say!("{error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn absolute(path: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("the path is not absolute: it must begin with /".into())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Takes down what killed ones left. The status is 1 if anything could not be.
fn cleanup() -> Result<u8> {
    let mut status = 0;
    let mut done = String::new();
    teardown::sweep(&run::tracefs()?, |owner, trouble| {
        if trouble.is_empty() {
            let pid = owner.pid;
            done += &format!("took down what process {pid}, which is gone, had left\n");
        }
        for error in trouble {
            say!("left behind by process {}: {error:#}", owner.pid);
            status = FAILED;
        }
    })?;
    std::io::stdout().write_all(done.as_bytes())?;
    Ok(status)
}

/// Prints what can be traced, and without which optional hooks. The status is 1 if an event cannot.
fn check(options: &Options) -> Result<u8> {
    // A signal must not leave the probes behind; it does not take long.
    let _signals = Signals::catch()?;
    let session = run::open(options)?;
    let mut table = format!("{:<9} {:<4} {:<6} HOOKS\n", "EVENT", "OK", "NAMES");
    for event in &options.events {
        let told_by = match event.class() {
            Class::Process => Subject::Service(Service::Process),
            _ => Subject::Event(*event),
        };
        let hooks = || session.hooks.iter().filter(|hook| hook.subject == told_by);
        if let Some(unavailable) = session
            .unavailable
            .iter()
            .find(|unavailable| unavailable.event == told_by)
        {
            table += &format!("{event:<9} {:<4} {:<6} {}\n", "no", "-", unavailable.why);
            continue;
        }
        let names = hooks()
            .map(|hook| hook.names)
            .filter(|&names| names > 0)
            .min();
        let mut points: Vec<&str> = hooks().map(|hook| hook.point.as_str()).collect();
        points.dedup();
        let names = names.map_or("-".to_owned(), |names| names.to_string());
        table += &format!("{event:<9} {:<4} {names:<6} {}\n", "yes", points.join(" "));
    }
    let mut absent: Vec<String> = session.absent.iter().map(Absent::to_string).collect();
    // A function may have one hook at its entry and one at its return.
    absent.dedup();
    for line in absent {
        table += &format!("{line}\n");
    }
    std::io::stdout().write_all(table.as_bytes())?;
    Ok(if session.unavailable.is_empty() {
        0
    } else {
        FAILED
    })
}
