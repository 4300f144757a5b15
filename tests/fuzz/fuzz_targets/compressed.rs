//! Attacks what reads compressed streams: it ends, the same however the input comes up to what is
//! corrupt, and keeps to its memory; what is plain is left as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_probe::compressed::Plain;
use std::io::Read;

/// Some bytes of input can stand for as many MiB: enough is enough.
const ENOUGH: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let read = |size| {
        let mut plain = Plain::new(fuzz::Pieces(input, size)).take(ENOUGH);
        let mut bytes = Vec::new();
        let error = plain.read_to_end(&mut bytes).err();
        let plain = plain.into_inner();
        (
            bytes,
            error.map(|error| error.to_string()),
            plain.is_compressed(),
        )
    };
    let (bytes, error, compressed) = read(usize::MAX);
    let (again, other, same) = read(7);
    assert!(
        error == other && compressed == same,
        "two runs differ in how they end"
    );
    // Of the block that is corrupt, more may come if it comes in pieces.
    let is_prefix = error.is_some() && (bytes.starts_with(&again) || again.starts_with(&bytes));
    assert!(bytes == again || is_prefix, "two runs differ");
    assert!(compressed || error.is_none() && input.starts_with(&bytes));
});
