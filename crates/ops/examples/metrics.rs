//! Metrics: as Prometheus text, as values, and for the recorder of the `metrics` crate. Starts a
//! Postgres of its own.

#![expect(clippy::print_stdout, reason = "an example shows what it sees")]

use std::error::Error;
use std::time::Duration;

use poolproof_ops::{METRICS, Metrics, Publisher};
use poolproof_pool::{Config, ErrorKind, PgConnector, Pool};
use poolproof_testbed::{Cluster, LocalConfig};

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let postgres = Cluster::start(LocalConfig::default()).await?;
    let config = Config {
        name: "shop".to_owned(),
        ..Config::default()
    };
    let pool = Pool::new(PgConnector::new(postgres.options()), config)?;
    for sql in ["select 1", "select no_such_column"] {
        let outcome = pool.session().await?.execute(sql).await;
        println!("{sql}: {}", if outcome.is_ok() { "ok" } else { "failed" });
    }

    // For a `/metrics` page.
    let text = Metrics::of(&pool).to_string();
    assert!(text.contains("poolproof_leases_total{pool=\"shop\"} 2"));
    print!("{text}");

    // For whatever recorder the process has installed: before each scrape, or every few seconds.
    Publisher::new().publish(&Metrics::of(&pool));

    println!("there are {} metrics", METRICS.len());
    assert_eq!(pool.errors(ErrorKind::UndefinedObject), 1);
    pool.close(Duration::from_secs(5)).await;
    postgres.stop().await?;
    Ok(())
}
