//! The blocking API: on plain threads, and in both directions between them and async code. Starts a
//! Postgres of its own.

#![expect(clippy::print_stdout, reason = "an example shows what it sees")]

use std::error::Error;
use std::time::Duration;

use poolproof_ops::{BlockingError, BlockingPool, run_blocking};
use poolproof_pool::{Config, PgConnector, Pool, QueryError};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::Row;
use tokio::runtime::Runtime;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let postgres = runtime.block_on(Cluster::start(LocalConfig::default()))?;

    // A thread without a runtime; the pool brings its own.
    let pool = BlockingPool::new(PgConnector::new(postgres.options()), Config::default())?;
    let mut session = pool.session()?;
    session.execute("create table visit (who text)")?;
    let count = session.transaction(|tx| {
        tx.execute("insert into visit values ('a thread')")?;
        let row = tx.fetch_one("select count(*) from visit")?;
        Ok::<i64, BlockingError<QueryError>>(row.get(0))
    })?;
    println!("{count} visit");
    drop(session);

    // Where a runtime is current, blocking is refused instead of stopping its tasks.
    let refused = runtime.block_on(async { pool.session().map(drop) });
    println!("in a runtime: {}", refused.expect_err("it blocks"));

    // From async code to blocking code: on a thread that the pool provides.
    let pool: Pool<PgConnector> = pool.into_async();
    let visits = runtime.block_on(run_blocking(&pool, |pool| -> Result<i64, BoxError> {
        let mut session = pool.session()?;
        session.execute("insert into visit values ('bridged')")?;
        Ok(session.fetch_one("select count(*) from visit")?.get(0))
    }))?;
    let visits = visits.map_err(|error| error.to_string())?;
    assert_eq!(visits, 2);
    println!("{visits} visits");

    // And back: a blocking handle to an async pool, for a thread of one's own.
    let blocking = BlockingPool::from(pool.clone());
    let seen = std::thread::spawn(move || {
        blocking
            .session()?
            .fetch_all("select who from visit")
            .map_err(BoxError::from)
    });
    let seen = seen.join().map_err(|_| "the thread panicked")?;
    assert_eq!(seen.map_err(|error| error.to_string())?.len(), 2);

    runtime.block_on(pool.close(Duration::from_secs(5)));
    runtime.block_on(postgres.stop())?;
    Ok(())
}

type BoxError = Box<dyn Error + Send + Sync>;
