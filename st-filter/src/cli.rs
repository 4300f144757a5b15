//! The command line of st-filter.

use crate::Filter;
use crate::expression::Expression;
use crate::family::{Family, Root};
use crate::glob::Glob;
use crate::instant;
use crate::predicate::{self, Network, PathPattern, Ports};
use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};
use st_pathtree::layers::Layers;
use st_pathtree::time::Unix;
use st_pathtree::vocabulary::Event;
use st_pathtree::{args, stage};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Passes the events that match, and every other record.
///
/// Reads the output of st-pathtree (or st-filter) from standard input, and writes all of it
/// but the events that do not match to standard output. Values of one option are joined by "or",
/// different options by "and": `--event create,mkdir --comm tar --comm git` is what tar or git
/// created. An event that lacks what an option is about (a connect has no path) does not match.
#[derive(Debug, Parser)]
#[command(version, after_help = PATTERNS)]
struct Args {
    #[arg(long, value_name = "EVENT,...", value_delimiter = ',', value_parser = predicate::event,
        help = format!("What happened: {}", Event::list(Event::ALL.iter().copied())))]
    event: Vec<Event>,

    /// The path, or the old path of a rename or link
    #[arg(long, value_name = "GLOB", value_parser = OsStringValueParser::new()
        .try_map(|pattern| PathPattern::new(pattern.as_bytes())))]
    path: Vec<PathPattern>,

    /// The id of the process
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(0..))]
    pid: Vec<i32>,

    /// The id of its parent
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(0..))]
    ppid: Vec<i32>,

    /// The id of the process, or of one that it descends from, even if processes between the two
    /// have ended; the word `command` is the process of the command that st-probe ran, and every
    /// process if it ran none. An event passes if this is not known of its process, as after a
    /// loss
    #[arg(long, value_name = "PID")]
    tree: Vec<Root>,

    /// The number of the real user
    #[arg(long, value_name = "UID")]
    uid: Vec<u32>,

    /// The number of the user who logged in
    #[arg(long, value_name = "UID")]
    loginuid: Vec<u32>,

    /// The path of the file that the process executes, as with --path
    #[arg(long, value_name = "GLOB", value_parser = OsStringValueParser::new()
        .try_map(|pattern| PathPattern::new(pattern.as_bytes())))]
    exe: Vec<PathPattern>,

    /// The id of the container, or the beginning of that
    #[arg(long, value_name = "ID", value_parser = OsStringValueParser::new())]
    container: Vec<OsString>,

    /// The cgroup of the process, as with --path
    #[arg(long, value_name = "GLOB", value_parser = OsStringValueParser::new()
        .try_map(|pattern| PathPattern::new(pattern.as_bytes())))]
    cgroup: Vec<PathPattern>,

    /// The name of the thread, of which the kernel keeps 15 bytes
    #[arg(long, value_name = "GLOB", value_parser = OsStringValueParser::new()
        .try_map(|pattern| Glob::name(pattern.as_bytes())))]
    comm: Vec<Glob>,

    /// The address, or the network that it is in (192.0.2.0/24, 2001:db8::/32). An IPv4-mapped
    /// IPv6 address is in the IPv4 network, too
    #[arg(long, value_name = "CIDR")]
    addr: Vec<Network>,

    /// The port, or a range of them (8000-8999)
    #[arg(long, value_name = "PORT")]
    port: Vec<Ports>,

    /// When it happened: then or later. An instant is written as RFC 3339 has it, or as a date, with or
    /// without a time, in the time zone of TZ or of this machine, or as -2h, so long before now
    #[arg(long, value_name = "INSTANT", value_parser = instant::read, allow_hyphen_values = true)]
    since: Option<Unix>,

    /// When it happened: before that, an instant as with --since
    #[arg(long, value_name = "INSTANT", value_parser = instant::read, allow_hyphen_values = true)]
    until: Option<Unix>,

    /// Leave out what a file system does on another to carry out an event that passes (overlayfs
    /// on its layers), as text does; where that event does not pass, what matches does
    #[arg(long)]
    no_layers: bool,

    /// Pass the events that do not match instead of those that do
    #[arg(long)]
    invert: bool,
}

