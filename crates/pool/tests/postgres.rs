//! The pool and the session on a real server.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

/// A test that cannot hold through a pooler, for that reason.
macro_rules! direct {
    ($reason:literal; $(#[doc = $doc:literal])* #[tokio::test] async fn $name:ident() $body:block) => {
        $(#[doc = $doc])*
        #[tokio::test]
        async fn $name() $body
    };
}

#[path = "postgres/support.rs"]
mod support;

use poolproof_testbed::PoolMode;

/// What stands between the pool and the server.
const FRONT: Option<PoolMode> = None;

#[path = "postgres/abandoned.rs"]
mod abandoned;
#[path = "postgres/caches.rs"]
mod caches;
#[path = "postgres/cancellation.rs"]
mod cancellation;
#[path = "postgres/clean.rs"]
mod clean;
#[path = "postgres/commit.rs"]
mod commit;
#[path = "postgres/connecting.rs"]
mod connecting;
#[path = "postgres/leftovers.rs"]
mod leftovers;
#[path = "postgres/life.rs"]
mod life;
#[path = "postgres/mistakes.rs"]
mod mistakes;
#[path = "postgres/notifications.rs"]
mod notifications;
#[path = "postgres/operations.rs"]
mod operations;
#[path = "postgres/options.rs"]
mod options;
#[path = "postgres/raw.rs"]
mod raw;
#[path = "postgres/resolve.rs"]
mod resolve;
#[path = "postgres/retry.rs"]
mod retry;
#[path = "postgres/roles.rs"]
mod roles;
#[path = "postgres/scope.rs"]
mod scope;
#[path = "postgres/tracking.rs"]
mod tracking;
