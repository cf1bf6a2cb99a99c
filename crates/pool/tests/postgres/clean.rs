//! What goes back, how, and what the next borrower finds.

use poolproof_oracle::CLEAN_PROBE_SQL;
use poolproof_pool::{
    Categorized, Category, Config, QueryError, ResetMode, Session, SessionConfig, Transaction,
    TransactionError,
};
use poolproof_testbed::LocalConfig;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::support::{Bench, Server, connector, one_connection};

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

/// What no look at a text can see: functions that leave something behind.
const HIDDEN: [(&str, &str); 6] = [
    (
        "setting",
        "perform set_config('statement_timeout', '1234', false);",
    ),
    ("lock", "perform pg_advisory_lock(7);"),
    ("table", "create temp table mine (x int);"),
    (
        "cursor",
        "execute 'declare mine cursor with hold for select 1';",
    ),
    ("listen", "execute 'listen mine';"),
    ("role", "set role pg_monitor;"),
];

/// F29: canaries of every kind, left by functions, are invisible to the next borrower in Clean mode; and
/// prepared statements stay, because sqlx goes on using them.
#[tokio::test]
async fn f29_in_clean_mode_nothing_that_a_function_left_behind_is_seen_by_the_next_borrower() {
    let sessions = SessionConfig {
        reset: ResetMode::Clean,
        ..SessionConfig::default()
    };
    let mut bench = Bench::sessions("clean_mode", sessions).await;
    let plan = "select 'planned'";
    let mut session = bench.pool.session().await.unwrap();
    let (pid, clean) = (session.backend().pid, found(&mut session).await);
    session.fetch_one(sqlx::query(plan)).await.unwrap();
    drop(session);
    for (kind, body) in HIDDEN {
        let create = format!(
            "create or replace function clean_mode_{kind}() returns void language plpgsql as \
             $$ begin {body} end $$"
        );
        bench.admin.execute(AssertSqlSafe(create)).await.unwrap();
        let leave = format!("select clean_mode_{kind}()");
        let mut session = bench.pool.session().await.unwrap();
        session.execute(AssertSqlSafe(leave.clone())).await.unwrap();
        assert_ne!(found(&mut session).await, clean, "{kind} leaves nothing");
        drop(session);
        let mut session = bench.pool.session().await.unwrap();
        assert_eq!(found(&mut session).await, clean, "{kind}");
        session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute(AssertSqlSafe(leave)).await)
            .await
            .unwrap();
        drop(session);
        let mut session = bench.pool.session().await.unwrap();
        assert_eq!(found(&mut session).await, clean, "{kind} in a transaction");
        assert_eq!(session.backend().pid, pid, "reset, not closed");
    }
    let mut session = bench.pool.session().await.unwrap();
    let plans = "select count(*) from pg_prepared_statements where statement = $1";
    let row = session.fetch_one(sqlx::query(plans).bind(plan)).await;
    assert_eq!(row.unwrap().get::<i64, _>(0), 1, "its plan is gone");
}

/// The other side of the bargain: Fast mode trusts the texts, and says so in its documentation.
#[tokio::test]
async fn in_fast_mode_what_a_function_sets_stays() {
    let mut bench = Bench::single("clean_fast").await;
    let create = "create or replace function clean_fast_set() returns text language sql as \
                  $$ select set_config('statement_timeout', '1234', false) $$";
    bench.admin.execute(create).await.unwrap();
    let mut session = bench.pool.session().await.unwrap();
    session.execute("select clean_fast_set()").await.unwrap();
    drop(session);
    let mut session = bench.pool.session().await.unwrap();
    let shown = session.fetch_simple_text("show statement_timeout").await;
    assert_eq!(shown.unwrap().as_deref(), Some("1234ms"));
    // Nobody else shall pay for this test.
    session.raw();
}

/// A connection that only went from hand to hand has nothing to clean.
#[tokio::test]
async fn in_clean_mode_a_session_that_did_nothing_goes_back_without_io() {
    let sessions = SessionConfig {
        reset: ResetMode::Clean,
        ..SessionConfig::default()
    };
    let bench = Bench::sessions("clean_idle", sessions).await;
    drop(bench.pool.session().await.unwrap());
    for _ in 0..10 {
        drop(bench.pool.session().await.unwrap());
        let now = bench.pool.snapshot();
        assert_eq!((now.idle, now.closing), (1, 0));
    }
}

/// F4: the server logs a warning for every ROLLBACK without a transaction.
#[tokio::test]
async fn f4_no_reset_of_any_kind_makes_the_server_warn() {
    let server = Server::start(LocalConfig::default()).await;
    for reset in [ResetMode::Fast, ResetMode::Clean] {
        let sessions = SessionConfig {
            reset,
            ..SessionConfig::default()
        };
        let connector = connector(server.options(), sessions);
        let pool = poolproof_pool::Pool::new(connector, one_connection()).unwrap();
        for round in 0..4 {
            let mut session = pool.session().await.unwrap();
            match round {
                0 => drop(session.execute("set work_mem = '1MB'").await.unwrap()),
                1 => drop(session.raw().execute("select 1").await.unwrap()),
                2 => drop(session.raw().execute("begin").await.unwrap()),
                _ => {
                    let left = session.transaction(async |tx: &mut Transaction<'_>| {
                        tx.execute("select 1").await?;
                        std::future::pending::<Result<(), QueryError>>().await
                    });
                    let within = std::time::Duration::from_millis(300);
                    tokio::time::timeout(within, left).await.unwrap_err();
                }
            }
        }
        let mut session = pool.session().await.unwrap();
        session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute("select 1").await)
            .await
            .unwrap();
        drop(session);
        assert_eq!(pool.snapshot().opened_total, 1);
    }
    let log = server.log();
    assert!(
        log.contains("ready to accept"),
        "the log is not the server's"
    );
    assert!(!log.contains("WARNING"), "{log}");
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
    let busy = second.backend();
    drop(first);
    bench.terminate(busy.pid).await;
    let error = second.execute("select 1").await.unwrap_err();
    assert!(matches!(error, QueryError::Connection(_)), "{error:?}");
    assert_eq!(error.category(), Category::Connection);
    drop((second, third));
    let mut next = bench.pool.session().await.unwrap();
    let opened = bench.pool.snapshot().opened_total;
    assert_eq!(opened, 4, "what was idle was of the same age");
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
