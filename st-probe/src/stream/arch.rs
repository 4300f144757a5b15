//! What differs between architectures, beyond what the compiler knows.
//!
//! st-probe runs on the machine that it traces, so the kernel's byte order is the compiler's
//! ([`crate::vocabulary::Order::NATIVE`]), and system calls have libc's numbers. Nothing else
//! depends on the architecture: a new one is a row here.

/// Bytes of a pointer and of a `long` in the kernel: all architectures here have 64 bits.
/// st-probe itself may be a program of 32 bits.
pub const LONG: u32 = 8;

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arch {
    /// `uname -m`, and the compiler's name for it ([`std::env::consts::ARCH`]).
    pub machine: &'static str,
    /// Registers of the first integer arguments, as the kernel's `regs_query_register_offset`
    /// names them (arch/*/kernel/ptrace.c).
    pub arguments: &'static [&'static str],
    /// The register of an integer result, named likewise: `regs_return_value()` in
    /// arch/*/include/asm/ptrace.h.
    pub result: &'static str,
    /// See [`crate::record::Header::stack_delta`].
    pub stack_delta: u64,
    /// The number by which seccomp(2) knows it: AUDIT_ARCH_* in include/uapi/linux/audit.h.
    pub audit: u32,
}

const ALL: [Arch; 2] = [
    Arch {
        machine: "x86_64",
        arguments: &["di", "si", "dx", "cx", "r8", "r9"],
        result: "ax",
        stack_delta: 8,
        audit: 0xc000_003e,
    },
    Arch {
        machine: "aarch64",
        arguments: &["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"],
        result: "x0",
        stack_delta: 0,
        audit: 0xc000_00b7,
    },
];

impl Arch {
    /// The architecture of this name, if st-probe knows it.
    pub fn of(machine: &str) -> Option<Self> {
        ALL.into_iter().find(|arch| arch.machine == machine)
    }
}
