//! Behaviours that SQLAlchemy and HikariCP test for and that hold here as well, by the names of theirs.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::fake::SLOW;
use super::*;
use crate::config::IdleOrder;

const MS: Duration = Duration::from_millis(1);

async fn pass(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

/// SQLAlchemy's `test_timeout_race`, rule 9: whoever times out has waited for the whole timeout.
#[tokio::test(start_paused = true)]
async fn rule_9_nobody_times_out_early_however_many_race() {
    let (pool, _) = pool(1, 1);
    let race = |index: u32| {
        let pool = &pool;
        async move {
            pass(MS * index).await;
            let began = Instant::now();
            match pool.acquire().within(20 * MS).await {
                Ok(lease) => {
                    pass(9 * MS).await;
                    drop(lease);
                    None
                }
                Err(_) => Some(began.elapsed()),
            }
        }
    };
    let waits = join_all((0..10).map(race)).await;
    let timed_out: Vec<_> = waits.into_iter().flatten().collect();
    assert!(
        timed_out.iter().all(|waited| *waited >= 20 * MS),
        "{timed_out:?}"
    );
    assert!(!timed_out.is_empty(), "nobody timed out");
    settle().await;
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
}

/// SQLAlchemy's `test_notify_waiters`, rule 17: a connection that is lost serves the waiters all the
/// same, through those that replace it.
#[tokio::test(start_paused = true)]
async fn rule_17_every_waiter_is_served_when_what_they_wait_for_is_lost() {
    let (pool, fake) = pool(1, 0);
    let lease = pool.acquire().await.unwrap();
    let waiters: Vec<_> = (0..5).map(|_| pool.acquire()).collect();
    let lose_each = |waiter: Acquire<Fake>| async {
        let lease = waiter.await.unwrap();
        lease.discard();
    };
    let lose = async {
        settle().await;
        lease.discard();
    };
    tokio::join!(join_all(waiters.into_iter().map(lose_each)), lose);
    assert_eq!((fake.count(Call::Connect), fake.peak()), (6, 1));
    assert_eq!(numbers(&pool), NOTHING);
}

/// SQLAlchemy's `test_overflow_reset_on_failed_connect`, rule 14: a failure to connect takes no place.
#[tokio::test(start_paused = true)]
async fn rule_14_failed_connects_take_no_place() {
    let (pool, fake) = pool(1, 1);
    fake.next(Call::Connect, [Gate::Permanent; 7]);
    for _ in 0..7 {
        let refused = pool.acquire().await;
        assert!(
            matches!(refused, Err(AcquireError::Rejected { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(numbers(&pool), NOTHING);
    let both = join_all([pool.acquire(), pool.acquire()]).await;
    assert_eq!(both.into_iter().filter_map(Result::ok).count(), 2);
}

/// SQLAlchemy's `test_hanging_connect_within_overflow`, rule 15.
#[tokio::test(start_paused = true)]
async fn rule_15_one_hanging_connect_blocks_nobody_else() {
    let (pool, fake) = pool(2, 2);
    fake.next(Call::Connect, [Gate::Never]);
    let began = Instant::now();
    let leases = join_all((0..3).map(|_| pool.acquire().within(SLOW))).await;
    let served = leases.into_iter().filter_map(Result::ok).count();
    assert_eq!(
        (served, began.elapsed()),
        (2, SLOW),
        "{:?}",
        pool.snapshot()
    );
    drop(pool.acquire().within(MS).await.unwrap());
}

/// HikariCP's `Retries5` and `Retries3`: connects fail, and one that is returned serves the waiter.
#[tokio::test(start_paused = true)]
async fn f8_a_return_serves_a_waiter_while_connects_fail() {
    let (pool, fake) = pool(2, 0);
    let lease = pool.acquire().await.unwrap();
    fake.always(Call::Connect, Gate::Error);
    let began = Instant::now();
    let give_back = async {
        pass(250 * MS).await;
        drop(lease);
    };
    let (served, ()) = tokio::join!(pool.acquire(), give_back);
    assert_eq!(began.elapsed(), 250 * MS);
    drop(served.unwrap());
}

/// HikariCP's spike test and `testSlowConnectionTimeBurstyWork`: when connecting is slow and work is
/// short, connections that come back serve the burst, and requests for more are given up.
#[tokio::test(start_paused = true)]
async fn a_burst_of_short_work_opens_few_connections() {
    let (pool, fake) = pool(50, 0);
    fake.always(Call::Connect, Gate::Slow);
    let work = |_| async {
        let lease = pool.acquire().await.unwrap();
        pass(2 * MS).await;
        drop(lease);
    };
    join_all((0..50).map(work)).await;
    let opened = fake.count(Call::Connect);
    assert!(
        opened <= 2 * 8,
        "{opened} connections for 50 times 2 ms of work"
    );
}

/// HikariCP's `TestSaturatedPool830`: when an overload ends, so do the timeouts.
#[tokio::test(start_paused = true)]
async fn timeouts_end_with_the_overload() {
    let (pool, _) = pool(5, 0);
    let timeouts = AtomicUsize::new(0);
    let work = || async {
        match pool.acquire().within(50 * MS).await {
            Ok(lease) => {
                pass(20 * MS).await;
                drop(lease);
            }
            Err(_) => {
                timeouts.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let offer = |count: u32, pause: Duration| {
        join_all((0..count).map(move |index| async move {
            pass(pause * index).await;
            work().await;
        }))
    };
    // Twice what five connections can do in 20 ms each, and then half.
    offer(1000, 2 * MS).await;
    let overloaded = timeouts.swap(0, Ordering::Relaxed);
    assert!(overloaded > 300, "{overloaded} of 1000");
    offer(1000, 8 * MS).await;
    assert_eq!(timeouts.into_inner(), 0);
}

/// HikariCP's `RampUpDown`: what a ramp opened goes when it is over.
#[tokio::test(start_paused = true)]
async fn a_pool_grows_with_the_load_and_shrinks_with_it() {
    let (pool, fake) = configured(Config {
        pool_size: 20,
        min_idle: 2,
        idle_timeout: Some(Duration::from_secs(10)),
        idle_order: IdleOrder::Lifo,
        ..Config::default()
    });
    let mut leases = Vec::new();
    for _ in 0..20 {
        leases.push(pool.acquire().await.unwrap());
    }
    assert_eq!(fake.alive(), 20);
    drop(leases);
    // Light work goes on, and always on the connection that came back last.
    for _ in 0..30 {
        drop(pool.acquire().await.unwrap());
        pass(1000 * MS).await;
    }
    let idle = pool.snapshot().idle;
    assert!(
        (2..=3).contains(&idle),
        "two are ready beside the one in use: {idle}"
    );
    assert_eq!(fake.alive(), idle);
}

/// SQLAlchemy's `test_max_overflow`, rule 1: forty at once never exceed the limit.
#[tokio::test(start_paused = true)]
async fn rule_1_forty_at_once_never_exceed_the_limit() {
    let (pool, fake) = pool(3, 2);
    let work = |_| async {
        let lease = pool.acquire().await.unwrap();
        pass(3 * MS).await;
        drop(lease);
    };
    join_all((0..40).map(work)).await;
    assert_eq!(fake.peak(), 5);
}
