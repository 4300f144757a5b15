//! `systracer`: the whole pipeline as one command.
//!
//! It opens the pipes, starts the stages and waits for them. The stages do the work: see
//! [`arguments`] for what each of them is told, [`pipeline`] for how they are linked, and
//! [`status`] for what exit status comes of theirs.

mod arguments;
mod children;
mod compressor;
mod options;
mod pipeline;
mod programs;
mod recorder;
mod recording;
mod status;
#[cfg(test)]
mod testing;
mod watch;

use st_probe::stage::FAILED;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(refused) => return options::report(&refused),
    };
    match pipeline::run(&options) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Tells people something.
fn say(message: &str) {
    st_probe::stage::say("systracer", message);
}
