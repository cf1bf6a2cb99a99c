//! Health: of a pool that serves, that is saturated, and whose database has gone. Starts a Postgres of
//! its own.

#![expect(clippy::print_stdout, reason = "an example shows what it sees")]

use std::error::Error;
use std::time::Duration;

use poolproof_ops::{HEALTH_DEADLINE, Health, HealthStatus};
use poolproof_pool::{Config, PgConnector, Pool};
use poolproof_testbed::{Cluster, LocalConfig};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let postgres = Cluster::start(LocalConfig::default()).await?;
    let config = Config {
        pool_size: 1,
        max_overflow: 0,
        ..Config::default()
    };
    let pool = Pool::new(PgConnector::new(postgres.options()), config)?;
    pool.warm_up(1).await;

    let health = Health::of(&pool, HEALTH_DEADLINE).await;
    println!("at rest: {health} (found out in {:?})", health.took);

    // The only connection is in use: the probe leaves it to those who work.
    let lease = pool.acquire().await?;
    let health = Health::of(&pool, HEALTH_DEADLINE).await;
    println!("in use: {health}");
    assert_eq!(health.status, HealthStatus::Degraded);
    drop(lease);

    postgres.stop().await?;
    let health = Health::of(&pool, HEALTH_DEADLINE).await;
    println!("without a database: {health}");
    assert_eq!(health.status, HealthStatus::Unhealthy);
    pool.close(Duration::from_secs(1)).await;
    Ok(())
}
