//! Looks for bytes that break what `fuzz/properties/toxiproxy.rs` says.
#![no_main]

// Private to their crate, and so included.
#[rustfmt::skip]
#[path = "../../crates/faults/src/http/body.rs"]
mod body;
#[expect(dead_code, reason = "only what bodies need is used here")]
#[rustfmt::skip]
#[path = "../../crates/faults/src/proxy.rs"]
mod proxy;
#[expect(dead_code, reason = "only what bodies need is used here")]
#[rustfmt::skip]
#[path = "../../crates/faults/src/toxic.rs"]
mod toxic;
#[path = "../properties/toxiproxy.rs"]
mod toxiproxy;

libfuzzer_sys::fuzz_target!(|input: &[u8]| toxiproxy::check(input));
