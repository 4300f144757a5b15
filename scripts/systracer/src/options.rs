//! The command line.

use crate::watch::Watched;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use st_format::cli::{Output, Time};
use st_format::template::Template;
use st_format::text::Show;
use st_probe::args;
use st_probe::cli::{BUFFER_SIZE, BUFFER_SIZES};
use st_probe::stage::USAGE;
use st_probe::vocabulary::{Class, Event};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Shows file and network operations as they happen, until Ctrl-C or COMMAND ends.
///
/// Needs root, except with --replay. Without --connect, --listen, --watch, --exec or --exit it
/// shows all operations on files and sockets. With COMMAND, it shows what that and its descendants
/// do, and after a loss what nobody knows who did.
#[derive(Debug, Parser)]
#[command(name = "systracer", version, args_override_self = true, after_help = EXIT_STATUS)]
pub struct Options {
    /// Show connections opened
    #[arg(long)]
    pub connect: bool,

    /// Show sockets that begin and cease to listen
    #[arg(long)]
    pub listen: bool,

    #[arg(
        long,
        value_name = "EVENTS=PATH",
        value_parser = OsStringValueParser::new().try_map(|value| Watched::parse(&value)),
        help = format!(
            "Show operations on PATH and all below it (repeatable); EVENTS is a list of {}, \
             or all or none alone; the deepest watch decides",
            Event::list(Event::of(Class::File))
        )
    )]
    pub watch: Vec<Watched>,

    /// Show what --connect and --listen do, and all operations on files unless --watch says which
    #[arg(long)]
    pub all: bool,

    /// Show also when a process executes another program
    #[arg(long)]
    pub exec: bool,

    /// Show also when a process ends
    #[arg(long)]
    pub exit: bool,

    /// Show also of each process in text, separated by commas
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with_all = ["json", "summary"]
    )]
    pub show: Vec<Show>,

    /// How text tells the time
    #[arg(long, value_enum, value_name = "HOW", conflicts_with_all = ["json", "summary"])]
    pub time: Option<Time>,

    /// Show in text, and count in a summary, also what a file system does on another to carry out an
    /// operation that is shown: overlayfs on its layers
    #[arg(long, conflicts_with = "json")]
    pub layers: bool,

    /// Write one JSON object a line instead of text
    #[arg(long, conflicts_with = "output")]
    pub json: bool,

    /// What to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,

    /// Write lines of text after this template, as '{time} {event} {comm} {path}': the names are
    /// those of JSON's fields, {{ and }} are braces
    #[arg(
        long,
        value_name = "TEMPLATE",
        value_parser = |template: &str| Template::parse(template).map(|_| template.to_owned()),
        conflicts_with_all = ["json", "output", "show"]
    )]
    pub template: Option<String>,

    /// Write a summary at the end instead: what was done most, by whom and where, and what is left
    /// of it
    #[arg(long, conflicts_with_all = ["json", "output", "template"])]
    pub summary: bool,

    /// Write a summary also every so many seconds of the trace
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..),
        requires = "summary"
    )]
    pub every: Option<u64>,

    /// Exit with 3 if something was lost
    #[arg(long)]
    pub strict: bool,

    #[arg(
        long,
        value_name = "KIB",
        value_parser = clap::value_parser!(u64).range(BUFFER_SIZES),
        help = format!(
            "Ring buffer of each CPU ({BUFFER_SIZE}): what comes too fast for the stages waits there"
        )
    )]
    pub buffer_size: Option<u64>,

    /// Keep the raw stream in FILE, compressed by zstd; FILE must not exist yet, and only its owner
    /// can read it, since arguments of processes may hold secrets
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Replace the FILE of --record if there is one, once tracing has begun
    #[arg(long, requires = "record")]
    pub overwrite: bool,

    /// Show a recording instead of this machine; it may be plain, or compressed by zstd
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["record", "overwrite", "buffer_size", "command"]
    )]
    pub replay: Option<PathBuf>,

    /// Say also what the stages cannot give up on this machine
    #[arg(long)]
    pub verbose: bool,

    /// Trace while this runs; its standard output goes to standard error
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

const EXIT_STATUS: &str = "\
Exit status: the worst of the stages and COMMAND; 0 done, 1 failed, 2 usage,
3 something was lost (with --strict), 4 a recording was cut or corrupt.";

