//! The command line of st-pathtree.

use crate::pathtree::{Ask, PathTree};
use crate::stage::{self, Stage};
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
    /// Write to this named pipe the paths of directories that became watched and below which
    /// the directories are not known, each path ended by a NUL: for st-probe --answer
    #[arg(long, value_name = "PIPE")]
    ask: Option<PathBuf>,
}

/// Runs st-pathtree as a program.
pub fn main() -> ExitCode {
    let (args, verbose) = crate::args::parse_stage::<Args>();
    let ask = match args.ask.as_deref().map(pipe).transpose() {
        Ok(ask) => ask,
        Err(message) => {
            stage::say(PathTree::NAME, &message);
            return ExitCode::from(stage::FAILED);
        }
    };
    stage::main(&mut PathTree::new(args.watch, ask), verbose)
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
