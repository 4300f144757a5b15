//! Attacks st-decode: its output is a whole stream, the same each time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_decode::decode::Decoder;
use st_decode::vocabulary::Event;

fuzz_target!(|input: &[u8]| {
    let output = fuzz::run(|| Decoder::new(vec![Event::Exec, Event::Exit]), input);
    fuzz::whole(&output);
});
