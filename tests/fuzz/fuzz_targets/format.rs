//! Attacks the reader of event formats: every field has a name and a type of its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_probe::kernel::format::parse;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok((_, fields)) = parse(text) {
        assert!(fields.len() <= text.lines().count());
        assert!(
            fields
                .iter()
                .all(|field| !field.name.contains([' ', '\n', ';']))
        );
    }
});
