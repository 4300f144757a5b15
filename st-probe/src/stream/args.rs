//! The command lines of SysTracer's programs, as far as they are alike.

use clap::{Arg, ArgAction, CommandFactory, Parser};
use std::ffi::OsString;
use std::io::Write;
use std::process;

/// Of any of the later stages: [`crate::stage`] tells more.
const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 something was lost \
    (with st-format's --strict), 4 input cut or corrupt.";
const VERBOSE: &str = "verbose";

/// The arguments of this program, by [`clap`]. Help and version are printed, and a usage error
/// is told on standard error behind the program's name; then the program ends, with status 2
/// after an error.
pub fn parse<A: Parser>() -> A {
    A::try_parse().unwrap_or_else(|error| end(&A::command(), &error))
}

/// The arguments of a later stage, and whether it is to be verbose: an option that each of
/// them has. [`crate::stage::main`] takes that. As [`parse`] otherwise.
pub fn parse_stage<A: Parser>() -> (A, bool) {
    let command = later_stage::<A>();
    split(&command, std::env::args_os()).unwrap_or_else(|error| end(&command, &error))
}

/// The command of a later stage: its own options, and what all of them have.
fn later_stage<A: CommandFactory>() -> clap::Command {
    let verbose = Arg::new(VERBOSE)
        .short('v')
        .long(VERBOSE)
        .action(ArgAction::SetTrue)
        .help(
            "Say also what cannot be given up on this machine: root, new privileges, all system \
             calls but a few",
        );
    let command = A::command();
    let help = match command.get_after_help() {
        Some(own) => format!("{own}\n\n{EXIT_STATUS}"),
        None => EXIT_STATUS.to_owned(),
    };
    command.arg(verbose).after_help(help)
}

fn split<A: Parser>(
    command: &clap::Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<(A, bool), clap::Error> {
    let matches = command.clone().try_get_matches_from(args)?;
    Ok((A::from_arg_matches(&matches)?, matches.get_flag(VERBOSE)))
}

/// Tells the error, or prints the help or version that was asked for instead of arguments.
fn end(command: &clap::Command, error: &clap::Error) -> ! {
    if error.use_stderr() {
        let message = message(command.get_name(), error);
        // Nobody is left to tell when standard error is gone.
        let _ = std::io::stderr().write_all(message.as_bytes());
        process::exit(error.exit_code());
    }
    error.exit()
}

/// A usage error as all of SysTracer's programs tell theirs: `st-filter: invalid value ...`.
pub fn message(program: &str, error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    format!("{program}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does something.
    #[derive(Debug, Parser)]
    #[command(name = "st-any", after_help = "Its own help.")]
    struct Args {
        /// How much
        #[arg(long)]
        much: Option<u8>,
    }

    fn parsed(args: &[&str]) -> Result<(Args, bool), clap::Error> {
        let args = ["st-any"].iter().chain(args).map(OsString::from);
        split(&later_stage::<Args>(), args)
    }

    #[test]
    fn every_later_stage_can_be_verbose() {
        later_stage::<Args>().debug_assert();
        let (args, verbose) = parsed(&["--much", "7", "-v"]).unwrap();
        assert_eq!((args.much, verbose), (Some(7), true));
        let (args, verbose) = parsed(&[]).unwrap();
        assert_eq!((args.much, verbose), (None, false));
    }

    #[test]
    fn its_help_ends_with_the_exit_statuses() {
        let help = parsed(&["--help"]).unwrap_err();
        assert!(!help.use_stderr());
        // Its lines are broken to the width of the terminal.
        let help: Vec<String> = help
            .to_string()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let help = help.join(" ");
        assert!(
            help.ends_with(&format!("Its own help. {EXIT_STATUS}")),
            "{help}"
        );
    }

    #[test]
    fn an_error_names_the_program_and_the_option() {
        let error = parsed(&["--much", "300"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = message("st-any", &error);
        assert!(
            message.starts_with("st-any: invalid value '300' for '--much <MUCH>': "),
            "{message}"
        );
    }
}
