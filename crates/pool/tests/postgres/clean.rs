//! What goes back, how, and what the next borrower finds.

use poolproof_oracle::CLEAN_PROBE_SQL;
use poolproof_pool::{
    Categorized, Category, Config, QueryError, Session, Transaction, TransactionError,
};
use sqlx::{Connection, Executor, Row};

use crate::support::{Bench, one_connection};

/// What a borrower finds, as the oracle would see it.
async fn found(session: &mut Session) -> serde_json::Value {
    let answer = session.fetch_simple_text(CLEAN_PROBE_SQL).await.unwrap();
    serde_json::from_str(&answer.unwrap()).unwrap()
}

/// The server's `state_change` moves with every message it handles.
#[tokio::test]
async fn a_clean_return_and_the_next_acquire_send_nothing() {
    let mut bench = Bench::single("clean_free").await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute(bench.insert("kept")).await)
        .await
        .unwrap();
    let last_seen = async |bench: &mut Bench| {
        let query = "select state_change::text, query from pg_stat_activity where pid = $1";
        let row = bench.admin.fetch_one(sqlx::query(query).bind(pid)).await;
        let row = row.unwrap();
        (row.get::<String, _>(0), row.get::<String, _>(1))
    };
    let idle = async |bench: &mut Bench| {
        let backends = bench.backends().await;
        backends.iter().all(|(_, state, _)| state == "idle")
    };
    bench.until("the backend is idle", idle).await;
    let before = last_seen(&mut bench).await;
    assert!(before.1.ends_with("COMMIT"), "{before:?}");
    drop(session);
    for _ in 0..10 {
        drop(bench.pool.session().await.unwrap());
    }
    assert_eq!(last_seen(&mut bench).await, before);
    assert_eq!(bench.pool.session().await.unwrap().backend().pid, pid);
}

/// F29, F1: whatever was done on the raw connection is gone, and the connection is the same one.
#[tokio::test]
async fn f29_what_a_raw_connection_leaves_behind_is_invisible_to_the_next_borrower() {
    let mut bench = Bench::single("clean_raw").await;
    let mut session = bench.pool.session().await.unwrap();
    let (pid, clean) = (session.backend().pid, found(&mut session).await);
    drop(session);
    for leftover in [
        "set statement_timeout = 1234",
        "create temp table mine (x int)",
        "select pg_advisory_lock(7)",
        "listen mine",
        "declare mine cursor with hold for select 1",
        "begin",
        "begin; insert into clean_raw values ('lost'); select no_such_column",
        "begin; insert into clean_raw values ('lost')",
    ] {
        let mut session = bench.pool.session().await.unwrap();
        let done = session.raw().execute(leftover).await;
        assert_eq!(done.is_err(), leftover.contains("no_such"), "{leftover}");
        drop(session);
        let mut next = bench.pool.session().await.unwrap();
        assert_eq!(next.backend().pid, pid, "after {leftover}");
        assert_eq!(found(&mut next).await, clean, "after {leftover}");
    }
    assert_eq!(bench.stored().await, [""; 0]);
}

/// F1: sqlx's own `begin`, cancelled half-way, on the raw connection.
#[tokio::test]
async fn f1_sqlx_begin_abandoned_on_the_raw_connection_is_cleaned_up() {
    let mut bench = Bench::distant("clean_begin", one_connection()).await;
    let clean = found(&mut bench.pool.session().await.unwrap()).await;
    for _ in 0..20 {
        let mut session = bench.pool.session().await.unwrap();
        {
            let begin = session.raw().begin();
            tokio::pin!(begin);
            assert!(futures_util::poll!(&mut begin).is_pending());
        }
        drop(session);
        let mut next = bench.pool.session().await.unwrap();
        assert_eq!(found(&mut next).await, clean);
    }
    bench.until_at_rest().await;
}

/// What the session can see in the text is tracked, without `raw`.
#[tokio::test]
async fn statements_that_leave_something_behind_have_the_connection_reset() {
    let mut bench = Bench::single("clean_tracked").await;
    let clean = found(&mut bench.pool.session().await.unwrap()).await;
    for leftover in [
        "set statement_timeout = 1234",
        "select pg_advisory_lock(7)",
        "create temp table mine (x int)",
        "listen mine",
    ] {
        let mut session = bench.pool.session().await.unwrap();
        session.execute(leftover).await.unwrap();
        drop(session);
        let mut session = bench.pool.session().await.unwrap();
        assert_eq!(found(&mut session).await, clean, "after {leftover}");
        session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute(leftover).await)
            .await
            .unwrap();
        drop(session);
        let mut session = bench.pool.session().await.unwrap();
        assert_eq!(found(&mut session).await, clean, "after {leftover}");
    }
    assert_eq!(bench.pool.snapshot().opened_total, 1, "reset, not closed");
    bench.until_at_rest().await;
}

/// Rule 34: a connection that breaks takes those of its age with it, and the pool recovers.
#[tokio::test]
async fn rule_34_a_terminated_backend_is_a_connection_error_and_replaces_its_generation() {
    let mut bench = Bench::with(
        "clean_terminated",
        Config {
            pool_size: 3,
            max_overflow: 0,
            ..Config::default()
        },
    )
    .await;
    let mut first = bench.pool.session().await.unwrap();
    let clean = found(&mut first).await;
    let mut second = bench.pool.session().await.unwrap();
    let third = bench.pool.session().await.unwrap();
    let (idle, busy) = (first.backend(), second.backend());
    drop(first);
    bench.terminate(busy.pid).await;
    let error = second.execute("select 1").await.unwrap_err();
    assert!(matches!(error, QueryError::Connection(_)), "{error:?}");
    assert_eq!(error.category(), Category::Connection);
    drop((second, third));
    let mut next = bench.pool.session().await.unwrap();
    assert_ne!(next.backend(), idle, "it was idle, and of the same age");
    assert_eq!(found(&mut next).await, clean);
    drop(next);
    bench.until_at_rest().await;
    assert_eq!(bench.backends().await.len(), 1);
}

#[tokio::test]
async fn a_backend_terminated_within_a_transaction_stores_nothing() {
    let mut bench = Bench::single("clean_mid").await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let statement = bench.insert("lost");
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(statement).await.unwrap();
            bench.terminate(pid).await;
            let broken = tx.execute("select 1").await.unwrap_err();
            assert_eq!(broken.category(), Category::Connection);
            let refused = tx.execute("select 1").await.unwrap_err();
            assert!(matches!(refused, QueryError::RollbackOnly), "{refused:?}");
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(outcome, Err(TransactionError::RollbackOnly)),
        "{outcome:?}"
    );
    drop(session);
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let statement = bench.insert("lost");
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(statement).await?;
            bench.terminate(pid).await;
            tx.execute("select 1").await
        })
        .await;
    assert!(
        matches!(
            outcome,
            Err(TransactionError::Work(QueryError::Connection(_)))
        ),
        "{outcome:?}"
    );
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, [""; 0]);
}
