//! What the session promises, for programs and interruptions that nobody thought of: generated programs
//! against a model, and operations that end at any message of the protocol.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/frame.rs"]
mod frame;
#[path = "../support/relay.rs"]
mod relay;

mod cuts;
mod refused;
mod rollback;
mod round_trips;
