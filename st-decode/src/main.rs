//! `st-decode`: see [`st_decode::cli`].

fn main() -> std::process::ExitCode {
    st_decode::cli::main()
}
