//! What a pool counts and measures, and the two ways to get at it: Prometheus text, and the `metrics`
//! facade.
//!
//! The pool writes to atomics of its own. Whoever wants the numbers reads them: nothing here runs by
//! itself. That keeps the cost of an acquire independent of the recorder that a process installs, and is
//! why the facade is fed by [`Publisher::publish`] and not by every event.

mod facade;
mod prometheus;
mod table;

use poolproof_pool::{
    ClosedBy, Connector, Durations, ErrorKind, HistogramSnapshot, Pool, PoolMode, Snapshot,
};

pub use prometheus::prometheus_text;
pub use table::{METRICS, Metric, MetricKind};

/// A pool's numbers at one time, under the names of [`METRICS`].
///
/// `to_string` gives them in the exposition format of Prometheus; [`prometheus_text`] does so for
/// several pools.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    pool: String,
    samples: Vec<Sample>,
    durations: Durations,
}

/// One number, or one histogram, with its labels.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// Which metric it is of.
    pub metric: Metric,
    /// Its labels beside `pool`: names and values.
    pub labels: Vec<(&'static str, &'static str)>,
    /// Its value.
    pub value: SampleValue,
}

/// The value of a [`Sample`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SampleValue {
    /// Of a gauge.
    Gauge(f64),
    /// Of a counter.
    Counter(u64),
    /// Of a histogram.
    Histogram(Box<HistogramSnapshot>),
}

impl Metrics {
    /// Returns the pool's name, which is the label `pool` of all samples.
    #[must_use]
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Returns all samples, in the order of [`METRICS`].
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Reads all metrics of a pool. Costs one look at the books, O(n) for n leases, and some microseconds.
    ///
    /// Histograms are empty when `Config::metrics` is off.
    #[must_use]
    pub fn of<C: Connector>(pool: &Pool<C>) -> Self {
        let books = pool.snapshot();
        let mut metrics = Self {
            pool: pool.config().name.clone(),
            samples: Vec::with_capacity(METRICS.len() + ErrorKind::ALL.len()),
            durations: pool.durations(),
        };
        metrics.gauges(&books);
        metrics.counters(&books, |kind| pool.errors(kind));
        metrics.histograms();
        metrics
    }

    fn gauges(&mut self, books: &Snapshot) {
        let oldest = books
            .oldest
            .map_or(0.0, |holder| holder.held_for.as_secs_f64());
        let outage = books.outage.map_or(0.0, |lasts| lasts.as_secs_f64());
        for (metric, value) in [
            (table::POOL_SIZE, f64::from(books.pool_size)),
            (table::MAX_OVERFLOW, f64::from(books.max_overflow)),
            (table::OUT, books.out as f64),
            (table::IDLE, books.idle as f64),
            (table::OPENING, books.opening as f64),
            (table::CLOSING, books.closing as f64),
            (table::WAITING, books.waiting as f64),
            (table::SUSPECTED, books.suspected as f64),
            (table::GENERATION, books.generation as f64),
            (table::PAUSED, f64::from(u8::from(pauses(books.mode)))),
            (table::OUTAGE, outage),
            (table::OLDEST_LEASE, oldest),
        ] {
            self.add(metric, Vec::new(), SampleValue::Gauge(value));
        }
    }

    fn counters(&mut self, books: &Snapshot, errors: impl Fn(ErrorKind) -> u64) {
        for (reason, value) in by_reason(&books.closed_by) {
            self.add(
                table::CLOSED,
                vec![("reason", reason)],
                SampleValue::Counter(value),
            );
        }
        for (metric, value) in [
            (table::OPENED, books.opened_total),
            (table::CONNECT_FAILURES, books.open_failures_total),
            (table::LEASES, books.leases_issued),
            (table::RETURNS, books.leases_returned),
            (table::TIMEOUTS, books.timeouts_total),
            (table::QUEUE_FULL, books.queue_full_total),
            (table::TURNED_AWAY, books.turned_away_total),
            (table::SUSPECTED_TOTAL, books.suspected_total),
        ] {
            self.add(metric, Vec::new(), SampleValue::Counter(value));
        }
        for kind in ErrorKind::ALL {
            let labels = vec![
                ("category", kind.category().as_str()),
                ("kind", kind.as_str()),
            ];
            self.add(table::ERRORS, labels, SampleValue::Counter(errors(kind)));
        }
    }

    fn histograms(&mut self) {
        let durations = self.durations;
        for metric in [table::QUEUE_WAIT, table::CONNECT, table::PING, table::HOLD] {
            let value = SampleValue::Histogram(Box::new(*histogram(&durations, &metric)));
            self.add(metric, Vec::new(), value);
        }
    }

    fn add(
        &mut self,
        metric: Metric,
        labels: Vec<(&'static str, &'static str)>,
        value: SampleValue,
    ) {
        self.samples.push(Sample {
            metric,
            labels,
            value,
        });
    }
}

fn pauses(mode: PoolMode) -> bool {
    match mode {
        PoolMode::Paused | PoolMode::Draining => true,
        PoolMode::Open | PoolMode::Closed => false,
    }
}

/// Gives each reason its word. Takes all of them apart, so that a new one cannot be forgotten.
fn by_reason(closed_by: &ClosedBy) -> [(&'static str, u64); 9] {
    let ClosedBy {
        recycled,
        idle,
        overflow,
        resized,
        stale,
        broken,
        unfit,
        abandoned,
        shutdown,
    } = *closed_by;
    [
        ("recycled", recycled),
        ("idle", idle),
        ("overflow", overflow),
        ("resized", resized),
        ("stale", stale),
        ("broken", broken),
        ("unfit", unfit),
        ("abandoned", abandoned),
        ("shutdown", shutdown),
    ]
}

/// Returns the durations that a metric shows.
fn histogram<'d>(durations: &'d Durations, metric: &Metric) -> &'d HistogramSnapshot {
    [
        (table::QUEUE_WAIT, &durations.queue_wait),
        (table::CONNECT, &durations.connect),
        (table::PING, &durations.ping),
        (table::HOLD, &durations.hold),
    ]
    .into_iter()
    .find(|(of, _)| of.name == metric.name)
    .expect("bug: a histogram that is not kept")
    .1
}

/// Hands a pool's metrics to the recorder that the process has installed for the `metrics` crate, and
/// knows what it was told. A pool needs one, and each pool one of its own.
///
/// # Examples
/// ```no_run
/// # use poolproof_ops::{Metrics, Publisher};
/// # fn example(pool: &poolproof_pool::Pool<poolproof_pool::PgConnector>) {
/// let mut publisher = Publisher::new();
/// // Before each scrape, or from a task every few seconds:
/// publisher.publish(&Metrics::of(pool));
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Publisher {
    published: Durations,
}

impl Publisher {
    /// Returns one that has told nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the recorder what a pool's metrics are now; without a recorder, nothing happens.
    ///
    /// Call it as often as the numbers should be fresh. Histograms get what was recorded since the last
    /// call, each bucket as so many times the mean of its durations, so that counts and sums are exact
    /// and single values accurate to their bucket. What is published before the recorder is installed is
    /// not published again.
    pub fn publish(&mut self, metrics: &Metrics) {
        facade::describe();
        facade::publish(metrics, &self.published);
        self.published = metrics.durations;
    }
}
