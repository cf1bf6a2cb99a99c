//! What is promised behind a PgBouncer that pools transactions, promise by promise as the README's "Behind a
//! pooler" has them; and what is refused there, by name.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

#[path = "postgres/support.rs"]
#[expect(dead_code, reason = "it has more than is needed here")]
mod support;

use std::sync::Arc;
use std::time::Duration;

use poolproof_pool::{
    Abandoned, Categorized, Config, ErrorKind, InDoubt, Isolation, Pooler, QueryError, Resolution,
    ResolveError, ServerTimeouts, SessionConfig, Transaction, TransactionError, TransactionOptions,
};
use poolproof_testbed::{LocalConfig, PoolMode};
use sqlx::{ConnectOptions, Connection, Executor, Row, raw_sql};
use tokio::task::JoinSet;

use support::{Bench, PATIENCE, Server, insert, one_connection};

/// What stands between the pool and the server. Nothing is declared: it is noticed.
const FRONT: Option<PoolMode> = Some(PoolMode::Transaction);

/// Holds what every test is about: a pooler was noticed.
async fn noticed(name: &'static str) -> Bench {
    let bench = Bench::single(name).await;
    assert!(bench.pool.acquire().await.unwrap().get().is_pooled());
    bench
}

/// On a PgBouncer of its own, where it is known which process a client gets: the one that was free last.
async fn noticed_alone(name: &'static str) -> Bench {
    let server = Arc::new(Server::start(LocalConfig::default()).await);
    let bench = Bench::on(server, name, one_connection()).await;
    assert!(bench.pool.acquire().await.unwrap().get().is_pooled());
    bench
}

/// Ten clients of others work through the same PgBouncer; returns what became of each transaction.
async fn innocent(bench: &Bench, until: impl Future<Output = ()>) -> Vec<Result<(), sqlx::Error>> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut others = JoinSet::new();
    for _ in 0..10 {
        let (options, stopped) = (bench.server.options(), stopped.clone());
        others.spawn(async move {
            let mut other = options.connect().await?;
            let mut done = 0;
            while done < 5 || !*stopped.borrow() {
                let work = raw_sql("begin; select pg_sleep(0.01)");
                other.execute(work).await?;
                other.execute(raw_sql("commit")).await?;
                done += 1;
            }
            other.close().await
        });
    }
    until.await;
    stop.send(true).unwrap();
    others.join_all().await
}

/// Waits until nothing of the pool's is open on the server. Processes stay, and serve others.
async fn until_at_rest(bench: &mut Bench) {
    let at_rest = async |bench: &mut Bench| {
        let now = bench.pool.snapshot();
        let backends = bench.backends().await;
        now.out + now.closing == 0 && backends.iter().all(|(_, state, _)| state == "idle")
    };
    bench.until("pool and server are at rest", at_rest).await;
}

#[track_caller]
fn assert_unhurt(others: Vec<Result<(), sqlx::Error>>) {
    assert_eq!(others.len(), 10);
    for other in others {
        other.expect("an innocent client was hurt");
    }
}

/// The backend that served a connection at its start serves others a moment later. Goal: a statement that was
/// abandoned outside a transaction hurts none of them. Method: the statement waits for a lock while others work.
#[tokio::test]
async fn an_abandoned_statement_ends_nobody_elses_transaction() {
    let mut bench = noticed_alone("pooled_innocent").await;
    let pool = bench.pool.clone();
    let others = {
        let mut session = pool.session().await.unwrap();
        let first = session.backend().pid;
        // The backend of the connection's start is lent to somebody else, so that ours is another one.
        let mut holder = bench.server.options().connect().await.unwrap();
        let begun = holder
            .fetch_one(raw_sql("begin; select pg_backend_pid()"))
            .await;
        assert_eq!(
            begun.unwrap().get::<i32, _>(0),
            first,
            "it serves another now"
        );
        tokio::select! {
            outcome = session.execute("select pg_sleep(600)") => panic!("{outcome:?}"),
            () = bench.until_active("pg_sleep(600)") => {}
        }
        let asleep = bench.backends().await[0].0;
        let freed = async {
            drop(session);
            let free = async |bench: &mut Bench| bench.pool.snapshot().size() == 0;
            let server = Arc::clone(&bench.server);
            let mut watch = Bench::on(server, "pooled_watch", one_connection()).await;
            watch.pool = pool.clone();
            watch.until("the slot is free", free).await;
        };
        let others = innocent(&bench, freed).await;
        holder
            .execute(raw_sql("commit"))
            .await
            .expect("the holder was hurt");
        bench.terminate(asleep).await;
        others
    };
    assert_unhurt(others);
}

