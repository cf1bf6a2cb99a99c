//! The pool and the session on a real server.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

#[path = "postgres/support.rs"]
mod support;

#[path = "postgres/cancellation.rs"]
mod cancellation;
#[path = "postgres/clean.rs"]
mod clean;
#[path = "postgres/commit.rs"]
mod commit;
#[path = "postgres/connecting.rs"]
mod connecting;
#[path = "postgres/scope.rs"]
mod scope;
