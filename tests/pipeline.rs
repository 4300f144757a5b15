//! Runs the cases below `cases/` against the built stages, without root.
//!
//! A case is a file with commands and what they print:
//!
//! ```text
//! # what it shows
//! $ a shell command, run in the repository's root with the stages in PATH
//! its standard output
//! ! its standard error, each line behind "! "
//! ? its exit status, where that is not 0
//! ```
//!
//! `UPDATE_CASES=1` writes down what they print now, to be looked at with `git diff`.

mod stages;

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    let path = stages::path();
    let mut cases: Vec<_> = fs::read_dir(root.join("tests/cases"))
        .expect("the cases")
        .map(|entry| entry.expect("a case").path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut failed = Vec::new();
    for case in &cases {
        let expected = fs::read_to_string(case).expect("a readable case");
        let actual = rerun(&expected, root, &path);
        if std::env::var_os("UPDATE_CASES").is_some() {
            fs::write(case, actual).expect("a writable case");
        } else if actual != expected {
            failed.push(format!(
                "{}:\n{}",
                case.display(),
                difference(&expected, &actual)
            ));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} cases failed\n\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

/// A case with what its commands print now.
fn rerun(case: &str, root: &Path, path: &str) -> String {
    let mut actual = String::new();
    for line in case
        .lines()
        .filter(|line| line.starts_with("# ") || line.starts_with("$ ") || line.is_empty())
    {
        actual += line;
        actual.push('\n');
        let Some(command) = line.strip_prefix("$ ") else {
            continue;
        };
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(root)
            .env("PATH", path)
            .output()
            .expect("a shell");
        actual += &String::from_utf8(output.stdout).expect("UTF-8");
        for line in String::from_utf8(output.stderr).expect("UTF-8").lines() {
            actual += &format!("! {line}\n");
        }
        if !output.status.success() {
            actual += &format!("? {}\n", output.status.code().expect("no signal"));
        }
    }
    actual
}

/// The lines that only one of the two has.
fn difference(expected: &str, actual: &str) -> String {
    let only = |mark: &str, these: &str, those: &str| -> String {
        these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line))
            .map(|line| format!("{mark} {line}\n"))
            .collect()
    };
    only("-", expected, actual) + &only("+", actual, expected)
}
