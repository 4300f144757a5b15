//! `st-pathtree`: see [`st_pathtree::cli`].

fn main() -> std::process::ExitCode {
    st_pathtree::cli::main()
}
