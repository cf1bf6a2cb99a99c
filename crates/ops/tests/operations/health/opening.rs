//! The verdict while connections are being opened, and for whom those are.

use super::*;

fn is_outage(reason: &HealthReason<FakeError>) -> bool {
    use HealthReason::{Rejected, Unreachable};
    matches!(reason, Unreachable { .. } | Rejected { .. })
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_no_connect_is_unhealthy_however_many_wait() {
    for waiting in 0..4 {
        let (pool, fake) = pool(5, 10);
        fake.always(Call::Connect, Gate::Never);
        let mut waiters: Vec<_> = (0..waiting.max(1)).map(|_| pool.acquire()).collect();
        for waiter in &mut waiters {
            assert!(poll_once(waiter).is_pending());
        }
        // With nobody left to wait for it, the attempt goes on.
        waiters.truncate(waiting);
        let seen = health(&pool).await;
        assert_eq!(seen.status, HealthStatus::Unhealthy, "{seen}");
        let told = match seen.reasons[..] {
            [HealthReason::NoAnswer { .. }] => waiting == 0,
            [
                HealthReason::Opening {
                    out: 0, served: 0, ..
                },
            ] => waiting > 0,
            _ => false,
        };
        assert!(told, "{waiting} wait: {seen}");
        assert_eq!(pool.snapshot().waiting, waiting);
        // Once an attempt has failed, the cause is told, and at once.
        tokio::time::sleep_until(Instant::now() + pool.config().connect_timeout).await;
        let seen = health(&pool).await;
        assert_eq!(seen.status, HealthStatus::Unhealthy, "{seen}");
        assert!(seen.reasons.iter().any(is_outage), "{seen}");
        assert!(waiting == 0 || seen.took.is_zero(), "{seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_in_a_pool_of_one_does_not_saturate_it() {
    for first in [Gate::Never, Gate::Error] {
        let (pool, fake) = pool(1, 0);
        fake.next(Call::Connect, [first]);
        fake.always(Call::Connect, Gate::Never);
        let second = Duration::from_secs(1);
        pool.acquire().within(second).await.map(drop).unwrap_err();
        assert_eq!(numbers(&pool), (0, 0, 1, 0, 0));
        let seen = health(&pool).await;
        is(&seen, HealthStatus::Unhealthy, HealthMethod::Probe);
        let told = match first {
            Gate::Never => matches!(seen.reasons[..], [HealthReason::NoAnswer { .. }]),
            _ => matches!(seen.reasons[..], [HealthReason::Unreachable { .. }]),
        };
        assert!(told, "{first:?}: {seen}");
    }
}

/// Many who come at once wait for connections too, and that is no outage.
#[tokio::test(start_paused = true)]
async fn a_pool_whose_connections_are_just_being_opened_is_healthy_as_soon_as_one_is() {
    for others in [Gate::Slow, Gate::Never] {
        // With three in use the fourth is the last, so that there is no probe.
        let (pool, fake) = pool(4, 0);
        fake.next(Call::Connect, [Gate::Slow]);
        fake.always(Call::Connect, others);
        let mut waiters: Vec<_> = (0..3).map(|_| pool.acquire()).collect();
        for waiter in &mut waiters {
            assert!(poll_once(waiter).is_pending());
        }
        let seen = health(&pool).await;
        is(&seen, HealthStatus::Healthy, HealthMethod::Books);
        assert_eq!(seen.took, crate::fake::SLOW);
        assert!(waiters.remove(0).await.is_ok(), "it was for them");
    }
}

#[tokio::test(start_paused = true)]
async fn while_connects_hang_it_counts_whether_what_is_in_use_serves_those_who_wait() {
    for comes_back in [false, true] {
        let (pool, fake) = pool(3, 0);
        let held = pool.acquire().await.unwrap();
        fake.always(Call::Connect, Gate::Never);
        let mut waiters: Vec<_> = (0..2).map(|_| pool.acquire()).collect();
        for waiter in &mut waiters {
            assert!(poll_once(waiter).is_pending());
        }
        let [first, _second] = &mut waiters[..] else {
            panic!("two wait")
        };
        let (seen, _kept) = tokio::join!(health(&pool), async {
            if comes_back {
                drop(held);
                return first.await.unwrap();
            }
            held
        });
        let status = if comes_back {
            HealthStatus::Degraded
        } else {
            HealthStatus::Unhealthy
        };
        is(&seen, status, HealthMethod::Books);
        let [HealthReason::Opening { out: 1, served, .. }] = seen.reasons[..] else {
            panic!("{seen}")
        };
        assert_eq!(served, u64::from(comes_back), "{seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_on_their_way_back_saturate_a_pool_and_are_named() {
    let (pool, fake) = pool(2, 0);
    fake.always(Call::Reset, Gate::Never);
    let mut leases = join_all([pool.acquire(), pool.acquire()]).await;
    for lease in &mut leases {
        lease.as_mut().unwrap().get_mut();
    }
    drop(leases);
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    let seen = health(&pool).await;
    is(&seen, HealthStatus::Degraded, HealthMethod::Books);
    assert_eq!(
        seen.to_string(),
        "degraded: saturated: 0 connections are in use, 2 are being reset or closed and 1 acquires wait"
    );
}

/// The probe came first, and then somebody who needs the only connection that there may be.
#[tokio::test(start_paused = true)]
async fn a_probe_passes_the_last_connection_on_to_whoever_came_behind_it() {
    let (pool, fake) = pool(1, 0);
    fake.always(Call::Connect, Gate::Held);
    fake.always(Call::Ping, Gate::Never);
    let began = Instant::now();
    let ((), seen, lease) = tokio::join!(
        async {
            settle().await;
            assert_eq!(numbers(&pool), (0, 0, 1, 0, 2), "both wait");
            fake.release();
        },
        health(&pool),
        async {
            tokio::task::yield_now().await;
            pool.acquire().await.unwrap()
        },
    );
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for the ping");
    assert_eq!(fake.count(Call::Ping), 0);
    is(&seen, HealthStatus::Degraded, HealthMethod::Books);
    assert!(
        matches!(seen.reasons[..], [HealthReason::Saturated { out: 1, .. }]),
        "{seen}"
    );
    drop(lease);
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
}
