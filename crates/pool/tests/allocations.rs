//! What the pool takes of memory: nothing per acquire once it is under way, and little per connection and
//! waiter.
//!
//! A program of its own, without the standard test harness: it counts what the whole process allocates, and
//! the harness's own thread keeps its books at a time of its choosing.
//! `cargo test -p poolproof-pool --test allocations` prints the figures.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "the figures are part of what the test is for, and it ends at the first surprise"
)]

#[path = "support/noop.rs"]
mod noop;

use std::alloc::System;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use poolproof_pool::{Acquire, Config, PgConnector, Pool};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::ConnectOptions;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use tokio::task::unconstrained;

use noop::Noop;

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn config(pool_size: u32) -> Config {
    Config {
        pool_size,
        max_overflow: 0,
        ..Config::default()
    }
}

fn held(stats: Stats) -> usize {
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Polls without a runtime's help; nobody is to be woken.
fn poll(waiter: Pin<&mut Acquire<Noop>>) -> bool {
    let outcome = waiter.poll(&mut Context::from_waker(Waker::noop()));
    matches!(outcome, Poll::Ready(Ok(_)))
}

async fn measure_acquires() {
    let pool = Pool::new(Noop, config(2)).unwrap();
    // The first of everything allocates: connections, the table of leases, the keeper of deadlines.
    let under_way = async || {
        let (one, two) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        let mut waiters = [(); 8].map(|()| Box::pin(pool.acquire()));
        for waiter in &mut waiters {
            assert!(!poll(waiter.as_mut()), "both are lent");
        }
        drop((one, two));
        for waiter in &mut waiters {
            assert!(poll(waiter.as_mut()), "handed over, and back at once");
        }
    };
    under_way().await;
    under_way().await;
    let boxed_by_the_test = 8;
    let region = Region::new(MEMORY);
    for _ in 0..1_000 {
        under_way().await;
    }
    let steady = region.change();
    assert_eq!(
        steady.allocations + steady.reallocations,
        1_000 * boxed_by_the_test,
        "an acquire allocates"
    );
    println!("allocations per acquire, lent at once or handed over: 0");
}

async fn measure_memory() {
    const MANY: u32 = 1_000;
    let pool = Pool::new(Noop, config(MANY)).unwrap();
    let empty = Region::new(MEMORY);
    pool.warm_up(MANY).await;
    // Times of the newest connects are kept until somebody takes them.
    drop(pool.take_connect_times());
    let idle = held(empty.change()) / MANY as usize;
    println!("per idle connection of nothing: {idle} bytes");
    assert!(idle < 512, "{idle} bytes");

    let held_by: Vec<_> = {
        let mut leases = Vec::with_capacity(MANY as usize);
        for _ in 0..MANY {
            leases.push(pool.acquire().await.unwrap());
        }
        leases
    };
    let mut waiters: Vec<_> = (0..MANY).map(|_| Box::pin(pool.acquire())).collect();
    let before = Region::new(MEMORY);
    for waiter in &mut waiters {
        assert!(!poll(waiter.as_mut()));
    }
    let waiting = held(before.change()) / MANY as usize;
    let future = size_of::<Acquire<Noop>>();
    println!("per waiter: {waiting} bytes in the pool, {future} in its future");
    assert!(waiting < 256, "{waiting} bytes");
    drop(waiters);
    drop(held_by);
}

/// What the pool adds to a connection of sqlx, whose buffers make up most of it.
async fn measure_real_connections() {
    const SOME: u32 = 10;
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let options = cluster.options();
    // The first connection fills caches of the process.
    drop(options.connect().await.unwrap());
    let before = Region::new(MEMORY);
    let mut bare = Vec::with_capacity(SOME as usize);
    for _ in 0..SOME {
        bare.push(options.connect().await.unwrap());
    }
    let sqlx = held(before.change()) / SOME as usize;
    drop(bare);
    let pool = Pool::new(PgConnector::new(options), config(SOME)).unwrap();
    let before = Region::new(MEMORY);
    pool.warm_up(SOME).await;
    drop(pool.take_connect_times());
    let pooled = held(before.change()) / SOME as usize;
    let added = pooled.saturating_sub(sqlx);
    println!("per idle connection to Postgres: {sqlx} bytes of sqlx, {added} of the pool");
    assert!(added < 4_096, "{added} bytes");
    pool.close(Duration::from_secs(5)).await;
    cluster.stop().await.unwrap();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // They poll more often than tokio lets a task do in one go.
    unconstrained(measure_acquires()).await;
    unconstrained(measure_memory()).await;
    measure_real_connections().await;
}
