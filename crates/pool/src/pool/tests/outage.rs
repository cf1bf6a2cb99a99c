//! A server that is down, slow, refusing, or dead behind idle connections.

use super::*;
use crate::error::ConnectError;

fn pinging(size: u32, overflow: i32) -> (Pool<Fake>, Fake) {
    configured(Config {
        pool_size: size,
        max_overflow: overflow,
        pre_ping: true,
        ..Config::default()
    })
}

/// Fills the pool with idle connections that are old enough to need a ping.
async fn with_stale_idle(pool: &Pool<Fake>, count: usize) {
    let leases = join_all((0..count).map(|_| pool.acquire())).await;
    drop(leases);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(pool.snapshot().idle, count);
}

/// F18: transient errors keep the waiters until their deadline, which then says what was wrong.
#[tokio::test(start_paused = true)]
async fn f18_down_carries_the_cause_and_comes_at_the_deadline() {
    let (pool, fake) = pool(2, 0);
    fake.always(Call::Connect, Gate::Error);
    let began = Instant::now();
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), BUDGET.as_secs());
    let AcquireError::Down {
        cause: ConnectError::Failed(cause),
        since,
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(cause.call, Call::Connect);
    assert_eq!(since.as_secs(), BUDGET.as_secs());
}

#[tokio::test(start_paused = true)]
async fn f18_waiters_are_served_when_the_database_comes_back_in_time() {
    let (pool, fake) = pool(3, 0);
    fake.always(Call::Connect, Gate::Error);
    let waiters: Vec<_> = (0..3).map(|_| pool.acquire()).collect();
    let back = async {
        let pause = tokio::time::Instant::now() + Duration::from_secs(10);
        tokio::time::sleep_until(pause).await;
        fake.always(Call::Connect, Gate::Ok);
    };
    let (leases, ()) = tokio::join!(join_all(waiters), back);
    assert_eq!(leases.into_iter().filter_map(Result::ok).count(), 3);
}

/// F17: attempts during an outage are few, however many wait.
#[tokio::test(start_paused = true)]
async fn f17_a_long_outage_sees_few_attempts_whatever_the_number_of_waiters() {
    let (pool, fake) = pool(10, 0);
    fake.always(Call::Connect, Gate::Error);
    let errors = join_all((0..200).map(|_| pool.acquire())).await;
    assert_eq!(errors.into_iter().filter_map(Result::err).count(), 200);
    let attempts = fake.count(Call::Connect);
    // Eight at once, then one after each pause; full jitter averages half of 10 ms, 20 ms … 5 s.
    assert!((12..60).contains(&attempts), "{attempts} attempts in 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_reaches_the_oldest_waiter_at_once() {
    let (pool, fake) = pool(1, 0);
    fake.next(Call::Connect, [Gate::Permanent]);
    let began = Instant::now();
    let (first, second) = tokio::join!(pool.acquire(), pool.acquire());
    let Err(AcquireError::Rejected {
        cause: ConnectError::Failed(cause),
    }) = first
    else {
        panic!("{first:?}")
    };
    assert!(cause.permanent);
    second.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_hangs_or_panics_is_given_up_and_tried_again() {
    for gate in [Gate::Never, Gate::Panic] {
        let (pool, fake) = pool(1, 0);
        fake.next(Call::Connect, [gate]);
        let lease = pool.acquire().await.unwrap();
        assert_eq!(fake.count(Call::Connect), 2, "{gate:?}");
        drop(lease);
        assert_eq!(numbers(&pool), (0, 1, 0, 0, 0), "{gate:?}");
    }
}

/// Rule 10, and our departure from it: the deadline covers queue, ping and connect.
#[tokio::test(start_paused = true)]
async fn rule_10_one_deadline_covers_queue_ping_and_connect() {
    let (pool, fake) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pre_ping: true,
        pool_timeout: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(60),
        ..Config::default()
    });
    with_stale_idle(&pool, 1).await;
    fake.always(Call::Ping, Gate::Never);
    fake.always(Call::Connect, Gate::Never);
    let began = Instant::now();
    let error = pool.acquire().await.unwrap_err();
    assert!(
        matches!(error, AcquireError::ConnectTimeout { .. }),
        "ping, connect: {error:?}"
    );
    assert_eq!(began.elapsed().as_millis() / 10, 30);

    let (pool, fake) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pool_timeout: Duration::from_millis(300),
        ..Config::default()
    });
    let lease = pool.acquire().await.unwrap();
    fake.always(Call::Connect, Gate::Never);
    let began = Instant::now();
    let discard = async {
        tokio::time::sleep_until(began + Duration::from_millis(200)).await;
        lease.discard();
    };
    let (outcome, ()) = tokio::join!(pool.acquire(), discard);
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, AcquireError::ConnectTimeout { .. }),
        "queue, connect: {error:?}"
    );
    assert_eq!(began.elapsed().as_millis() / 10, 30);
}

