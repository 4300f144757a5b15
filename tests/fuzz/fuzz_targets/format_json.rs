//! Attacks st-format's JSON: every line is a JSON object, and nothing in it can command a
//! terminal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_format::escape::is_harmful;
use st_format::json::Json;

fuzz_target!(|input: &[u8]| {
    let output = fuzz::run(Json::default, input);
    let text = std::str::from_utf8(&output).expect("UTF-8");
    assert!(text.is_empty() || text.ends_with('\n'));
    for line in text.lines() {
        let value = serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        assert!(value.is_object());
        assert!(!line.chars().any(is_harmful), "{line:?}");
    }
});
