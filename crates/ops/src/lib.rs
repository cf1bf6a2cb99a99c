//! Operating a pool of `poolproof-pool`: what it tells about itself, for people and for their tools.
//!
//! - [`Health::of`] finds out within a deadline whether a pool and its database can serve.
//! - [`Metrics`] reads all that a pool counts and measures, as values and as Prometheus text;
//!   [`Publisher`] hands it to the recorder that a process has installed for the `metrics` crate.
//!
//! The pool counts, and this crate reads: it uses nothing of the pool but what is public there.
//!
//! Not here: alarms, which are hooks of the pool (`Hooks::on_critical`), and traces, which it emits itself.

mod health;
mod metrics;

pub use health::{HEALTH_DEADLINE, HEALTH_SLOW, Health, HealthMethod, HealthReason, HealthStatus};
pub use metrics::{
    METRICS, Metric, MetricKind, Metrics, Publisher, Sample, SampleValue, prometheus_text,
};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
