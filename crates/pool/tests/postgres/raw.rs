//! What the session does not offer, on sqlx's own connection.

use poolproof_pool::{QueryError, Transaction, TransactionError};
use sqlx::{Connection, Executor};

use crate::support::Bench;

#[tokio::test]
async fn copy_in_and_out_work_on_the_raw_connection() {
    let mut bench = Bench::single("raw_copy").await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let mut copy = session
        .raw()
        .copy_in_raw("copy raw_copy (v) from stdin")
        .await
        .unwrap();
    copy.send(&b"lamp\nchair\n"[..]).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 2);
    let mut lines = Vec::new();
    {
        let out = session
            .raw()
            .copy_out_raw("copy (select v from raw_copy order by v) to stdout")
            .await
            .unwrap();
        let mut out = std::pin::pin!(out);
        while let Some(part) = futures_util::StreamExt::next(&mut out).await {
            lines.extend_from_slice(&part.unwrap());
        }
    }
    assert_eq!(lines, b"chair\nlamp\n");
    let rows = session.fetch_all("select v from raw_copy").await.unwrap();
    assert_eq!(rows.len(), 2, "the session goes on");
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, ["chair", "lamp"]);
    let next = bench.pool.session().await.unwrap();
    assert_eq!(next.backend().pid, pid, "reset, not closed");
}

/// A COPY that is given up half-way stores nothing, and the next borrower gets a clean connection.
#[tokio::test]
async fn a_copy_dropped_half_way_stores_nothing() {
    let mut bench = Bench::single("raw_copy_half").await;
    let mut session = bench.pool.session().await.unwrap();
    {
        let mut copy = session
            .raw()
            .copy_in_raw("copy raw_copy_half (v) from stdin")
            .await
            .unwrap();
        copy.send(&b"lost\n"[..]).await.unwrap();
    }
    drop(session);
    let mut next = bench.pool.session().await.unwrap();
    next.transaction(async |tx: &mut Transaction<'_>| tx.execute(bench.insert("kept")).await)
        .await
        .unwrap();
    drop(next);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, ["kept"]);
}

/// Otherwise the session's BEGIN would be a mere warning, and its ROLLBACK would take the raw work along.
#[tokio::test]
async fn a_transaction_left_open_on_the_raw_connection_is_noticed() {
    let mut bench = Bench::single("raw_open").await;
    for opened in [
        "begin",
        "begin; insert into raw_open values ('lost')",
        "begin; insert into raw_open values ('lost'); select no_such_column",
    ] {
        let mut session = bench.pool.session().await.unwrap();
        let done = session.raw().execute(opened).await;
        assert_eq!(done.is_err(), opened.contains("no_such"), "{opened}");
        let outcome = session
            .transaction(async |_: &mut Transaction<'_>| Ok::<(), QueryError>(()))
            .await;
        assert!(
            matches!(
                outcome,
                Err(TransactionError::Begin(QueryError::OpenTransaction))
            ),
            "{opened}: {outcome:?}"
        );
        // Its holder may still end it, and then go on.
        session.raw().execute("rollback").await.unwrap();
        session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute("select 1").await)
            .await
            .unwrap();
        drop(session);
        bench.until_at_rest().await;
    }
    assert_eq!(bench.stored().await, [""; 0]);
    assert_eq!(
        bench.pool.snapshot().opened_total,
        1,
        "none was lost over it"
    );
}

/// sqlx's own transaction, leaked, is known to sqlx alone.
#[tokio::test]
async fn a_transaction_of_sqlx_that_was_leaked_is_noticed() {
    let mut bench = Bench::single("raw_leaked").await;
    let mut session = bench.pool.session().await.unwrap();
    std::mem::forget(session.raw().begin().await.unwrap());
    let outcome = session
        .transaction(async |_: &mut Transaction<'_>| Ok::<(), QueryError>(()))
        .await;
    assert!(
        matches!(
            outcome,
            Err(TransactionError::Begin(QueryError::OpenTransaction))
        ),
        "{outcome:?}"
    );
    drop(session);
    bench.until_at_rest().await;
}
