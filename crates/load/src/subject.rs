//! The seam between load and a pool: [`Subject`], and the [`Trace`] it leaves while it works.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use poolproof_oracle::{CapacityProbe, Op, OpError, Outcome, PoolView};
use tokio::time::Instant;

use crate::gauges::Gauges;
use crate::leases::{BackendId, Lease, Leases};

/// A pool under test.
///
/// An implementation executes ops, says what each came to, and tells what it can about itself.
/// It bounds every op by the op's own deadline: an op that outlives it is a finding.
///
/// It must not block a thread: a runtime whose timers were watched by the blocked thread stands
/// still until it is let go, and no deadline of the run comes true.
pub trait Subject: Send + Sync + 'static {
    /// Returns what reports say about the subject.
    fn info(&self) -> SubjectInfo;

    /// Executes one op: acquire, BEGIN, statements, hold, and the op's ending.
    ///
    /// Marks its progress in `trace`, because a future that is dropped or panics returns nothing.
    /// Asks [`poolproof_oracle::CLEAN_PROBE_SQL`], before anything else on the connection, when
    /// the op says so or [`Trace::is_suspect`] does.
    /// A planned panic is raised with [`planned_panic`] while the connection is held.
    ///
    /// # Cancel safety
    /// The driver drops this future for ops with [`poolproof_oracle::Ending::Cancel`].
    fn execute<'a>(&'a self, op: &'a Op, trace: &'a Trace) -> BoxFuture<'a, OpEnd>;

    /// Returns what the subject can tell about itself right now.
    fn view(&self) -> PoolView;

    /// Returns the time that each connection took to open, in microseconds, since the last call.
    fn take_connect_times(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Acquires `wanted` connections, holds them all at once, and gives them back.
    fn probe_capacity(&self, wanted: u64, within: Duration) -> BoxFuture<'_, CapacityProbe>;

    /// Closes the pool and its connections, by `deadline` from now at the latest.
    fn close(&self, deadline: Duration) -> BoxFuture<'_, ()>;
}

/// What reports say about a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectInfo {
    /// Its name on the command line.
    pub name: String,
    /// The library and its version.
    pub version: String,
    /// What it is, in one sentence.
    pub description: String,
}

/// How an op ended, when it lived long enough to say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpEnd {
    /// What it came to.
    pub outcome: Outcome,
    /// Why, unless it is [`Outcome::Ok`].
    pub error: Option<OpError>,
}

impl OpEnd {
    /// An op that did what it should.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            outcome: Outcome::Ok,
            error: None,
        }
    }
}

/// Raises the panic of an op with [`poolproof_oracle::Ending::Panic`].
///
/// It bypasses the panic hook, so that planned panics do not flood the terminal, and the driver
/// can tell it from a panic that nobody planned.
///
/// # Panics
/// Always.
pub fn planned_panic() -> ! {
    std::panic::resume_unwind(Box::new(PlannedPanic))
}

/// Tells whether a panic came from [`planned_panic`].
pub(crate) fn is_planned(payload: &(dyn Any + Send)) -> bool {
    payload.is::<PlannedPanic>()
}

#[derive(Debug)]
struct PlannedPanic;

/// Progress of one op, readable after its future was dropped.
#[derive(Debug)]
pub struct Trace {
    op: u64,
    origin: Instant,
    acquired_us: AtomicU64,
    commit_sent_us: AtomicU64,
    clean_probe: Mutex<Option<String>>,
    /// The lease that the op has, or had last.
    lease: Mutex<Option<Lease>>,
    leases: Arc<Leases>,
    gauges: Option<Arc<Gauges>>,
}

const NEVER: u64 = u64::MAX;

impl Trace {
    /// Creates the trace of a single op, whose connection nobody had before; `origin` is the start
    /// of the load.
    #[must_use]
    pub fn new(origin: Instant) -> Self {
        Self::among(Arc::default(), 0, origin)
    }

    /// Creates the trace of one op of several; `op` is its id, and all of them share `leases`.
    #[must_use]
    pub fn among(leases: Arc<Leases>, op: u64, origin: Instant) -> Self {
        Self {
            op,
            origin,
            acquired_us: AtomicU64::new(NEVER),
            commit_sent_us: AtomicU64::new(NEVER),
            clean_probe: Mutex::new(None),
            lease: Mutex::new(None),
            leases,
            gauges: None,
        }
    }

