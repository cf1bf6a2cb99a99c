//! Rules of SQLAlchemy's pool by their numbers. The README lists all forty, with the tests elsewhere.

use super::fake::FakeConn;
use super::*;
use crate::hooks::Hooks;

const MS: Duration = Duration::from_millis(1);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

async fn pass(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
    settle().await;
}

fn hooked(size: u32, kinds: &[Call]) -> (Pool<Fake>, Fake) {
    let fake = Fake::default();
    let config = Config {
        pool_size: size,
        max_overflow: 0,
        ..Config::default()
    };
    let hooks: Hooks<FakeConn> = fake.hooks(kinds);
    (Pool::with_hooks(fake.clone(), config, hooks).unwrap(), fake)
}

/// Rule 1, rule 19: the one too many is closed when it comes back.
#[tokio::test(start_paused = true)]
async fn overflow_connections_are_closed_on_return_and_the_limit_is_never_exceeded() {
    let (pool, fake) = pool(2, 3);
    for _ in 0..4 {
        let wanted: Vec<_> = (0..20).map(|_| pool.acquire()).collect();
        let lend = |acquire: Acquire<Fake>| async move {
            let lease = acquire.await.unwrap();
            tokio::task::yield_now().await;
            drop(lease);
        };
        join_all(wanted.into_iter().map(lend)).await;
    }
    settle().await;
    assert_eq!(fake.peak(), 5);
    assert_eq!(numbers(&pool), (0, 2, 0, 0, 0));
    assert_eq!(fake.alive(), 2, "rule 19");
    assert_eq!(fake.count(Call::Close), fake.count(Call::Connect) - 2);
}

/// Rule 2.
#[tokio::test(start_paused = true)]
async fn rule_2_minus_one_opens_as_many_as_are_asked_for() {
    let (pool, fake) = pool(1, -1);
    let leases = join_all((0..40).map(|_| pool.acquire())).await;
    assert_eq!((fake.alive(), pool.snapshot().out), (40, 40));
    drop(leases);
    settle().await;
    assert_eq!(fake.alive(), 1);
}

/// Rule 12, and our departure from it: no budget takes what is idle, and waits for nothing.
#[tokio::test(start_paused = true)]
async fn rule_12_a_zero_budget_takes_what_is_idle_and_fails_at_once_otherwise() {
    let (pool, _) = pool(1, 0);
    drop(pool.acquire().await.unwrap());
    let mut taking = pool.acquire().within(Duration::ZERO);
    let Poll::Ready(Ok(lease)) = poll_once(&mut taking) else {
        panic!("an idle connection was not taken")
    };
    let mut failing = pool.acquire().within(Duration::ZERO);
    let Poll::Ready(Err(AcquireError::Exhausted { .. })) = poll_once(&mut failing) else {
        panic!("there is nothing to wait for")
    };
    drop(lease);
}

/// Rule 8: below the limit nobody waits for what is out; at the limit everybody does, and nothing is opened.
#[tokio::test(start_paused = true)]
async fn rule_8_below_the_limit_one_is_opened_and_at_the_limit_one_is_waited_for() {
    let (pool, fake) = pool(1, 2);
    let mut leases = Vec::new();
    let began = Instant::now();
    for opened in 1..=3 {
        leases.push(pool.acquire().await.unwrap());
        assert_eq!(fake.count(Call::Connect), opened);
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waited");

    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    pass(BUDGET - MS).await;
    assert_eq!(numbers(&pool), (3, 0, 0, 0, 1));
    let returned = leases.pop().unwrap();
    let id = returned.get().id;
    drop(returned);
    let Poll::Ready(Ok(lease)) = poll_once(&mut waiter) else {
        panic!("what came back did not serve the waiter")
    };
    assert_eq!((lease.get().id, fake.count(Call::Connect)), (id, 3));
}

/// Rule 11: `Duration::MAX` is what no timeout is in SQLAlchemy, as a setting and for one acquire.
#[tokio::test(start_paused = true)]
async fn rule_11_the_longest_timeout_waits_for_ever() {
    let (pool, _) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pool_timeout: Duration::MAX,
        ..Config::default()
    });
    let held = pool.acquire().await.unwrap();
    let mut waiters = tokio::task::JoinSet::new();
    for acquire in [pool.acquire(), pool.acquire().within(Duration::MAX)] {
        waiters.spawn(async move { acquire.await.map(drop) });
    }
    pass(YEAR).await;
    assert_eq!(numbers(&pool), (1, 0, 0, 0, 2));
    assert_eq!(pool.snapshot().timeouts_total, 0);
    drop(held);
    assert!(waiters.join_all().await.iter().all(Result::is_ok));
}

/// Rule 11: a fraction of a second is that fraction. A negative timeout, which SQLAlchemy refuses when it
/// runs, is no [`Duration`] at all.
#[tokio::test(start_paused = true)]
async fn rule_11_fractions_of_a_second_are_honoured() {
    let timeout = 250 * MS;
    let (pool, _) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pool_timeout: timeout,
        ..Config::default()
    });
    let _held = pool.acquire().await.unwrap();
    for (acquire, timeout) in [
        (pool.acquire(), timeout),
        (pool.acquire().within(MS), MS),
        (pool.acquire().within(999 * MS), 999 * MS),
    ] {
        let began = Instant::now();
        let error = acquire.await.unwrap_err();
        assert!(
            matches!(error, AcquireError::Exhausted { within, .. } if within >= timeout),
            "{error:?}"
        );
        // tokio's timers tick in milliseconds, and never early.
        let late = began.elapsed().checked_sub(timeout).expect("too early");
        assert!(late <= MS, "{timeout:?}: {late:?} late");
    }
    Duration::try_from_secs_f64(-0.001).unwrap_err();
}

