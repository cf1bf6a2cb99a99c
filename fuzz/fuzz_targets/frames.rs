//! Looks for bytes that break what `fuzz/properties/frames.rs` says.
#![no_main]

#[path = "../../crates/pool/tests/support/frame.rs"]
mod frame;
#[path = "../properties/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|input: &[u8]| frames::check(input));
