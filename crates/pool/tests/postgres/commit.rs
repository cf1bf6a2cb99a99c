//! A commit is believed only when the server said so, and ambiguity has a name.

use std::time::Duration;

use poolproof_faults::Toxic;
use poolproof_pool::{Categorized, Category, ErrorKind, QueryError, Transaction, TransactionError};
use poolproof_testbed::LocalConfig;
use sqlx::{ConnectOptions, Executor};

use crate::support::{Bench, Server, one_connection, pool_on};

/// F3: COMMIT in an aborted transaction answers ROLLBACK, which sqlx reports as success.
#[tokio::test]
async fn f3_a_swallowed_error_ends_in_commit_rolled_back() {
    let mut bench = Bench::single("commit_swallowed").await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(bench.insert("lost")).await?;
            let swallowed = tx.execute("select no_such_column").await;
            assert_eq!(swallowed.unwrap_err().category(), Category::Programming);
            tx.execute("select 1").await.unwrap_err();
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(outcome, Err(TransactionError::CommitRolledBack)),
        "{outcome:?}"
    );
    assert_eq!(bench.pool.errors(ErrorKind::RolledBack), 1);
    assert_eq!(bench.pool.errors(ErrorKind::Other), 0, "mere consequences");
    // The session is at once good for the next transaction.
    session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute(bench.insert("kept")).await)
        .await
        .unwrap();
    assert_eq!(session.in_doubt(), None);
    drop(session);
    assert_eq!(bench.stored().await, ["kept"]);
    assert_eq!(
        bench.pool.snapshot().idle,
        1,
        "back at once, without a reset"
    );
    assert_eq!(bench.pool.session().await.unwrap().backend().pid, pid);
}

/// The text check can be deceived; the commit cannot.
#[tokio::test]
async fn a_transaction_that_slipped_away_is_reported_as_lost() {
    let mut bench = Bench::single("commit_lost").await;
    let mut session = bench.pool.session().await.unwrap();
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute("set local standard_conforming_strings = off")
                .await?;
            tx.execute(bench.insert("slipped")).await?;
            // For the server the first string ends before the COMMIT, for the check it does not.
            tx.execute(r"select 'a\'b'; commit; --'").await?;
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(outcome, Err(TransactionError::Lost(_))),
        "{outcome:?}"
    );
    assert_eq!(bench.pool.errors(ErrorKind::RolledBack), 1);
    assert_eq!(bench.stored().await, ["slipped"]);
}

/// What the server says to COMMIT is definite, and leaves neither a transaction nor a stray ROLLBACK.
#[tokio::test]
async fn f4_a_refused_commit_is_definite_and_the_session_goes_on() {
    let server = Server::start(LocalConfig::default()).await;
    let pool = pool_on(server.options(), poolproof_pool::Config::default());
    let mut session = pool.session().await.unwrap();
    session
        .execute("create table t (v int unique deferrable initially deferred)")
        .await
        .unwrap();
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute("insert into t values (1), (1)").await
        })
        .await;
    let Err(error @ TransactionError::CommitRefused(_)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(error.category(), Category::Integrity);
    assert_eq!(error.sqlstate().as_deref(), Some("23505"));
    session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute("insert into t values (2)").await)
        .await
        .unwrap();
    let rows = session.fetch_all("select v from t").await.unwrap();
    assert_eq!(rows.len(), 1);
    drop(session);
    assert_eq!(pool.snapshot().idle, 1, "a clean return");
    let log = server.log();
    assert!(log.contains("duplicate key"), "the log is not the server's");
    assert!(!log.contains("transaction in progress"), "{log}");
}

