//! What operators do, over a connector whose every call the test decides, under paused time. All of it
//! goes through the public view of the pool.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

#[expect(
    dead_code,
    reason = "shared with the pool's own tests, which need more of it"
)]
#[path = "../../../pool/src/pool/tests/fake.rs"]
mod fake;
mod metrics;

use std::time::Duration;

use fake::Fake;
use poolproof_pool::{Config, Lease, Pool};

fn configured(config: Config) -> (Pool<Fake>, Fake) {
    let fake = Fake::default();
    (Pool::new(fake.clone(), config).unwrap(), fake)
}
