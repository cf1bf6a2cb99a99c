//! Open sessions: listed, summed up, and ended when they were left alone.

use std::time::Duration;

use poolproof_pool::{
    Activity, Categorized, ErrorKind, QueryError, Reaped, SessionConfig, Stale, Transaction,
    TransactionError,
};

use crate::support::{Bench, PATIENCE as DEADLINE, insert};

#[tokio::test]
async fn a_session_is_listed_with_what_it_is_doing_and_without_values() {
    let mut bench = Bench::single("tracking_listed").await;
    let pool = bench.pool.clone();
    let mut session = pool.session().await.unwrap();
    let backend = session.backend();
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute("insert into tracking_listed values ('s3cret')")
                .await?;
            let [open] = &pool.sessions()[..] else {
                panic!("{:?}", pool.sessions())
            };
            assert_eq!((open.backend, open.activity), (backend, Activity::Idle));
            assert_eq!(
                (open.statements, open.transaction.unwrap().statements),
                (1, 1)
            );
            assert_eq!(
                open.last_statement.as_deref(),
                Some("insert into tracking_listed values ( ? )")
            );
            let shown = format!("{open:?}");
            assert!(
                shown.contains("tracking.rs") && !shown.contains("s3cret"),
                "{shown}"
            );
            Ok::<(), QueryError>(())
        })
        .await
        .unwrap();
    tokio::select! {
        outcome = session.execute("select pg_sleep(30)") => panic!("{outcome:?}"),
        () = bench.until_active("pg_sleep") => {
            let [open] = &pool.sessions()[..] else {
                panic!("{:?}", pool.sessions())
            };
            assert_eq!((open.activity, open.transaction), (Activity::Running, None));
            assert_eq!(open.statements, 2);
        }
    }
    drop(session);
    assert_eq!(pool.sessions(), []);
    let again = pool.session().await.unwrap();
    assert_eq!(
        pool.sessions()[0].statements,
        0,
        "a new session counts anew"
    );
    drop(again);
    bench.until_at_rest().await;
}

const PATIENCE: Duration = Duration::from_millis(200);

/// The holder is told at its next call, its locks are gone before, and the connection is not lent again.
#[tokio::test]
async fn a_transaction_that_is_left_idle_is_ended_and_its_holder_told() {
    let sessions = SessionConfig {
        idle_in_transaction_max: Some(PATIENCE),
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("tracking_idle", sessions).await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("tracking_idle", "lost")).await?;
            bench.until_gone(pid).await;
            let refused = tx.execute("select 1").await.unwrap_err();
            let QueryError::Reaped(Reaped { stale, limit, .. }) = &refused else {
                panic!("{refused:?}")
            };
            assert_eq!((*stale, *limit), (Stale::IdleInTransaction, PATIENCE));
            assert!(
                refused.to_string().contains("idle in a transaction for"),
                "{refused}"
            );
            Ok::<(), QueryError>(())
        })
        .await;
    let Err(error @ TransactionError::Reaped(_)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Canceled, false)
    );
    let refused = session.execute("select 1").await.unwrap_err();
    assert!(matches!(refused, QueryError::Reaped(_)), "{refused:?}");
    drop(session);
    let next = bench.pool.session().await.unwrap();
    assert_ne!(next.backend().pid, pid);
    drop(next);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, [""; 0]);
}

/// A holder that never makes another call: its work ends with Ok, and the commit does not happen.
#[tokio::test]
async fn a_transaction_that_is_ended_while_its_work_thinks_does_not_commit() {
    let sessions = SessionConfig {
        idle_in_transaction_max: Some(PATIENCE),
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("tracking_thinks", sessions).await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("tracking_thinks", "lost")).await?;
            bench.until_gone(pid).await;
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(outcome, Err(TransactionError::Reaped(_))),
        "{outcome:?}"
    );
    assert_eq!(session.in_doubt(), None, "COMMIT never left");
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, [""; 0]);
}

/// A statement in flight is cut short, and is not taken for an outage: other connections stay.
#[tokio::test]
async fn a_session_that_is_open_for_too_long_is_ended_in_the_middle_of_a_statement() {
    let sessions = SessionConfig {
        session_age_max: Some(PATIENCE),
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("tracking_age", sessions).await;
    let config = poolproof_pool::Config {
        pool_size: 2,
        max_overflow: 0,
        ..poolproof_pool::Config::default()
    };
    bench.pool = bench.pool_of(sessions, config);
    let (mut session, other) = (
        bench.pool.session().await.unwrap(),
        bench.pool.session().await.unwrap(),
    );
    let kept = other.backend();
    drop(other);
    let refused = session.execute("select pg_sleep(30)").await.unwrap_err();
    let QueryError::Reaped(reaped) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(reaped.stale, Stale::Session);
    assert!(reaped.after >= PATIENCE, "{reaped:?}");
    assert!(
        bench.pool.sessions()[0].reaped.is_some(),
        "listed until its holder lets go"
    );
    drop(session);
    let next = bench.pool.session().await.unwrap();
    assert_eq!(
        next.backend(),
        kept,
        "it was idle, and is as good as before"
    );
}

/// F20: the end of a stale session is under way when its holder lets go. The next borrower has another
/// connection, and is not hit.
#[tokio::test]
async fn f20_a_session_that_is_let_go_while_it_is_being_ended_is_not_lent_again() {
    let sessions = SessionConfig {
        session_age_max: Some(Duration::from_millis(50)),
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("tracking_let_go", sessions).await;
    for _ in 0..5 {
        let session = bench.pool.session().await.unwrap();
        let pid = session.backend().pid;
        // At that very moment, so that its end is still under way.
        let marked = async {
            while bench.pool.sessions()[0].reaped.is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, marked).await.unwrap();
        drop(session);
        let mut next = bench.pool.session().await.unwrap();
        assert_ne!(next.backend().pid, pid);
        next.execute("select 1").await.unwrap();
    }
    bench.until_at_rest().await;
}

/// An idle connection in the pool is nobody's session, however long it stays.
#[tokio::test]
async fn connections_between_sessions_are_not_ended() {
    let sessions = SessionConfig {
        session_age_max: Some(Duration::from_millis(100)),
        idle_in_transaction_max: Some(Duration::from_millis(100)),
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("tracking_between", sessions).await;
    let session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    drop(session);
    // A second pool's session is ended meanwhile, which shows that there was time enough.
    let other = bench.pool_of(sessions, crate::support::one_connection());
    let held = other.session().await.unwrap();
    bench.until_gone(held.backend().pid).await;
    assert_eq!(bench.pool.session().await.unwrap().backend().pid, pid);
}
