//! Turns st-probe's raw stream into typed events.

use crate::decode::Decoder;
use crate::vocabulary::Event;
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
struct Args {
    /// Tell also when a process executes another program
    #[arg(long)]
    exec: bool,
    /// Tell also when a process ends
    #[arg(long)]
    exit: bool,
    /// Say also what cannot be given up on this machine: root, new privileges, all system calls
    /// but a few
    #[arg(short, long)]
    verbose: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let wanted = [(args.exec, Event::Exec), (args.exit, Event::Exit)];
    let wanted = wanted.into_iter().filter(|(wanted, _)| *wanted);
    let mut decoder = Decoder::new(wanted.map(|(_, kind)| kind).collect());
    crate::stage::main(&mut decoder, args.verbose)
}
