//! Scope decides: `Ok` commits, `Err` rolls back, a panic rolls back; nested scopes by the same rule.

use poolproof_pool::{
    Categorized, Category, QueryError, SavepointError, Transaction, TransactionError,
};
use sqlx::Row;
use tokio::task::JoinSet;

use crate::support::{Bench, insert};

#[tokio::test]
async fn ok_commits_and_err_rolls_back() {
    let mut bench = Bench::single("scope_ok_err").await;
    let mut session = bench.pool.session().await.unwrap();
    let returned = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(bench.insert("kept")).await?;
            let query = sqlx::query("insert into scope_ok_err values ($1) returning v");
            let row = tx.fetch_one(query.bind("bound")).await?;
            Ok::<String, QueryError>(row.get(0))
        })
        .await;
    assert_eq!(returned.unwrap(), "bound");
    let failed = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(bench.insert("lost")).await.unwrap();
            Err::<(), &str>("no thanks")
        })
        .await;
    assert!(
        matches!(failed, Err(TransactionError::Work("no thanks"))),
        "{failed:?}"
    );
    assert_eq!(bench.stored().await, ["bound", "kept"]);
}

/// The closure's future must be `Send` wherever it is spawned, and own what it needs.
#[tokio::test]
async fn a_transaction_can_run_in_a_spawned_task() {
    let mut bench = Bench::single("scope_spawned").await;
    let mut tasks = JoinSet::new();
    for value in ["a", "b"] {
        let pool = bench.pool.clone();
        let statement = bench.insert(value);
        tasks.spawn(async move {
            let mut session = pool.session().await.unwrap();
            session
                .transaction(async |tx: &mut Transaction<'_>| {
                    tx.savepoint(async |tx: &mut Transaction<'_>| {
                        tx.execute(statement).await.map(drop)
                    })
                    .await
                })
                .await
                .unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(bench.stored().await, ["a", "b"]);
}

#[tokio::test]
async fn a_panic_rolls_back_goes_on_unwinding_and_the_connection_is_reset() {
    let mut bench = Bench::single("scope_panic").await;
    let mut session = bench.pool.session().await.unwrap();
    let pid = session.backend().pid;
    let mut tasks: JoinSet<()> = JoinSet::new();
    tasks.spawn(async move {
        let outcome: Result<(), TransactionError<QueryError>> = session
            .transaction(async |tx: &mut Transaction<'_>| {
                tx.execute(insert("scope_panic", "lost")).await?;
                std::panic::resume_unwind(Box::new("planned"))
            })
            .await;
        drop(outcome);
    });
    let joined = tasks.join_next().await.unwrap();
    let panic = joined.unwrap_err().into_panic();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "planned");
    bench.until_at_rest().await;
    assert_eq!(bench.stored().await, [""; 0]);
    let session = bench.pool.session().await.unwrap();
    assert_eq!(session.backend().pid, pid, "reset, not closed");
}

#[tokio::test]
async fn nested_scopes_keep_roll_back_and_recover_each_on_its_own() {
    let mut bench = Bench::single("scope_nested").await;
    let mut session = bench.pool.session().await.unwrap();
    let outcome = session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(bench.insert("1 outer")).await?;
            tx.savepoint(async |tx: &mut Transaction<'_>| {
                tx.execute(bench.insert("2 kept")).await?;
                let inner = tx
                    .savepoint(async |tx: &mut Transaction<'_>| {
                        tx.execute(bench.insert("3 lost")).await.unwrap();
                        Err::<(), &str>("undo")
                    })
                    .await;
                assert!(
                    matches!(inner, Err(SavepointError::Work("undo"))),
                    "{inner:?}"
                );
                tx.execute(bench.insert("4 kept")).await
            })
            .await
            .unwrap();
            let swallowed = tx
                .savepoint(async |tx: &mut Transaction<'_>| {
                    tx.execute(bench.insert("5 lost")).await.unwrap();
                    let failed = tx.execute("select no_such_column").await.unwrap_err();
                    assert_eq!(failed.category(), Category::Programming);
                    assert_eq!(failed.sqlstate().as_deref(), Some("42703"));
                    Ok::<(), QueryError>(())
                })
                .await;
            assert!(
                matches!(swallowed, Err(SavepointError::RolledBack)),
                "{swallowed:?}"
            );
            tx.execute(bench.insert("6 outer")).await
        })
        .await;
    outcome.unwrap();
    assert_eq!(
        bench.stored().await,
        ["1 outer", "2 kept", "4 kept", "6 outer"]
    );
}

