//! Errors of the program: the server or sqlx refuses a statement, and no connection is lost.

use std::sync::atomic::{AtomicU32, Ordering};

use poolproof_pool::{
    Categorized, Category, Config, ErrorKind, QueryError, RetryError, RetryPolicy, Session,
    Transaction, TransactionError,
};
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres};

use crate::support::Bench;

/// A value of a type that the server may not know.
struct Custom(&'static str);

impl sqlx::Type<Postgres> for Custom {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("no_such_type")
    }
}

impl sqlx::Encode<'_, Postgres> for Custom {
    fn encode_by_ref(
        &self,
        buffer: &mut PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        <&str as sqlx::Encode<Postgres>>::encode_by_ref(&self.0, buffer)
    }
}

/// One way to make a mistake.
type Mistake = fn() -> Query<'static, Postgres, PgArguments>;

fn one_value_too_few() -> Query<'static, Postgres, PgArguments> {
    sqlx::query("select $1::int4, $2::int4").bind(1)
}

fn unknown_type() -> Query<'static, Postgres, PgArguments> {
    sqlx::query("select $1::text").bind(Custom("x"))
}

fn too_many_values() -> Query<'static, Postgres, PgArguments> {
    (0..=i32::from(u16::MAX)).fold(sqlx::query("select 1"), Query::bind)
}

/// With what each comes to, and whether the server was asked.
const MISTAKES: [(Mistake, ErrorKind, Option<&str>, bool); 3] = [
    (one_value_too_few, ErrorKind::Refused, Some("08P01"), true),
    (unknown_type, ErrorKind::Type, None, false),
    (too_many_values, ErrorKind::Type, None, false),
];

async fn pid_of_server(session: &mut Session) -> i32 {
    let pid = session.fetch_simple_text("select pg_backend_pid()").await;
    pid.unwrap().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_mistake_outside_a_transaction_is_refused_and_the_session_goes_on() {
    let bench = Bench::single("mistakes_outside").await;
    for (mistake, kind, code, _) in MISTAKES {
        let mut session = bench.pool.session().await.unwrap();
        let pid = session.backend().pid;
        let error = session.execute(mistake()).await.unwrap_err();
        assert!(matches!(error, QueryError::Statement(_)), "{error:?}");
        assert_eq!((error.kind(), error.sqlstate().as_deref()), (kind, code));
        assert_eq!(error.category(), Category::Programming);
        assert!(!error.is_retryable(), "{error:?}");
        assert!(!error.user_message().contains("interrupted"));
        assert_eq!(pid_of_server(&mut session).await, pid);
    }
    assert_eq!(
        bench.pool.snapshot().opened_total,
        1,
        "nothing was replaced"
    );
    assert_eq!(bench.pool.snapshot().generation, 0);
}

/// What the server was not asked has not failed there: only what the server refused dooms.
#[tokio::test]
async fn a_mistake_in_a_transaction_dooms_it_only_where_the_server_was_asked() {
    let mut bench = Bench::single("mistakes_inside").await;
    for (mistake, kind, _, asked) in MISTAKES {
        let mut session = bench.pool.session().await.unwrap();
        let insert = bench.insert("kept");
        let ended = session
            .transaction(async |tx: &mut Transaction<'_>| {
                tx.execute(insert).await?;
                let error = tx.execute(mistake()).await.unwrap_err();
                assert_eq!(error.kind(), kind, "{error:?}");
                Ok::<(), QueryError>(())
            })
            .await;
        match (asked, ended) {
            (true, Err(TransactionError::CommitRolledBack)) | (false, Ok(())) => {}
            (_, ended) => panic!("{kind}: {ended:?}"),
        }
        session.execute("select 1").await.unwrap();
    }
    assert_eq!(bench.stored().await, ["kept", "kept"]);
    assert_eq!(bench.pool.snapshot().opened_total, 1);
}

#[tokio::test]
async fn a_mistake_is_not_run_again() {
    let bench = Bench::single("mistakes_retry").await;
    for (mistake, kind, ..) in MISTAKES {
        let runs = AtomicU32::new(0);
        let error =
            bench
                .pool
                .retry(&RetryPolicy::default(), |attempt| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    Box::pin(attempt.transaction(async move |tx: &mut Transaction<'_>| {
                        tx.execute(mistake()).await
                    }))
                })
                .await
                .unwrap_err();
        assert!(
            matches!(error, RetryError::Final { attempts: 1, .. }),
            "{error:?}"
        );
        assert_eq!((error.kind(), runs.into_inner()), (kind, 1));
    }
    assert_eq!(bench.pool.snapshot().opened_total, 1);
}

