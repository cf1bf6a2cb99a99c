//! Statements whose futures were dropped while the server worked on them.

use std::time::Duration;

use poolproof_faults::Toxic;
use poolproof_pool::{Abandoned, Config, PgConnector, Pool, SessionConfig, Transaction};
use sqlx::{ConnectOptions, Executor, Row};
use tokio::task::JoinSet;

use crate::support::{Bench, insert, one_connection};

/// Leaves a statement alone while the server works on it; returns its backend's pid.
async fn abandon(bench: &mut Bench, pool: &Pool<PgConnector>) -> i32 {
    let mut session = pool.session().await.unwrap();
    let pid = session.backend().pid;
    tokio::select! {
        outcome = session.execute("select pg_sleep(600)") => panic!("{outcome:?}"),
        () = bench.until_active("pg_sleep") => {}
    }
    pid
}

/// F19: statements are abandoned one after the other, much faster than they would end. Method: a sampler
/// counts the pool's backends all the while; none of them may be one too many for what the pool says it
/// has.
#[tokio::test]
async fn f19_the_server_never_has_more_backends_than_the_limit() {
    let config = Config {
        pool_size: 3,
        max_overflow: 0,
        ..Config::default()
    };
    let limit = 3;
    let mut bench = Bench::with("abandoned_limit", config).await;
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let pool = bench.pool.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                let mut session = pool.session().await.unwrap();
                let statement = session.execute("select pg_sleep(600)");
                let within = Duration::from_millis(20);
                let outcome = tokio::time::timeout(within, statement).await;
                assert!(outcome.is_err(), "{outcome:?}");
            }
        });
    }
    let (mut samples, mut busiest) = (0, 0);
    while !tasks.is_empty() {
        let backends = bench.backends().await.len();
        assert!(backends <= limit, "{backends} backends");
        (samples, busiest) = (samples + 1, busiest.max(backends));
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
    }
    assert!(samples > 20, "only {samples} samples");
    assert!(busiest >= 2, "the statements never ran at the same time");
    bench.until_at_rest().await;
    assert_eq!(bench.backends().await, [], "each was ended");
}

/// The counterpart that shows what the former test sees: with the slot free at once, the server has more.
#[tokio::test]
async fn f19_a_slot_that_is_freed_at_once_lets_the_server_exceed_the_limit() {
    let sessions = SessionConfig {
        abandoned: Abandoned::Drop,
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("abandoned_drop", sessions).await;
    let pool = bench.pool.clone();
    let left = abandon(&mut bench, &pool).await;
    assert_eq!(pool.snapshot().size(), 0, "the slot is free at once");
    let session = pool.session().await.unwrap();
    let mut pids: Vec<i32> = bench
        .backends()
        .await
        .iter()
        .map(|(pid, ..)| *pid)
        .collect();
    pids.sort_unstable();
    let mut expected = [left, session.backend().pid];
    expected.sort_unstable();
    assert_eq!(pids, expected, "a pool of one has two backends");
    bench.terminate(left).await;
}

#[tokio::test]
async fn a_slot_that_waits_for_its_backend_is_free_when_that_ends_by_itself() {
    let sessions = SessionConfig {
        abandoned: Abandoned::Await,
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("abandoned_await", sessions).await;
    let config = Config {
        reset_timeout: Duration::from_secs(600),
        ..one_connection()
    };
    let pool = bench.pool_of(sessions, config);
    let left = abandon(&mut bench, &pool).await;
    assert_eq!((pool.snapshot().closing, pool.snapshot().size()), (1, 1));
    bench.terminate(left).await;
    let free = async |_: &mut Bench| pool.snapshot().size() == 0;
    bench.until("the slot is free", free).await;
}

/// F5: the backend does not end, because nobody can tell it to. The slot is free all the same.
#[tokio::test]
async fn f5_a_backend_that_cannot_be_ended_holds_its_slot_for_reset_timeout_only() {
    let config = Config {
        reset_timeout: Duration::from_millis(200),
        ..one_connection()
    };
    let mut bench = Bench::distant("abandoned_silent", config).await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    tokio::select! {
        outcome = session.execute("select pg_sleep(600)") => panic!("{outcome:?}"),
        () = bench.until_active("pg_sleep") => {}
    }
    let silence = Toxic::Timeout { timeout_ms: 0 };
    bench.inflict("silence", silence).await;
    drop(session);
    assert_eq!(bench.pool.snapshot().closing, 1, "it is held first");
    let freed = async |bench: &mut Bench| bench.pool.snapshot().size() == 0;
    bench.until("the slot is free", freed).await;
    bench.heal("silence").await;
    bench.terminate(pid).await;
    let next = bench.pool.session().await.unwrap();
    assert_ne!(next.backend().pid, pid);
    drop(next);
    bench.until_at_rest().await;
}

/// F20: nothing that ends an abandoned statement reaches anybody else. Method: borrowers work beside those
/// that abandon, on the same few connections, and none of them may ever see a failure.
#[tokio::test]
async fn f20_no_borrower_is_hit_by_the_end_of_anothers_statement() {
    let config = Config {
        pool_size: 4,
        max_overflow: 0,
        ..Config::default()
    };
    let mut bench = Bench::with("abandoned_spurious", config).await;
    let mut tasks = JoinSet::new();
    for worker in 0..8_u64 {
        let pool = bench.pool.clone();
        tasks.spawn(async move {
            let mut done = 0_u32;
            for round in 0..25_u64 {
                let mut session = pool.session().await.unwrap();
                if worker % 2 == 0 {
                    // From a moment before the statement arrives to one after it has ended.
                    let within = Duration::from_micros(100 * round);
                    let statement = session.execute("select pg_sleep(0.001)");
                    if let Ok(outcome) = tokio::time::timeout(within, statement).await {
                        outcome.unwrap();
                    }
                } else {
                    let row = session.fetch_one("select 1 from pg_sleep(0.002)").await;
                    assert_eq!(row.unwrap().get::<i32, _>(0), 1);
                    done += 1;
                }
            }
            done
        });
    }
    let done: u32 = tasks.join_all().await.iter().sum();
    assert_eq!(done, 100);
    bench.until_at_rest().await;
    assert!(bench.pool.snapshot().closed_total > 0, "none was abandoned");
}

/// A COMMIT that nobody waits for any more ends as the server ends it: it may be waiting for a standby.
#[tokio::test]
async fn an_abandoned_commit_is_waited_for_and_not_ended() {
    let mut bench = Bench::single("abandoned_commit").await;
    bench.slow_commits(1).await;
    let config = Config {
        reset_timeout: Duration::from_secs(60),
        ..one_connection()
    };
    let pool = bench.pool_of(SessionConfig::default(), config);
    let mut session = pool.session().await.unwrap();
    tokio::select! {
        outcome = session.transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("abandoned_commit", "kept")).await
        }) => panic!("{outcome:?}"),
        () = bench.until_active("COMMIT") => {}
    }
    assert!(session.in_doubt().is_some());
    drop(session);
    let free = async |_: &mut Bench| pool.snapshot().size() == 0;
    bench.until("the slot is free", free).await;
    assert_eq!(bench.stored().await, ["kept"]);
}

