//! Turns st-probe's raw stream into typed events.

use crate::decode::Decoder;
use clap::Parser;
use std::process::ExitCode;

/// Turns st-probe's raw stream on standard input into events on standard output.
///
/// Only operations that succeeded become events; a connect does with its result.
#[derive(Parser)]
#[command(
    name = "st-decode",
    version,
    after_help = "Exit status: 0 done, 1 failed, 2 usage, 4 input cut or corrupt."
)]
struct Args {}

/// Runs the program.
pub fn main() -> ExitCode {
    let Args {} = Args::parse();
    crate::stage::main(&mut Decoder::default())
}
