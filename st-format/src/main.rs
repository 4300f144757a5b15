//! st-format: renders events as text or JSON.

use std::process::ExitCode;

fn main() -> ExitCode {
    st_format::cli::main()
}