/// From the answer to BEGIN on, the backend serves nobody else: what is abandoned there is ended.
#[tokio::test]
async fn a_statement_abandoned_in_a_transaction_is_ended_and_nobody_else() {
    let mut bench = noticed("pooled_inside").await;
    let config = Config {
        reset_timeout: Duration::from_secs(600),
        ..one_connection()
    };
    let pool = bench.pool_of(SessionConfig::default(), config);
    let mut session = pool.session().await.unwrap();
    let work = async |tx: &mut Transaction<'_>| {
        tx.execute(insert("pooled_inside", "lost")).await?;
        tx.execute("select pg_sleep(600)").await
    };
    tokio::select! {
        outcome = session.transaction(work) => panic!("{outcome:?}"),
        () = bench.until_active("pg_sleep(600)") => {}
    }
    let pid = session.backend().pid;
    assert_eq!(bench.backends().await[0].0, pid, "BEGIN told which one");
    let ended = async {
        drop(session);
        let mut watch = Bench::single("pooled_inside_watch").await;
        watch.until_gone(pid).await;
    };
    let others = innocent(&bench, ended).await;
    assert_unhurt(others);
    let free = async |_: &mut Bench| pool.snapshot().size() == 0;
    bench.until("the slot is free", free).await;
    assert_eq!(bench.stored().await, [""; 0]);
}

/// A session that is stale outside a transaction is told at its next call, and no process is ended for it;
/// one that is stale in a transaction is ended.
#[tokio::test]
async fn a_stale_session_is_ended_only_in_its_transaction() {
    let mut bench = noticed("pooled_stale").await;
    let sessions = SessionConfig {
        session_age_max: Some(Duration::from_millis(200)),
        ..SessionConfig::default()
    };
    let pool = bench.pool_of(sessions, one_connection());
    let mut session = pool.session().await.unwrap();
    let marked = async {
        while pool.sessions()[0].reaped.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, marked).await.unwrap();
    let refused = session.execute("select 1").await.unwrap_err();
    assert!(matches!(refused, QueryError::Reaped(_)), "{refused:?}");
    drop(session);
    let mut session = pool.session().await.unwrap();
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute("select pg_sleep(600)").await)
        .await;
    let Err(TransactionError::Work(QueryError::Reaped(_))) = outcome else {
        panic!("{outcome:?}")
    };
    drop(session);
    let asleep = async |bench: &mut Bench| {
        let backends = bench.backends().await;
        backends.iter().all(|(_, state, _)| state != "active")
    };
    bench.until("nothing runs on", asleep).await;
}

#[tokio::test]
async fn transactions_savepoints_and_parameters_work_and_commits_are_believed_only_when_confirmed()
{
    let mut bench = noticed("pooled_work").await;
    let mut session = bench.pool.session().await.unwrap();
    for value in ["one", "two"] {
        session
            .transaction(async |tx: &mut Transaction<'_>| {
                let query = sqlx::query("insert into pooled_work values ($1)").bind(value);
                tx.execute(query).await?;
                let undone = tx.savepoint(async |tx: &mut Transaction<'_>| {
                    tx.execute(insert("pooled_work", "undone")).await?;
                    tx.execute("select no_such_column").await
                });
                undone.await.unwrap_err();
                Ok::<(), QueryError>(())
            })
            .await
            .unwrap();
    }
    let swallowed = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert("pooled_work", "lost")).await?;
            tx.execute("select no_such_column").await.unwrap_err();
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(
        matches!(swallowed, Err(TransactionError::CommitRolledBack)),
        "{swallowed:?}"
    );
    session.execute("select 1").await.unwrap();
    drop(session);
    let lease = bench.pool.acquire().await.unwrap();
    assert!(lease.ping(PATIENCE).await, "no answer");
    assert_eq!(bench.stored().await, ["one", "two"]);
    until_at_rest(&mut bench).await;
}

