//! Hooks: what they are called with, what their rejections, panics and delays cost.

use std::error::Error;

use super::fake::{FakeConn, SLOW};
use super::*;
use crate::error::ConnectError;
use crate::hooks::{HookError, HookFuture};

const ALL: [Call; 5] = [
    Call::OnConnect,
    Call::OnAcquire,
    Call::OnRelease,
    Call::OnInvalidate,
    Call::OnClose,
];

/// A pool with all hooks.
fn hooked(size: u32, overflow: i32) -> (Pool<Fake>, Fake) {
    let fake = Fake::default();
    let config = Config {
        pool_size: size,
        max_overflow: overflow,
        ..Config::default()
    };
    let pool = Pool::with_hooks(fake.clone(), config, fake.hooks(&ALL)).unwrap();
    (pool, fake)
}

/// Rule 36: each hook has its moment, and `connect` is called for a connection that is used again only when it
/// was reset.
#[tokio::test(start_paused = true)]
async fn rule_36_each_hook_is_called_at_its_moment() {
    let (pool, fake) = hooked(1, 1);
    let all = [&ALL[..], &[Call::Connect, Call::Reset, Call::Close]].concat();
    let first = pool.acquire().await.unwrap();
    let second = pool.acquire().await.unwrap();
    assert_eq!(
        fake.made(&all),
        [Call::Connect, Call::OnConnect, Call::OnAcquire].repeat(2)
    );
    drop(first);
    settle().await;
    assert_eq!(fake.made(&all)[6..], [Call::OnRelease]);
    drop(second);
    settle().await;
    let overflow = [Call::OnRelease, Call::OnClose, Call::Close];
    assert_eq!(fake.made(&all)[7..], overflow);
    let mut again = pool.acquire().await.unwrap();
    again.get_mut();
    drop(again);
    settle().await;
    let reset = [
        Call::OnAcquire,
        Call::Reset,
        Call::OnConnect,
        Call::OnRelease,
    ];
    assert_eq!(fake.made(&all)[10..], reset);
    pool.acquire().await.unwrap().discard();
    settle().await;
    assert_eq!(fake.made(&all)[14..], [Call::OnAcquire, Call::OnInvalidate]);
    assert_eq!((numbers(&pool), fake.alive()), (NOTHING, 0));
}

/// F23: a connection that cannot be set up again after its reset is closed, within `reset_timeout`.
#[tokio::test(start_paused = true)]
async fn f23_a_hook_that_fails_hangs_or_panics_after_a_reset_costs_the_connection() {
    for gate in [Gate::Error, Gate::Panic, Gate::Never] {
        let (pool, fake) = hooked(1, 0);
        let mut lease = pool.acquire().await.unwrap();
        fake.next(Call::OnConnect, [gate]);
        lease.get_mut();
        let before = tokio::time::Instant::now();
        drop(lease);
        let again = pool.acquire().await.unwrap();
        assert!(before.elapsed() <= pool.config().reset_timeout, "{gate:?}");
        assert_eq!(fake.count(Call::Connect), 2, "{gate:?}");
        drop(again);
        settle().await;
        assert_eq!(fake.alive(), 1, "{gate:?}");
    }
}

/// F23: whatever a hook does once, the pool goes on with another connection, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn f23_a_hook_that_fails_hangs_or_panics_costs_one_connection_at_most() {
    for call in ALL {
        for gate in [Gate::Error, Gate::Panic, Gate::Never, Gate::Slow] {
            let (pool, fake) = hooked(1, 0);
            fake.next(call, [gate]);
            // Lends, gives up, lends again, returns, closes: all hooks have their turn.
            for round in 0..3 {
                match pool.acquire().await {
                    Ok(lease) if round == 0 => lease.discard(),
                    Ok(lease) => drop(lease),
                    Err(AcquireError::Hook { .. }) => {
                        assert_eq!((call, gate), (Call::OnAcquire, Gate::Never));
                    }
                    Err(other) => panic!("{call:?} {gate:?}: {other:?}"),
                }
            }
            let lease = pool.acquire().await.unwrap();
            assert_eq!(fake.peak(), 1, "{call:?} {gate:?}");
            drop(lease);
            let report = pool.close(BUDGET).await;
            assert_eq!((report.cut_short, report.holders.len()), (0, 0));
            assert_eq!(fake.alive(), 0, "{call:?} {gate:?}");
            assert!(fake.count(call) > 0, "{call:?} was not called");
            let snapshot = pool.snapshot();
            assert_eq!(snapshot.opened_total, snapshot.closed_total);
            let unlike = fake.count(Call::Connect) as u64 - snapshot.opened_total;
            let failed = call == Call::OnConnect && gate != Gate::Slow;
            assert_eq!(unlike, u64::from(failed), "{call:?} {gate:?}");
        }
    }
}

