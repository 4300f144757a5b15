//! Attacks st-format's text: nothing in it but our own colours can command a terminal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_format::escape::is_harmful;
use st_format::text::{Show, Text};

fuzz_target!(|input: &[u8]| {
    let show = || vec![Show::Uid, Show::Exe, Show::Argv, Show::Container];
    let output = fuzz::run(|| Text::new(false, show()), input);
    let text = std::str::from_utf8(&output).expect("UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines() {
        assert!(!line.chars().any(is_harmful), "{line:?}");
    }
    let colored = fuzz::run(|| Text::new(true, show()), input);
    let colored = std::str::from_utf8(&colored).expect("UTF-8");
    let mut parts = colored.split("\x1b[");
    let mut plain = parts.next().expect("a part").to_owned();
    for part in parts {
        plain += part.split_once('m').expect("a colour").1;
    }
    let lines = |text: &str| {
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&plain), lines(text), "colours change more");
});
