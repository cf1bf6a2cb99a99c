//! Operating a pool on a real server, through a PgBouncer that pools sessions: the same tests.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

#[expect(
    dead_code,
    reason = "shared with the pool's own tests, which need more of it"
)]
#[path = "../../pool/tests/postgres/support.rs"]
mod support;

use poolproof_testbed::PoolMode;

/// What stands between the pool and the server.
const FRONT: Option<PoolMode> = Some(PoolMode::Session);

#[path = "postgres/blocking.rs"]
mod blocking;
#[path = "postgres/looking.rs"]
mod looking;
