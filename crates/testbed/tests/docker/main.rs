//! A Postgres in a container: started, used, lost, removed, reaped.
//!
//! Without an engine these say in a line what was not tested, and fail where
//! `POOLPROOF_REQUIRE_DOCKER=1` promised one.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "these are tests, helpers of tests included"
)]

mod engine;
mod errors;
mod life;
mod reaper;
