//! The pool: a lock and wakers around [`State`], and the tasks that open, reset and close.
//!
//! Contract of the lock: it is held for one transition and never across an await, a wake, or the drop
//! of a connection or waker, any of which may come back here.

mod acquire;
mod lease;
mod tasks;

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

pub use acquire::Acquire;
pub(crate) use lease::Fate;
pub use lease::Lease;

use crate::config::{Config, ConfigError};
use crate::connector::Connector;
use crate::error::{CloseReport, ConnectError, Holder};
use crate::state::{HeldSince, State};

/// A pool of connections. Cloning gives another handle to the same pool.
///
/// When the last handle and the last lease are gone, idle connections are dropped without a goodbye;
/// [`Pool::close`] is the polite way.
pub struct Pool<C: Connector> {
    inner: Arc<Inner<C>>,
}

pub(crate) type Books<C> =
    State<<C as Connector>::Connection, Waker, ConnectError<<C as Connector>::Error>>;

pub(crate) struct Inner<C: Connector> {
    connector: C,
    config: Config,
    state: Mutex<Books<C>>,
    /// Where the pool's tasks run, whoever causes them.
    handle: Handle,
    phase: watch::Sender<Phase>,
}

/// How far closing has got. Every task of the pool watches it, so that none outlives `close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// Connects end now; resets and goodbyes may finish.
    Closing,
    /// Everything ends now.
    CutShort,
}

/// The pool at one instant: all numbers are from the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The setting `pool_size`.
    pub pool_size: u32,
    /// The setting `max_overflow`.
    pub max_overflow: i32,
    /// Connections that are lent out, or handed to a waiter that has not picked its one up yet.
    pub out: usize,
    /// Connections ready to be lent.
    pub idle: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Connections being reset or closed. Their slots are not free yet.
    pub closing: usize,
    /// Acquires that wait.
    pub waiting: usize,
    /// Connections opened since the pool was built.
    pub opened_total: u64,
    /// Connections closed or lost since the pool was built.
    pub closed_total: u64,
    /// Leases issued since the pool was built, those included whose ping failed.
    pub leases_issued: u64,
    /// Leases that came back since the pool was built.
    pub leases_returned: u64,
    /// The oldest lease.
    pub oldest: Option<Holder>,
}

impl Snapshot {
    /// Returns all connections that count against the limit.
    #[must_use]
    pub fn size(&self) -> usize {
        self.out + self.idle + self.opening + self.closing
    }
}

impl<C: Connector> Pool<C> {
    /// Builds a pool. Opens nothing: connections are opened when they are needed.
    ///
    /// The pool's tasks run on the current runtime, which needs tokio's time and whatever `connector`
    /// needs. Leases may be used, dropped and waited for on any other.
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid or there is no current tokio runtime.
    pub fn new(connector: C, config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let handle = Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
        let (phase, _) = watch::channel(Phase::Running);
        Ok(Self {
            inner: Arc::new(Inner {
                connector,
                state: Mutex::new(State::new(config.limits())),
                config,
                handle,
                phase,
            }),
        })
    }

    /// Acquires a connection, waiting in arrival order until one is free.
    ///
    /// Takes an idle connection when there is one; else opens one when there are fewer than
    /// `pool_size + max_overflow`; else waits for one to come back. The place in the queue and the
    /// `pool_timeout` count from the first poll. An opening in progress does not end with the future
    /// that caused it: its connection goes to the next waiter or becomes idle.
    ///
    /// # Errors
    /// The future resolves to [`AcquireError`](crate::AcquireError).
    ///
    /// # Cancel safety
    /// Safe. A dropped waiter leaves the queue; a connection that it was granted passes to the next.
    /// A connection that was just being pinged is reset before it is lent again.
    #[track_caller]
    pub fn acquire(&self) -> Acquire<C> {
        Acquire::new(Arc::clone(&self.inner), Location::caller())
    }

    /// Returns the pool's numbers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let counts = self.inner.lock().counts();
        let now = now();
        Snapshot {
            pool_size: self.inner.config.pool_size,
            max_overflow: self.inner.config.max_overflow,
            out: counts.out,
            idle: counts.idle,
            opening: counts.opening,
            closing: counts.closing,
            waiting: counts.waiting,
            opened_total: counts.totals.opened,
            closed_total: counts.totals.closed,
            leases_issued: counts.totals.leases_issued,
            leases_returned: counts.totals.leases_returned,
            oldest: counts.oldest.map(|holder| holder_at(holder, now)),
        }
    }

    /// Returns who holds leases, the oldest first. Costs O(n log n) for n leases.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        self.inner.holders()
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Returns how long each connection took to open, of those opened since the last call; the newest
    /// 1024 at most.
    #[must_use]
    pub fn take_connect_times(&self) -> Vec<Duration> {
        self.inner.lock().take_connect_times()
    }

    /// Closes the pool: from now on acquires and waiters fail, idle connections are closed, and so is
    /// every lease when it comes back. Waits for all that, but no longer than `deadline`.
    ///
    /// Closing a closed pool waits again and reports again. Must be awaited within a tokio runtime.
    ///
    /// # Cancel safety
    /// Safe. The pool is closed by the first poll; a later call waits for the rest.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        let started = now();
        let mut phase = self.inner.phase.subscribe();
        self.inner.advance(Phase::Closing);
        let actions = self.inner.lock().close(started);
        self.inner.perform(actions);
        let drained = async {
            // The phase is re-announced whenever the last connection may have gone.
            let waited = phase.wait_for(|_| self.inner.is_drained()).await;
            drop(waited);
        };
        let in_time = tokio::time::timeout(deadline, drained).await;
        let (holders, counts) = (self.inner.holders(), self.inner.lock().counts());
        if in_time.is_err() {
            self.inner.advance(Phase::CutShort);
        }
        CloseReport {
            holders,
            cut_short: counts.opening + counts.closing,
            took: now().saturating_duration_since(started),
        }
    }
}

impl<C: Connector> Inner<C> {
    /// Locks the books. A poisoned lock is taken all the same: the broken invariant was reported by the
    /// panic that poisoned it, and a lease that is dropped while unwinding must not panic again.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Books<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let further = *phase < to;
            *phase = to.max(*phase);
            further
        });
    }

    fn is_drained(&self) -> bool {
        let state = self.lock();
        let counts = state.counts();
        state.is_closed() && counts.out + counts.idle + counts.opening + counts.closing == 0
    }

    fn holders(&self) -> Vec<Holder> {
        let holders = self.lock().holders();
        let now = now();
        let mut holders: Vec<Holder> = holders
            .into_iter()
            .map(|holder| holder_at(holder, now))
            .collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.held_for));
        holders
    }
}

impl<C: Connector> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<C: Connector> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.inner.config)
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

/// Returns the time by tokio's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn holder_at(holder: HeldSince, now: Instant) -> Holder {
    Holder {
        location: holder.location,
        held_for: now.saturating_duration_since(holder.since),
    }
}

#[cfg(test)]
mod tests;
