//! Resolves the paths of events and passes those that are watched.

use crate::resolve::PathTree;
use crate::watch::Watch;
use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// Resolves the paths of st-decode's events, and passes those that are watched.
///
/// Without --watch all events pass. Events on sockets always do.
#[derive(Parser)]
#[command(
    name = "st-pathtree",
    version,
    after_help = "Exit status: 0 done, 1 failed, 2 usage, 4 input cut or corrupt."
)]
struct Args {
    /// Watch PATH and all below it for EVENTS: names separated by commas, `all` or `none`.
    /// The deepest watch at or above a path decides
    #[arg(
        long,
        value_name = "EVENTS=PATH",
        value_parser = OsStringValueParser::new().try_map(|text| Watch::parse(text.as_bytes()))
    )]
    watch: Vec<Watch>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    crate::stage::main(&mut PathTree::new(args.watch))
}
