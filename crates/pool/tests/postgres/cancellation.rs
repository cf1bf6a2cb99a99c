//! Futures that are dropped half-way.

use std::time::Duration;

use futures_util::poll;
use poolproof_faults::Toxic;
use poolproof_pool::{Config, QueryError, Session, Transaction, TransactionError};
use tokio::sync::Notify;

use crate::support::{Bench, insert, one_connection};

/// F1: BEGIN polled once and dropped.
#[tokio::test]
async fn f1_a_cancelled_begin_poisons_the_session_and_nobody_else() {
    let mut bench = Bench::distant("cancel_begin", one_connection()).await;
    let mut session = bench.pool.session().await.unwrap();
    {
        let begin = session.transaction(async |_: &mut Transaction<'_>| Ok::<(), QueryError>(()));
        tokio::pin!(begin);
        assert!(poll!(&mut begin).is_pending());
    }
    let refused = session.execute(bench.insert("lost")).await.unwrap_err();
    assert!(matches!(refused, QueryError::Poisoned), "{refused:?}");
    drop(session);
    let mut next = bench.pool.session().await.unwrap();
    next.transaction(async |tx: &mut Transaction<'_>| tx.execute(bench.insert("kept")).await)
        .await
        .unwrap();
    drop(next);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, ["kept"]);
}

/// F2: sqlx loses the outer transaction here, stores `b` alone and says Ok.
#[tokio::test]
async fn f2_a_cancelled_savepoint_does_not_lose_the_outer_transaction() {
    let mut bench = Bench::distant("cancel_nested", one_connection()).await;
    let mut session = bench.pool.session().await.unwrap();
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("cancel_nested", "a")).await?;
            {
                let nested = tx.savepoint(async |_: &mut Transaction<'_>| Ok::<(), QueryError>(()));
                tokio::pin!(nested);
                assert!(poll!(&mut nested).is_pending());
            }
            let refused = tx.execute(insert("cancel_nested", "b")).await.unwrap_err();
            assert!(matches!(refused, QueryError::RollbackOnly), "{refused:?}");
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(outcome, Err(TransactionError::RollbackOnly)),
        "{outcome:?}"
    );
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, [""; 0]);
}

/// A nested scope that is dropped with no statement in flight is rolled back, and the outer goes on.
#[tokio::test]
async fn a_savepoint_dropped_between_statements_rolls_back_alone() {
    let mut bench = Bench::single("cancel_between").await;
    let mut session = bench.pool.session().await.unwrap();
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("cancel_between", "a")).await?;
            for goes_on in [true, false] {
                let written = Notify::new();
                let nested = tx.savepoint(async |tx: &mut Transaction<'_>| {
                    tx.execute(insert("cancel_between", "lost")).await?;
                    written.notify_one();
                    std::future::pending::<Result<(), QueryError>>().await
                });
                tokio::select! {
                    outcome = nested => panic!("{outcome:?}"),
                    () = written.notified() => {}
                }
                if goes_on {
                    tx.execute(insert("cancel_between", "b")).await?;
                }
            }
            Ok::<(), QueryError>(())
        })
        .await
        .unwrap();
    assert_eq!(bench.stored().await, ["a", "b"]);
}

/// An abandoned statement may or may not be executed, so that its transaction can only roll back.
#[tokio::test]
async fn an_abandoned_statement_makes_the_transaction_rollback_only() {
    let mut bench = Bench::distant("cancel_statement", one_connection()).await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("cancel_statement", "a")).await?;
            {
                let abandoned = tx.execute(insert("cancel_statement", "b"));
                tokio::pin!(abandoned);
                assert!(poll!(&mut abandoned).is_pending());
            }
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(outcome, Err(TransactionError::RollbackOnly)),
        "{outcome:?}"
    );
    drop(session);
    bench.until_gone(pid).await;
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, [""; 0]);
}

