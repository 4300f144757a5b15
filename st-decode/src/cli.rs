//! Turns st-probe's raw stream into typed events.

use crate::args;
use crate::decode::Decoder;
use crate::vocabulary::Event;
use clap::Parser;
use std::process::ExitCode;

/// Turns st-probe's raw stream on standard input into events on standard output.
///
/// Only operations that succeeded become events; a connect does with its result.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Tell also when a process executes another program
    #[arg(long)]
    exec: bool,
    /// Tell also when a process ends
    #[arg(long)]
    exit: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let (args, verbose) = args::parse_stage::<Args>();
    let wanted = [(args.exec, Event::Exec), (args.exit, Event::Exit)];
    let wanted = wanted.into_iter().filter(|(wanted, _)| *wanted);
    let mut decoder = Decoder::new(wanted.map(|(_, kind)| kind).collect());
    crate::stage::main(&mut decoder, verbose)
}
