//! Looks for texts that break what `fuzz/properties/duration.rs` says.
#![no_main]

#[path = "../properties/duration.rs"]
mod duration;

libfuzzer_sys::fuzz_target!(|input: &[u8]| duration::check(input));
