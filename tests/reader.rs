//! Each stage ends as soon as nobody reads its output, though its input is open and silent.

mod stages;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// The stages, and the options that they are started with.
const STAGES: [&[&str]; 5] = [
    &["st-decode"],
    &["st-pathtree"],
    &["st-filter", "--event", "create"],
    &["st-format"],
    &["st-format", "--output", "json"],
];
/// Far longer than a stage takes to end: a test that fails is not to hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn pipe() -> (OwnedFd, OwnedFd) {
    pipe2(OFlag::O_CLOEXEC).expect("a pipe")
}

fn start(stage: &[&str], path: &str, input: impl Into<Stdio>, output: impl Into<Stdio>) -> Child {
    Command::new(stage[0])
        .args(&stage[1..])
        .env("PATH", path)
        .stdin(input)
        .stdout(output)
        .spawn()
        .expect("a stage")
}

/// Whether the process ends, and well.
fn ends_well(mut child: Child) -> bool {
    let (tell, told) = channel();
    thread::spawn(move || tell.send(child.wait().expect("a child")));
    (told.recv_timeout(PATIENCE)).is_ok_and(|status| status.success())
}

#[test]
fn a_stage_ends_with_its_reader() {
    let path = stages::path();
    for stage in STAGES {
        let (input, _feed) = pipe();
        let (reader, output) = pipe();
        let child = start(stage, &path, input, output);
        drop(reader);
        assert!(ends_well(child), "{stage:?} before its first record");
    }
}

#[test]
fn a_pipeline_ends_with_its_reader() {
    let path = stages::path();
    let recording = include_bytes!("recordings/6.1.raw");
    let (mut input, feed) = pipe();
    let mut children = Vec::new();
    for stage in &STAGES[..4] {
        let (next, output) = pipe();
        children.push(start(stage, &path, input, output));
        input = next;
    }
    // Each of them has read something, and waits for more: the recording has no end.
    let mut feed = File::from(feed);
    let mut reader = File::from(input);
    thread::scope(|scope| {
        scope.spawn(|| {
            feed.write_all(&recording[..recording.len() - 1])
                .expect("fed")
        });
        let mut lines = [0; 1];
        reader.read_exact(&mut lines).expect("a line");
    });
    drop(reader);
    for (child, stage) in children.into_iter().zip(STAGES) {
        assert!(ends_well(child), "{stage:?}");
    }
    drop(feed);
}
