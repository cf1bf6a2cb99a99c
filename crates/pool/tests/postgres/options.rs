//! What a transaction or connection begins with, and that it costs no round trip.

use std::time::Duration;

use poolproof_pool::{
    Categorized, ErrorKind, Isolation, QueryError, ServerTimeouts, Session, SessionConfig,
    SessionConfigError, Transaction, TransactionError, TransactionOptions,
};
use sqlx::{AssertSqlSafe, Row};

use crate::support::{Bench, insert, one_connection};

async fn shown(tx: &mut Transaction<'_>, setting: &str) -> String {
    let query = AssertSqlSafe(format!("show {setting}"));
    tx.fetch_one(query).await.unwrap().get(0)
}

async fn shown_outside(session: &mut Session, setting: &str) -> String {
    let query = AssertSqlSafe(format!("show {setting}"));
    session.fetch_one(query).await.unwrap().get(0)
}

const SETTINGS: [&str; 7] = [
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "client_connection_check_interval",
];

#[tokio::test]
async fn options_hold_in_their_transaction_and_not_after_it() {
    let bench = Bench::single("options_hold").await;
    let mut session = bench.pool.session().await.unwrap();
    let mut before = Vec::new();
    for setting in SETTINGS {
        before.push(shown_outside(&mut session, setting).await);
    }
    let options = TransactionOptions {
        isolation: Some(Isolation::Serializable),
        read_only: true,
        deferrable: true,
        timeouts: ServerTimeouts {
            statement: Some(Duration::from_millis(1234)),
            lock: Some(Duration::from_secs(2)),
            idle_in_transaction: Some(Duration::from_secs(3)),
            client_check: Some(Duration::from_secs(4)),
        },
        deadline: Some(Duration::from_secs(60)),
        with_xid: false,
    };
    let seen = session
        .transaction_with(&options, async |tx: &mut Transaction<'_>| {
            let mut seen = Vec::new();
            for setting in SETTINGS {
                seen.push(shown(tx, setting).await);
            }
            Ok::<_, QueryError>(seen)
        })
        .await
        .unwrap();
    assert_eq!(
        seen,
        ["serializable", "on", "on", "1234ms", "2s", "3s", "4s"]
    );
    let mut after = Vec::new();
    for setting in SETTINGS {
        after.push(shown_outside(&mut session, setting).await);
    }
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_read_only_transaction_refuses_to_write_and_each_level_is_what_it_says() {
    let mut bench = Bench::single("options_read_only").await;
    let mut session = bench.pool.session().await.unwrap();
    let read_only = TransactionOptions {
        read_only: true,
        ..TransactionOptions::default()
    };
    let statement = bench.insert("lost");
    let outcome = session
        .transaction_with(&read_only, async |tx: &mut Transaction<'_>| {
            tx.execute(statement).await
        })
        .await;
    assert_eq!(
        outcome.unwrap_err().sqlstate().as_deref(),
        Some("25006"),
        "read only"
    );
    for (isolation, name) in [
        (Isolation::ReadCommitted, "read committed"),
        (Isolation::RepeatableRead, "repeatable read"),
        (Isolation::Serializable, "serializable"),
    ] {
        let options = TransactionOptions {
            isolation: Some(isolation),
            ..TransactionOptions::default()
        };
        let seen = session
            .transaction_with(&options, async |tx: &mut Transaction<'_>| {
                Ok::<_, QueryError>(shown(tx, "transaction_isolation").await)
            })
            .await;
        assert_eq!(seen.unwrap(), name);
    }
    assert_eq!(bench.stored().await, [""; 0]);
}

