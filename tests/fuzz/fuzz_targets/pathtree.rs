//! Attacks st-pathtree: its output is a whole stream, the same each time; watches only take
//! from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_pathtree::pathtree::PathTree;
use st_pathtree::watch::Watch;

const WATCHES: [&str; 4] = [
    "all=/srv",
    "none=/srv/log",
    "create,rename=/srv/www",
    "attrib=/dev",
];

fuzz_target!(|input: &[u8]| {
    let all = fuzz::run(|| PathTree::new(Vec::new(), None), input);
    let watches = WATCHES.map(|watch| Watch::parse(watch.as_bytes()).expect("a watch"));
    let watched = || PathTree::new(watches.to_vec(), Some(Box::new(|_| {})));
    let some = fuzz::run(watched, input);
    assert!(fuzz::whole(&some).len() <= fuzz::whole(&all).len());
});