/// Many connections of ours on few processes: statements have no names there that could meet.
#[tokio::test]
async fn statements_with_parameters_of_many_connections_do_not_meet() {
    let bench = noticed("pooled_many").await;
    let config = Config {
        pool_size: 8,
        max_overflow: 0,
        ..Config::default()
    };
    let pool = bench.pool_of(SessionConfig::default(), config);
    let mut tasks = JoinSet::new();
    for task in 0..16_i32 {
        let pool = pool.clone();
        tasks.spawn(async move {
            for round in 0..20_i32 {
                let mut session = pool.session().await.unwrap();
                let sum = session.transaction(async |tx: &mut Transaction<'_>| {
                    let query = format!("select $1::int4 + {task}");
                    let query = sqlx::query(sqlx::AssertSqlSafe(query)).bind(round);
                    tx.fetch_one(query).await
                });
                assert_eq!(sum.await.unwrap().get::<i32, _>(0), round + task);
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(pool.snapshot().closed_total, 0);
}

/// sqlx asks for a type that it does not know with a simple query, which takes away the statement that has no
/// name. Goal: that is told by its SQLSTATE, and the second time it works, because the type is known then.
#[tokio::test]
async fn a_type_that_the_driver_must_ask_for_fails_the_first_time() {
    let mut bench = noticed("pooled_types").await;
    let create = "drop type if exists mood; create type mood as enum ('fine')";
    bench.admin.execute(raw_sql(create)).await.unwrap();
    let mut session = bench.pool.session().await.unwrap();
    let ask =
        async |tx: &mut Transaction<'_>| tx.fetch_one(sqlx::query("select 'fine'::mood")).await;
    let first = session.transaction(ask).await.map(|row| row.len());
    println!("{first:?}");
    assert_eq!(first.unwrap_err().sqlstate().as_deref(), Some("26000"));
    session.transaction(ask).await.unwrap();
    let cast = async |tx: &mut Transaction<'_>| {
        tx.fetch_one(sqlx::query("select 'fine'::mood::text")).await
    };
    session.transaction(cast).await.unwrap();
}

/// Dropped at any point, a unit of work leaves no transaction behind for whoever comes next.
#[tokio::test]
async fn what_was_dropped_is_rolled_back() {
    let mut bench = noticed("pooled_dropped").await;
    let mut session = bench.pool.session().await.unwrap();
    let left = session.transaction(async |tx: &mut Transaction<'_>| {
        tx.execute(insert("pooled_dropped", "lost")).await?;
        std::future::pending::<Result<(), QueryError>>().await
    });
    let idle = async |bench: &mut Bench| {
        let backends = bench.backends().await;
        backends
            .iter()
            .any(|(_, state, _)| state == "idle in transaction")
    };
    tokio::select! {
        outcome = left => panic!("{outcome:?}"),
        () = bench.until("it waits in its transaction", idle) => {}
    }
    drop(session);
    until_at_rest(&mut bench).await;
    assert_eq!(
        bench.pool.snapshot().opened_total,
        1,
        "reset, and not closed"
    );
    assert_eq!(bench.stored().await, [""; 0]);
}

/// Timeouts hold from BEGIN on, as the start-up parameter that would set them does not pass.
#[tokio::test]
async fn timeouts_of_the_connection_hold_in_transactions() {
    let bench = noticed("pooled_timeouts").await;
    let sessions = SessionConfig {
        timeouts: ServerTimeouts {
            statement: Some(Duration::from_secs(71)),
            lock: Some(Duration::from_secs(72)),
            ..ServerTimeouts::default()
        },
        ..SessionConfig::default()
    };
    let pool = bench.pool_of(sessions, one_connection());
    let mut session = pool.session().await.unwrap();
    let options = TransactionOptions {
        isolation: Some(Isolation::RepeatableRead),
        timeouts: ServerTimeouts {
            lock: Some(Duration::from_secs(5)),
            ..ServerTimeouts::default()
        },
        ..TransactionOptions::default()
    };
    let shown = session.transaction_with(&options, async |tx: &mut Transaction<'_>| {
        let query = "select current_setting('statement_timeout') || ' ' || \
                     current_setting('lock_timeout') || ' ' || \
                     current_setting('transaction_isolation')";
        tx.fetch_one(query).await
    });
    let shown: String = shown.await.unwrap().get(0);
    assert_eq!(shown, "71s 5s repeatable read");
    let after = session.fetch_simple_text("show statement_timeout").await;
    assert_eq!(after.unwrap().as_deref(), Some("0"), "not outside");
}

