//! `st-probe`: see [`st_probe::cli`].

fn main() -> std::process::ExitCode {
    st_probe::cli::main()
}
