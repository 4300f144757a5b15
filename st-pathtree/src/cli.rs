//! The command line of st-pathtree.

use crate::args;
use crate::pathtree::{Ask, PathTree};
use crate::watch::Watch;
use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Resolves the paths of st-decode's events, and passes the events that a watch wants.
///
/// Without --watch all events pass. Events on sockets and processes always pass.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Watch PATH and all below it for EVENTS: names separated by commas, `all` or `none`.
    /// The deepest watch at or above a path decides
    #[arg(
        long,
        value_name = "EVENTS=PATH",
        value_parser = OsStringValueParser::new().try_map(|text| Watch::parse(text.as_bytes()))
    )]
    watch: Vec<Watch>,
    /// Write the paths of directories that come to be watched, and whose own directories are
    /// not known, to this named pipe, each ended by a NUL: for st-probe --answer
    #[arg(long, value_name = "PIPE")]
    ask: Option<PathBuf>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let (args, verbose) = args::parse_stage::<Args>();
    let ask = match args.ask.as_deref().map(pipe).transpose() {
        Ok(ask) => ask,
        Err(message) => {
            crate::stage::say("st-pathtree", &message);
            return ExitCode::FAILURE;
        }
    };
    crate::stage::main(&mut PathTree::new(args.watch, ask), verbose)
}

/// Opens the pipe for requests. The stage never waits for the pipe: if it is full, the request is
/// lost, and after a while the stage stops waiting for its answer.
fn pipe(path: &Path) -> Result<Ask, String> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK);
    let file = options.open(path);
    let mut file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    Ok(Box::new(move |path| {
        let _ = file.write_all(&[path, b"\0"].concat());
    }))
}
