//! Transactions that are run again, and those that must not be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use poolproof_pool::{
    Categorized, Config, ErrorKind, Isolation, PgConnector, Pool, QueryError, RetryError,
    RetryPolicy, Session, Transaction, TransactionError, TransactionOptions,
};
use poolproof_testbed::LocalConfig;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::{Bench, PATIENCE, Server, insert, one_connection, pool_on};

const SERIALIZABLE: TransactionOptions = TransactionOptions {
    isolation: Some(Isolation::Serializable),
    read_only: false,
    deferrable: false,
    timeouts: poolproof_pool::ServerTimeouts {
        statement: None,
        lock: None,
        idle_in_transaction: None,
        client_check: None,
    },
    deadline: None,
    with_xid: false,
};

fn patient() -> RetryPolicy {
    RetryPolicy {
        attempts_max: 100,
        deadline: Duration::from_secs(60),
        backoff_max: Duration::from_millis(50),
        ..RetryPolicy::default()
    }
}

fn raise(code: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "do $$ begin raise exception using errcode = '{code}'; end $$"
    ))
}

/// F4: several tasks read a counter and write it back, serializably, so that they get in each other's way:
/// in the first attempt of each, all have read before any may write. Goal: every increment is stored once, and the server never warns of a stray COMMIT or ROLLBACK.
#[tokio::test]
async fn f4_serialization_failures_are_run_again_until_each_is_applied_once() {
    let server = Server::start(LocalConfig::default()).await;
    let config = Config {
        pool_size: 4,
        max_overflow: 0,
        ..Config::default()
    };
    let pool = pool_on(server.options(), config);
    let mut session = pool.session().await.unwrap();
    session.execute("create table c (v int)").await.unwrap();
    session.execute("insert into c values (0)").await.unwrap();
    drop(session);
    let attempts = Arc::new(AtomicU32::new(0));
    let all_have_read = Arc::new(Barrier::new(4));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (pool, attempts) = (pool.clone(), Arc::clone(&attempts));
        let all_have_read = Arc::clone(&all_have_read);
        tasks.spawn(async move {
            for round in 0..10 {
                let (attempts, all_have_read) = (&attempts, &all_have_read);
                pool.retry(&patient(), |attempt| {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    let is_first = round == 0 && attempt.number() == 1;
                    let work = async move |tx: &mut Transaction<'_>| {
                        let row = tx.fetch_one("select v from c").await?;
                        let next: i32 = row.get::<i32, _>(0) + 1;
                        if is_first {
                            all_have_read.wait().await;
                        }
                        tx.execute(sqlx::query("update c set v = $1").bind(next))
                            .await
                    };
                    Box::pin(async move { attempt.transaction_with(&SERIALIZABLE, work).await })
                })
                .await
                .unwrap();
            }
        });
    }
    tasks.join_all().await;
    let mut session = pool.session().await.unwrap();
    let row = session.fetch_one("select v from c").await.unwrap();
    assert_eq!(row.get::<i32, _>(0), 40);
    let attempts = attempts.load(Ordering::Relaxed);
    assert!(
        attempts >= 43,
        "only one of the first four can have come through"
    );
    assert_eq!(pool.snapshot().closed_total, 0, "no connection was lost");
    let log = server.log();
    assert!(
        log.contains("could not serialize access"),
        "the log is not the server's"
    );
    assert!(!log.contains("transaction in progress"), "{log}");
}

/// F4: two transactions lock two rows crosswise. One is chosen as the victim, and its second attempt ends.
#[tokio::test]
async fn f4_a_deadlock_is_run_again_on_a_clean_session() {
    let server = Server::start(LocalConfig::default()).await;
    let pool = pool_on(server.options(), Config::default());
    let mut session = pool.session().await.unwrap();
    session
        .execute("create table d (id int primary key, v int)")
        .await
        .unwrap();
    session
        .execute("insert into d values (1, 0), (2, 0)")
        .await
        .unwrap();
    drop(session);
    let both_hold_one = Arc::new(Barrier::new(2));
    let mut tasks = JoinSet::new();
    for (first, second) in [(1, 2), (2, 1)] {
        let (pool, both_hold_one) = (pool.clone(), Arc::clone(&both_hold_one));
        tasks.spawn(async move {
            let lock = "update d set v = v + 1 where id = $1";
            let mut attempts = 0;
            let both_hold_one = &both_hold_one;
            pool.retry(&patient(), |attempt| {
                attempts = attempt.number();
                Box::pin(attempt.transaction(async move |tx: &mut Transaction<'_>| {
                    tx.execute(sqlx::query(lock).bind(first)).await?;
                    if attempts == 1 {
                        both_hold_one.wait().await;
                    }
                    tx.execute(sqlx::query(lock).bind(second)).await
                }))
            })
            .await
            .unwrap();
            attempts
        });
    }
    let mut attempts = tasks.join_all().await;
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2]);
    let mut session = pool.session().await.unwrap();
    let rows = session.fetch_all("select v from d").await.unwrap();
    let values: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [2, 2]);
    let log = server.log();
    assert!(log.contains("deadlock detected"), "nothing was tested");
    assert!(!log.contains("transaction in progress"), "{log}");
}

