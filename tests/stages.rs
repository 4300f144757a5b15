//! The built stages, for tests that run them as programs.

use std::path::Path;
use std::process::Command;

/// Builds them; a PATH that begins with their folder.
pub fn path() -> String {
    let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/release");
    let output = Command::new(release).output().expect("scripts/release");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    let stages = String::from_utf8(output.stdout).expect("a path");
    let others = std::env::var("PATH").expect("a PATH");
    format!("{}:{others}", stages.trim())
}
