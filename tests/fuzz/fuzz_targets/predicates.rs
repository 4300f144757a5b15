//! Attacks st-filter's options: a value to read and, behind a NUL, a text to match. A text
//! with every character's meaning taken away matches itself alone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_filter::family::Root;
use st_filter::glob::Glob;
use st_filter::predicate::{Network, PathPattern, Ports, event};

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let (value, text) = (parts.next().unwrap(), parts.next().unwrap_or_default());
    let _ = Glob::name(value).map(|glob| glob.matches(text));
    let _ = PathPattern::new(value).map(|pattern| pattern.matches(text));
    if let (Ok(value), Ok(text)) = (std::str::from_utf8(value), std::str::from_utf8(text)) {
        let _ = (event(value), value.parse::<Root>());
        if let (Ok(network), Ok(addr)) = (value.parse::<Network>(), text.parse()) {
            network.contains(addr);
        }
        if let (Ok(ports), Ok(port)) = (value.parse::<Ports>(), text.parse()) {
            ports.contain(port);
        }
    }
    let plain = |text: &[u8]| {
        let escape = |&byte: &u8| {
            [b'\\', byte]
                .into_iter()
                .skip(usize::from(!byte.is_ascii()))
        };
        Glob::path(&text.iter().flat_map(escape).collect::<Vec<_>>()).expect("a pattern")
    };
    assert!(plain(text).matches(text));
    assert_eq!(plain(value).matches(text), value == text);
    assert!(Glob::path(b"**").unwrap().matches(text));
});
