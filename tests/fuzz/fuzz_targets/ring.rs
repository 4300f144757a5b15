//! Attacks the parser of ring buffer pages: it ends, and every record is within its page.
#![no_main]

use libfuzzer_sys::fuzz_target;
use st_probe::tracefs::ring::{Item, parse};

fuzz_target!(|page: &[u8]| {
    let mut bytes = 16;
    let _ = parse(page, |item| {
        if let Item::Record { data, .. } = item {
            bytes += 4 + data.len();
            assert!(page.as_ptr_range().start <= data.as_ptr());
            assert!(data.as_ptr_range().end <= page.as_ptr_range().end);
        }
    });
    assert!(bytes <= page.len().max(16), "records overlap");
});
