//! Operating a pool of `poolproof-pool`: what it tells about itself, for people and for their
//! tools, and its use from threads without a runtime.
//!
//! - [`Health::of`] finds out within a deadline whether a pool and its database can serve.
//! - [`Metrics`] reads all that a pool counts and measures, as values and as Prometheus text;
//!   [`Publisher`] hands it to the recorder that a process has installed for the `metrics` crate.
//! - [`Summary::of`] is a pool and its open sessions on one screen.
//! - [`BlockingPool`] is the same pool for threads without a runtime, and [`run_blocking`] leads there from
//!   async code.
//!
//! The pool counts, and this crate reads: it uses nothing of the pool but what is public there.
//!
//! Not here: alarms, which are hooks of the pool (`Hooks::on_critical`), and traces, which it emits itself.

mod blocking;
mod health;
mod metrics;
mod summary;

pub use blocking::{
    BlockingBuildError, BlockingError, BlockingPool, BlockingSession, BlockingTransaction,
    run_blocking,
};
pub use health::{HEALTH_DEADLINE, HEALTH_SLOW, Health, HealthMethod, HealthReason, HealthStatus};
pub use metrics::{
    METRICS, Metric, MetricKind, Metrics, Publisher, Sample, SampleValue, prometheus_text,
};
pub use summary::Summary;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