impl Options {
    /// The events to trace, or to show of a recording.
    pub fn events(&self) -> Vec<Event> {
        let files = !self.watch.is_empty();
        let some = self.connect || self.listen || files || self.exec || self.exit;
        let all = self.all || !some;
        let is_wanted = |event: &Event| match event.class() {
            Class::File => all || files,
            Class::Socket if *event == Event::Connect => all || self.connect,
            Class::Socket => all || self.listen,
            Class::Process if *event == Event::Exec => self.exec,
            Class::Process => self.exit,
            Class::Other => false,
        };
        Event::ALL.iter().copied().filter(is_wanted).collect()
    }

    /// The directories below which st-probe looks at each directory. What is not watched by path
    /// is watched everywhere.
    pub fn snapshots(&self) -> Vec<&Path> {
        let is_of_file = |event: &Event| event.class() == Class::File;
        if self.watch.is_empty() && self.events().iter().any(is_of_file) {
            return vec![Path::new("/")];
        }
        let wanted = self.watch.iter().filter(|watch| watch.wants_events());
        wanted.map(|watch| watch.path.as_path()).collect()
    }
}

/// Parses the command line. What cannot be done is refused here, before anything is started.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Options, clap::Error> {
    let options = Options::try_parse_from(words)?;
    let is_text = options.output.is_none_or(|output| output == Output::Text);
    let is_for_people = is_text || options.output == Some(Output::Summary);
    let refused = [
        ("--show", !options.show.is_empty() && !is_text),
        ("--time", options.time.is_some() && !is_text),
        ("--layers", options.layers && !is_for_people),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, is_refused)| *is_refused) {
        let what =
            format!("the argument '{name}' is for text, and --output asks for another format\n");
        return Err(Options::command().error(ErrorKind::ArgumentConflict, what));
    }
    Ok(options)
}

