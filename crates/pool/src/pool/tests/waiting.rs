//! What waiting costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use super::*;

#[derive(Default)]
struct Woken {
    times: AtomicUsize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, Ordering::SeqCst);
    }
}

/// F14: waiting is free of spinning. A waiter is woken when its connection is there, once, and never
/// before, however many come and go around it.
#[tokio::test(start_paused = true)]
async fn f14_a_waiter_is_woken_once_and_only_for_its_own_connection() {
    let (pool, _) = pool(1, 0);
    let held = pool.acquire().await.unwrap();
    let woken: Vec<Arc<Woken>> = (0..50).map(|_| Arc::default()).collect();
    let mut waiters: Vec<_> = woken.iter().map(|_| pool.acquire()).collect();
    let poll = |waiter: &mut Acquire<Fake>, woken: &Arc<Woken>| {
        let waker = Waker::from(Arc::clone(woken));
        waiter.poll_unpin(&mut Context::from_waker(&waker))
    };
    for (waiter, woken) in waiters.iter_mut().zip(&woken) {
        assert!(poll(waiter, woken).is_pending());
    }
    for _ in 0..100 {
        let mut passer_by = pool.acquire();
        assert!(poll_once(&mut passer_by).is_pending());
    }
    settle().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    let times = |woken: &Arc<Woken>| woken.times.load(Ordering::SeqCst);
    assert_eq!(
        woken.iter().map(times).sum::<usize>(),
        0,
        "woken for nothing"
    );

    drop(held);
    for (turn, (mut waiter, its)) in waiters.into_iter().zip(&woken).enumerate() {
        let so_far: usize = woken.iter().map(times).sum();
        assert_eq!(
            (times(its), so_far),
            (1, turn + 1),
            "one wake for each hand-over"
        );
        let Poll::Ready(Ok(lease)) = poll(&mut waiter, its) else {
            panic!("woken for nothing")
        };
        drop(lease);
    }
}

/// Rule 12: a budget of nothing takes what is idle and waits for nothing, its ping included.
#[tokio::test(start_paused = true)]
async fn rule_12_no_budget_waits_for_nothing_and_not_for_a_ping() {
    let (pool, fake) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pre_ping: true,
        ..Config::default()
    });
    drop(pool.acquire().await.unwrap());
    tokio::time::advance(Duration::from_secs(5)).await;
    fake.always(Call::Ping, Gate::Never);
    let began = Instant::now();
    let lease = pool.acquire().within(Duration::ZERO).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(fake.count(Call::Ping), 0);
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_comes_after_the_first_poll_changes_nothing() {
    let (pool, _) = pool(1, 0);
    let _held = pool.acquire().await.unwrap();
    let mut waiter = pool.acquire().within(Duration::from_secs(3));
    assert!(poll_once(&mut waiter).is_pending());
    let began = Instant::now();
    let outcome = waiter.within(Duration::from_secs(1)).await;
    drop(outcome.unwrap_err());
    assert_eq!(began.elapsed().as_secs(), 3);
}

/// A wait ends with the connection that is lent, not with one that turned out dead.
#[tokio::test(start_paused = true)]
async fn the_wait_that_is_measured_includes_a_ping_that_failed() {
    let (pool, fake) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pre_ping: true,
        ping_timeout: Duration::from_secs(4),
        ..Config::default()
    });
    drop(pool.acquire().await.unwrap());
    tokio::time::advance(Duration::from_secs(5)).await;
    fake.always(Call::Ping, Gate::Never);
    let before = pool.durations().queue_wait;
    drop(pool.acquire().await.unwrap());
    let waits = pool.durations().queue_wait;
    assert_eq!(waits.count() - before.count(), 1);
    assert_eq!(waits.sum() - before.sum(), Duration::from_secs(4));
}

/// Nobody waits behind the probe any more, but what it got would be the last one.
#[tokio::test(start_paused = true)]
async fn a_sparing_acquire_keeps_what_it_waited_for_only_as_long_as_it_is_not_the_last() {
    for (size, keeps) in [(2, false), (3, true)] {
        let (pool, _) = pool(size, 0);
        let mut sparing = pool.acquire().sparing();
        assert!(poll_once(&mut sparing).is_pending());
        let lease = pool.acquire().await.unwrap();
        settle().await;
        assert_eq!(numbers(&pool), (2, 0, 0, 0, 0), "both were handed theirs");
        match poll_once(&mut sparing) {
            Poll::Ready(Ok(_)) => assert!(keeps, "it took the last one of {size}"),
            Poll::Ready(Err(AcquireError::Exhausted { out: 1, .. })) => assert!(!keeps),
            other => panic!("{other:?}"),
        }
        assert_eq!(numbers(&pool), (1, 1, 0, 0, 0));
        drop(lease);
    }
}
