//! The verdict on a pool, and that asking for it harms nobody.

mod opening;

use poolproof_ops::{HEALTH_DEADLINE, Health, HealthMethod, HealthReason, HealthStatus};
use poolproof_pool::{AcquireError, ErrorKind};

use super::fake::{Call, FakeError, Gate};
use super::*;

type Seen = Health<FakeError>;

/// Asks, and checks that the answer came in time.
async fn health_within(pool: &Pool<Fake>, deadline: Duration) -> Seen {
    let began = Instant::now();
    let health = Health::of(pool, deadline).await;
    let took = began.elapsed();
    assert!(took <= deadline, "{health} took {took:?} of {deadline:?}");
    health
}

async fn health(pool: &Pool<Fake>) -> Seen {
    health_within(pool, HEALTH_DEADLINE).await
}

fn is(health: &Seen, status: HealthStatus, method: HealthMethod) {
    assert_eq!((health.status, health.method), (status, method), "{health}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_serves_is_healthy_whether_it_has_a_connection_yet_or_not() {
    let (pool, fake) = pool(2, 0);
    for (connects, pings) in [(1, 1), (1, 2)] {
        let seen = health(&pool).await;
        is(&seen, HealthStatus::Healthy, HealthMethod::Probe);
        assert_eq!(seen.to_string(), "healthy");
        assert_eq!(
            (fake.count(Call::Connect), fake.count(Call::Ping)),
            (connects, pings)
        );
        assert_eq!(
            numbers(&pool),
            (0, 1, 0, 0, 0),
            "the connection went back as it was"
        );
    }
    assert_eq!(fake.count(Call::Reset), 0);
}

#[tokio::test(start_paused = true)]
async fn a_saturated_pool_is_degraded_at_once_and_not_asked_for_a_connection() {
    let (pool, fake) = pool(1, 1);
    let leases = join_all([pool.acquire(), pool.acquire()]).await;
    let began = Instant::now();
    let seen = health(&pool).await;
    is(&seen, HealthStatus::Degraded, HealthMethod::Books);
    assert!(
        matches!(
            seen.reasons[..],
            [HealthReason::Saturated {
                out: 2,
                closing: 0,
                waiting: 0
            }]
        ),
        "{seen}"
    );
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    let seen = health(&pool).await;
    assert!(
        matches!(
            seen.reasons[..],
            [HealthReason::Saturated {
                out: 2,
                closing: 0,
                waiting: 1
            }]
        ),
        "{seen}"
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(
        (pool.snapshot().leases_issued, fake.count(Call::Ping)),
        (2, 0)
    );
    drop(leases);
}

/// The probe must never be the one that takes the last connection from those who work.
#[tokio::test(start_paused = true)]
async fn the_last_connection_of_a_pool_in_use_is_left_alone() {
    let (pool, fake) = pool(3, 0);
    let _leases = join_all([pool.acquire(), pool.acquire()]).await;
    let issued = pool.snapshot().leases_issued;
    let seen = health(&pool).await;
    is(&seen, HealthStatus::Healthy, HealthMethod::Books);
    assert_eq!(
        (pool.snapshot().leases_issued, fake.count(Call::Connect)),
        (issued, 2)
    );

    // The books say so to the acquire itself too: between a look at them and an acquire, others come.
    let mut sparing = pool.acquire().sparing();
    let Poll::Ready(Err(AcquireError::Exhausted { out: 2, .. })) = poll_once(&mut sparing) else {
        panic!("it took the last connection, or waits for it")
    };
    assert_eq!(numbers(&pool), (2, 0, 0, 0, 0));
    assert_eq!(
        pool.errors(ErrorKind::Exhausted),
        0,
        "nobody's acquire failed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pool_of_one_is_probed_as_long_as_nobody_uses_it() {
    let (pool, _) = pool(1, 0);
    is(
        &health(&pool).await,
        HealthStatus::Healthy,
        HealthMethod::Probe,
    );
    let _lease = pool.acquire().await.unwrap();
    is(
        &health(&pool).await,
        HealthStatus::Degraded,
        HealthMethod::Books,
    );
}

/// F6: one connection that died in silence says nothing about the database.
#[tokio::test(start_paused = true)]
async fn f6_one_dead_connection_is_replaced_within_the_deadline_and_two_are_an_outage() {
    for gate in [Gate::Never, Gate::Error] {
        let (pool, fake) = pool(3, 0);
        drop(pool.acquire().await.unwrap());
        fake.next(Call::Ping, [gate]);
        is(
            &health(&pool).await,
            HealthStatus::Healthy,
            HealthMethod::Probe,
        );
        assert_eq!(fake.count(Call::Connect), 2, "the dead one was replaced");
        fake.always(Call::Ping, gate);
        let seen = health(&pool).await;
        is(&seen, HealthStatus::Unhealthy, HealthMethod::Probe);
        assert!(
            matches!(seen.reasons[..], [HealthReason::PingFailed]),
            "{seen}"
        );
        settle().await;
        assert_eq!(numbers(&pool), (0, 0, 0, 0, 0), "no dead one is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_refuses_fails_or_is_silent_is_unhealthy_by_the_deadline() {
    for gate in [Gate::Never, Gate::Error, Gate::Permanent] {
        let (pool, fake) = pool(2, 0);
        fake.always(Call::Connect, gate);
        let seen = health(&pool).await;
        is(&seen, HealthStatus::Unhealthy, HealthMethod::Probe);
        let told = match gate {
            Gate::Never => matches!(seen.reasons[..], [HealthReason::NoAnswer { .. }]),
            Gate::Error => seen
                .reasons
                .iter()
                .any(|reason| matches!(reason, HealthReason::Unreachable { .. })),
            _ => matches!(seen.reasons[..], [HealthReason::Rejected { .. }]),
        };
        assert!(told, "{gate:?}: {seen}");
        assert_eq!(pool.snapshot().waiting, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_takes_over_a_second_is_degraded() {
    let (pool, fake) = pool(1, 0);
    fake.always(Call::Connect, Gate::Held);
    let (seen, ()) = tokio::join!(health_within(&pool, Duration::from_secs(5)), async {
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(1_200)).await;
        fake.release();
    });
    is(&seen, HealthStatus::Degraded, HealthMethod::Probe);
    assert!(
        matches!(seen.reasons[..], [HealthReason::Slow { .. }]),
        "{seen}"
    );
    is(
        &health(&pool).await,
        HealthStatus::Healthy,
        HealthMethod::Probe,
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_with_a_connection_that_still_works_is_degraded() {
    let (pool, fake) = pool(3, 0);
    let held = pool.acquire().await.unwrap();
    fake.always(Call::Connect, Gate::Error);
    pool.acquire()
        .within(HEALTH_DEADLINE)
        .await
        .map(drop)
        .unwrap_err();
    drop(held);
    let seen = health(&pool).await;
    is(&seen, HealthStatus::Degraded, HealthMethod::Probe);
    assert!(
        matches!(seen.reasons[..], [HealthReason::Unreachable { .. }]),
        "{seen}"
    );
    let text = seen.to_string();
    let causes = ": the connection could not be opened: Connect fails as planned";
    assert!(text.ends_with(causes), "{text}");
}

#[tokio::test(start_paused = true)]
async fn pools_that_lend_nothing_say_why() {
    let (pool, fake) = pool(2, 0);
    pool.pause(Duration::ZERO).await;
    let paused = health(&pool).await;
    is(&paused, HealthStatus::Degraded, HealthMethod::Books);
    assert!(
        matches!(paused.reasons[..], [HealthReason::Paused]),
        "{paused}"
    );
    pool.resume();
    pool.drain(Duration::ZERO).await;
    let draining = health(&pool).await;
    is(&draining, HealthStatus::Unhealthy, HealthMethod::Books);
    pool.close(Duration::ZERO).await;
    let closed = health(&pool).await;
    is(&closed, HealthStatus::Unhealthy, HealthMethod::Books);
    assert_eq!(closed.to_string(), "unhealthy: the pool is closed");
    assert_eq!(fake.count(Call::Connect), 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_in_its_ping_leaves_a_clean_connection() {
    let (pool, fake) = pool(2, 0);
    fake.always(Call::Ping, Gate::Never);
    let asked = Health::of(&pool, HEALTH_DEADLINE);
    let dropped = tokio::time::timeout(Duration::from_millis(10), asked).await;
    assert!(dropped.is_err(), "the ping never ends");
    settle().await;
    assert_eq!(fake.count(Call::Reset), 1);
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
}

/// After a ping that nobody answered, that no connection can be spared for a second try excuses nothing.
#[tokio::test(start_paused = true)]
async fn a_failed_ping_is_not_forgotten_when_a_second_connection_cannot_be_spared() {
    let (pool, fake) = pool(3, 0);
    let mut leases = join_all((0..3).map(|_| pool.acquire())).await;
    leases.truncate(1);
    // The goodbyes of those that are given up with the silent one hang, so that their slots stay taken.
    for call in [Call::Ping, Call::Close, Call::Connect] {
        fake.always(call, Gate::Never);
    }
    let seen = health(&pool).await;
    is(&seen, HealthStatus::Unhealthy, HealthMethod::Probe);
    assert!(
        matches!(seen.reasons[..], [HealthReason::PingFailed]),
        "{seen}"
    );
    assert_eq!(fake.count(Call::Ping), 1, "the second try was refused");
}
