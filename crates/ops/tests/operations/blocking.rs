//! Waiting on plain threads: where it is refused, how it ends, and what it leaves.

use std::sync::mpsc;

use poolproof_ops::{BlockingError, BlockingPool, run_blocking};
use tokio::runtime::{Builder, Runtime};

use super::fake::{Call, Gate};
use super::*;

/// Far below the default `pool_timeout`: passing it means that a deadline was kept.
const SOON: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(30);

fn blocking(size: u32) -> (BlockingPool<Fake>, Fake) {
    let fake = Fake::default();
    let config = Config {
        pool_size: size,
        max_overflow: 0,
        ..Config::default()
    };
    (BlockingPool::new(fake.clone(), config).unwrap(), fake)
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits, on a thread without a runtime, for what tasks elsewhere will do.
fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = current_thread().block_on(async {
        let mut pause = tokio::time::interval(Duration::from_millis(5));
        let polling = async {
            while !holds() {
                pause.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await
    });
    assert_eq!(waited, Ok(()), "{what}: not within {PATIENCE:?}");
}

#[test]
fn a_plain_thread_lends_waits_and_returns() {
    let (pool, fake) = blocking(1);
    let lease = pool.acquire().unwrap();
    let (asked, waits) = mpsc::channel();
    std::thread::scope(|threads| {
        let waiter = threads.spawn(|| {
            asked.send(()).unwrap();
            pool.acquire().map(|lease| lease.get().id)
        });
        waits.recv().unwrap();
        until("the other thread waits", || pool.snapshot().waiting == 1);
        drop(lease);
        assert_eq!(waiter.join().unwrap().unwrap(), 0, "the same connection");
    });
    assert_eq!(fake.count(Call::Connect), 1);
    assert_eq!(numbers(pool.as_async()), (0, 1, 0, 0, 0));
}

#[test]
fn a_wait_ends_at_its_deadline_with_what_the_books_say() {
    let (pool, fake) = blocking(1);
    let lease = pool.acquire().unwrap();
    let error = pool.acquire_within(SOON).unwrap_err();
    let BlockingError::Failed(AcquireError::Exhausted { out: 1, state, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(state.waiting, 1);
    drop(lease);
    let zero = pool.acquire_within(Duration::ZERO).map(drop);
    assert!(zero.is_ok(), "rule 12: {zero:?}");
    pool.as_async().invalidate();
    fake.always(Call::Connect, Gate::Never);
    let error = pool.acquire_within(SOON).unwrap_err();
    assert!(
        matches!(
            &error,
            BlockingError::Failed(AcquireError::ConnectTimeout { .. })
        ),
        "{error:?}"
    );
    assert_eq!(pool.snapshot().waiting, 0, "it left the queue");
}

/// Where a runtime is current, an acquire is refused at once: no panic, no wait, nothing queued.
#[test]
fn every_place_with_a_runtime_is_refused_but_the_bridge() {
    let (pool, _fake) = blocking(1);
    let refused = |pool: &BlockingPool<Fake>| {
        let error = pool.acquire().map(drop).unwrap_err();
        assert!(matches!(error, BlockingError::InRuntime), "{error:?}");
        let error = pool.wait(async {}).unwrap_err();
        assert!(matches!(error, BlockingError::InRuntime), "{error:?}");
        let built = BlockingPool::new(Fake::default(), Config::default()).map(drop);
        assert!(matches!(built, Err(BlockingError::InRuntime)), "{built:?}");
        assert_eq!((pool.snapshot().out, pool.snapshot().waiting), (0, 0));
    };
    for runtime in [
        current_thread(),
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap(),
    ] {
        runtime.block_on(async { refused(&pool) });
        let worker = pool.clone();
        runtime
            .block_on(runtime.spawn(async move { refused(&worker) }))
            .unwrap();
        let unbridged = pool.clone();
        runtime
            .block_on(runtime.spawn_blocking(move || refused(&unbridged)))
            .unwrap();
        let bridged = runtime.block_on(run_blocking(pool.as_async(), |pool| {
            pool.acquire().map(|lease| lease.get().id)
        }));
        assert_eq!(bridged.unwrap().unwrap(), 0);
    }
    let home = pool.as_async().runtime().clone();
    let entered = home.enter();
    refused(&pool);
    drop(entered);
    assert_eq!(pool.acquire().map(|lease| lease.get().id).unwrap(), 0);
}

#[test]
fn within_the_bridge_another_runtime_is_refused_again() {
    let (pool, _fake) = blocking(1);
    let runtime = current_thread();
    let nested = runtime.block_on(run_blocking(pool.as_async(), |pool| {
        let inner = current_thread();
        let refused = inner.block_on(async { pool.acquire().map(drop) });
        (refused, pool.acquire().map(drop))
    }));
    let (refused, afterwards) = nested.unwrap();
    assert!(
        matches!(refused, Err(BlockingError::InRuntime)),
        "{refused:?}"
    );
    assert!(afterwards.is_ok(), "{afterwards:?}");
}

/// The thread's own token may be taken by the inner wait; the outer one must see its wake all the same.
#[test]
fn a_wake_that_comes_during_a_nested_wait_is_not_lost() {
    let (pool, _fake) = blocking(1);
    let (ended, waits) = mpsc::channel();
    std::thread::spawn(move || {
        let (wake_outer, outer) = tokio::sync::oneshot::channel();
        let (wake_inner, inner) = tokio::sync::oneshot::channel();
        let nested = async {
            pool.wait(async {
                wake_outer.send(()).unwrap();
                std::thread::spawn(move || wake_inner.send(()).unwrap());
                inner.await.unwrap();
            })
            .unwrap();
        };
        let both = async { tokio::join!(outer, nested).0.unwrap() };
        ended.send(pool.wait(both).is_ok()).unwrap();
    });
    assert_eq!(waits.recv_timeout(PATIENCE), Ok(true), "it waits for ever");
}

#[test]
fn a_panic_in_bridged_work_goes_on_in_the_caller_and_the_thread_keeps_nothing() {
    let (pool, _fake) = blocking(1);
    let runtime = current_thread();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(run_blocking(pool.as_async(), |pool| {
            let _lease = pool.acquire().unwrap();
            std::panic::resume_unwind(Box::new("planned"))
        }))
    }));
    let panicked = panicked
        .map(|done: Result<(), BlockingError>| done.is_ok())
        .unwrap_err();
    assert_eq!(panicked.downcast_ref::<&str>(), Some(&"planned"));
    assert_eq!(
        numbers(pool.as_async()),
        (0, 1, 0, 0, 0),
        "the lease came back"
    );
    // The thread that panicked is used again: it must not believe that it may block.
    let home = pool.as_async().runtime().clone();
    let refused = home.spawn_blocking(move || pool.acquire().map(drop));
    let refused = runtime.block_on(refused).unwrap();
    assert!(
        matches!(refused, Err(BlockingError::InRuntime)),
        "{refused:?}"
    );
}

/// F22: leases and pools go on any thread, whatever became of the runtime.
#[test]
fn f22_leases_and_pools_may_be_dropped_on_plain_threads_and_by_their_own_tasks() {
    let (pool, fake) = blocking(2);
    let clean = pool.acquire().unwrap();
    let mut used = pool.acquire().unwrap();
    used.get_mut();
    std::thread::spawn(move || drop((clean, used)))
        .join()
        .unwrap();
    until("both are back", || {
        numbers(pool.as_async()) == (0, 2, 0, 0, 0)
    });
    assert_eq!(fake.count(Call::Reset), 1);

    // The last handle goes with the reset's task, on a worker of the runtime that ends with it.
    fake.always(Call::Reset, Gate::Held);
    let mut last = pool.acquire().unwrap();
    last.get_mut();
    drop((last, pool));
    until("the reset has begun", || fake.count(Call::Reset) == 2);
    assert_eq!(fake.alive(), 2);
    fake.release();
    until("all connections are gone", || fake.alive() == 0);
}

#[test]
fn f22_a_runtime_that_has_shut_down_means_an_error_in_time_and_no_panic() {
    let runtime = current_thread();
    let (async_pool, _fake) = runtime.block_on(async { pool(1, 0) });
    let blocking = BlockingPool::from(async_pool.clone());
    runtime.shutdown_background();
    let error = blocking.acquire_within(SOON).map(drop).unwrap_err();
    assert!(
        matches!(&error, BlockingError::Failed(AcquireError::Down { .. })),
        "{error:?}"
    );
    let driver = current_thread();
    let bridged = driver.block_on(run_blocking(&async_pool, |_| ()));
    assert!(
        matches!(bridged, Err(BlockingError::ShutDown)),
        "{bridged:?}"
    );
}

/// A runtime of one thread stands still while nobody is in its `block_on`.
#[test]
fn a_runtime_that_nobody_drives_means_an_error_in_time() {
    let runtime = current_thread();
    let (lazy, fake) = runtime.block_on(async {
        configured(Config {
            pool_size: 1,
            max_overflow: 0,
            pre_ping: true,
            pre_ping_after: Duration::ZERO,
            ..Config::default()
        })
    });
    let blocking = BlockingPool::from(lazy.clone());
    let error = blocking.acquire_within(SOON).map(drop).unwrap_err();
    assert!(
        matches!(
            &error,
            BlockingError::Failed(AcquireError::ConnectTimeout { opening: 1, .. })
        ),
        "{error:?}"
    );
    runtime.block_on(async { drop(lazy.acquire().await.unwrap()) });
    fake.always(Call::Ping, Gate::Never);
    let error = blocking.acquire_within(SOON).map(drop).unwrap_err();
    assert!(
        matches!(&error, BlockingError::Stalled { within } if *within == SOON),
        "{error:?}"
    );
}

#[test]
fn the_async_pool_behind_it_outlives_the_blocking_one_with_its_runtime() {
    let (blocking, fake) = blocking(1);
    drop(blocking.acquire().unwrap());
    let pool = blocking.into_async();
    let runtime = current_thread();
    runtime.block_on(async {
        let mut lease = pool.acquire().await.unwrap();
        lease.get_mut();
        drop(lease);
        drop(pool.acquire().await.unwrap());
        let report = pool.close(PATIENCE).await;
        assert_eq!((report.holders.len(), report.cut_short), (0, 0));
    });
    assert_eq!((fake.count(Call::Reset), fake.count(Call::Close)), (1, 1));
    // Also its runtime may go anywhere, on a worker of another one for instance.
    runtime.block_on(async { drop(pool) });
}