/// The table: whatever class an error of severity ERROR has, the connection lives. What ends it says so
/// by FATAL.
#[tokio::test]
async fn no_class_of_sqlstate_by_itself_is_a_lost_connection() {
    let bench = Bench::single("mistakes_classes").await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    for (code, kind) in [
        ("03000", ErrorKind::Other),
        ("08000", ErrorKind::Other),
        ("08001", ErrorKind::Other),
        ("08006", ErrorKind::Other),
        ("08P01", ErrorKind::Refused),
        ("0A000", ErrorKind::Other),
        ("0B000", ErrorKind::Other),
        ("20000", ErrorKind::Other),
        ("21000", ErrorKind::TooManyRows),
        ("22000", ErrorKind::Type),
        ("23000", ErrorKind::Integrity),
        ("24000", ErrorKind::Other),
        ("25000", ErrorKind::Other),
        ("25P03", ErrorKind::Other),
        ("26000", ErrorKind::UndefinedObject),
        ("28000", ErrorKind::Other),
        ("28P01", ErrorKind::Other),
        ("2D000", ErrorKind::Other),
        ("34000", ErrorKind::UndefinedObject),
        ("3B000", ErrorKind::Other),
        ("3D000", ErrorKind::UndefinedObject),
        ("3F000", ErrorKind::UndefinedObject),
        ("40000", ErrorKind::Serialization),
        ("42000", ErrorKind::Refused),
        ("42501", ErrorKind::Refused),
        ("44000", ErrorKind::Other),
        ("53000", ErrorKind::Resource),
        ("53300", ErrorKind::Resource),
        ("54000", ErrorKind::Other),
        ("55000", ErrorKind::Other),
        ("57000", ErrorKind::Other),
        ("57014", ErrorKind::Canceled),
        ("57P01", ErrorKind::Other),
        ("57P02", ErrorKind::Other),
        ("57P03", ErrorKind::Other),
        ("57P05", ErrorKind::Other),
        ("58000", ErrorKind::Other),
        ("58030", ErrorKind::Other),
        ("F0000", ErrorKind::Other),
        ("HV000", ErrorKind::Other),
        ("P0001", ErrorKind::Other),
        ("XX000", ErrorKind::Other),
        ("XX001", ErrorKind::Other),
    ] {
        let raise = format!("do $$ begin raise exception using errcode = '{code}'; end $$");
        let error = session.execute(AssertSqlSafe(raise)).await.unwrap_err();
        assert!(matches!(error, QueryError::Statement(_)), "{error:?}");
        assert_eq!(error.sqlstate().as_deref(), Some(code));
        assert_eq!(error.kind(), kind, "{code}");
        assert_eq!(error.category(), kind.category(), "{code}");
        assert_eq!(pid_of_server(&mut session).await, pid, "{code}");
    }
}

/// COPY asks for what `execute` cannot give, and would leave the server waiting for it.
#[tokio::test]
async fn copy_with_the_client_is_refused_before_it_is_sent() {
    let mut bench = Bench::single("mistakes_copy").await;
    let mut session = bench.pool.session().await.unwrap();
    let insert = bench.insert("kept");
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(insert).await?;
            for copy in [
                "copy mistakes_copy from stdin",
                "copy (select 1) to stdout with csv",
            ] {
                let error = tx.execute(copy).await.unwrap_err();
                assert!(matches!(error, QueryError::ClientCopy), "{error:?}");
                assert_eq!(error.kind(), ErrorKind::Refused);
                assert!(error.to_string().contains("`raw`"), "{error}");
            }
            Ok::<(), QueryError>(())
        })
        .await
        .unwrap();
    assert_eq!(bench.stored().await, ["kept"]);
}

/// A whole pool used to be replaced for one mistake.
#[tokio::test]
async fn the_other_connections_of_the_pool_stay() {
    let config = Config {
        pool_size: 3,
        ..Config::default()
    };
    let mut bench = Bench::with("mistakes_others", config).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(bench.pool.session().await.unwrap());
    }
    sessions[0].execute(one_value_too_few()).await.unwrap_err();
    drop(sessions);
    bench.until_at_rest().await;
    for _ in 0..3 {
        let mut session = bench.pool.session().await.unwrap();
        session.execute("select 1").await.unwrap();
    }
    assert_eq!(bench.pool.snapshot().opened_total, 3);
}