/// Rule 18: reset, then the hook, then the return: whoever waits is served when both are done.
#[tokio::test(start_paused = true)]
async fn rule_18_a_connection_is_reset_and_seen_by_the_hook_before_the_next_has_it() {
    let kinds = [Call::OnRelease, Call::OnAcquire];
    let (pool, fake) = hooked(1, &kinds);
    let mut lease = pool.acquire().await.unwrap();
    lease.get_mut();
    let mut next = pool.acquire();
    assert!(poll_once(&mut next).is_pending());
    let all = [Call::Reset, Call::OnRelease, Call::OnAcquire];
    let so_far = fake.made(&all).len();
    fake.next(Call::Reset, [Gate::Held]);
    fake.next(Call::OnRelease, [Gate::Held]);
    drop(lease);
    for done in 1..=2 {
        settle().await;
        assert!(poll_once(&mut next).is_pending());
        assert_eq!(fake.made(&all)[so_far..], all[..done]);
        assert_eq!(numbers(&pool), (0, 0, 0, 1, 1), "the slot is taken");
        fake.release();
    }
    drop(next.await.unwrap());
    assert_eq!(fake.made(&all)[so_far..so_far + 3], all);
    assert_eq!(fake.count(Call::Connect), 1);
}

/// Rule 28: whether a connection is too old or stale comes before the ping, which only one that may be lent
/// is worth.
#[tokio::test(start_paused = true)]
async fn rule_28_what_is_too_old_or_stale_is_closed_without_a_ping() {
    const LIFE: Duration = Duration::from_secs(1000);
    let (pool, fake) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        pre_ping: true,
        pool_recycle: Some(LIFE),
        ..Config::default()
    });
    drop(pool.acquire().await.unwrap());
    // Past its end, and the housekeeper has not had a turn.
    tokio::time::advance(LIFE).await;
    assert_eq!(pool.acquire().await.unwrap().get().id, 1);
    assert_eq!(
        (pool.snapshot().closed_by.recycled, fake.count(Call::Ping)),
        (1, 0)
    );

    pass(BUDGET).await;
    pool.invalidate();
    assert_eq!(pool.acquire().await.unwrap().get().id, 2);
    assert_eq!(
        (pool.snapshot().closed_by.stale, fake.count(Call::Ping)),
        (1, 0)
    );

    let lease = pool.acquire().await.unwrap();
    tokio::time::advance(LIFE).await;
    pool.invalidate();
    drop(lease);
    assert_eq!(pool.acquire().await.unwrap().get().id, 3, "both at once");
    let by = pool.snapshot().closed_by;
    assert_eq!((by.recycled + by.stale, fake.count(Call::Ping)), (3, 0));

    pass(BUDGET).await;
    assert_eq!(pool.acquire().await.unwrap().get().id, 3);
    assert_eq!(fake.count(Call::Ping), 1, "what may be lent is pinged");
}

/// Rule 33: a hook that rejects a connection rejects that one, and those beside it stay.
#[tokio::test(start_paused = true)]
async fn rule_33_a_rejection_costs_the_connection_that_was_rejected_and_no_other() {
    let (pool, fake) = hooked(3, &[Call::OnAcquire]);
    drop(join_all((0..3).map(|_| pool.acquire())).await);
    settle().await;
    assert_eq!(numbers(&pool), (0, 3, 0, 0, 0));
    fake.next(Call::OnAcquire, [Gate::Error]);
    let lease = pool.acquire().await.unwrap();
    settle().await;
    assert_eq!(lease.get().id, 1, "the one after it");
    assert_eq!((numbers(&pool), fake.alive()), ((1, 1, 0, 0, 0), 2));
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.generation, snapshot.closed_by.unfit), (0, 1));
}

/// Rule 37: a snapshot has what `status()` has: the size, what is in the pool, the overflow, what is out.
#[tokio::test(start_paused = true)]
async fn rule_37_a_snapshot_tells_what_status_tells() {
    let (pool, _) = pool(3, 3);
    let status = || {
        let now = pool.snapshot();
        let overflow = now.size().cast_signed() - isize::try_from(now.pool_size).unwrap();
        (now.pool_size, now.idle, overflow, now.out)
    };
    assert_eq!(status(), (3, 0, -3, 0));
    let mut leases: Vec<_> = join_all((0..6).map(|_| pool.acquire())).await;
    assert_eq!(status(), (3, 0, 3, 6));
    leases.truncate(3);
    assert_eq!(status(), (3, 3, 3, 3));
    leases.clear();
    settle().await;
    assert_eq!(status(), (3, 3, 0, 0));
    let _two = join_all([pool.acquire(), pool.acquire()]).await;
    assert_eq!(status(), (3, 1, 0, 2));
}