/// Prints the help, the version or what is wrong; returns the exit status.
pub fn report(refused: &clap::Error) -> ExitCode {
    if refused.use_stderr() {
        // Nobody is left to tell when standard error is gone.
        let _ = io::stderr().write_all(message(refused).as_bytes());
        return ExitCode::from(USAGE);
    }
    match refused.print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say(&format!("cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What is wrong, by the name of the program.
fn message(refused: &clap::Error) -> String {
    if let Some(word) = stray(refused) {
        return format!(
            "systracer: unexpected argument '{word}': to watch a path write --watch all={word}, \
             to trace a command write -- {word}\n\n\
             For more information, try '--help'.\n"
        );
    }
    args::message("systracer", refused)
}

/// The word that is no option, nor the value of one, if that is what is wrong.
fn stray(refused: &clap::Error) -> Option<&str> {
    match (refused.kind(), refused.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word)))
            if !word.starts_with('-') =>
        {
            Some(word)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, clap::Error> {
        let words = ["systracer"].iter().chain(words);
        super::parse(words.map(OsString::from))
    }

    fn events(words: &[&str]) -> String {
        let events = parse(words).unwrap().events();
        let names: Vec<_> = events.into_iter().map(Event::name).collect();
        names.join(",")
    }

    const FILES: &str = "create,mkdir,mknod,delete,rmdir,rename,attrib,symlink,link";

    #[test]
    fn the_command_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn options_select_events() {
        let all = format!("{FILES},connect,listen,unlisten");
        for (words, expected) in [
            (&[][..], all.as_str()),
            (&["--all"], &all),
            (&["--json", "--strict"], &all),
            (&["--all", "--connect"], &all),
            (&["--all", "--watch", "none=/"], &all),
            (&["--all", "--exec"], &format!("{all},exec")),
            (&["--watch", "create=/"], FILES),
            (&["--connect"], "connect"),
            (&["--listen"], "listen,unlisten"),
            (&["--exit", "--exec"], "exec,exit"),
            (
                &["--watch", "all=/", "--connect", "--exit"],
                &format!("{FILES},connect,exit"),
            ),
        ] {
            assert_eq!(events(words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_snapshot_is_taken_of_what_is_watched() {
        for (words, expected) in [
            (&[][..], &["/"][..]),
            (&["--all"], &["/"]),
            (&["--connect"], &[]),
            (&["--exec", "--exit"], &[]),
            (&["--watch", "none=/"], &[]),
            (&["--all", "--watch", "none=/"], &[]),
            (
                &["--watch", "none=/", "--watch", "create=/dev/x"],
                &["/dev/x"],
            ),
        ] {
            let options = parse(words).unwrap();
            let paths: Vec<_> = expected.iter().map(Path::new).collect();
            assert_eq!(options.snapshots(), paths, "{words:?}");
        }
    }

    #[test]
    fn what_means_nothing_together_is_refused_by_name() {
        for (words, named) in [
            (&["--buffer-size", "x"][..], &["'x'", "--buffer-size"][..]),
            (&["--buffer-size", "7"], &["7", "--buffer-size"]),
            (&["--show", "pid"], &["'pid'", "--show", "container"]),
            (&["--json", "--show", "uid"], &["--json", "--show"]),
            (&["--json", "--layers"], &["--json", "--layers"]),
            (&["--json", "--output", "csv"], &["--json", "--output"]),
            (&["--output", "xml"], &["'xml'", "text, json, csv"]),
            (&["--output", "csv", "--layers"], &["--output", "--layers"]),
            (
                &["--output", "json", "--show", "uid"],
                &["--output", "--show"],
            ),
            (&["--summary", "--json"], &["--summary", "--json"]),
            (&["--summary", "--show", "uid"], &["--summary", "--show"]),
            (&["--every", "5"], &["--summary"]),
            (&["--summary", "--every", "0"], &["'0'", "--every"]),
            (&["--json", "--time", "unix"], &["--json", "--time"]),
            (&["--output", "ecs", "--time", "local"], &["--time"]),
            (&["--time", "utc+1"], &["'utc+1'", "relative"]),
            (
                &["--template", "{path}", "--json"],
                &["--template", "--json"],
            ),
            (&["--template", "{x}"], &["'x' is no field", "path"]),
            (&["--overwrite"], &["--record"]),
            (
                &["--replay", "f", "--overwrite"],
                &["--replay", "--overwrite"],
            ),
            (
                &["--replay", "f", "--record", "g"],
                &["--replay", "--record"],
            ),
            (
                &["--replay", "f", "--buffer-size", "64"],
                &["--replay", "--buffer-size"],
            ),
            (&["--replay", "f", "--", "make"], &["--replay", "COMMAND"]),
            (&["--replay"], &["--replay"]),
            (&["--watch"], &["--watch"]),
            (&["--watch", "all="], &["--watch", "must begin with /"]),
            (&["--watch", "/etc"], &["--watch", "all=/etc"]),
            (&["--watch", "open=/etc"], &["--watch", "'open'", "create"]),
            (&["--watch", "connect=/"], &["--watch", "'connect'"]),
            (&["/etc"], &["'/etc'", "--watch all=/etc", "-- /etc"]),
            (&["--listen", "make"], &["'make'", "-- make"]),
            (&["--nonsense"], &["'--nonsense'"]),
        ] {
            let refused = parse(words).expect_err(&words.join(" "));
            let message = message(&refused);
            assert_eq!(refused.exit_code(), 2, "{words:?}");
            assert!(message.starts_with("systracer: "), "{message}");
            assert!(!message.contains("error:"), "{message}");
            for name in named {
                assert!(message.contains(name), "{words:?}: {message}");
            }
        }
    }

    #[test]
    fn an_option_may_be_given_again() {
        let words = ["--json", "--json", "--replay", "a", "--replay=b"];
        let options = parse(&words).unwrap();
        assert_eq!(options.replay.as_deref(), Some(Path::new("b")));
        let options = parse(&["--show", "uid,exe", "--show", "argv"]).unwrap();
        assert_eq!(options.show, [Show::Uid, Show::Exe, Show::Argv]);
    }

    #[test]
    fn what_follows_two_dashes_is_the_command() {
        let options = parse(&["--record", "f", "--", "make", "--json", "--", "x"]).unwrap();
        assert_eq!(options.command, ["make", "--json", "--", "x"]);
        assert!(!options.json);
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for (word, text) in [
            ("--help", "--watch <EVENTS=PATH>"),
            ("--version", "systracer "),
        ] {
            let shown = parse(&[word]).unwrap_err();
            assert!(!shown.use_stderr());
            assert!(shown.to_string().contains(text), "{shown}");
        }
    }
}
