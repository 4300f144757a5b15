//! The command line of st-format.

use crate::csv::Csv;
use crate::ecs::Ecs;
use crate::json::Json;
use crate::ocsf::Ocsf;
use crate::rows::Rows;
use crate::summary::Summary;
use crate::template::{Lines, Template};
use crate::text::{Show, Text};
use crate::time::Notation;
use clap::{Parser, ValueEnum};
use jiff::tz::TimeZone;
use st_pathtree::{args, stage};
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// Renders events for people and for programs.
///
/// Reads the output of st-pathtree (or st-filter) from standard input, and writes one line for
/// each event to standard output. Names of files and processes are written so that they can be
/// printed on a terminal, whatever bytes they have.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// What to write
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    output: Output,

    /// Write lines of text after this template, as '{time} {event} {comm} {path}': the names are
    /// those of JSON's fields, {{ and }} are braces
    #[arg(
        long,
        value_name = "TEMPLATE",
        value_parser = Template::parse,
        conflicts_with_all = ["output", "color", "show"]
    )]
    template: Option<Template>,

    /// Write a summary also every so many seconds of the trace
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,

    /// Whether text has colours; auto: if standard output is a terminal, TERM is not dumb, and
    /// NO_COLOR is not set
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,

    /// What text shows of a process beside its name and id, at the end of the line
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    show: Vec<Show>,

    /// How text and templates tell the time
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Time::Utc)]
    time: Time,

    /// Show in text, and count in a summary, also what a file system does on another to carry out an
    /// operation that is shown: overlayfs on its layers. Other outputs have it, with the number of
    /// that as layer_of
    #[arg(long)]
    layers: bool,

    /// Exit with status 3 if records were lost. With or without this, there is a line where they
    /// are missing, and a summary on standard error at the end
    #[arg(long)]
    strict: bool,
}

/// What st-format writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line for people
    Text,
    /// A JSON object (NDJSON)
    Json,
    /// A row of CSV (RFC 4180), below a header row
    Csv,
    /// An object (NDJSON) of the Elastic Common Schema 9.4.0
    Ecs,
    /// An object (NDJSON) of the Open Cybersecurity Schema Framework 1.8.0
    Ocsf,
    /// What was done most, by whom and where, and what is left of it: 80 columns, at the end
    Summary,
}

/// How text tells the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Time {
    /// RFC 3339 in UTC
    Utc,
    /// RFC 3339 in the time zone of TZ, or else of this machine
    Local,
    /// Seconds since tracing began
    Relative,
    /// Seconds since the Unix epoch
    Unix,
}

impl Time {
    /// The same with the time zone, as this machine has it. The error says why it has none.
    fn notation(self) -> Result<Notation, String> {
        Ok(match self {
            Self::Utc => Notation::Utc,
            Self::Local => Notation::In(TimeZone::try_system().map_err(|error| {
                format!("--time local: cannot find the time zone: {error}: set TZ, or choose utc")
            })?),
            Self::Relative => Notation::Relative,
            Self::Unix => Notation::Unix,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether what goes to standard output is to have colours.
    fn is_wanted(self) -> bool {
        self.wanted(
            std::io::stdout().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
            std::env::var_os("TERM").as_deref(),
        )
    }

    /// Whether text is to have colours. `terminal`: whether standard output is one; `no_color`
    /// (<https://no-color.org>) and `term`: the variables of the environment.
    fn wanted(self, terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                terminal
                    && no_color.is_none_or(OsStr::is_empty)
                    && term.is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// Runs st-format as a program.
pub fn main() -> ExitCode {
    let (args, verbose) = args::parse_stage::<Args>();
    if args.every.is_some() && args.output != Output::Summary {
        stage::say(crate::NAME, "--every is for --output summary");
        return ExitCode::from(stage::USAGE);
    }
    // Before the stage gives up to open files.
    let notation = match args.time.notation() {
        Ok(notation) => notation,
        Err(error) => {
            stage::say(crate::NAME, &error);
            return ExitCode::from(stage::FAILED);
        }
    };
    if let Some(template) = args.template {
        let lines = Lines::new(template, notation, args.layers);
        return stage::main(&mut Rows::new(lines, args.strict), verbose);
    }
    match args.output {
        Output::Json => stage::main(&mut Json::default().strict(args.strict), verbose),
        Output::Csv => stage::main(&mut Rows::new(Csv::default(), args.strict), verbose),
        Output::Ecs => stage::main(&mut Rows::new(Ecs::default(), args.strict), verbose),
        Output::Ocsf => stage::main(&mut Rows::new(Ocsf::default(), args.strict), verbose),
        Output::Summary => {
            let every = args.every.map(Duration::from_secs);
            let summary = Summary::new(args.color.is_wanted(), every, args.layers);
            stage::main(&mut Rows::new(summary, args.strict), verbose)
        }
        Output::Text => {
            let text = Text::new(args.color.is_wanted(), args.show).layers(args.layers);
            let mut text = text.time(notation).strict(args.strict);
            stage::main(&mut text, verbose)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn text_without_being_asked() {
        let args = Args::try_parse_from(["st-format"]).ok().unwrap();
        assert_eq!((args.output, args.color), (Output::Text, Color::Auto));
        let args = Args::try_parse_from(["st-format", "--output", "json"])
            .ok()
            .unwrap();
        assert_eq!(args.output, Output::Json);
    }

    #[test]
    fn mistakes_are_usage_errors_that_help() {
        for (option, hint) in [
            ("--output", "text, json, csv, ecs, ocsf, summary"),
            ("--color", "auto, always, never"),
            ("--template", "write {{ for one"),
        ] {
            let error = Args::try_parse_from(["st-format", option, "x{"])
                .err()
                .unwrap();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let auto = |terminal, no_color: Option<&str>, term: Option<&str>| {
            Color::Auto.wanted(terminal, no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(auto(true, None, Some("xterm")));
        assert!(auto(true, Some(""), None));
        assert!(!auto(false, None, Some("xterm")));
        assert!(!auto(true, Some("1"), Some("xterm")));
        assert!(!auto(true, None, Some("dumb")));
    }

    #[test]
    fn no_color_does_not_overrule_an_option() {
        let no_color = Some(OsStr::new("1"));
        assert!(Color::Always.wanted(false, no_color, Some(OsStr::new("dumb"))));
        assert!(!Color::Never.wanted(true, None, None));
    }
}