    /// Counts the op among the commits in flight once its COMMIT is sent.
    pub(crate) fn counted(self, gauges: Arc<Gauges>) -> Self {
        Self {
            gauges: Some(gauges),
            ..self
        }
    }

    /// Marks that the op holds a connection, and whose it is as far as the subject knows without
    /// asking the server. The first call's time and the last call's connection count.
    ///
    /// # Panics
    /// If another thread panicked in here before.
    pub fn acquired(&self, backend: Option<BackendId>) {
        // Coming second is fine: the first mark counts.
        self.mark(&self.acquired_us);
        *self.lease() = Some(self.leases.begin(self.op, backend));
    }

    /// Whether the last use of the op's connection was not seen to end in a commit or rollback, so
    /// that the op has to ask it whether it is clean.
    ///
    /// # Panics
    /// If another thread panicked in here before.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.lease().is_some_and(|lease| lease.is_suspect)
    }

    /// Marks that, as the pool says, the transaction ended as planned in a commit or rollback.
    ///
    /// To be called *before* the connection goes back: the next op may have it at once.
    ///
    /// # Panics
    /// If another thread panicked in here before.
    pub fn settled(&self) {
        if let Some(lease) = &mut *self.lease() {
            self.leases.settle(self.op, lease);
        }
    }

    /// Marks that COMMIT is about to be written. The first call counts.
    ///
    /// From here on an op that does not see the server's answer is [`Outcome::Info`].
    pub fn commit_sent(&self) {
        if self.mark(&self.commit_sent_us)
            && let (Some(gauges), Some(at_us)) = (&self.gauges, self.commit_sent_us())
        {
            gauges.commit_sent(at_us);
        }
    }

    /// Keeps the answer to [`poolproof_oracle::CLEAN_PROBE_SQL`].
    ///
    /// # Panics
    /// If another thread panicked in here before.
    pub fn set_clean_probe(&self, answer: String) {
        *self
            .clean_probe
            .lock()
            .expect("bug: clean_probe lock poisoned") = Some(answer);
    }

    /// When the op got its connection, in microseconds from the start of the load.
    #[must_use]
    pub fn acquired_us(&self) -> Option<u64> {
        read(&self.acquired_us)
    }

    /// When COMMIT was about to be written, in microseconds from the start of the load.
    #[must_use]
    pub fn commit_sent_us(&self) -> Option<u64> {
        read(&self.commit_sent_us)
    }

    /// The process id of the backend that served the op, where the subject knows it.
    ///
    /// # Panics
    /// If another thread panicked in here before.
    #[must_use]
    pub fn backend_pid(&self) -> Option<i32> {
        let backend = self.lease().as_ref()?.backend;
        backend.map(|backend| backend.pid)
    }

    /// The op that had the connection before, where that is known.
    ///
    /// # Panics
    /// If another thread panicked in here before.
    #[must_use]
    pub fn previous_op(&self) -> Option<u64> {
        self.lease().as_ref()?.previous_op
    }

    /// Takes the answer to the clean probe, if it was asked.
    ///
    /// # Panics
    /// If another thread panicked in here before.
    #[must_use]
    pub fn take_clean_probe(&self) -> Option<String> {
        self.clean_probe
            .lock()
            .expect("bug: clean_probe lock poisoned")
            .take()
    }

    pub(crate) fn origin(&self) -> Instant {
        self.origin
    }

    fn lease(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().expect("bug: lease lock poisoned")
    }

    /// Marks a slot with the time, unless it was marked before; returns whether it was not.
    fn mark(&self, slot: &AtomicU64) -> bool {
        let now = micros_since(self.origin);
        slot.compare_exchange(NEVER, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// Returns the time since `origin` in microseconds.
pub(crate) fn micros_since(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_micros()).unwrap_or(NEVER - 1)
}

fn read(slot: &AtomicU64) -> Option<u64> {
    let value = slot.load(Ordering::Relaxed);
    (value != NEVER).then_some(value)
}