/// F4: after class 40 no statement, savepoint or commit is let through, and the error says to run again.
#[tokio::test]
async fn f4_after_a_serialization_failure_the_transaction_is_over_whatever_its_work_says() {
    let mut bench = Bench::single("retry_doomed").await;
    let mut session = bench.pool.session().await.unwrap();
    for (code, kind) in [
        ("40001", ErrorKind::Serialization),
        ("40P01", ErrorKind::Deadlock),
    ] {
        let outcome = session
            .transaction(async |tx: &mut Transaction<'_>| {
                tx.execute(insert("retry_doomed", "lost")).await?;
                let nested = tx
                    .savepoint(async |tx: &mut Transaction<'_>| {
                        tx.execute(raise(code)).await.map(drop)
                    })
                    .await;
                assert_eq!(nested.unwrap_err().kind(), kind);
                // An ordinary failure would be undone by the savepoint.
                let refused = tx.execute("select 1").await.unwrap_err();
                assert_eq!((refused.kind(), refused.is_retryable()), (kind, true));
                assert_eq!(refused.sqlstate().as_deref(), Some(code));
                Ok::<(), QueryError>(())
            })
            .await;
        let Err(error @ TransactionError::SerializationFailed { .. }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((error.kind(), error.is_retryable()), (kind, true));
        let backends = bench.backends().await;
        assert_eq!(backends[0].1, "idle", "{backends:?}");
        session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute("select 1").await)
            .await
            .unwrap();
    }
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(
        bench.pool.snapshot().opened_total,
        1,
        "none was lost over it"
    );
    assert_eq!(bench.stored().await, [""; 0]);
}

/// Runs work that fails in one way, at most three times; returns how often it ran and why it ended.
async fn failing(bench: &Bench, code: &str) -> (u32, RetryError<QueryError>) {
    let mut ran = 0;
    let policy = RetryPolicy {
        attempts_max: 3,
        ..patient()
    };
    let outcome = bench
        .pool
        .retry(&policy, |attempt| {
            ran += 1;
            assert_eq!(attempt.number(), ran, "the closure is told which it is");
            Box::pin(attempt.transaction(async move |tx: &mut Transaction<'_>| {
                tx.execute(raise(code)).await.map(drop)
            }))
        })
        .await;
    (ran, outcome.unwrap_err())
}

#[tokio::test]
async fn only_what_can_pass_is_run_again_and_not_for_ever() {
    let mut bench = Bench::single("retry_which").await;
    for code in ["40001", "40P01", "53100"] {
        let (ran, error) = failing(&bench, code).await;
        assert!(
            matches!(error, RetryError::AttemptsExhausted { attempts: 3, .. }),
            "{error:?}"
        );
        assert_eq!((ran, error.sqlstate().as_deref()), (3, Some(code)));
    }
    for code in ["23505", "42601", "57014", "P0001"] {
        let (ran, error) = failing(&bench, code).await;
        assert!(
            matches!(error, RetryError::Final { attempts: 1, .. }),
            "{error:?}"
        );
        assert_eq!((ran, error.sqlstate().as_deref()), (1, Some(code)));
    }
    bench.until_at_rest().await;
}