/// F5: the slot of an abandoned long query is free as soon as its backend is gone.
#[tokio::test]
async fn f5_a_statement_abandoned_for_its_length_frees_the_slot() {
    let mut bench = Bench::single("cancel_long").await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let sleeps = async |bench: &mut Bench| {
        let backends = bench.backends().await;
        backends
            .iter()
            .any(|(_, state, query)| state == "active" && query.contains("pg_sleep"))
    };
    tokio::select! {
        outcome = session.execute("select pg_sleep(600)") => panic!("{outcome:?}"),
        () = bench.until("the backend sleeps", sleeps) => {}
    }
    drop(session);
    let mut next = bench.pool.session().await.unwrap();
    let asked = next.fetch_simple_text("select 'here'");
    let answer = tokio::time::timeout(Duration::from_secs(60), asked).await;
    assert_eq!(answer.unwrap().unwrap().as_deref(), Some("here"));
    bench.until_gone(pid).await;
}

/// F5: a reset that gets no answer costs its connection, and its slot only for `reset_timeout`.
#[tokio::test]
async fn f5_a_reset_on_a_silent_network_frees_the_slot() {
    let config = Config {
        reset_timeout: Duration::from_millis(200),
        ..one_connection()
    };
    let mut bench = Bench::distant("cancel_silent", config).await;
    let mut session = bench.pool.session().await.unwrap();
    session.raw();
    let silence = Toxic::Timeout { timeout_ms: 0 };
    bench.inflict("silence", silence).await;
    drop(session);
    let freed = async |bench: &mut Bench| bench.pool.snapshot().size() == 0;
    bench.until("the slot is free", freed).await;
    bench.heal("silence").await;
    let next = bench.pool.session().await.unwrap();
    assert_eq!(bench.pool.snapshot().opened_total, 2);
    drop(next);
    bench.until_at_rest().await;
}

/// Drops a whole unit of work after its n-th poll, for every n until it ends by itself. Afterwards no
/// transaction is open, the next borrower works, and the table tells what the caller may believe.
#[tokio::test]
async fn work_cancelled_at_any_poll_is_all_or_nothing_and_leaves_no_trace() {
    let mut bench = Bench::distant("cancel_any", one_connection()).await;
    for polls in 1..200 {
        let mut session = bench.pool.session().await.unwrap();
        let before = bench.stored().await;
        let (ended, in_doubt) = drop_after(&mut session, polls).await;
        drop(session);
        bench.until_at_rest().await;
        let mut expected = before.clone();
        expected.extend(["x one".to_owned(), "x two".to_owned()]);
        expected.sort();
        let after = bench.stored().await;
        match (ended, in_doubt) {
            (true, _) => assert_eq!(after, expected, "after {polls} polls"),
            (false, true) => assert!(after == before || after == expected, "{after:?}"),
            (false, false) => assert_eq!(after, before, "after {polls} polls"),
        }
        if ended {
            assert!(polls >= 7, "only {} places to cancel at", polls - 1);
            return;
        }
    }
    panic!("the work did not end within 200 polls");
}

/// Returns whether the work ended, and whether its commit is in doubt.
async fn drop_after(session: &mut Session, polls: usize) -> (bool, bool) {
    let ended = {
        let work = session.transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("cancel_any", "x one")).await?;
            tx.savepoint(async |tx: &mut Transaction<'_>| {
                tx.execute(insert("cancel_any", "x two")).await
            })
            .await
            .unwrap();
            Ok::<(), QueryError>(())
        });
        tokio::pin!(work);
        let mut made = 0;
        std::future::poll_fn(|cx| {
            made += 1;
            match work.as_mut().poll(cx) {
                std::task::Poll::Ready(outcome) => {
                    outcome.unwrap();
                    std::task::Poll::Ready(true)
                }
                std::task::Poll::Pending if made >= polls => std::task::Poll::Ready(false),
                std::task::Poll::Pending => std::task::Poll::Pending,
            }
        })
        .await
    };
    (ended, session.in_doubt().is_some())
}