#[tokio::test]
async fn the_server_enforces_the_statement_and_lock_timeouts_of_a_transaction() {
    let mut bench = Bench::single("options_timeouts").await;
    let mut session = bench.pool.session().await.unwrap();
    let options = TransactionOptions {
        timeouts: ServerTimeouts {
            statement: Some(Duration::from_millis(50)),
            ..ServerTimeouts::default()
        },
        ..TransactionOptions::default()
    };
    let outcome = session
        .transaction_with(&options, async |tx: &mut Transaction<'_>| {
            tx.execute("select pg_sleep(600)").await
        })
        .await
        .unwrap_err();
    assert_eq!(outcome.sqlstate().as_deref(), Some("57014"));
    let lock = "lock table options_timeouts in access exclusive mode";
    let other = bench.pool_of(SessionConfig::default(), one_connection());
    let mut holder = other.session().await.unwrap();
    let options = TransactionOptions {
        timeouts: ServerTimeouts {
            lock: Some(Duration::from_millis(50)),
            ..ServerTimeouts::default()
        },
        ..TransactionOptions::default()
    };
    holder
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(lock).await?;
            let outcome = session
                .transaction_with(&options, async |tx: &mut Transaction<'_>| {
                    tx.execute(lock).await
                })
                .await
                .unwrap_err();
            assert_eq!(outcome.sqlstate().as_deref(), Some("55P03"));
            Ok::<(), QueryError>(())
        })
        .await
        .unwrap();
    drop((session, holder));
    drop(other);
    assert_eq!(bench.stored().await, [""; 0]);
}

/// Settings of the connection's start survive the reset that takes everything else away.
#[tokio::test]
async fn timeouts_of_the_connection_hold_from_its_start_and_after_every_reset() {
    let timeouts = ServerTimeouts {
        statement: Some(Duration::from_secs(71)),
        lock: Some(Duration::from_secs(72)),
        idle_in_transaction: Some(Duration::from_secs(73)),
        client_check: Some(Duration::from_secs(74)),
    };
    let sessions = SessionConfig {
        timeouts,
        ..SessionConfig::default()
    };
    let bench = Bench::sessions("options_connection", sessions).await;
    for round in ["fresh", "reset"] {
        let mut session = bench.pool.session().await.unwrap();
        let mut seen = Vec::new();
        for setting in &SETTINGS[3..] {
            seen.push(shown_outside(&mut session, setting).await);
        }
        assert_eq!(seen, ["71s", "72s", "73s", "74s"], "{round}");
        session
            .execute("set statement_timeout = '1min'")
            .await
            .unwrap();
    }
    assert_eq!(bench.pool.snapshot().opened_total, 1);
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_before_anything_is_sent() {
    let bench = Bench::single("options_refused").await;
    let mut session = bench.pool.session().await.unwrap();
    let options = TransactionOptions {
        timeouts: ServerTimeouts {
            lock: Some(Duration::ZERO),
            ..ServerTimeouts::default()
        },
        ..TransactionOptions::default()
    };
    let outcome = session
        .transaction_with(&options, async |_: &mut Transaction<'_>| {
            Ok::<(), QueryError>(())
        })
        .await;
    let zero = SessionConfigError::Zero {
        name: "lock_timeout",
    };
    assert!(
        matches!(&outcome, Err(TransactionError::Begin(QueryError::Options(cause))) if *cause == zero),
        "{outcome:?}"
    );
    session.execute("select 1").await.unwrap();
    drop(session);
    assert_eq!(bench.pool.snapshot().idle, 1, "a clean return");
}

/// The query that begins a transaction can fail half-way. Goal: no transaction stays open.
#[tokio::test]
async fn a_begin_that_fails_after_its_first_part_leaves_no_transaction() {
    let mut bench = Bench::single("options_half").await;
    let mut session = bench.pool.session().await.unwrap();
    for sql in [
        "drop schema if exists options_half_fn cascade",
        "create schema options_half_fn",
        "create function options_half_fn.pg_current_xact_id() returns text language plpgsql \
         as $$ begin raise exception 'no id today'; end $$",
        "set search_path = options_half_fn, pg_catalog, public",
    ] {
        session.execute(sql).await.unwrap();
    }
    let options = TransactionOptions {
        with_xid: true,
        ..TransactionOptions::default()
    };
    let outcome = session
        .transaction_with(&options, async |_: &mut Transaction<'_>| {
            Ok::<(), QueryError>(())
        })
        .await;
    let Err(error @ TransactionError::Begin(QueryError::Statement(_))) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(error.sqlstate().as_deref(), Some("P0001"));
    let idle = bench.backends().await;
    assert_eq!(idle[0].1, "idle", "{idle:?}");
    session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute(bench.insert("kept")).await)
        .await
        .unwrap();
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, ["kept"]);
    assert_eq!(bench.pool.snapshot().opened_total, 1);
}

