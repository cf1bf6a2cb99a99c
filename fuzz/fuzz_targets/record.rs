//! Looks for texts that break what `fuzz/properties/record.rs` says.
#![no_main]

#[path = "../properties/record.rs"]
mod record;

libfuzzer_sys::fuzz_target!(|input: &[u8]| record::check(input));