/// Rule 32, rule 33: two rejections are enough.
#[tokio::test(start_paused = true)]
async fn rule_32_a_hook_that_rejects_every_connection_ends_the_acquire_with_its_reason() {
    for (gate, panicked) in [(Gate::Error, false), (Gate::Panic, true)] {
        let (pool, fake) = hooked(2, 0);
        fake.always(Call::OnAcquire, gate);
        let began = Instant::now();
        let error = pool.acquire().await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::ZERO);
        let AcquireError::Hook { cause } = error else {
            panic!("{error:?}")
        };
        match cause {
            HookError::Rejected { reason } if !panicked => {
                assert_eq!(reason.to_string(), "OnAcquire fails as planned");
            }
            HookError::Panicked if panicked => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(fake.count(Call::OnAcquire), 2);
        assert_eq!((numbers(&pool), fake.alive()), (NOTHING, 0));
        assert_eq!(pool.snapshot().closed_by.unfit, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_hook_that_rejects_is_a_failure_to_connect() {
    let (pool, fake) = hooked(1, 0);
    fake.always(Call::OnConnect, Gate::Error);
    let within = Duration::from_secs(1);
    let error = pool.acquire().within(within).await.unwrap_err();
    let AcquireError::Down { cause, .. } = error else {
        panic!("{error:?}")
    };
    let ConnectError::Hook(hook) = &cause else {
        panic!("{cause:?}")
    };
    let text = hook.source().unwrap().to_string();
    assert_eq!(text, "OnConnect fails as planned");
    assert_eq!(fake.alive(), 0);
    fake.always(Call::OnConnect, Gate::Ok);
    drop(pool.acquire().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_slow_hook_is_bounded_by_the_budget_of_the_acquire() {
    let (pool, fake) = hooked(1, 0);
    fake.always(Call::OnAcquire, Gate::Slow);
    let began = Instant::now();
    let error = pool.acquire().within(SLOW / 2).await.unwrap_err();
    assert_eq!(began.elapsed().as_millis() / 10, SLOW.as_millis() / 20);
    assert!(
        matches!(
            error,
            AcquireError::Hook {
                cause: HookError::TimedOut { .. }
            }
        ),
        "{error:?}"
    );
    drop(pool.acquire().within(SLOW * 2).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_dropped_within_its_hook_loses_no_slot() {
    let (pool, fake) = hooked(1, 0);
    fake.next(Call::OnAcquire, [Gate::Never]);
    let mut acquire = pool.acquire();
    assert!(poll_once(&mut acquire).is_pending());
    settle().await;
    assert!(poll_once(&mut acquire).is_pending());
    settle().await;
    assert_eq!(fake.count(Call::OnAcquire), 1);
    drop(acquire);
    settle().await;
    assert_eq!((numbers(&pool), fake.alive()), (NOTHING, 0));
    drop(pool.acquire().await.unwrap());
}

/// A hook comes back into the pool: it must not be called under the lock.
#[tokio::test(start_paused = true)]
async fn hooks_may_use_the_pool() {
    use std::sync::OnceLock;
    static POOL: OnceLock<Pool<Fake>> = OnceLock::new();
    fn look(_: &mut FakeConn) -> HookFuture<'_> {
        Box::pin(async {
            let snapshot = POOL.get().unwrap().snapshot();
            assert!(snapshot.size() > 0);
            Ok(())
        })
    }
    let hooks = Hooks::new()
        .on_connect(look)
        .on_acquire(look)
        .on_release(look)
        .on_invalidate(look)
        .on_close(look);
    let pool = Pool::with_hooks(Fake::default(), Config::default(), hooks).unwrap();
    POOL.set(pool.clone()).unwrap();
    pool.acquire().await.unwrap().discard();
    drop(pool.acquire().await.unwrap());
    settle().await;
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0), "no hook panicked");
    assert_eq!(pool.close(BUDGET).await.cut_short, 0);
}
