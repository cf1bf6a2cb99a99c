//! Looks for texts that break what `fuzz/properties/scenario.rs` says.
#![no_main]

#[path = "../properties/scenario.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|input: &[u8]| scenario::check(input));
