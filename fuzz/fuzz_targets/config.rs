//! Looks for texts that break what `fuzz/properties/config.rs` says.
#![no_main]

#[path = "../properties/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|input: &[u8]| config::check(input));
