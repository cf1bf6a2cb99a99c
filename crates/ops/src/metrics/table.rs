//! Which metrics there are: the one list that everything else is made from.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, from when the pool was built.
    Counter,
    /// Durations in buckets, from when the pool was built.
    Histogram,
}

impl MetricKind {
    /// Returns the word for it, which is also Prometheus's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric of the pool. All carry the label `pool`, with `Config::name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// What it counts or measures.
    pub unit: &'static str,
    /// Its labels beside `pool`.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn metric(
    kind: MetricKind,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels: &[],
        help,
    }
}

impl Metric {
    const fn by(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }
}

macro_rules! table {
    ($($constant:ident = $metric:expr;)*) => {
        $(pub(super) const $constant: Metric = $metric;)*

        /// All metrics, in the order in which they are emitted.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

use MetricKind::{Counter, Gauge, Histogram};

table! {
    POOL_SIZE = metric(Gauge, "poolproof_pool_size", "connections",
        "The setting pool_size");
    MAX_OVERFLOW = metric(Gauge, "poolproof_max_overflow", "connections",
        "The setting max_overflow; -1 for no limit");
    OUT = metric(Gauge, "poolproof_out", "connections",
        "Connections that are lent out");
    IDLE = metric(Gauge, "poolproof_idle", "connections",
        "Connections ready to be lent");
    OPENING = metric(Gauge, "poolproof_opening", "connections",
        "Connections being opened");
    CLOSING = metric(Gauge, "poolproof_closing", "connections",
        "Connections being reset or closed, whose slots are not free yet");
    WAITING = metric(Gauge, "poolproof_waiting", "acquires",
        "Acquires that wait for a connection");
    SUSPECTED = metric(Gauge, "poolproof_suspected_leaks", "leases",
        "Leases that have been out for longer than leak_threshold and were reported");
    GENERATION = metric(Gauge, "poolproof_generation", "generations",
        "How often all connections were made stale");
    PAUSED = metric(Gauge, "poolproof_paused", "1 or 0",
        "Whether the pool is paused or being drained");
    OUTAGE = metric(Gauge, "poolproof_outage_seconds", "seconds",
        "For how long no connection could be opened; 0 when the last attempt succeeded");
    OLDEST_LEASE = metric(Gauge, "poolproof_oldest_lease_seconds", "seconds",
        "How long the oldest lease has been out; 0 without a lease");
    CLOSED = metric(Counter, "poolproof_closed_total", "connections",
        "Connections that were, or are being, closed, by the reason")
        .by(&["reason"]);
    OPENED = metric(Counter, "poolproof_opened_total", "connections",
        "Connections that were opened");
    CONNECT_FAILURES = metric(Counter, "poolproof_connect_failures_total", "attempts",
        "Attempts to open a connection that failed");
    LEASES = metric(Counter, "poolproof_leases_total", "leases",
        "Leases that were issued");
    RETURNS = metric(Counter, "poolproof_returns_total", "leases",
        "Leases that came back");
    TIMEOUTS = metric(Counter, "poolproof_timeouts_total", "acquires",
        "Acquires that waited until their deadline");
    QUEUE_FULL = metric(Counter, "poolproof_queue_full_total", "acquires",
        "Acquires that found the queue full");
    TURNED_AWAY = metric(Counter, "poolproof_turned_away_total", "acquires",
        "Acquires that failed at once because of an outage");
    SUSPECTED_TOTAL = metric(Counter, "poolproof_suspected_leaks_total", "leases",
        "Leases that were reported as suspected leaks");
    ERRORS = metric(Counter, "poolproof_errors_total", "errors",
        "Errors of acquires, statements and commits, by kind and its category")
        .by(&["category", "kind"]);
    QUEUE_WAIT = metric(Histogram, "poolproof_queue_wait_seconds", "seconds",
        "From the first poll of an acquire to the hand-over of a connection, or its refusal");
    CONNECT = metric(Histogram, "poolproof_connect_seconds", "seconds",
        "Opening a connection, where that succeeded");
    PING = metric(Histogram, "poolproof_ping_seconds", "seconds",
        "Pinging a connection, whatever came of it");
    HOLD = metric(Histogram, "poolproof_hold_seconds", "seconds",
        "From the hand-over of a connection to the end of its lease");
}
