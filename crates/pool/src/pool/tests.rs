//! The pool on a connector whose every call the test decides, under paused time: a deadline costs
//! nothing to wait for, and nothing depends on the machine's pace.

mod ageing;
mod closing;
mod critical;
mod elsewhere;
mod errors;
mod fake;
mod hooks;
mod leaks;
mod matrix;
mod models;
mod modes;
mod outage;
mod peers;
mod rules;
mod waiting;

use std::task::Poll;
use std::time::Duration;

use fake::{Call, Fake, Gate};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::error::AcquireError;

const BUDGET: Duration = Duration::from_secs(30);

/// A pool of `size` + `overflow` connections, and its connector.
fn pool(size: u32, overflow: i32) -> (Pool<Fake>, Fake) {
    configured(Config {
        pool_size: size,
        max_overflow: overflow,
        ..Config::default()
    })
}

fn configured(config: Config) -> (Pool<Fake>, Fake) {
    let fake = Fake::default();
    (Pool::new(fake.clone(), config).unwrap(), fake)
}

/// Lets everything run that can run without time passing.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Polls once.
fn poll_once(acquire: &mut Acquire<Fake>) -> Poll<Result<Lease<Fake>, Refusal>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    acquire.poll_unpin(&mut context)
}

type Refusal = AcquireError<fake::FakeError>;

fn numbers(pool: &Pool<Fake>) -> (usize, usize, usize, usize, usize) {
    let now = pool.snapshot();
    (now.out, now.idle, now.opening, now.closing, now.waiting)
}

const NOTHING: (usize, usize, usize, usize, usize) = (0, 0, 0, 0, 0);

#[test]
fn a_pool_outside_any_runtime_is_refused_and_not_a_panic() {
    let refused = Pool::new(Fake::default(), Config::default()).map(drop);
    assert_eq!(refused, Err(ConfigError::NoRuntime));
}

/// Rule 4, rule 6: a new pool opens nothing, what is idle is lent before anything is opened, and without
/// settings that ask for it nothing happens by itself.
#[tokio::test(start_paused = true)]
async fn a_pool_opens_nothing_until_asked_and_then_no_more_than_needed() {
    let (pool, fake) = pool(5, 10);
    settle().await;
    assert_eq!(fake.count(Call::Connect), 0);
    for _ in 0..3 {
        drop(pool.acquire().await.unwrap());
    }
    assert_eq!(fake.count(Call::Connect), 1, "rule 6: idle comes first");
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
    assert_eq!(
        fake.count(Call::Reset) + fake.count(Call::Ping),
        0,
        "a clean return is free"
    );
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(86_400)).await;
    settle().await;
    let calls = [Call::Connect, Call::Reset, Call::Ping, Call::Close];
    assert_eq!(fake.made(&calls), [Call::Connect], "nor within a day");
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
}

/// Rule 16, and our departure from it: F13.
#[tokio::test(start_paused = true)]
async fn released_leases_go_to_the_waiters_in_order_of_arrival() {
    let (pool, fake) = pool(1, 0);
    let first = pool.acquire().await.unwrap();
    let mut waiters: Vec<_> = (0..5).map(|_| pool.acquire()).collect();
    for waiter in &mut waiters {
        assert!(poll_once(waiter).is_pending());
    }
    drop(first);
    for _ in 0..5 {
        for later in waiters.iter_mut().skip(1) {
            assert!(poll_once(later).is_pending(), "nobody overtakes");
        }
        let Poll::Ready(Ok(lease)) = poll_once(&mut waiters[0]) else {
            panic!("the oldest waiter has no lease")
        };
        drop(waiters.remove(0));
        drop(lease);
    }
    assert_eq!(fake.count(Call::Connect), 1);
}

/// F13: a newcomer must not take what was handed to a waiter that has not been polled yet.
#[tokio::test(start_paused = true)]
async fn f13_a_newcomer_cannot_take_what_was_handed_to_a_waiter() {
    let (pool, _) = pool(1, 0);
    let first = pool.acquire().await.unwrap();
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    drop(first);
    let mut newcomer = pool.acquire();
    assert!(poll_once(&mut newcomer).is_pending());
    assert!(matches!(poll_once(&mut waiter), Poll::Ready(Ok(_))));
}

