//! What looking at a pool costs, tracked by criterion.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement ends at the first surprise"
)]

#[path = "../../pool/tests/support/noop.rs"]
mod noop;

use std::hint::black_box;

use criterion::Criterion;
use poolproof_ops::Metrics;
use poolproof_pool::{Config, Pool};

use noop::Noop;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let pool = Pool::new(Noop, Config::default()).unwrap();
    drop(runtime.block_on(pool.acquire()).unwrap());
    criterion.bench_function("metrics as text", |bencher| {
        bencher.iter(|| black_box(Metrics::of(&pool).to_string()));
    });
    criterion.final_summary();
}
