//! All that differs between architectures.

/// How a function's arguments and stack pointer are named in a probe definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    /// `uname -m`.
    pub machine: &'static str,
    /// Registers of the first integer arguments, as the kernel's `regs_query_register_offset`
    /// names them (arch/*/kernel/ptrace.c).
    pub arguments: &'static [&'static str],
    /// See [`crate::stream::record::Header::stack_delta`].
    pub stack_delta: u64,
}

const ALL: [Arch; 2] = [
    Arch {
        machine: "x86_64",
        arguments: &["di", "si", "dx", "cx", "r8", "r9"],
        stack_delta: 8,
    },
    Arch {
        machine: "aarch64",
        arguments: &["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"],
        stack_delta: 0,
    },
];

impl Arch {
    /// The architecture that `uname -m` names, if st-probe knows it.
    pub fn of(machine: &str) -> Option<Self> {
        ALL.into_iter().find(|arch| arch.machine == machine)
    }
}