/// F9, F10: a granted waiter that is dropped before it looks passes the connection on.
#[tokio::test(start_paused = true)]
async fn f9_a_dropped_granted_waiter_passes_its_connection_on() {
    let (pool, fake) = pool(1, 0);
    let first = pool.acquire().await.unwrap();
    let (mut doomed, mut next) = (pool.acquire(), pool.acquire());
    assert!(poll_once(&mut doomed).is_pending());
    assert!(poll_once(&mut next).is_pending());
    drop(first);
    drop(doomed);
    let Poll::Ready(Ok(lease)) = poll_once(&mut next) else {
        panic!("the connection was lost with the waiter")
    };
    drop(lease);
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.leases_issued, snapshot.leases_returned), (2, 2));
    assert_eq!(fake.count(Call::Connect), 1);
}

#[tokio::test(start_paused = true)]
async fn f9_a_hundred_thousand_cancelled_hand_overs_lose_nothing() {
    let (pool, fake) = pool(2, 0);
    let both = join_all([pool.acquire(), pool.acquire()]).await;
    let mut held: Vec<_> = both.into_iter().map(Result::unwrap).collect();
    for _ in 0..100_000 {
        let mut waiter = pool.acquire();
        assert!(poll_once(&mut waiter).is_pending());
        drop(held.pop());
        drop(waiter);
        held.push(pool.acquire().await.unwrap());
    }
    drop(held);
    assert_eq!(numbers(&pool), (0, 2, 0, 0, 0));
    assert_eq!(fake.count(Call::Connect), 2);
}

/// F7: connect takes longer than its caller has.
#[tokio::test(start_paused = true)]
async fn f7_a_connect_outlives_the_caller_that_caused_it() {
    let (pool, fake) = pool(2, 0);
    fake.always(Call::Connect, Gate::Held);
    let error = pool
        .acquire()
        .within(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            AcquireError::ConnectTimeout {
                opening: 1,
                out: 0,
                ..
            }
        ),
        "{error:?}"
    );
    let text = error.to_string();
    let expected = "no connection was opened within 50 ms; 1 attempt is under way, 0 connections are in \
                    use: check that the address is right";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(numbers(&pool), (0, 0, 1, 0, 0));
    fake.release();
    settle().await;
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0), "it joined the idle ones");
    drop(pool.acquire().await.unwrap());
    assert_eq!(fake.count(Call::Connect), 1);
}

/// F8: a returned connection serves the waiter before the connect that it is stuck on.
#[tokio::test(start_paused = true)]
async fn f8_a_returned_connection_serves_a_waiter_stuck_on_a_connect() {
    let (pool, fake) = pool(2, 0);
    let first = pool.acquire().await.unwrap();
    let id = first.get().id;
    fake.always(Call::Connect, Gate::Never);
    let mut stuck = pool.acquire();
    assert!(poll_once(&mut stuck).is_pending());
    assert_eq!(pool.snapshot().opening, 1);
    drop(first);
    let Poll::Ready(Ok(lease)) = poll_once(&mut stuck) else {
        panic!("still stuck")
    };
    assert_eq!(lease.get().id, id);
}

