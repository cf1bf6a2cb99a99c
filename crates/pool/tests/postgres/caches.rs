//! What sqlx remembers of the database for each connection, and the database has changed.

use std::sync::atomic::{AtomicU32, Ordering};

use poolproof_pool::{
    Categorized, ErrorKind, QueryError, RetryPolicy, Transaction, TransactionError,
};
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor, Postgres};

use crate::support::Bench;

/// A value of an enum that a test makes.
struct Mood(&'static str);

impl sqlx::Type<Postgres> for Mood {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("caches_mood")
    }
}

impl sqlx::Encode<'_, Postgres> for Mood {
    fn encode_by_ref(
        &self,
        buffer: &mut PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        <&str as sqlx::Encode<Postgres>>::encode_by_ref(&self.0, buffer)
    }
}

type Prepared = Query<'static, Postgres, PgArguments>;

/// What outlives what: what makes it, the statement, what changes it.
struct Case {
    what: &'static str,
    before: &'static str,
    statement: fn() -> Prepared,
    change: &'static str,
    /// Whether the change is made on the pool's own connection, as by another of its borrowers.
    within: bool,
}

const CASES: [Case; 4] = [
    Case {
        what: "a table got another column",
        before: "select 1",
        statement: || sqlx::query("select * from caches_table"),
        change: "alter table caches_table add b int",
        within: false,
    },
    Case {
        what: "a borrower deallocated everything",
        before: "select 1",
        statement: || sqlx::query("select v from caches_table"),
        change: "do $$ begin execute 'deallocate all'; end $$",
        within: true,
    },
    Case {
        what: "a type was made anew, and the statement is new",
        before: "create type caches_mood as enum ('good', 'bad')",
        statement: || {
            static TEXTS: AtomicU32 = AtomicU32::new(0);
            let text = format!("select $1::text, {}", TEXTS.fetch_add(1, Ordering::Relaxed));
            sqlx::query(AssertSqlSafe(text)).bind(Mood("good"))
        },
        change: "drop type caches_mood; create type caches_mood as enum ('good', 'bad')",
        within: false,
    },
    Case {
        what: "a type was made anew, and the statement is not",
        before: "create type caches_mood as enum ('good', 'bad')",
        statement: || sqlx::query("select $1::text").bind(Mood("good")),
        change: "drop type caches_mood; create type caches_mood as enum ('good', 'bad')",
        within: false,
    },
];

/// Brings the pool's one connection to where its cache is wrong.
async fn outdate(case: &Case) -> Bench {
    let mut bench = Bench::single("caches_table").await;
    let anew = sqlx::raw_sql("drop type if exists caches_mood");
    bench.admin.execute(anew).await.unwrap();
    bench.admin.execute(case.before).await.unwrap();
    let mut session = bench.pool.session().await.unwrap();
    for _ in 0..2 {
        session.fetch_all((case.statement)()).await.unwrap();
    }
    match case.within {
        true => drop(session.execute(case.change).await.unwrap()),
        false => drop(bench.admin.execute(case.change).await.unwrap()),
    }
    drop(session);
    bench.until_at_rest().await;
    bench
}

/// One test for all, because they share a table.
#[tokio::test]
async fn what_a_connection_remembers_wrongly_is_forgotten_and_the_statement_works() {
    for case in &CASES {
        outside(case).await;
        inside(case).await;
        under_a_savepoint(case).await;
        retried(case).await;
    }
}

async fn outside(case: &Case) {
    let bench = outdate(case).await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let Err(error) = session.fetch_all((case.statement)()).await else {
        panic!("{}: nothing was wrong", case.what)
    };
    assert!(matches!(error, QueryError::Statement(_)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Stale, "{}: {error:?}", case.what);
    assert!(error.is_retryable());
    session.fetch_all((case.statement)()).await.unwrap();
    assert_eq!(session.backend().pid, pid);
    assert_eq!(bench.pool.snapshot().opened_total, 1);
}

async fn inside(case: &Case) {
    let bench = outdate(case).await;
    let mut session = bench.pool.session().await.unwrap();
    let error = session
        .transaction(async |tx: &mut Transaction<'_>| tx.fetch_all((case.statement)()).await)
        .await
        .unwrap_err();
    assert!(matches!(error, TransactionError::Work(_)), "{error:?}");
    assert!(error.is_retryable(), "{}: {error:?}", case.what);
    session.fetch_all((case.statement)()).await.unwrap();
}

async fn under_a_savepoint(case: &Case) {
    let bench = outdate(case).await;
    let mut session = bench.pool.session().await.unwrap();
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            let inner = async |tx: &mut Transaction<'_>| tx.fetch_all((case.statement)()).await;
            tx.savepoint(inner).await.unwrap_err();
            tx.fetch_all((case.statement)()).await
        })
        .await
        .unwrap();
}

async fn retried(case: &Case) {
    let bench = outdate(case).await;
    let statement = case.statement;
    let runs = AtomicU32::new(0);
    bench
        .pool
        .retry(&RetryPolicy::default(), |attempt| {
            runs.fetch_add(1, Ordering::Relaxed);
            Box::pin(
                attempt.transaction(async move |tx: &mut Transaction<'_>| {
                    tx.fetch_all(statement()).await
                }),
            )
        })
        .await
        .unwrap();
    assert_eq!(runs.into_inner(), 2, "{}", case.what);
}

/// Errors of the same code that have nothing to do with what sqlx remembers are no reason to try again.
#[tokio::test]
async fn other_errors_of_the_same_codes_are_not_run_again() {
    let bench = Bench::single("caches_others").await;
    let mut session = bench.pool.session().await.unwrap();
    for (sql, code) in [
        ("execute nothing", "26000"),
        ("drop role nobody_at_all", "42704"),
        ("select count(*) from pg_class for update", "0A000"),
    ] {
        let error = session.execute(sql).await.unwrap_err();
        assert_eq!(error.sqlstate().as_deref(), Some(code), "{error:?}");
        assert!(!error.is_retryable(), "{sql}");
        assert_ne!(error.kind(), ErrorKind::Stale, "{sql}");
    }
}

/// The session goes on with its connection, and the next borrower gets another one.
#[tokio::test]
async fn statements_that_a_borrower_deallocates_are_prepared_again() {
    let mut bench = Bench::single("caches_deallocate").await;
    for forget in ["deallocate all", "discard all"] {
        for prepared in [false, true] {
            let mut session = bench.pool.session().await.unwrap();
            let statement = || sqlx::query("select v from caches_deallocate");
            session.fetch_all(statement()).await.unwrap();
            match prepared {
                true => session.execute(sqlx::query(forget)).await.unwrap(),
                false => session.execute(forget).await.unwrap(),
            };
            session.fetch_all(statement()).await.unwrap();
            drop(session);
            bench.until_at_rest().await;
            let mut next = bench.pool.session().await.unwrap();
            next.fetch_all(statement()).await.unwrap();
        }
    }
    assert_eq!(bench.pool.snapshot().opened_total, 5);
}
