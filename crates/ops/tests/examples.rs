//! The examples run, and what they assert holds.

#[path = "../examples/blocking.rs"]
mod blocking;
#[path = "../examples/health.rs"]
mod health;
#[path = "../examples/metrics.rs"]
mod metrics;

#[test]
fn the_example_of_blocking_use_runs() {
    blocking::main().unwrap();
}

#[test]
fn the_example_of_health_runs() {
    health::main().unwrap();
}

#[test]
fn the_example_of_metrics_runs() {
    metrics::main().unwrap();
}
