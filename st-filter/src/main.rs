//! st-filter: passes the events that match.

use std::process::ExitCode;

fn main() -> ExitCode {
    st_filter::cli::main()
}
