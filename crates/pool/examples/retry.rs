//! Retries: two transactions that get in each other's way, until both are done. Starts a Postgres of
//! its own.

#![expect(clippy::print_stdout, reason = "an example shows what it sees")]

use std::error::Error;
use std::time::Duration;

use poolproof_pool::{
    Config, Isolation, PgConnector, Pool, QueryError, RetryError, RetryPolicy, Transaction,
    TransactionOptions,
};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::Row;
use tokio::task::JoinSet;

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let postgres = Cluster::start(LocalConfig::default()).await?;
    let pool = Pool::new(PgConnector::new(postgres.options()), Config::default())?;
    pool.session()
        .await?
        .execute("create table visit as select 0 as count")
        .await?;

    // Each reads and then writes what the others have read: only one of them can be first.
    let mut visitors = JoinSet::new();
    for _ in 0..4 {
        visitors.spawn(visit(pool.clone()));
    }
    while let Some(done) = visitors.join_next().await {
        println!("done at attempt {}", done??);
    }

    let row = pool
        .session()
        .await?
        .fetch_one("select count from visit")
        .await?;
    assert_eq!(row.get::<i32, _>(0), 4, "each counted once");
    pool.close(Duration::from_secs(5)).await;
    postgres.stop().await?;
    Ok(())
}

/// Counts one visit; returns how many attempts that took.
async fn visit(pool: Pool<PgConnector>) -> Result<u32, RetryError<QueryError>> {
    let options = TransactionOptions {
        isolation: Some(Isolation::Serializable),
        ..TransactionOptions::default()
    };
    let policy = RetryPolicy {
        attempts_max: 100,
        deadline: Duration::from_secs(30),
        ..RetryPolicy::default()
    };
    pool.retry(&policy, |attempt| {
        Box::pin(async move {
            let number = attempt.number();
            let count = async |tx: &mut Transaction<'_>| {
                let seen: i32 = tx.fetch_one("select count from visit").await?.get(0);
                let update = sqlx::query("update visit set count = $1").bind(seen + 1);
                tx.execute(update).await?;
                Ok::<u32, QueryError>(number)
            };
            attempt.transaction_with(&options, count).await
        })
    })
    .await
}
