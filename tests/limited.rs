//! Stages that have no more memory than they may need: beyond that they could not go on.

use crate::stages;
use std::process::{Child, Command, Stdio};

/// Starts commands that are joined by pipes, each with so many MiB, its own code and libraries
/// included. The first one's input and the last one's output are piped.
pub fn start<'a>(commands: impl IntoIterator<Item = (&'a str, u32)>) -> Child {
    let commands = commands.into_iter();
    let limited =
        commands.map(|(command, mib)| format!("(ulimit -v {}; exec {command})", mib << 10));
    Command::new("sh")
        .args(["-c", &limited.collect::<Vec<_>>().join(" | ")])
        .env("PATH", stages::path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell")
}
