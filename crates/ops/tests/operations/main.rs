//! What operators do, over a connector whose every call the test decides, under paused time. All of it
//! goes through the public view of the pool.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

mod blocking;
#[expect(
    dead_code,
    reason = "shared with the pool's own tests, which need more of it"
)]
#[path = "../../../pool/src/pool/tests/fake.rs"]
mod fake;
mod health;
mod metrics;

use std::task::Poll;
use std::time::Duration;

use fake::{Fake, FakeError};
use futures_util::FutureExt;
use futures_util::future::join_all;
use poolproof_pool::{Acquire, AcquireError, Config, Lease, Pool};
use tokio::time::Instant;

/// A pool of `size` + `overflow` connections, and its connector.
fn pool(size: u32, overflow: i32) -> (Pool<Fake>, Fake) {
    configured(Config {
        pool_size: size,
        max_overflow: overflow,
        ..Config::default()
    })
}

fn configured(config: Config) -> (Pool<Fake>, Fake) {
    let fake = Fake::default();
    (Pool::new(fake.clone(), config).unwrap(), fake)
}

/// Lets everything run that can run without time passing.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Polls once.
fn poll_once(acquire: &mut Acquire<Fake>) -> Poll<Result<Lease<Fake>, AcquireError<FakeError>>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    acquire.poll_unpin(&mut context)
}

fn numbers(pool: &Pool<Fake>) -> (usize, usize, usize, usize, usize) {
    let now = pool.snapshot();
    (now.out, now.idle, now.opening, now.closing, now.waiting)
}
