//! Names of signals.

/// By number, from 1: `include/uapi/asm-generic/signal.h` of Linux 6.12, as x86, ARM, RISC-V,
/// s390 and most other architectures number them.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The name of a signal(7); real-time signals have none.
pub fn name(signal: u8) -> Option<&'static str> {
    NAMES.get(usize::from(signal).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names() {
        let names = [0, 1, 9, 15, 31, 32].map(super::name);
        let some = [
            Some("SIGHUP"),
            Some("SIGKILL"),
            Some("SIGTERM"),
            Some("SIGSYS"),
        ];
        assert_eq!(names[1..5], some);
        assert_eq!([names[0], names[5]], [None, None]);
    }
}
