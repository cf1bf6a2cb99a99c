//! What an operator does to a pool: pause, drain, resume, resize, invalidate.

use super::*;
use crate::state::Mode;

const SOON: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn a_paused_pool_lets_acquires_wait_and_serves_them_in_order_afterwards() {
    let (pool, fake) = pool(2, 0);
    let lease = pool.acquire().await.unwrap();
    drop(pool.acquire().await.unwrap());
    let back = async {
        settle().await;
        drop(lease);
    };
    let (holders, ()) = tokio::join!(pool.pause(SOON), back);
    assert_eq!((holders, pool.snapshot().mode), (Vec::new(), Mode::Paused));
    let connects = fake.count(Call::Connect);
    let mut waiters: Vec<_> = (0..3).map(|_| pool.acquire()).collect();
    for waiter in &mut waiters {
        assert!(poll_once(waiter).is_pending(), "although one is idle");
    }
    settle().await;
    assert_eq!(numbers(&pool), (0, connects, 0, 0, 3));
    pool.resume();
    settle().await;
    let outcomes: Vec<_> = waiters.iter_mut().map(poll_once).collect();
    let [Poll::Ready(Ok(_)), Poll::Ready(Ok(_)), Poll::Pending] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
}

#[tokio::test(start_paused = true)]
async fn pausing_returns_at_its_deadline_and_names_who_holds_a_lease() {
    let (pool, _) = pool(2, 0);
    let line = line!() + 1;
    let lease = pool.acquire().await.unwrap();
    let began = Instant::now();
    let holders = pool.pause(SOON).await;
    assert_eq!(began.elapsed().as_secs(), SOON.as_secs());
    assert_eq!((holders.len(), holders[0].location.line()), (1, line));
    let error = pool.acquire().within(SOON).await.unwrap_err();
    let AcquireError::Paused { within, state } = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (within.as_secs(), state.mode),
        (SOON.as_secs(), Mode::Paused)
    );
    drop(lease);
    assert_eq!(
        numbers(&pool),
        (0, 1, 0, 0, 0),
        "the lease came back all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn a_draining_pool_refuses_all_acquires_until_it_is_resumed() {
    let (pool, fake) = pool(1, 0);
    let lease = pool.acquire().await.unwrap();
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    let holders = pool.drain(SOON).await;
    assert_eq!(holders.len(), 1);
    assert!(matches!(
        poll_once(&mut waiter),
        Poll::Ready(Err(AcquireError::Draining))
    ));
    let refused = pool.acquire().await;
    assert!(
        matches!(refused, Err(AcquireError::Draining)),
        "{refused:?}"
    );
    drop(lease);
    assert_eq!(pool.drain(SOON).await, []);
    assert_eq!(fake.alive(), 1, "connections stay open");
    pool.resume();
    drop(pool.acquire().await.unwrap());
    assert_eq!(fake.count(Call::Connect), 1);
}

#[tokio::test(start_paused = true)]
async fn a_paused_pool_can_be_closed_and_tells_those_that_wait() {
    let (pool, fake) = pool(1, 0);
    drop(pool.acquire().await.unwrap());
    assert_eq!(pool.pause(SOON).await, []);
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    let report = pool.close(SOON).await;
    assert_eq!((report.holders, report.took), (Vec::new(), Duration::ZERO));
    assert!(matches!(
        poll_once(&mut waiter),
        Poll::Ready(Err(AcquireError::Closed))
    ));
    pool.resume();
    assert!(
        matches!(pool.acquire().await, Err(AcquireError::Closed)),
        "for good"
    );
    assert_eq!(
        pool.pause(SOON).await,
        [],
        "does nothing, and does not wait"
    );
    assert_eq!(fake.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn resuming_ends_the_wait_of_a_pause() {
    let (pool, _) = pool(1, 0);
    let _lease = pool.acquire().await.unwrap();
    let began = Instant::now();
    let resume = async {
        settle().await;
        pool.resume();
    };
    let (holders, ()) = tokio::join!(pool.pause(SOON), resume);
    assert_eq!((holders, began.elapsed()), (Vec::new(), Duration::ZERO));
}

/// F11: deadpool lends sixteen connections of a pool that was resized to two.
#[tokio::test(start_paused = true)]
async fn f11_a_pool_that_was_made_smaller_lends_no_more_than_it_should() {
    let (pool, fake) = pool(16, 0);
    let leases = join_all((0..16).map(|_| pool.acquire())).await;
    let mut leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
    leases.truncate(10);
    pool.resize(2, 0).unwrap();
    settle().await;
    assert_eq!(
        numbers(&pool),
        (10, 0, 0, 0, 0),
        "what was idle went at once"
    );
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    leases.truncate(2);
    settle().await;
    assert!(
        poll_once(&mut waiter).is_pending(),
        "two are out, and two may be"
    );
    assert_eq!((fake.alive(), pool.snapshot().closed_by.resized), (2, 14));
    leases.truncate(1);
    settle().await;
    assert!(matches!(poll_once(&mut waiter), Poll::Ready(Ok(_))));
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.pool_size, snapshot.max_overflow), (2, 0));
    assert_eq!(fake.count(Call::Connect), 16);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_made_larger_serves_those_that_wait() {
    let (pool, _) = pool(1, 0);
    let _lease = pool.acquire().await.unwrap();
    let mut waiters = [pool.acquire(), pool.acquire()];
    for waiter in &mut waiters {
        assert!(poll_once(waiter).is_pending());
    }
    pool.resize(2, 1).unwrap();
    settle().await;
    for waiter in &mut waiters {
        assert!(matches!(poll_once(waiter), Poll::Ready(Ok(_))));
    }
    let exhausted = pool.acquire().within(SOON).await.map(drop);
    pool.resize(3, -1).unwrap();
    assert_eq!(pool.snapshot().max_overflow, -1);
    drop(exhausted);
}

#[tokio::test(start_paused = true)]
async fn sizes_that_cannot_work_are_refused_and_change_nothing() {
    let (pool, _) = configured(Config {
        min_idle: 2,
        ..Config::default()
    });
    assert_eq!(pool.resize(0, 5), Err(ConfigError::PoolSizeZero));
    let below_minimum = ConfigError::MinIdle {
        min_idle: 2,
        pool_size: 1,
    };
    assert_eq!(pool.resize(1, 5), Err(below_minimum));
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.pool_size, snapshot.max_overflow), (5, 10));
}

/// Rule 35, soft invalidation: usable until it comes back, and then replaced.
#[tokio::test(start_paused = true)]
async fn rule_35_invalidated_connections_serve_until_they_come_back() {
    let (pool, fake) = pool(2, 0);
    let lease = pool.acquire().await.unwrap();
    drop(pool.acquire().await.unwrap());
    pool.invalidate();
    settle().await;
    assert_eq!(numbers(&pool), (1, 0, 0, 0, 0), "idle ones go at once");
    let young = pool.acquire().await.unwrap();
    drop(lease);
    settle().await;
    assert_eq!(fake.alive(), 1, "the old one was closed");
    let id = young.get().id;
    drop(young);
    assert_eq!(pool.acquire().await.unwrap().get().id, id);
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.generation, snapshot.closed_by.stale), (1, 2));
}