const PATTERNS: &str = "\
Patterns: ? matches one character, * any number of characters, [a-z] one character of a set,
[!a-z] one that is not of the set, and \\ with a character after it that character. In paths
these do not match a /; ** does, and **/ matches any number of directories. A pattern without /
must match the last component: --path '*.rs'. One that begins with / must match the whole path:
--path '/etc/**'. Any other must match the end of the path, from the start of some component:
--path 'src/*.rs'. If a path is known in part, the pattern must match that part.";

impl From<Args> for Filter {
    fn from(args: Args) -> Self {
        let expression = Expression {
            events: args.event,
            since: args.since,
            until: args.until,
            pids: args.pid,
            ppids: args.ppid,
            uids: args.uid,
            loginuids: args.loginuid,
            comms: args.comm,
            exes: args.exe,
            containers: args.container,
            cgroups: args.cgroup,
            paths: args.path,
            addrs: args.addr,
            ports: args.port,
            invert: args.invert,
        };
        let family = (!args.tree.is_empty()).then(|| Family::new(args.tree));
        Self {
            expression,
            family,
            layers: args.no_layers.then(Layers::default),
        }
    }
}

/// Runs st-filter as a program.
pub fn main() -> ExitCode {
    let (args, verbose) = args::parse_stage::<Args>();
    stage::main(&mut Filter::from(args), verbose)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::ffi::OsStr;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["st-filter"].iter().chain(args))
    }

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_repeat_and_events_come_in_lists() {
        let args = parse(&[
            "--event",
            "create,mkdir",
            "--event",
            "connect",
            "--pid",
            "1",
            "--pid",
            "2",
            "--path",
            "/a/*",
            "--path",
            "b",
            "--comm",
            "c",
            "--comm",
            "d",
            "--addr",
            "::1",
            "--addr",
            "192.0.2.0/24",
            "--port",
            "80",
            "--port",
            "8000-8080",
            "--invert",
        ])
        .unwrap();
        assert_eq!(args.event, [Event::Create, Event::Mkdir, Event::Connect]);
        let Filter {
            expression,
            family,
            layers,
        } = Filter::from(args);
        assert!(family.is_none() && layers.is_none());
        assert_eq!(expression.pids, [1, 2]);
        assert_eq!((expression.paths.len(), expression.comms.len()), (2, 2));
        assert_eq!((expression.addrs.len(), expression.ports.len()), (2, 2));
        assert!(expression.invert);
    }

    #[test]
    fn mistakes_are_usage_errors_that_help() {
        for (args, hint) in [
            (["--event", "open"], "the events are create, mkdir"),
            (["--event", "create,"], "the events are create, mkdir"),
            (["--path", "/srv/"], "DIR/**"),
            (["--path", "[a"], "write \\["),
            (["--comm", "a\\"], "write two"),
            (["--addr", "localhost"], "192.0.2.0/24"),
            (["--addr", "192.0.2.0/40"], "0 to 32"),
            (["--port", "http"], "8000-8999"),
            (["--pid", "init"], "init"),
            (["--tree", "make"], "'command'"),
            (["--uid", "root"], "root"),
            (["--loginuid", "-1"], "-1"),
            (["--ppid", "x"], "x"),
            (["--cgroup", "/a/"], "DIR/**"),
            (["--since", "noon"], "2026-11-30T08:00:00Z"),
            (["--until", "-2"], "-2h"),
        ] {
            let error = parse(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn patterns_need_not_be_text() {
        let pattern = OsStr::from_bytes(b"/\xff*");
        let args = [OsStr::new("st-filter"), OsStr::new("--path"), pattern];
        let args = Args::try_parse_from(args).unwrap();
        assert!(args.path[0].matches(b"/\xffa"));
    }
}
