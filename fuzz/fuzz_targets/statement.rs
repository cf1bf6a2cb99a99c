//! Looks for texts that break what `fuzz/properties/statement.rs` says.
#![no_main]

// Private to its crate, and so included.
#[rustfmt::skip]
#[path = "../../crates/pool/src/pg/control.rs"]
mod control;
#[path = "../properties/statement.rs"]
mod statement;

use control::{Effect, effect, outline};

libfuzzer_sys::fuzz_target!(|input: &[u8]| statement::check(input));
