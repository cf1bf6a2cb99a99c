//! Messages that the server sends unasked, where answers are read.

use poolproof_pool::{
    Categorized, ErrorKind, QueryError, ResetMode, Session, SessionConfig, Transaction,
    TransactionOptions,
};
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{Bench, PATIENCE};

/// Makes a function that listens, which no look at a statement's text can see.
async fn allow_hidden_listen(bench: &mut Bench) {
    let name = bench.name;
    let function = format!(
        "create or replace function {name}_listen() returns void language plpgsql as \
         $$ begin listen {name}; end $$"
    );
    bench
        .admin
        .execute(sqlx::raw_sql(AssertSqlSafe(function)))
        .await
        .unwrap();
}

/// Notifies from elsewhere. When it arrives is the server's affair: before the next answer or after it.
async fn notify(bench: &mut Bench) {
    let notify = format!("notify {}", bench.name);
    bench.admin.execute(AssertSqlSafe(notify)).await.unwrap();
}

async fn listen(bench: &Bench, session: &mut Session) {
    let listen = format!("select {}_listen()", bench.name);
    session.execute(AssertSqlSafe(listen)).await.unwrap();
}

#[tokio::test]
async fn listen_is_refused_by_name_and_unlisten_is_not() {
    let bench = Bench::single("notifications_refused").await;
    let mut session = bench.pool.session().await.unwrap();
    for sql in ["listen x", "select 1; LISTEN x"] {
        let error = session.execute(sql).await.unwrap_err();
        assert!(matches!(error, QueryError::Listen), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Refused);
        let text = error.to_string();
        assert!(text.contains("connection of your own"), "{text}");
    }
    let ended = session
        .transaction(async |tx: &mut Transaction<'_>| {
            let error = tx.execute("listen x").await.unwrap_err();
            assert!(matches!(error, QueryError::Listen), "{error:?}");
            tx.execute("notify x").await?;
            tx.execute("unlisten *").await
        })
        .await;
    ended.unwrap();
}

/// The server sends a notification of one's own between the answer to COMMIT and the end of that.
#[tokio::test]
async fn a_commit_that_a_notification_follows_is_believed() {
    let mut bench = Bench::single("notifications_commit").await;
    allow_hidden_listen(&mut bench).await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    listen(&bench, &mut session).await;
    let insert = bench.insert("kept");
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert).await?;
            tx.execute("notify notifications_commit").await
        })
        .await
        .unwrap();
    assert_eq!(session.in_doubt(), None);
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, ["kept"]);
    assert_eq!(bench.pool.session().await.unwrap().backend().pid, pid);
    assert_eq!(bench.pool.errors(ErrorKind::Ambiguous), 0);
}

/// A COMMIT that the server refuses is refused whether or not something was notified before.
#[tokio::test]
async fn a_commit_is_refused_also_where_notifications_arrive() {
    let mut bench = Bench::single("notifications_deferred").await;
    allow_hidden_listen(&mut bench).await;
    let unique = "alter table notifications_deferred add unique (v) deferrable initially deferred";
    bench.admin.execute(unique).await.unwrap();
    let mut session = bench.pool.session().await.unwrap();
    listen(&bench, &mut session).await;
    notify(&mut bench).await;
    let (one, two) = (bench.insert("twice"), bench.insert("twice"));
    let error = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(one).await?;
            tx.execute(two).await
        })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unique, "{error:?}");
    session.execute("select 1").await.unwrap();
}

/// One that arrived while the session was idle is where the answer to BEGIN is looked for.
#[tokio::test]
async fn a_transaction_begins_behind_a_notification() {
    let mut bench = Bench::single("notifications_begin").await;
    allow_hidden_listen(&mut bench).await;
    let mut session = bench.pool.session().await.unwrap();
    listen(&bench, &mut session).await;
    for options in [
        TransactionOptions::default(),
        TransactionOptions {
            read_only: true,
            ..TransactionOptions::default()
        },
    ] {
        notify(&mut bench).await;
        session
            .transaction_with(&options, async |tx: &mut Transaction<'_>| {
                tx.fetch_one("select 1").await
            })
            .await
            .unwrap();
    }
}

/// An answer beside which a notification comes is lost: sqlx reads no further. That is said, and the
/// session goes on; the next borrower finds no LISTEN.
#[tokio::test]
async fn an_answer_beside_a_notification_is_lost_by_name() {
    let mut bench = Bench::single("notifications_hide").await;
    allow_hidden_listen(&mut bench).await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    listen(&bench, &mut session).await;
    let mut inserts = 0;
    let hidden = async {
        loop {
            notify(&mut bench).await;
            inserts += 1;
            if let Err(error) = session.execute(bench.insert("kept")).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, hidden).await.unwrap();
    assert!(matches!(error, QueryError::AnswerLost(_)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(!error.is_retryable());
    assert_eq!(bench.stored().await.len(), inserts);
    notify(&mut bench).await;
    let refused = session.execute("select 1 / 0").await.unwrap_err();
    assert_eq!(
        refused.sqlstate().as_deref(),
        Some("22012"),
        "its own error"
    );
    session.execute("select 1").await.unwrap();
    drop(session);
    bench.until_at_rest().await;
    let mut next = bench.pool.session().await.unwrap();
    assert_eq!(next.backend().pid, pid);
    let channels = next
        .fetch_simple_text("select count(*) from pg_listening_channels()")
        .await;
    assert_eq!(channels.unwrap().as_deref(), Some("0"));
}

/// The reset reads answers as well.
#[tokio::test]
async fn a_reset_gets_through_notifications() {
    let clean = SessionConfig {
        reset: ResetMode::Clean,
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("notifications_reset", clean).await;
    allow_hidden_listen(&mut bench).await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    listen(&bench, &mut session).await;
    session.raw().execute("listen other").await.unwrap();
    notify(&mut bench).await;
    drop(session);
    bench.until_at_rest().await;
    let next = bench.pool.session().await.unwrap();
    assert_eq!(next.backend().pid, pid, "reset, not closed");
}

/// On the raw connection LISTEN is the holder's own affair, and a transaction finds its way behind it.
#[tokio::test]
async fn a_transaction_begins_behind_a_notification_on_the_raw_connection() {
    let mut bench = Bench::single("notifications_raw").await;
    let mut session = bench.pool.session().await.unwrap();
    let raw = session.raw();
    raw.execute("listen notifications_raw").await.unwrap();
    notify(&mut bench).await;
    let insert = bench.insert("kept");
    session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute(insert).await)
        .await
        .unwrap();
    assert_eq!(bench.stored().await, ["kept"]);
}
