//! A session: transactions, savepoints, and errors that say what to do. Starts a Postgres of its own.

#![expect(clippy::print_stdout, reason = "an example shows what it sees")]

use std::error::Error;
use std::time::Duration;

use poolproof_pool::{
    Categorized, Config, ErrorKind, Isolation, PgConnector, Pool, QueryError, Transaction,
    TransactionError, TransactionOptions,
};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::Row;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let postgres = Cluster::start(LocalConfig::default()).await?;
    let pool = Pool::new(PgConnector::new(postgres.options()), Config::default())?;
    let mut session = pool.session().await?;
    session
        .execute("create table account (owner text primary key, amount int check (amount >= 0))")
        .await?;
    session
        .execute("insert into account values ('ann', 10), ('bob', 0)")
        .await?;

    // `Ok` commits, and only when the server has confirmed it.
    session
        .transaction(async |tx: &mut Transaction<'_>| transfer(tx, 7).await)
        .await?;

    // `Err` rolls back.
    let refused = session
        .transaction(async |tx: &mut Transaction<'_>| transfer(tx, 7).await)
        .await
        .expect_err("ann has not that much");
    assert_eq!(refused.kind(), ErrorKind::Check);
    println!("for the log: {refused}, {:?}", refused.sqlstate());
    println!("for the user: {}", refused.user_message());

    // An error that was swallowed does not end in a commit that was none.
    let swallowed = session
        .transaction(async |tx: &mut Transaction<'_>| {
            let ignored = transfer(tx, 7).await;
            drop(ignored);
            Ok::<(), QueryError>(())
        })
        .await;
    assert!(matches!(swallowed, Err(TransactionError::CommitRolledBack)));

    // What fails under a savepoint is undone, and the rest goes on.
    let options = TransactionOptions {
        isolation: Some(Isolation::Serializable),
        deadline: Some(Duration::from_secs(5)),
        ..TransactionOptions::default()
    };
    session
        .transaction_with(&options, async |tx: &mut Transaction<'_>| {
            transfer(tx, 1).await?;
            let nested = tx
                .savepoint(async |tx: &mut Transaction<'_>| transfer(tx, 100).await)
                .await;
            let refused = nested.expect_err("ann has not that much");
            println!("under the savepoint: {refused}");
            transfer(tx, 1).await
        })
        .await?;

    let amount: i32 = session
        .fetch_one(sqlx::query("select amount from account where owner = $1").bind("bob"))
        .await?
        .get(0);
    assert_eq!(amount, 9);
    println!("bob has {amount}");

    drop(session);
    pool.close(Duration::from_secs(5)).await;
    postgres.stop().await?;
    Ok(())
}

async fn transfer(tx: &mut Transaction<'_>, amount: i32) -> Result<(), QueryError> {
    for (owner, change) in [("bob", amount), ("ann", -amount)] {
        let update = "update account set amount = amount + $1 where owner = $2";
        tx.execute(sqlx::query(update).bind(change).bind(owner))
            .await?;
    }
    Ok(())
}
