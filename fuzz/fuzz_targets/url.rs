//! Looks for texts that break what `fuzz/properties/url.rs` says.
#![no_main]

#[path = "../properties/url.rs"]
mod url;

libfuzzer_sys::fuzz_target!(|input: &[u8]| url::check(input));