/// Rule 29: what was opened in this very checkout is not pinged, whatever the window.
#[tokio::test(start_paused = true)]
async fn rule_29_a_new_connection_is_not_pinged() {
    let (pool, fake) = configured(Config {
        pre_ping: true,
        pre_ping_after: Duration::ZERO,
        ..Config::default()
    });
    let lease = pool.acquire().await.unwrap();
    assert_eq!(fake.count(Call::Ping), 0);
    drop(lease);
    tokio::time::advance(Duration::from_millis(1)).await;
    drop(pool.acquire().await.unwrap());
    assert_eq!(fake.count(Call::Ping), 1);
}

/// Rule 29, and our departure from it: a connection that was used just now is not pinged.
#[tokio::test(start_paused = true)]
async fn rule_29_only_connections_that_were_idle_for_a_while_are_pinged() {
    let (pool, fake) = pinging(1, 0);
    drop(pool.acquire().await.unwrap());
    drop(pool.acquire().await.unwrap());
    assert_eq!(fake.count(Call::Ping), 0);
    tokio::time::advance(Duration::from_millis(500)).await;
    drop(pool.acquire().await.unwrap());
    assert_eq!(fake.count(Call::Ping), 1);
    drop(pool.acquire().await.unwrap());
    assert_eq!(fake.count(Call::Ping), 1, "a ping counts as use");
}

