//! What the pool counts and measures itself: errors by kind, and durations.
//!
//! The hot path writes to atomics of the pool's own, outside its lock and without allocation. Whoever
//! wants the numbers reads them: nothing here runs by itself, and nothing renders.

mod histogram;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use histogram::Histogram;
pub use histogram::HistogramSnapshot;

use crate::error::ErrorKind;

/// What a pool counts beside its books.
pub(crate) struct Meters {
    /// Whether durations are recorded. Errors always count: they are rare.
    durations: bool,
    errors: [AtomicU64; ErrorKind::ALL.len()],
    queue_wait: Histogram,
    connect: Histogram,
    ping: Histogram,
    hold: Histogram,
}

/// The durations that a pool has recorded since it was built, at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durations {
    /// From the first poll of an acquire to the hand-over of a connection, or its refusal.
    pub queue_wait: HistogramSnapshot,
    /// Opening a connection, where that succeeded.
    pub connect: HistogramSnapshot,
    /// Pinging a connection, whatever came of it.
    pub ping: HistogramSnapshot,
    /// From the hand-over of a connection to the end of its lease.
    pub hold: HistogramSnapshot,
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

    pub(crate) fn durations(&self) -> Durations {
        Durations {
            queue_wait: self.queue_wait.snapshot(),
            connect: self.connect.snapshot(),
            ping: self.ping.snapshot(),
            hold: self.hold.snapshot(),
        }
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters")
            .field("durations", &self.durations)
            .finish_non_exhaustive()
    }
}
