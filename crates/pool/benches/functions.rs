//! What single functions cost, tracked by criterion; comparisons are in `peers`.

#![expect(
    clippy::unwrap_used,
    reason = "a measurement ends at the first surprise"
)]

#[path = "../tests/support/noop.rs"]
mod noop;

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use criterion::Criterion;
use poolproof_pool::{Acquire, Config, Lease, Pool};
use tokio::runtime::Runtime;

use noop::Noop;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Acquires find the runtime that they are in, as in a task.
    let _entered = runtime.enter();
    acquiring(&mut criterion, &runtime);
    looking(&mut criterion, &runtime);
    criterion.final_summary();
}

fn acquiring(criterion: &mut Criterion, runtime: &Runtime) {
    for (name, metrics) in [("metrics on", true), ("metrics off", false)] {
        let pool = pool(runtime, metrics);
        criterion.bench_function(&format!("acquire and release, {name}"), |bencher| {
            bencher.iter(|| drop(take(&pool)));
        });
        criterion.bench_function(&format!("wait, hand over and release, {name}"), |bencher| {
            bencher.iter(|| {
                let held = take(&pool);
                let mut waiting = pin!(pool.acquire());
                assert!(look(waiting.as_mut()).is_none());
                drop(held);
                drop(look(waiting.as_mut()).unwrap());
            });
        });
    }
    let pool = pool(runtime, true);
    let held = take(&pool);
    criterion.bench_function("wait and give up", |bencher| {
        bencher.iter(|| {
            let mut waiting = pin!(pool.acquire());
            assert!(look(waiting.as_mut()).is_none());
        });
    });
    drop(held);
}

fn looking(criterion: &mut Criterion, runtime: &Runtime) {
    let pool = pool(runtime, true);
    drop(take(&pool));
    criterion.bench_function("snapshot", |bencher| {
        bencher.iter(|| black_box(pool.snapshot()));
    });
}

/// A pool of one connection, which is open.
fn pool(runtime: &Runtime, metrics: bool) -> Pool<Noop> {
    let config = Config {
        pool_size: 1,
        max_overflow: 0,
        metrics,
        ..Config::default()
    };
    let pool = Pool::new(Noop, config).unwrap();
    drop(runtime.block_on(pool.acquire()).unwrap());
    pool
}

fn take(pool: &Pool<Noop>) -> Lease<Noop> {
    look(pin!(pool.acquire())).unwrap()
}

fn look(acquire: std::pin::Pin<&mut Acquire<Noop>>) -> Option<Lease<Noop>> {
    match acquire.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(lease) => Some(lease.unwrap()),
        Poll::Pending => None,
    }
}
