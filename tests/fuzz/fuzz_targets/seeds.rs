//! Attacks nothing: cuts a recording, as it reaches each stage, into inputs for that stage's
//! target, in folders of these names below $SEEDS. Built as a target since nothing else links
//! with the fuzzer's hooks in the stages. What is no recording makes none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_decode::decode::Decoder;
use st_decode::vocabulary::Event;
use st_pathtree::pathtree::PathTree;
use std::fs;
use std::path::Path;

/// Bytes of records in an input: large enough for an event with all that leads to it.
const SIZE: usize = 4 << 10;

fuzz_target!(|recording: &[u8]| {
    let seeds = std::env::var_os("SEEDS").expect("SEEDS=FOLDER in the environment");
    let Some(number) = fuzz::number(recording) else {
        return;
    };
    let write = |target: &str, stream: &[u8]| {
        let folder = Path::new(&seeds).join(target);
        fs::create_dir_all(&folder).expect("a folder");
        let mut pieces = vec![vec![number]];
        for record in &fuzz::whole(stream)[1..] {
            if pieces.last().is_some_and(|piece| piece.len() > SIZE) {
                pieces.push(vec![number]);
            }
            pieces
                .last_mut()
                .expect("a piece")
                .extend_from_slice(record);
        }
        for (place, piece) in pieces.iter().enumerate() {
            fs::write(folder.join(format!("{number}-{place}")), piece).expect("a file");
        }
    };
    write("decode", recording);
    let events = fuzz::run(|| Decoder::new(vec![Event::Exec, Event::Exit]), recording);
    write("pathtree", &events);
    let paths = fuzz::run(|| PathTree::new(Vec::new(), None), &events);
    for target in ["filter", "format_text", "format_json", "format_rows"] {
        write(target, &paths);
    }
});
