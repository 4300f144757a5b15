//! Attacks st-pathtree's options, one a line: a watch decides about its own path, and that
//! read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_pathtree::vocabulary::{Class, Event};
use st_pathtree::watch::{Watch, Watches};

fuzz_target!(|input: &[u8]| {
    let options = input.split(|&byte| byte == b'\n').map(Watch::parse);
    let parsed: Vec<Watch> = options.flatten().collect();
    let watches = Watches::new(parsed.clone());
    for watch in parsed {
        assert!(watch.path.starts_with(b"/"));
        let again = Watch::parse(&[b"all=", &watch.path[..]].concat());
        assert_eq!(again.expect("a watch").path, watch.path);
        let (depth, events) = watches.decide(&watch.path).expect("a decision");
        assert_eq!(depth, watch.path.len());
        assert!(Event::of(Class::File).all(|event| events.has(event) || !watch.events.has(event)));
    }
    if let Some((depth, _)) = watches.decide(input) {
        assert!(depth <= input.len());
    }
});