/// The backend dies while it works on COMMIT.
#[tokio::test]
async fn a_backend_killed_during_commit_leaves_the_commit_unknown() {
    let mut bench = Bench::single("commit_unknown").await;
    bench
        .admin
        .execute(sqlx::raw_sql(
            "create or replace function commit_unknown_slow() returns trigger language plpgsql as \
             $$ begin perform pg_sleep(60); return null; end $$; \
             create constraint trigger slow after insert on commit_unknown \
             deferrable initially deferred for each row execute function commit_unknown_slow()",
        ))
        .await
        .unwrap();
    let mut session = bench.pool.session().await.unwrap();
    let backend = session.backend();
    let statement = bench.insert("maybe");
    let (outcome, ()) = tokio::join!(
        session.transaction(async |tx: &mut Transaction<'_>| tx.execute(statement).await),
        async {
            let in_commit = async |bench: &mut Bench| {
                let backends = bench.backends().await;
                backends
                    .iter()
                    .any(|(_, state, query)| state == "active" && query.contains("COMMIT"))
            };
            bench.until("the backend works on COMMIT", in_commit).await;
            bench.terminate(backend.pid).await;
        }
    );
    let Err(error @ TransactionError::CommitUnknown { in_doubt, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(in_doubt.backend, backend);
    assert_eq!(error.category(), Category::Ambiguous);
    assert_eq!(session.in_doubt(), Some(in_doubt));
    let refused = session.execute("select 1").await.unwrap_err();
    assert!(matches!(refused, QueryError::Poisoned), "{refused:?}");
    drop(session);
    let next = bench.pool.session().await.unwrap();
    assert_ne!(next.backend(), backend);
    drop(next);
    bench.until_at_rest().await;
}

/// The network breaks while COMMIT is under way. What is stored decides, not what was said.
#[tokio::test]
async fn a_link_cut_during_commit_leaves_the_commit_unknown() {
    let mut bench = Bench::distant("commit_cut", one_connection()).await;
    let mut session = bench.pool.session().await.unwrap();
    let statement = bench.insert("maybe");
    let silence = Toxic::Timeout { timeout_ms: 0 };
    let (outcome, ()) = tokio::join!(
        session.transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(statement).await?;
            bench.inflict("silence", silence).await;
            Ok::<(), QueryError>(())
        }),
        async {
            let mut admin = bench.server.direct().connect().await.unwrap();
            let query = "select 1 from commit_cut";
            let mut pause = tokio::time::interval(Duration::from_millis(10));
            while admin.fetch_optional(query).await.unwrap().is_none() {
                pause.tick().await;
            }
            bench.cut();
        }
    );
    assert!(
        matches!(outcome, Err(TransactionError::CommitUnknown { .. })),
        "{outcome:?}"
    );
    bench.heal("silence").await;
    drop(session);
    assert_eq!(bench.stored().await, ["maybe"]);
    bench.until_at_rest().await;
}

/// Dropping the future that waits for COMMIT's answer leaves nobody to tell, except the session.
#[tokio::test]
async fn a_commit_that_is_cancelled_is_remembered_as_in_doubt() {
    let mut bench = Bench::single("commit_cancelled").await;
    bench
        .admin
        .execute(sqlx::raw_sql(
            "create or replace function commit_cancelled_slow() returns trigger language plpgsql as \
             $$ begin perform pg_sleep(1); return null; end $$; \
             create constraint trigger slow after insert on commit_cancelled \
             deferrable initially deferred for each row execute function commit_cancelled_slow()",
        ))
        .await
        .unwrap();
    let mut session = bench.pool.session().await.unwrap();
    let backend = session.backend();
    let statement = bench.insert("maybe");
    tokio::select! {
        outcome = session.transaction(async |tx: &mut Transaction<'_>| tx.execute(statement).await) => {
            panic!("{outcome:?}")
        }
        () = async {
            let in_commit = async |bench: &mut Bench| {
                let backends = bench.backends().await;
                backends
                    .iter()
                    .any(|(_, state, query)| state == "active" && query.contains("COMMIT"))
            };
            bench.until("the backend works on COMMIT", in_commit).await;
        } => {}
    }
    assert_eq!(session.in_doubt().map(|doubt| doubt.backend), Some(backend));
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(
        bench.stored().await,
        ["maybe"],
        "it was committed all the same"
    );
    bench.until_at_rest().await;
}

/// After a serialization failure there is nothing to commit, and nothing to close either.
#[tokio::test]
async fn a_doomed_transaction_is_rolled_back_and_its_connection_stays() {
    let mut bench = Bench::single("commit_doomed").await;
    let raise = "create or replace function commit_doom() returns int language plpgsql as \
                 $$ begin raise exception using errcode = '40001'; end $$";
    bench.admin.execute(raise).await.unwrap();
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(bench.insert("lost")).await?;
            let swallowed = tx.execute("select commit_doom()").await;
            assert_eq!(swallowed.unwrap_err().sqlstate().as_deref(), Some("40001"));
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(&outcome, Err(TransactionError::SerializationFailed { sqlstate }) if sqlstate == "40001"),
        "{outcome:?}"
    );
    // Outside a transaction the same failure dooms nothing.
    session.execute("select commit_doom()").await.unwrap_err();
    session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute(bench.insert("kept")).await)
        .await
        .unwrap();
    drop(session);
    assert_eq!(bench.pool.session().await.unwrap().backend().pid, pid);
    assert_eq!(bench.stored().await, ["kept"]);
}
