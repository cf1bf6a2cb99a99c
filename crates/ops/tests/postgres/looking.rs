//! What operators see of a pool on a real server.

use std::time::Duration;

use poolproof_ops::{Metrics, SampleValue};
use poolproof_pool::Transaction;

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
