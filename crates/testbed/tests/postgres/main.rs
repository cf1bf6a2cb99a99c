//! Clusters of the Postgres that is installed here: started, used, broken, killed, reaped.
#![expect(
    clippy::unwrap_used,
    reason = "these are tests, helpers of tests included"
)]

mod admin;
mod cluster;
mod reaper;
mod traces;
