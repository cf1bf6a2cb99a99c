//! What operators get to see: kinds of errors and alarms, on a real server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use poolproof_faults::Toxic;
use poolproof_pool::{
    Categorized, Config, Critical, ErrorKind, Hooks, Pool, QueryError, SessionConfig, Transaction,
    TransactionError,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::support::{Bench, connector, one_connection};

/// Statements that fail on a real server, with the kind of the error and its code.
const MISTAKES: [(&str, ErrorKind, &str); 15] = [
    (
        "insert into operations_child (name) values ('taken')",
        ErrorKind::Unique,
        "23505",
    ),
    (
        "insert into operations_child (id, name) values (7, 'a')",
        ErrorKind::ForeignKey,
        "23503",
    ),
    (
        "insert into operations_child (name) values (null)",
        ErrorKind::NotNull,
        "23502",
    ),
    (
        "insert into operations_child (name, amount) values ('b', 0)",
        ErrorKind::Check,
        "23514",
    ),
    (
        "insert into operations_child (name, during) values ('c', '[4,9)')",
        ErrorKind::Exclusion,
        "23P01",
    ),
    ("selec 1", ErrorKind::Syntax, "42601"),
    (
        "select * from no_such_table",
        ErrorKind::UndefinedObject,
        "42P01",
    ),
    ("select no_such_column", ErrorKind::UndefinedObject, "42703"),
    (
        "select no_such_function()",
        ErrorKind::UndefinedObject,
        "42883",
    ),
    ("select 'x'::int", ErrorKind::Type, "22P02"),
    ("select 1 + true", ErrorKind::UndefinedObject, "42883"),
    (
        "select (select generate_series(1, 2))",
        ErrorKind::TooManyRows,
        "21000",
    ),
    (
        "do $$ begin raise sqlstate '40001'; end $$",
        ErrorKind::Serialization,
        "40001",
    ),
    (
        "do $$ begin raise sqlstate '40P01'; end $$",
        ErrorKind::Deadlock,
        "40P01",
    ),
    (
        "do $$ begin raise sqlstate '53100'; end $$",
        ErrorKind::Resource,
        "53100",
    ),
];

/// What the server says to each mistake, and what we make of it.
#[tokio::test]
async fn every_mistake_on_a_real_server_has_its_kind_code_and_message() {
    let bench = Bench::single("operations_kinds").await;
    let mut session = bench.pool.session().await.unwrap();
    let schema = "create table operations_parent (id int primary key); \
        create table operations_child (id int references operations_parent, \
            name text not null unique, amount int check (amount > 0), \
            during int4range, exclude using gist (during with &&)); \
        insert into operations_child values (null, 'taken', 1, '[1,5)')";
    session.execute(schema).await.unwrap();
    for (sql, kind, code) in MISTAKES {
        let before = bench.pool.errors(kind);
        let error = session.execute(sql).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{sql}: {error:?}");
        assert_eq!(error.sqlstate().as_deref(), Some(code), "{sql}");
        assert_eq!(error.user_message(), kind.user_message());
        assert_eq!(bench.pool.errors(kind), before + 1, "{sql}: counted once");
    }
    let none = session.fetch_one("select 1 where false").await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NoRows);
    session.execute("set statement_timeout = 20").await.unwrap();
    let slow = session.execute("select pg_sleep(60)").await.unwrap_err();
    assert_eq!(
        (slow.kind(), slow.sqlstate().as_deref()),
        (ErrorKind::Canceled, Some("57014"))
    );
    session
        .execute("drop table operations_child, operations_parent")
        .await
        .unwrap();
}

/// A broken connection may be retried within a transaction, and by itself not: nobody knows.
#[tokio::test]
async fn a_broken_connection_is_retryable_only_as_part_of_a_transaction() {
    let mut bench = Bench::single("operations_broken").await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            bench.terminate(pid).await;
            let alone = tx.execute("select 1").await.unwrap_err();
            assert_eq!(
                (alone.kind(), alone.is_retryable()),
                (ErrorKind::Connection, false)
            );
            Err::<(), QueryError>(alone)
        })
        .await;
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Connection, true),
        "{error:?}"
    );
    assert_eq!(
        bench.pool.errors(ErrorKind::Connection),
        1,
        "counted where it was first seen"
    );
}

/// Both ways to lose sight of a commit wake somebody up, once each.
#[tokio::test]
async fn a_commit_in_doubt_is_told_also_when_its_future_was_dropped() {
    let mut bench = Bench::distant("operations_doubt", one_connection()).await;
    let told: Arc<Mutex<Vec<Critical>>> = Arc::default();
    let listener = Arc::clone(&told);
    let hooks = Hooks::new().on_critical(move |event| listener.lock().unwrap().push(event.clone()));
    let connector = connector(bench.options.clone(), SessionConfig::default());
    bench.pool = Pool::with_hooks(connector, one_connection(), hooks).unwrap();

    let silence = Toxic::Timeout { timeout_ms: 0 };
    for (round, drops) in [false, true].into_iter().enumerate() {
        let mut session = bench.pool.session().await.unwrap();
        let backend = session.backend();
        let statement = bench.insert("maybe");
        let mut transaction = Box::pin(session.transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(statement).await?;
            bench.inflict("silence", silence).await;
            Ok::<(), QueryError>(())
        }));
        let committed = async {
            let mut admin = bench.server.direct().connect().await.unwrap();
            let query = format!("select 1 from {} offset {round}", bench.name);
            let mut pause = tokio::time::interval(Duration::from_millis(10));
            while admin
                .fetch_optional(AssertSqlSafe(query.as_str()))
                .await
                .unwrap()
                .is_none()
            {
                pause.tick().await;
            }
        };
        tokio::select! {
            biased;
            outcome = &mut transaction => panic!("an answer came through: {outcome:?}"),
            () = committed => {}
        }
        if drops {
            drop(transaction);
        } else {
            bench.cut();
            let outcome = transaction.await;
            assert!(
                matches!(outcome, Err(TransactionError::CommitUnknown { .. })),
                "{outcome:?}"
            );
        }
        drop(session);
        bench.heal("silence").await;
        let told = told.lock().unwrap();
        assert_eq!(told.len(), round + 1, "{told:?}");
        let Critical::CommitUnknown(commit) = &told[round] else {
            panic!("{told:?}")
        };
        assert_eq!(commit.in_doubt().backend, backend);
    }
    assert_eq!(bench.pool.errors(ErrorKind::Ambiguous), 2);
}

/// F21: the server has ended all connections, as it does when it restarts. With a ping before each lease
/// nobody's first statement meets a dead one.
#[tokio::test]
async fn f21_no_first_statement_fails_after_all_backends_were_ended() {
    let config = Config {
        pool_size: 8,
        max_overflow: 0,
        pre_ping: true,
        pre_ping_after: Duration::ZERO,
        ..Config::default()
    };
    let mut bench = Bench::with("operations_restart", config).await;
    for round in 1..=3 {
        assert_eq!(bench.pool.warm_up(8).await.ready, 8);
        bench.until_at_rest().await;
        for (pid, _, _) in bench.backends().await {
            bench.terminate(pid).await;
        }
        let first_statements = (0..32).map(|_| {
            let pool = bench.pool.clone();
            async move {
                let mut session = pool.session().await.unwrap();
                session.execute("select 1").await.map(drop)
            }
        });
        for first in join_all(first_statements).await {
            first.unwrap();
        }
        assert_eq!(
            bench.pool.snapshot().generation,
            round,
            "one generation for each outage"
        );
    }
    assert_eq!(bench.pool.errors(ErrorKind::Connection), 0);
    bench.until_at_rest().await;
}