/// One that takes long, and is waited for, does not keep the slots of others taken.
#[tokio::test]
async fn an_abandoned_commit_does_not_hold_up_the_end_of_other_statements() {
    let mut bench = Bench::single("abandoned_beside").await;
    bench.slow_commits(600).await;
    let config = Config {
        pool_size: 2,
        max_overflow: 0,
        reset_timeout: Duration::from_secs(600),
        ..Config::default()
    };
    let pool = bench.pool_of(SessionConfig::default(), config);
    let mut session = pool.session().await.unwrap();
    let committing = session.backend().pid;
    tokio::select! {
        outcome = session.transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("abandoned_beside", "lost")).await
        }) => panic!("{outcome:?}"),
        () = bench.until_active("COMMIT") => {}
    }
    drop(session);
    let other = abandon(&mut bench, &pool).await;
    bench.until_gone(other).await;
    let one_left = async |_: &mut Bench| pool.snapshot().size() == 1;
    bench.until("the other slot is free", one_left).await;
    bench.terminate(committing).await;
    let none_left = async |_: &mut Bench| pool.snapshot().size() == 0;
    bench.until("both slots are free", none_left).await;
}

/// What cleans a raw connection waits for what runs on it, and gives up like a reset on a silent network.
#[tokio::test]
async fn f19_a_statement_abandoned_on_the_raw_connection_is_ended_after_the_reset_timed_out() {
    let mut bench = Bench::single("abandoned_raw").await;
    let config = Config {
        reset_timeout: Duration::from_millis(100),
        close_timeout: Duration::from_secs(30),
        ..one_connection()
    };
    let pool = bench.pool_of(SessionConfig::default(), config);
    let mut session = pool.session().await.unwrap();
    let pid = session.backend().pid;
    tokio::select! {
        outcome = session.raw().execute("select pg_sleep(600)") => panic!("{outcome:?}"),
        () = bench.until_active("pg_sleep") => {}
    }
    drop(session);
    let free = async |_: &mut Bench| pool.snapshot().size() == 0;
    bench.until("the slot is free", free).await;
    let mut admin = bench.server.direct().connect().await.unwrap();
    let query = sqlx::query("select 1 from pg_stat_activity where pid = $1").bind(pid);
    let left = admin.fetch_optional(query).await.unwrap();
    assert!(left.is_none(), "the backend outlived its slot");
}
