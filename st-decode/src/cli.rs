//! The command line of st-decode.

use crate::decode::Decoder;
use crate::vocabulary::Event;
use crate::{args, stage};
use clap::Parser;
use std::process::ExitCode;

/// Turns st-probe's raw stream on standard input into events on standard output.
///
/// Only operations that succeeded become events, and each connect, with its result.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Tell also of processes that execute another program
    #[arg(long)]
    exec: bool,
    /// Tell also of processes that end
    #[arg(long)]
    exit: bool,
}

/// Runs st-decode as a program.
pub fn main() -> ExitCode {
    let (args, verbose) = args::parse_stage::<Args>();
    let mut events = Vec::new();
    if args.exec {
        events.push(Event::Exec);
    }
    if args.exit {
        events.push(Event::Exit);
    }
    stage::main(&mut Decoder::new(events), verbose)
}