/// Rule 13: the text names the sizes, who waits, for how long, and the oldest holder.
#[tokio::test(start_paused = true)]
async fn exhausted_says_so_at_the_deadline_and_names_the_oldest_holder() {
    let (pool, _) = pool(1, 1);
    let line = line!() + 1;
    let _oldest = pool.acquire().await.unwrap();
    tokio::time::advance(Duration::from_secs(7)).await;
    let _younger = pool.acquire().await.unwrap();
    let began = Instant::now();
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), BUDGET.as_secs());
    let text = error.to_string();
    let expected = format!(
        "all 2 connections are in use (pool_size 1, max_overflow 1) and 1 acquire waits; none came back \
         within 30.0 s; the oldest lease is held by {}:{line}:",
        file!()
    );
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.contains(" for 37.0 s"), "{text}");
    let AcquireError::Exhausted {
        size: 1,
        overflow: 1,
        out: 2,
        waiting: 1,
        oldest: Some(oldest),
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (oldest.location.file(), oldest.location.line()),
        (file!(), line)
    );
    assert_eq!(oldest.held_for.as_secs(), 37);
    assert_eq!(numbers(&pool), (2, 0, 0, 0, 0), "the waiter left the queue");
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_with_the_deadline_wins() {
    let (pool, _) = pool(1, 0);
    let lease = pool.acquire().await.unwrap();
    let mut waiter = pool.acquire().within(Duration::from_millis(5));
    assert!(poll_once(&mut waiter).is_pending());
    drop(lease);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(matches!(poll_once(&mut waiter), Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_bounded_queue_refuses_the_one_too_many() {
    let (pool, _) = configured(Config {
        pool_size: 1,
        max_overflow: 0,
        waiters_max: Some(2),
        ..Config::default()
    });
    let _lease = pool.acquire().await.unwrap();
    let mut waiters = [pool.acquire(), pool.acquire()];
    for waiter in &mut waiters {
        assert!(poll_once(waiter).is_pending());
    }
    let error = pool.acquire().await.unwrap_err();
    assert!(
        matches!(error, AcquireError::QueueFull { waiting: 2, .. }),
        "{error:?}"
    );
    let text = error.to_string();
    let expected = "2 acquires wait already, as many as waiters_max allows: try again later, ";
    assert!(text.starts_with(expected), "{text}");
}

/// A loop of acquire and drop never waits, and must let others run all the same; also where each one comes
/// after so many polls of an acquire that goes on waiting, and where each is refused.
#[tokio::test(start_paused = true)]
async fn a_hot_loop_yields_to_its_neighbours() {
    let (pool, _) = pool(1, 0);
    drop(pool.acquire().await.unwrap());
    let (full, _) = self::pool(1, 0);
    let _held = full.acquire().await.unwrap();
    // Whatever was counted on this thread before.
    for _ in 0..8 {
        for waiting_polls in 0..4 {
            lets_others_run(async || {
                let mut waiting = full.acquire();
                for _ in 0..waiting_polls {
                    assert!(poll_once(&mut waiting).is_pending());
                }
                drop(pool.acquire().await.unwrap());
            })
            .await;
        }
        lets_others_run(async || {
            let refused = full.acquire().within(Duration::ZERO).await;
            refused.map(drop).unwrap_err();
        })
        .await;
        drop(pool.acquire().await.unwrap());
    }
}

async fn lets_others_run(work: impl AsyncFn()) {
    let turns = std::sync::atomic::AtomicUsize::new(0);
    let hot = async {
        for _ in 0..10_000 {
            work().await;
        }
    };
    let neighbour = async {
        loop {
            turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { () = hot => {}, () = neighbour => {} }
    let turns = turns.into_inner();
    assert!(turns >= 5, "the neighbour had {turns} turns");
}

#[tokio::test(start_paused = true)]
async fn get_mut_has_the_connection_reset_before_the_next_borrower() {
    let (pool, fake) = pool(1, 0);
    let mut lease = pool.acquire().await.unwrap();
    let id = lease.get_mut().id;
    fake.next(Call::Reset, [Gate::Held]);
    drop(lease);
    settle().await;
    assert_eq!(
        numbers(&pool),
        (0, 0, 0, 1, 0),
        "the slot is taken meanwhile"
    );
    let mut next = pool.acquire();
    assert!(poll_once(&mut next).is_pending());
    fake.release();
    let lease = next.await.unwrap();
    assert_eq!((lease.get().id, fake.count(Call::Reset)), (id, 1));
}

/// F5, rule 23: a reset that never ends costs its connection and not its slot.
#[tokio::test(start_paused = true)]
async fn f5_a_reset_that_hangs_fails_or_panics_costs_the_connection_and_frees_the_slot() {
    for gate in [Gate::Never, Gate::Error, Gate::Panic] {
        let (pool, fake) = pool(1, 0);
        let mut lease = pool.acquire().await.unwrap();
        lease.get_mut();
        fake.next(Call::Reset, [gate]);
        let began = Instant::now();
        drop(lease);
        let lease = pool.acquire().await.unwrap();
        assert_eq!(lease.get().id, 1, "{gate:?}: a new connection");
        let bound = pool.config().reset_timeout + Duration::from_millis(1);
        assert!(began.elapsed() <= bound, "{gate:?}");
        assert_eq!(fake.alive(), 1, "{gate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_hangs_blocks_nobody_and_ends() {
    let (pool, fake) = pool(1, 1);
    fake.always(Call::Close, Gate::Never);
    let leases = join_all([pool.acquire(), pool.acquire()]).await;
    drop(leases);
    settle().await;
    assert_eq!(numbers(&pool), (0, 1, 0, 1, 0));
    drop(pool.acquire().await.unwrap());
    tokio::time::advance(pool.config().close_timeout).await;
    settle().await;
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
    assert_eq!(fake.alive(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_lease_closes_its_connection_and_frees_the_slot_at_once() {
    let (pool, fake) = pool(1, 0);
    pool.acquire().await.unwrap().discard();
    assert_eq!((numbers(&pool), fake.alive()), (NOTHING, 0));
    assert_eq!(pool.acquire().await.unwrap().get().id, 1);
}
