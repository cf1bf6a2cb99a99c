//! What the pool counts and measures, and the two ways to get at it: Prometheus text, and the `metrics`
//! facade.
//!
//! The hot path writes to atomics of the pool's own, outside its lock and without allocation. Whoever
//! wants the numbers reads them: nothing here runs by itself. That keeps the cost of an acquire
//! independent of the recorder that a process installs, and is why the facade is fed by
//! [`Pool::publish_metrics`] and not by every event.

mod facade;
mod histogram;
mod prometheus;
mod table;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use histogram::Histogram;
pub use histogram::HistogramSnapshot;
pub use prometheus::prometheus_text;
pub use table::{METRICS, Metric, MetricKind};

use crate::connector::Connector;
use crate::error::ErrorKind;
use crate::pool::{ClosedBy, Pool, Snapshot};
use crate::state::Mode;

/// What a pool counts beside its books.
pub(crate) struct Meters {
    /// Whether durations are recorded. Errors always count: they are rare.
    durations: bool,
    errors: [AtomicU64; ErrorKind::ALL.len()],
    queue_wait: Histogram,
    connect: Histogram,
    ping: Histogram,
    hold: Histogram,
    /// What the facade was told last. Locked while it is told, so that nothing is told twice.
    published: Mutex<Histograms>,
}

/// All histograms at one time.
#[derive(Debug, Clone, Copy, Default)]
struct Histograms {
    queue_wait: HistogramSnapshot,
    connect: HistogramSnapshot,
    ping: HistogramSnapshot,
    hold: HistogramSnapshot,
}

impl Histograms {
    fn of(&self, metric: &Metric) -> &HistogramSnapshot {
        [
            (table::QUEUE_WAIT, &self.queue_wait),
            (table::CONNECT, &self.connect),
            (table::PING, &self.ping),
            (table::HOLD, &self.hold),
        ]
        .into_iter()
        .find(|(of, _)| of.name == metric.name)
        .expect("bug: a histogram that is not kept")
        .1
    }
}

impl Meters {
    pub(crate) fn new(durations: bool) -> Self {
        Self {
            durations,
            errors: std::array::from_fn(|_| AtomicU64::new(0)),
            queue_wait: Histogram::new(),
            connect: Histogram::new(),
            ping: Histogram::new(),
            hold: Histogram::new(),
            published: Mutex::default(),
        }
    }

    /// Counts an error where it is first seen, and not again on its way up.
    pub(crate) fn error(&self, kind: ErrorKind) {
        self.errors[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn errors(&self, kind: ErrorKind) -> u64 {
        self.errors[kind as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn queue_wait(&self, took: Duration) {
        self.record(&self.queue_wait, took);
    }

    /// An acquire was served at once.
    #[inline]
    pub(crate) fn no_queue_wait(&self) {
        if self.durations {
            self.queue_wait.record_none();
        }
    }

    #[cfg(test)]
    pub(crate) fn queue_wait_so_far(&self) -> HistogramSnapshot {
        self.queue_wait.snapshot()
    }

    pub(crate) fn connect(&self, took: Duration) {
        self.record(&self.connect, took);
    }

    pub(crate) fn ping(&self, took: Duration) {
        self.record(&self.ping, took);
    }

    pub(crate) fn hold(&self, took: Duration) {
        self.record(&self.hold, took);
    }

    fn record(&self, histogram: &Histogram, took: Duration) {
        if self.durations {
            histogram.record(took);
        }
    }

    fn histograms(&self) -> Histograms {
        Histograms {
            queue_wait: self.queue_wait.snapshot(),
            connect: self.connect.snapshot(),
            ping: self.ping.snapshot(),
            hold: self.hold.snapshot(),
        }
    }

    fn read(&self, pool: &str, books: &Snapshot) -> Metrics {
        let mut metrics = Metrics {
            pool: pool.to_owned(),
            samples: Vec::with_capacity(METRICS.len() + ErrorKind::ALL.len()),
        };
        metrics.gauges(books);
        metrics.counters(books, self);
        let now = self.histograms();
        for metric in [table::QUEUE_WAIT, table::CONNECT, table::PING, table::HOLD] {
            let value = SampleValue::Histogram(Box::new(*now.of(&metric)));
            metrics.add(metric, Vec::new(), value);
        }
        metrics
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters")
            .field("durations", &self.durations)
            .finish_non_exhaustive()
    }
}

/// A pool's numbers at one time, under the names of [`METRICS`].
///
/// `to_string` gives them in the exposition format of Prometheus; [`prometheus_text`] does so for
/// several pools.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    pool: String,
    samples: Vec<Sample>,
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

    fn counters(&mut self, books: &Snapshot, meters: &Meters) {
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
            self.add(
                table::ERRORS,
                labels,
                SampleValue::Counter(meters.errors(kind)),
            );
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

fn pauses(mode: Mode) -> bool {
    match mode {
        Mode::Paused | Mode::Draining => true,
        Mode::Open | Mode::Closed => false,
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

impl<C: Connector> Pool<C> {
    /// Reads all metrics. Costs one look at the books, O(n) for n leases, and some microseconds.
    ///
    /// Histograms are empty when [`Config::metrics`](crate::Config::metrics) is off.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.meters().read(&self.config().name, &self.snapshot())
    }

    /// Hands all metrics to the recorder that the process has installed for the `metrics` crate; without
    /// one, nothing happens.
    ///
    /// Call it as often as the numbers should be fresh: before each scrape, or from a task every few
    /// seconds. Histograms get what was recorded since the last call, each bucket as so many times the
    /// mean of its durations, so that counts and sums are exact and single values accurate to their
    /// bucket. What is published before the recorder is installed is not published again.
    pub fn publish_metrics(&self) {
        let meters = self.meters();
        facade::describe();
        let mut published = meters
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let metrics = self.metrics();
        facade::publish(&metrics, &published);
        *published = metrics.histograms();
    }

    /// Returns how many errors of a kind there were since the pool was built: of acquires, statements and
    /// commits. Errors that sqlx's own calls on a raw connection return are not seen.
    #[must_use]
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.meters().errors(kind)
    }
}

impl Metrics {
    /// Returns the histograms among the samples.
    fn histograms(&self) -> Histograms {
        let of = |metric: Metric| {
            let sample = self
                .samples
                .iter()
                .find(|sample| sample.metric.name == metric.name);
            match sample.map(|sample| &sample.value) {
                Some(SampleValue::Histogram(histogram)) => **histogram,
                _ => panic!("bug: a histogram that was not read"),
            }
        };
        Histograms {
            queue_wait: of(table::QUEUE_WAIT),
            connect: of(table::CONNECT),
            ping: of(table::PING),
            hold: of(table::HOLD),
        }
    }
}