/// Dropping the work between two statements, in the middle of one, and at COMMIT.
#[tokio::test]
async fn a_transaction_past_its_deadline_is_rolled_back_at_once_wherever_it_is() {
    let mut bench = Bench::single("options_deadline").await;
    let deadline = Duration::from_millis(300);
    let options = TransactionOptions {
        deadline: Some(deadline),
        ..TransactionOptions::default()
    };
    for (busy, statement) in [(false, "select 1"), (true, "select pg_sleep(600)")] {
        let mut session = bench.pool.session().await.unwrap();
        let outcome = session
            .transaction_with(&options, async |tx: &mut Transaction<'_>| {
                tx.execute(insert("options_deadline", "lost")).await?;
                tx.execute(statement).await?;
                std::future::pending::<Result<(), QueryError>>().await
            })
            .await;
        let Err(error @ TransactionError::DeadlinePassed { within }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((within, error.kind()), (deadline, ErrorKind::Canceled));
        let refused = session.execute("select 1").await.unwrap_err();
        assert!(
            matches!(refused, QueryError::Poisoned),
            "{refused:?}, {busy}"
        );
        assert_eq!(session.in_doubt(), None);
        drop(session);
        bench.until_at_rest().await;
    }
    bench.slow_commits(600).await;
    let mut session = bench.pool.session().await.unwrap();
    let backend = session.backend();
    let outcome = session
        .transaction_with(&options, async |tx: &mut Transaction<'_>| {
            tx.execute(insert("options_deadline", "lost")).await
        })
        .await;
    let Err(TransactionError::CommitUnknown { in_doubt, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(in_doubt.backend, backend);
    assert_eq!(session.in_doubt(), Some(in_doubt));
    bench.terminate(backend.pid).await;
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, [""; 0]);
}

/// No COMMIT leaves when the work ends after the deadline without ever having waited.
#[tokio::test]
async fn work_that_ends_after_the_deadline_is_not_committed() {
    let mut bench = Bench::single("options_late").await;
    let mut session = bench.pool.session().await.unwrap();
    let options = TransactionOptions {
        deadline: Some(Duration::from_millis(200)),
        ..TransactionOptions::default()
    };
    let statement = bench.insert("lost");
    let outcome = session
        .transaction_with(&options, async |tx: &mut Transaction<'_>| {
            tx.execute(statement).await?;
            let until = std::time::SystemTime::now() + Duration::from_millis(250);
            // Busy without an await, as computing is.
            while std::time::SystemTime::now() < until {}
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(outcome, Err(TransactionError::DeadlinePassed { .. })),
        "{outcome:?}"
    );
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, [""; 0]);
}

/// The server's view of the last query holds all options: they were one message, and so one round trip.
#[tokio::test]
async fn options_cost_no_round_trip() {
    let mut bench = Bench::single("options_trips").await;
    let mut session = bench.pool.session().await.unwrap();
    let all = TransactionOptions {
        isolation: Some(Isolation::Serializable),
        timeouts: ServerTimeouts {
            statement: Some(Duration::from_secs(60)),
            lock: Some(Duration::from_secs(60)),
            idle_in_transaction: Some(Duration::from_secs(60)),
            client_check: Some(Duration::from_secs(60)),
        },
        with_xid: true,
        ..TransactionOptions::default()
    };
    session
        .transaction_with(&all, async |_: &mut Transaction<'_>| {
            let [(_, state, query)] = &bench.backends().await[..] else {
                panic!("one backend serves the pool")
            };
            assert_eq!(state, "idle in transaction");
            assert!(
                query.starts_with("BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL")
                    && query.ends_with("SELECT pg_current_xact_id()::text"),
                "{query}"
            );
            Ok::<(), QueryError>(())
        })
        .await
        .unwrap();
}
