//! What operators see of a pool on a real server.

use std::time::Duration;

use poolproof_faults::Toxic;
use poolproof_ops::{HEALTH_DEADLINE, Health, HealthStatus, Metrics, SampleValue, Summary};
use poolproof_pool::{Config, QueryError, Transaction};
use tokio::time::Instant;

use crate::support::Bench;

#[tokio::test]
async fn metrics_of_real_work_add_up() {
    let bench = Bench::single("operations_metrics").await;
    for _ in 0..5 {
        let mut session = bench.pool.session().await.unwrap();
        session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute("select 1").await)
            .await
            .unwrap();
    }
    let metrics = Metrics::of(&bench.pool);
    let histogram = |name: &str| {
        let sample = metrics
            .samples()
            .iter()
            .find(|sample| sample.metric.name == name);
        match &sample.unwrap().value {
            SampleValue::Histogram(histogram) => **histogram,
            value => panic!("{name}: {value:?}"),
        }
    };
    let connect = histogram("poolproof_connect_seconds");
    assert_eq!(connect.count(), 1);
    assert!(connect.sum() > Duration::ZERO);
    let (wait, hold) = (
        histogram("poolproof_queue_wait_seconds"),
        histogram("poolproof_hold_seconds"),
    );
    assert_eq!((wait.count(), hold.count()), (5, 5));
    assert!(
        wait.sum() >= connect.sum(),
        "the first one waited for the connection"
    );
    let text = metrics.to_string();
    assert!(
        text.contains("poolproof_leases_total{pool=\"default\"} 5"),
        "{text}"
    );
}

#[tokio::test]
async fn health_is_judged_in_time_on_a_server_that_answers_and_through_a_link_that_is_silent() {
    let config = Config {
        pool_size: 2,
        max_overflow: 0,
        ..Config::default()
    };
    let bench = Bench::distant("operations_health", config).await;
    // The first connection is a matter of the machine's pace, which is not at stake here.
    drop(bench.pool.session().await.unwrap());
    let generous = Duration::from_secs(30);
    let seen = Health::of(&bench.pool, generous).await;
    assert_ne!(seen.status, HealthStatus::Unhealthy, "{seen}");

    let silence = Toxic::Timeout { timeout_ms: 0 };
    bench.inflict("silence", silence).await;
    let began = Instant::now();
    let seen = Health::of(&bench.pool, HEALTH_DEADLINE).await;
    assert_eq!(seen.status, HealthStatus::Unhealthy, "{seen}");
    assert!(began.elapsed() < generous, "{seen}");
    bench.heal("silence").await;
    let seen = Health::of(&bench.pool, generous).await;
    assert_ne!(seen.status, HealthStatus::Unhealthy, "{seen}");
}

/// Goal: who looks on sees what is going on and where it was asked for, and no value that is anybody's.
#[tokio::test]
async fn a_summary_shows_what_a_session_does_and_no_value() {
    let bench = Bench::single("operations_summary").await;
    let pool = bench.pool.clone();
    let mut session = pool.session().await.unwrap();
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute("insert into operations_summary values ('s3cret')")
                .await?;
            let shown = Summary::of(&pool).to_string();
            assert!(
                shown.contains("open sessions: 1, in a transaction: 1")
                    && shown.contains("insert into operations_summary values")
                    && shown.contains("looking.rs"),
                "{shown}"
            );
            assert!(!shown.contains("s3cret"), "{shown}");
            Ok::<(), QueryError>(())
        })
        .await
        .unwrap();
}