/// The connection breaks before COMMIT leaves: nothing is stored, and the next attempt has another one.
#[tokio::test]
async fn a_connection_that_breaks_before_commit_is_run_again_on_another() {
    let mut bench = Bench::single("retry_broken").await;
    let pool = bench.pool.clone();
    let server = Arc::clone(&bench.server);
    let mut attempts = 0;
    pool.retry(&patient(), |attempt| {
        attempts = attempt.number();
        let server = &server;
        Box::pin(attempt.transaction(async move |tx: &mut Transaction<'_>| {
            tx.execute(insert("retry_broken", "once")).await?;
            if attempts == 1 {
                let row = tx.fetch_one("select pg_backend_pid()").await?;
                let mut admin = server.direct().connect().await.unwrap();
                let query = sqlx::query("select pg_terminate_backend($1, 30000)");
                let ended = admin.fetch_one(query.bind(row.get::<i32, _>(0))).await;
                assert!(ended.unwrap().get::<bool, _>(0));
            }
            tx.execute("select 1").await.map(drop)
        }))
    })
    .await
    .unwrap();
    assert_eq!(attempts, 2);
    assert_eq!(bench.stored().await, ["once"]);
    bench.until_at_rest().await;
}

/// The one that must not be run again: it may be stored.
#[tokio::test]
async fn a_commit_in_doubt_is_never_run_again() {
    let mut bench = Bench::single("retry_doubt").await;
    bench.slow_commits(600).await;
    let pool = bench.pool.clone();
    let mut ran = 0;
    let policy = patient();
    let (outcome, ()) = tokio::join!(
        pool.retry(&policy, |attempt| {
            ran += 1;
            Box::pin(attempt.transaction(async |tx: &mut Transaction<'_>| {
                tx.execute(insert("retry_doubt", "maybe")).await
            }))
        }),
        async {
            bench.until_active("COMMIT").await;
            let [(pid, ..)] = bench.backends().await[..] else {
                panic!("one backend serves the pool")
            };
            bench.terminate(pid).await;
        }
    );
    let error = outcome.unwrap_err();
    assert!(
        matches!(
            error,
            RetryError::Final {
                attempts: 1,
                cause: TransactionError::CommitUnknown { .. }
            }
        ),
        "{error:?}"
    );
    assert_eq!((ran, error.kind()), (1, ErrorKind::Ambiguous));
    bench.until_at_rest().await;
}

/// One deadline for all attempts and pauses, also for a transaction that hangs.
#[tokio::test]
async fn all_attempts_share_one_deadline() {
    let mut bench = Bench::single("retry_deadline").await;
    let policy = RetryPolicy {
        attempts_max: u32::MAX,
        deadline: Duration::from_millis(300),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(20),
    };
    let failing = bench
        .pool
        .retry(&policy, |attempt| {
            Box::pin(attempt.transaction(async |tx: &mut Transaction<'_>| {
                tx.execute(raise("40001")).await.map(drop)
            }))
        })
        .await;
    assert!(
        matches!(&failing, Err(RetryError::DeadlinePassed { attempts, .. }) if *attempts > 1),
        "{failing:?}"
    );
    let hanging = bench
        .pool
        .retry(&policy, |attempt| {
            Box::pin(attempt.transaction(async |tx: &mut Transaction<'_>| {
                tx.execute("select pg_sleep(600)").await.map(drop)
            }))
        })
        .await;
    assert!(
        matches!(
            hanging,
            Err(RetryError::DeadlinePassed {
                attempts: 1,
                cause: TransactionError::DeadlinePassed { .. },
                ..
            })
        ),
        "{hanging:?}"
    );
    bench.until_at_rest().await;
}

/// 53300: the server has no slot free for a while. An acquire gives up on that, and the retry does not.
#[tokio::test]
async fn a_server_without_a_free_slot_is_waited_for() {
    let settings = [
        ("max_connections".to_owned(), "4".to_owned()),
        ("superuser_reserved_connections".to_owned(), "0".to_owned()),
        ("max_wal_senders".to_owned(), "0".to_owned()),
        ("autovacuum".to_owned(), "off".to_owned()),
    ];
    let server = Server::start(LocalConfig {
        settings: settings.into(),
        ..LocalConfig::default()
    })
    .await;
    let mut taken = Vec::new();
    while let Ok(connection) = server.direct().connect().await {
        taken.push(connection);
    }
    assert!(!taken.is_empty());
    let config = Config {
        pool_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let pool = pool_on(server.options(), config);
    let policy = patient();
    let (outcome, ()) = tokio::join!(
        pool.retry(&policy, |attempt| {
            Box::pin(attempt.transaction(async |tx: &mut Transaction<'_>| {
                tx.execute("select 1").await.map(drop)
            }))
        }),
        async {
            let mut pause = tokio::time::interval(Duration::from_millis(10));
            while pool.snapshot().waiting == 0 {
                pause.tick().await;
            }
            // The first acquire waits until its time is up.
            while pool.snapshot().waiting > 0 {
                pause.tick().await;
            }
            taken.clear();
        }
    );
    outcome.unwrap();
    let log = server.log();
    assert!(log.contains("too many clients"), "{log}");
}