#[tokio::test]
async fn transaction_control_as_sql_is_refused_inside_and_outside() {
    let mut bench = Bench::single("scope_control").await;
    let mut session = bench.pool.session().await.unwrap();
    let refused = session.execute("BEGIN").await.unwrap_err();
    assert!(
        matches!(refused, QueryError::TransactionControl { keyword: "BEGIN" }),
        "{refused:?}"
    );
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(bench.insert("kept")).await?;
            for sql in [
                "rollback; begin",
                "select 1; commit",
                "/* innocent */ commit",
                "savepoint mine",
                "prepare transaction 'mine'",
            ] {
                let refused = tx.execute(sql).await.unwrap_err();
                assert!(
                    matches!(refused, QueryError::TransactionControl { .. }),
                    "{sql}: {refused:?}"
                );
                let refused = tx.fetch_all(sqlx::query(sql)).await.unwrap_err();
                assert_eq!(refused.category(), Category::Programming);
            }
            Ok::<(), QueryError>(())
        })
        .await
        .unwrap();
    assert_eq!(bench.stored().await, ["kept"], "a refusal dooms nothing");
}

#[tokio::test]
async fn errors_tell_their_category() {
    let mut bench = Bench::single("scope_category").await;
    let mut session = bench.pool.session().await.unwrap();
    for (sql, category, sqlstate) in [
        ("select 1 / 0", Category::Programming, "22012"),
        ("selekt", Category::Programming, "42601"),
        (
            "insert into scope_category_pk values (1), (1)",
            Category::Integrity,
            "23505",
        ),
        (
            "do $$ begin raise exception using errcode = '40001'; end $$",
            Category::Serialization,
            "40001",
        ),
        (
            "do $$ begin raise exception using errcode = '53100'; end $$",
            Category::Resource,
            "53100",
        ),
        (
            "do $$ begin raise exception 'x'; end $$",
            Category::Other,
            "P0001",
        ),
    ] {
        session
            .execute("create table if not exists scope_category_pk (id int primary key)")
            .await
            .unwrap();
        let error = session.execute(sql).await.unwrap_err();
        assert_eq!(
            (error.category(), error.sqlstate().as_deref()),
            (category, Some(sqlstate)),
            "{sql}"
        );
        let error = session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute(sql).await)
            .await
            .unwrap_err();
        assert_eq!(
            (error.category(), error.sqlstate().as_deref()),
            (category, Some(sqlstate))
        );
    }
    let none = session.fetch_one("select 1 where false").await.unwrap_err();
    assert!(
        matches!(none, QueryError::Statement(sqlx::Error::RowNotFound)),
        "{none:?}"
    );
    drop(session);
    bench.until_at_rest().await;
    assert_eq!(
        bench.pool.snapshot().opened_total,
        1,
        "no connection was lost over it"
    );
}

#[tokio::test]
async fn only_statements_that_are_to_be_kept_are_prepared_by_name() {
    let bench = Bench::single("scope_persistent").await;
    let mut session = bench.pool.session().await.unwrap();
    for (persistent, kept) in [(false, 0), (true, 1)] {
        let query = sqlx::query("select $1::int4 as kept").bind(1);
        session
            .fetch_one(query.persistent(persistent))
            .await
            .unwrap();
        let prepared =
            "select count(*) from pg_prepared_statements where statement like '%as kept'";
        let row = session.fetch_one(prepared).await.unwrap();
        assert_eq!(row.get::<i64, _>(0), kept, "persistent: {persistent}");
    }
}
