//! Every subject against a real Postgres: what an op comes to and what the tables hold after it,
//! and each planted bug caught in the act.

#![expect(clippy::unwrap_used, reason = "a broken set-up fails the test")]

mod doubt;
mod endings;
mod planted;
mod relay;
mod suspects;
mod world;