/// What would stay on a process that serves others is refused before it is sent, and the session goes on.
#[tokio::test]
async fn what_needs_a_process_of_its_own_is_refused_by_name() {
    let bench = noticed("pooled_refused").await;
    let mut session = bench.pool.session().await.unwrap();
    for (sql, named) in [
        ("set work_mem = '1MB'", "SET"),
        ("reset all", "RESET"),
        ("create temp table t (v int)", "TEMPORARY"),
        ("select pg_advisory_lock(7)", "PG_ADVISORY_LOCK"),
        ("select set_config('work_mem', '1MB', false)", "SET_CONFIG"),
        ("prepare p as select 1", "PREPARE"),
        ("deallocate all", "DEALLOCATE"),
        ("discard all", "DISCARD"),
        ("load 'auto_explain'", "LOAD"),
    ] {
        let outside = session.execute(sql).await.unwrap_err();
        let inside = session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute(sql).await)
            .await
            .unwrap_err();
        let TransactionError::Work(inside) = inside else {
            panic!("{inside:?}")
        };
        for error in [outside, inside] {
            let QueryError::Pooled { what, .. } = &error else {
                panic!("{sql}: {error:?}")
            };
            assert_eq!(*what, named, "{sql}");
            assert_eq!(error.kind(), ErrorKind::Refused);
        }
    }
    let prepared = session
        .execute(sqlx::query("select $1::int4").bind(1))
        .await;
    let error = prepared.unwrap_err().to_string();
    assert!(
        error.starts_with("a prepared statement outside a transaction is refused"),
        "{error}"
    );
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute("set local work_mem = '1MB'").await?;
            tx.execute("create temp table mine on commit drop as select 1")
                .await?;
            tx.execute("declare c cursor for select 1").await?;
            tx.execute("select pg_advisory_xact_lock(7)").await
        })
        .await
        .unwrap();
    drop(session);
    assert_eq!(bench.pool.snapshot().opened_total, 1);
}

/// No backend may be ended to make an answer final: with the id the server is asked until the transaction has
/// ended, and without it nobody can tell.
#[tokio::test]
async fn a_commit_in_doubt_is_resolved_by_its_id_and_its_backend_never_ended() {
    let mut bench = noticed("pooled_doubt").await;
    bench.slow_commits(1).await;
    let with_xid = TransactionOptions {
        with_xid: true,
        ..TransactionOptions::default()
    };
    let sessions = SessionConfig {
        abandoned: Abandoned::Drop,
        ..SessionConfig::default()
    };
    let pool = bench.pool_of(sessions, one_connection());
    let mut session = pool.session().await.unwrap();
    let committed = session.transaction_with(&with_xid, async |tx: &mut Transaction<'_>| {
        tx.execute(insert("pooled_doubt", "kept")).await
    });
    tokio::select! {
        outcome = committed => panic!("{outcome:?}"),
        () = bench.until_active("COMMIT") => {}
    }
    let in_doubt = session.in_doubt().unwrap();
    drop(session);
    let without = InDoubt {
        xid: None,
        ..in_doubt
    };
    for error in [
        in_doubt.fence(&pool, PATIENCE).await.unwrap_err(),
        without.resolve(&pool, PATIENCE).await.unwrap_err(),
    ] {
        assert!(matches!(error, ResolveError::Pooled), "{error:?}");
    }
    let resolution = in_doubt.resolve(&pool, PATIENCE).await.unwrap();
    assert_eq!(resolution, Resolution::Committed);
    assert_eq!(bench.stored().await, ["kept"]);
}

/// Declared to pool sessions, which it does not: the first BEGIN that finds another process says so.
#[tokio::test]
async fn a_wrong_declaration_is_found_out_and_its_connection_given_up() {
    let bench = noticed_alone("pooled_declared").await;
    let sessions = SessionConfig {
        pooler: Pooler::Session,
        ..SessionConfig::default()
    };
    let pool = bench.pool_of(sessions, one_connection());
    let mut session = pool.session().await.unwrap();
    let then = session.backend().pid;
    let mut holder = bench.server.options().connect().await.unwrap();
    let begun = holder
        .fetch_one(raw_sql("begin; select pg_backend_pid()"))
        .await;
    assert_eq!(
        begun.unwrap().get::<i32, _>(0),
        then,
        "it serves another now"
    );
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute("select 1").await)
        .await;
    let Err(TransactionError::Begin(QueryError::ProcessMoved { then: told, .. })) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(told, then);
    drop(session);
    holder
        .execute(raw_sql("commit"))
        .await
        .expect("the holder was hurt");
    assert_eq!(pool.snapshot().size(), 0);
}

/// They would be lost in silence.
#[tokio::test]
async fn start_up_options_are_refused_by_name() {
    let bench = noticed("pooled_options").await;
    let options = bench.server.options().options([("work_mem", "1MB")]);
    let pool = support::pool_on(options, one_connection());
    let error = pool.session().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let poolproof_pool::AcquireError::Rejected { cause } = error else {
        panic!("{error:?}")
    };
    let text = format!("{cause:?}");
    assert!(text.contains("start-up parameter `options`"), "{text}");
}
