//! A pool: acquire, look at it, change it, close it. Starts a Postgres of its own.

#![expect(clippy::print_stdout, reason = "an example shows what it sees")]

use std::error::Error;
use std::time::Duration;

use poolproof_pool::{AcquireError, Categorized, Config, Hooks, PgConnector, Pool};
use poolproof_testbed::{Cluster, LocalConfig};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let postgres = Cluster::start(LocalConfig::default()).await?;

    let config = Config {
        name: "example".to_owned(),
        pool_size: 2,
        max_overflow: 0,
        pool_timeout: Duration::from_millis(200),
        pre_ping: true,
        leak_threshold: Some(Duration::from_secs(60)),
        ..Config::default()
    };
    let hooks = Hooks::new().on_critical(|event| println!("wake somebody up: {event}"));
    let pool = Pool::with_hooks(PgConnector::new(postgres.options()), config, hooks)?;

    let warm = pool.warm_up(2).await;
    assert_eq!(warm.ready, 2, "{:?}", warm.failure);

    let first = pool.acquire().await?;
    let _second = pool.acquire().await?;
    println!("lent to {:?}", pool.holders());
    match pool.acquire().await {
        Err(error @ AcquireError::Exhausted { .. }) => {
            println!("for the log: {error}");
            println!("for the user: {}", error.user_message());
        }
        other => panic!("the pool has only two: {other:?}"),
    }
    drop(first);

    pool.resize(3, 1)?;
    let now = pool.snapshot();
    println!(
        "{} of {} + {} are out",
        now.out, now.pool_size, now.max_overflow
    );

    let report = pool.close(Duration::from_secs(1)).await;
    for holder in report.holders {
        println!("still held by {holder}");
    }
    postgres.stop().await?;
    Ok(())
}
