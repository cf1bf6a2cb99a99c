//! The life of a run, seen from outside: what is left of it however it ends, and what it says
//! when it has bad luck.
//!
//! Every test drives the built program in a place of its own: a home, a folder for reports, a
//! scenario. [`place`] makes these, [`program`] drives, [`traces`] looks for what is left.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "these are tests, helpers of tests included"
)]

mod bad_luck;
mod containers;
mod database;
mod existing;
mod leftovers;
mod passwords;
mod place;
mod program;
mod time;
mod traces;