/// Rule 31, F6, F21: k dead idle connections cost one ping.
#[tokio::test(start_paused = true)]
async fn rule_31_one_failed_ping_replaces_all_older_connections() {
    for gate in [Gate::Error, Gate::Never] {
        let (pool, fake) = pinging(5, 0);
        with_stale_idle(&pool, 5).await;
        fake.always(Call::Ping, gate);
        let began = Instant::now();
        let leases = join_all((0..5).map(|_| pool.acquire())).await;
        assert_eq!(
            leases.into_iter().filter_map(Result::ok).count(),
            5,
            "{gate:?}"
        );
        // All five were taken at once, so that all five were pinged at once.
        assert!(began.elapsed() <= Duration::from_millis(1002), "{gate:?}");
        assert_eq!(fake.count(Call::Connect), 10, "{gate:?}");

        tokio::time::advance(Duration::from_secs(60)).await;
        fake.next(Call::Ping, [gate]);
        fake.always(Call::Ping, Gate::Ok);
        let pings = fake.count(Call::Ping);
        for _ in 0..5 {
            drop(pool.acquire().await.unwrap());
        }
        assert_eq!(
            fake.count(Call::Ping),
            pings + 1,
            "{gate:?}: one at a time, one ping"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_dropped_while_pinging_loses_no_slot() {
    for gate in [Gate::Ok, Gate::Never] {
        let (pool, fake) = pinging(1, 0);
        with_stale_idle(&pool, 1).await;
        fake.next(Call::Ping, [Gate::Never]);
        fake.next(Call::Reset, [gate]);
        let mut pinging = pool.acquire();
        assert!(poll_once(&mut pinging).is_pending());
        assert_eq!(fake.count(Call::Ping), 1);
        drop(pinging);
        settle().await;
        assert_eq!(
            fake.count(Call::Reset),
            1,
            "an unanswered ping is cleaned up"
        );
        drop(pool.acquire().await.unwrap());
        assert_eq!(numbers(&pool), (0, 1, 0, 0, 0), "{gate:?}");
        assert_eq!(fake.alive(), 1, "{gate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_connection_failed_its_ping_keeps_its_turn() {
    let (pool, fake) = pinging(1, 0);
    with_stale_idle(&pool, 1).await;
    fake.next(Call::Ping, [Gate::Error]);
    fake.next(Call::Connect, [Gate::Held]);
    let (mut first, mut second) = (pool.acquire(), pool.acquire());
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    settle().await;
    assert!(
        poll_once(&mut first).is_pending(),
        "asks again, first in the queue"
    );
    settle().await;
    fake.release();
    settle().await;
    assert!(poll_once(&mut second).is_pending());
    assert!(matches!(poll_once(&mut first), Poll::Ready(Ok(_))));
}

/// The gate is the circuit breaker: once nothing has worked for long, newcomers are turned away at once,
/// and one attempt at a time goes on finding out when the database is back, with nobody waiting.
#[tokio::test(start_paused = true)]
async fn f17_f18_after_a_long_outage_acquires_fail_at_once_and_a_prober_ends_it() {
    let patience = Duration::from_secs(2);
    let (pool, fake) = configured(Config {
        fail_fast_after: Some(patience),
        ..Config::default()
    });
    fake.always(Call::Connect, Gate::Error);
    let first = pool.acquire();
    let began = Instant::now();
    let newcomers = async {
        tokio::time::sleep_until(began + patience - Duration::from_millis(1)).await;
        let mut early = pool.acquire();
        assert!(poll_once(&mut early).is_pending(), "still worth waiting");
        tokio::time::sleep_until(began + patience).await;
        let asked = Instant::now();
        let error = pool.acquire().await.unwrap_err();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        let AcquireError::Down { since, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(since.as_secs(), patience.as_secs());
    };
    let (outcome, ()) = tokio::join!(first, newcomers);
    let waited = began.elapsed();
    assert!(
        matches!(outcome, Err(AcquireError::Down { .. })),
        "{outcome:?}"
    );
    assert_eq!(
        waited.as_secs(),
        BUDGET.as_secs(),
        "who waits already waits on"
    );
    assert_eq!(pool.snapshot().turned_away_total, 1);

    let before = fake.count(Call::Connect);
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(60)).await;
    let probes = fake.count(Call::Connect) - before;
    assert!((8..80).contains(&probes), "{probes} attempts in a minute");
    fake.always(Call::Connect, Gate::Ok);
    tokio::time::sleep_until(Instant::now() + pool.config().backoff_max).await;
    settle().await;
    assert_eq!((pool.snapshot().idle, pool.snapshot().outage), (1, None));
    drop(pool.acquire().await.unwrap());
}

/// While new connections fail, those that come back still serve: waiting is worth it.
#[tokio::test(start_paused = true)]
async fn f18_newcomers_are_not_turned_away_while_connections_come_back_that_work() {
    let (pool, fake) = configured(Config {
        pool_size: 2,
        max_overflow: 0,
        fail_fast_after: Some(Duration::from_secs(2)),
        ..Config::default()
    });
    let mut lease = pool.acquire().await.unwrap();
    fake.always(Call::Connect, Gate::Error);
    for _ in 0..20 {
        let mut waiting = pool.acquire();
        assert!(poll_once(&mut waiting).is_pending());
        tokio::time::sleep_until(Instant::now() + Duration::from_secs(1)).await;
        drop(lease);
        lease = waiting.await.unwrap();
    }
    assert!(pool.outage().is_some());
}

#[tokio::test(start_paused = true)]
async fn without_a_breaker_every_acquire_waits_for_its_deadline() {
    let (pool, fake) = configured(Config {
        fail_fast_after: None,
        ..Config::default()
    });
    fake.always(Call::Connect, Gate::Error);
    for _ in 0..3 {
        let began = Instant::now();
        let error = pool.acquire().await.unwrap_err();
        assert!(matches!(error, AcquireError::Down { .. }), "{error:?}");
        assert_eq!(began.elapsed().as_secs(), BUDGET.as_secs());
    }
    let before = fake.count(Call::Connect);
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(60)).await;
    assert!(fake.count(Call::Connect) <= before + 1, "nobody wants one");
}