/// What is captured by reference, the closure's count, and a task: all at once.
#[tokio::test]
async fn a_retry_can_run_in_a_spawned_task_and_borrow_from_it() {
    let mut bench = Bench::single("retry_spawned").await;
    let pool = bench.pool.clone();
    let name = bench.name;
    let mut tasks: JoinSet<Session> = JoinSet::new();
    tasks.spawn(async move {
        let values = vec!["a".to_owned(), "b".to_owned()];
        let mut numbers = Vec::new();
        pool.retry(&RetryPolicy::default(), |attempt| {
            numbers.push(attempt.number());
            let values = &values;
            let first = numbers.len() == 1;
            Box::pin(async move {
                attempt
                    .transaction(async move |tx: &mut Transaction<'_>| {
                        for value in values {
                            tx.execute(insert(name, value)).await?;
                        }
                        if first {
                            tx.execute(raise("40001")).await?;
                        }
                        Ok::<(), QueryError>(())
                    })
                    .await
            })
        })
        .await
        .unwrap();
        assert_eq!(numbers, [1, 2]);
        pool.session().await.unwrap()
    });
    drop(tasks.join_next().await.unwrap().unwrap());
    assert_eq!(bench.stored().await, ["a", "b"]);
}

/// The line that asked for the retry is the one that holds its sessions.
#[tokio::test]
async fn a_retry_is_listed_under_the_line_that_asked_for_it() {
    let bench = Bench::single("retry_line").await;
    let pool = bench.pool.clone();
    let policy = patient();
    let line = line!() + 1;
    let retry = pool.retry(&policy, |attempt| {
        let pool = pool.clone();
        Box::pin(attempt.transaction(async move |_: &mut Transaction<'_>| {
            let [open] = &pool.sessions()[..] else {
                panic!("{:?}", pool.sessions())
            };
            assert_eq!(
                (open.location.file(), open.location.line()),
                (file!(), line)
            );
            Ok::<(), QueryError>(())
        }))
    });
    retry.await.unwrap();
}

/// Runs nothing, because no session can be had; returns at which attempt that was given up.
async fn given_up_at(pool: &Pool<PgConnector>, attempts_max: u32) -> u32 {
    let policy = RetryPolicy {
        attempts_max,
        ..patient()
    };
    let outcome =
        pool.retry(&policy, |attempt| {
            Box::pin(attempt.transaction(async |tx: &mut Transaction<'_>| {
                tx.execute("select 1").await.map(drop)
            }))
        });
    match outcome.await {
        Err(RetryError::Acquire { attempt, .. }) => attempt,
        other => panic!("{other:?}"),
    }
}

/// Waiting in its queue was the retry.
#[tokio::test]
async fn a_pool_that_is_exhausted_is_not_asked_again_and_a_server_that_is_down_is() {
    let hasty = Config {
        pool_timeout: Duration::from_millis(50),
        ..one_connection()
    };
    let bench = Bench::with("retry_exhausted", hasty.clone()).await;
    let held = bench.pool.acquire().within(PATIENCE).await.unwrap();
    assert_eq!(given_up_at(&bench.pool, 3).await, 1);
    drop(held);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let nowhere = pool_on(bench.options.clone().port(port), hasty);
    assert_eq!(given_up_at(&nowhere, 2).await, 2);
}

#[tokio::test]
async fn an_attempt_that_ends_at_its_own_deadline_is_final() {
    let mut bench = Bench::single("retry_own_deadline").await;
    let options = TransactionOptions {
        deadline: Some(Duration::from_millis(50)),
        ..TransactionOptions::default()
    };
    let options = &options;
    let outcome: Result<(), RetryError<QueryError>> = bench
        .pool
        .retry(&patient(), |attempt| {
            Box::pin(
                attempt.transaction_with(options, async |tx: &mut Transaction<'_>| {
                    tx.execute("select pg_sleep(600)").await.map(drop)
                }),
            )
        })
        .await;
    assert!(
        matches!(
            outcome,
            Err(RetryError::Final {
                attempts: 1,
                cause: TransactionError::DeadlinePassed { .. }
            })
        ),
        "{outcome:?}"
    );
    bench.until_at_rest().await;
}
