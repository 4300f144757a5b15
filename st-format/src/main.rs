//! st-format: renders events for people and for programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    st_format::cli::main()
}
