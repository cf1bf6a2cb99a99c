//! Live counts of a running load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use poolproof_oracle::{OpRecord, Outcome};

/// Live counts of a running load: any task may read them at any time, at the cost of a load.
///
/// Each count is exact; two of them read one after the other belong to different moments.
#[derive(Debug, Default)]
pub struct Gauges {
    started: AtomicU64,
    ended: AtomicU64,
    /// When each was sent, in microseconds from the start of the load. A few tens at most.
    commits_in_flight: Mutex<Vec<u64>>,
    ok: AtomicU64,
    fail: AtomicU64,
    info: AtomicU64,
    shed: AtomicU64,
    broken_off: AtomicU64,
}

impl Gauges {
    /// Ops started.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Ops ended. An op that never ends, and is aborted in the end, is not among them.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Ops started and not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        // Read in this order the difference cannot be negative.
        let ended = self.ended.load(Ordering::Acquire);
        self.started().saturating_sub(ended)
    }

    /// Ops that were about to write COMMIT, or wrote it, and have not ended.
    #[must_use]
    pub fn commits_in_flight(&self) -> u64 {
        self.commits().len() as u64
    }

    /// Returns when each of them was about to be written, in microseconds from the start of the load,
    /// in no order.
    #[must_use]
    pub fn commits_sent_us(&self) -> Vec<u64> {
        self.commits().clone()
    }

    /// Ops that came to [`Outcome::Ok`].
    #[must_use]
    pub fn ok(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// Ops that came to [`Outcome::Fail`].
    #[must_use]
    pub fn fail(&self) -> u64 {
        self.fail.load(Ordering::Relaxed)
    }

    /// Ops that came to [`Outcome::Info`].
    #[must_use]
    pub fn info(&self) -> u64 {
        self.info.load(Ordering::Relaxed)
    }

    /// Ops that came to [`Outcome::Shed`].
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Ops that ended by a planned panic or cancellation; they are among [`Self::fail`] and
    /// [`Self::info`].
    #[must_use]
    pub fn broken_off(&self) -> u64 {
        self.broken_off.load(Ordering::Relaxed)
    }

    pub(crate) fn op_started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn commit_sent(&self, at_us: u64) {
        self.commits().push(at_us);
    }

    /// Of commits that were sent at the same moment it does not matter which one goes.
    pub(crate) fn commit_settled(&self, sent_us: u64) {
        let mut commits = self.commits();
        if let Some(index) = commits.iter().position(|at_us| *at_us == sent_us) {
            commits.swap_remove(index);
        }
    }

    fn commits(&self) -> MutexGuard<'_, Vec<u64>> {
        let commits = self.commits_in_flight.lock();
        commits.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn op_ended(&self, record: &OpRecord) {
        if record.outcome != Outcome::Ok && record.ended_as_planned() {
            self.broken_off.fetch_add(1, Ordering::Relaxed);
        }
        let count = match record.outcome {
            Outcome::Ok => &self.ok,
            Outcome::Fail => &self.fail,
            Outcome::Info => &self.info,
            Outcome::Shed => &self.shed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::Release);
    }
}
