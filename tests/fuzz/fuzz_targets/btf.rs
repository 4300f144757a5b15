//! Attacks the reader of the kernel's type information, and what plans probes by it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_probe::kernel::btf::Btf;
use st_probe::kernel::hooks::hooks;
use st_probe::kernel::plan::plan;
use st_probe::stream::arch::Arch;

fuzz_target!(|data: &[u8]| {
    for data in [Some(data.to_vec()), Btf::joined(data, data)] {
        let Some(Ok(btf)) = data.map(Btf::parse) else {
            continue;
        };
        for machine in ["x86_64", "aarch64"] {
            let arch = Arch::of(machine).expect("a known machine");
            let probes = hooks().flat_map(|hook| plan(hook, &btf, arch, "group"));
            for definition in probes.flat_map(|probe| probe.definitions) {
                assert!(!definition.line.contains('\n'));
            }
        }
    }
});
