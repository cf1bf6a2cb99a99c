//! The pool in numbers.

use std::time::Duration;

use super::{Pool, holder_at, now};
use crate::connector::Connector;
use crate::error::Holder;
use crate::state::{Counts, Mode, Reason};

/// The pool at one instant: all numbers are from the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether leases are given.
    pub mode: Mode,
    /// The setting `pool_size`, as it is now.
    pub pool_size: u32,
    /// The setting `max_overflow`, as it is now.
    pub max_overflow: i32,
    /// How often all connections were made stale.
    pub generation: u64,
    /// For how long the database could not be reached; none when the last attempt reached it.
    pub outage: Option<Duration>,
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
    /// Leases that have been out for longer than `leak_threshold` and were reported.
    pub suspected: usize,
    /// Connections opened since the pool was built.
    pub opened_total: u64,
    /// Connections closed or lost since the pool was built.
    pub closed_total: u64,
    /// Connections that were, or are being, closed since the pool was built, by the reason.
    pub closed_by: ClosedBy,
    /// Attempts to open a connection that failed since the pool was built.
    pub open_failures_total: u64,
    /// Leases issued since the pool was built, those included whose ping failed.
    pub leases_issued: u64,
    /// Leases that came back since the pool was built.
    pub leases_returned: u64,
    /// Acquires that waited until their deadline since the pool was built.
    pub timeouts_total: u64,
    /// Acquires that found the queue full since the pool was built.
    pub queue_full_total: u64,
    /// Acquires that failed at once because of an outage since the pool was built.
    pub turned_away_total: u64,
    /// Leases that were reported as suspected leaks since the pool was built.
    pub suspected_total: u64,
    /// The oldest lease.
    pub oldest: Option<Holder>,
}

/// Connections by why they were closed. Each has one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClosedBy {
    /// Too old: `pool_recycle`.
    pub recycled: u64,
    /// Idle for too long: `idle_timeout`.
    pub idle: u64,
    /// Beyond `pool_size`, for longer than `overflow_linger`.
    pub overflow: u64,
    /// Too many after [`Pool::resize`](crate::Pool::resize).
    pub resized: u64,
    /// Of a generation that was made stale: older than one that broke, or invalidated.
    pub stale: u64,
    /// Broken, in use or in a ping.
    pub broken: u64,
    /// Not reset in time, or rejected by a hook.
    pub unfit: u64,
    /// Discarded, or returned with a statement in flight.
    pub abandoned: u64,
    /// Closed with the pool.
    pub shutdown: u64,
}

impl Snapshot {
    /// Returns all connections that count against the limit.
    #[must_use]
    pub fn size(&self) -> usize {
        self.out + self.idle + self.opening + self.closing
    }

    /// Returns whether whoever asks now must wait for somebody else's connection. That others wait is no
    /// sign of it: they may wait for connections that are being opened.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.free() == Some(0)
    }

    /// Returns whether a connection can be taken without its being the last one of a pool in use.
    #[must_use]
    pub fn can_spare_one(&self) -> bool {
        let enough = if self.out == 0 { 1 } else { 2 };
        self.waiting == 0 && self.free().is_none_or(|free| free >= enough)
    }

    /// Returns how many connections are idle, being opened, or may be; none for no limit.
    fn free(&self) -> Option<usize> {
        let overflow = u64::try_from(self.max_overflow).ok()?;
        let limit = usize::try_from(u64::from(self.pool_size) + overflow).unwrap_or(usize::MAX);
        Some(limit.saturating_sub(self.out + self.closing))
    }
}

impl<C: Connector> Pool<C> {
    /// Waits until an attempt to open a connection has ended since these numbers, well or badly, or the
    /// mode is another. Returns the numbers then. For whoever judges a pool that is just opening
    /// connections.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn attempt_ended(&self, since: &Snapshot) -> Snapshot {
        let attempts = |at: &Snapshot| (at.opened_total, at.open_failures_total, at.mode);
        let mut phase = self.inner.phase.subscribe();
        loop {
            // The phase is announced again whenever an attempt has ended.
            let seen = self.snapshot();
            if attempts(&seen) != attempts(since) || phase.changed().await.is_err() {
                return seen;
            }
        }
    }
}

impl From<&Counts> for ClosedBy {
    fn from(counts: &Counts) -> Self {
        let by = |reason: Reason| counts.totals.closed_by[reason as usize];
        Self {
            recycled: by(Reason::Recycled),
            idle: by(Reason::Idle),
            overflow: by(Reason::Overflow),
            resized: by(Reason::Resized),
            stale: by(Reason::Stale),
            broken: by(Reason::Broken),
            unfit: by(Reason::Unfit),
            abandoned: by(Reason::Abandoned),
            shutdown: by(Reason::Shutdown),
        }
    }
}

impl Snapshot {
    /// Dresses the books' numbers for those outside.
    pub(super) fn of(counts: &Counts) -> Self {
        let now = now();
        let (pool_size, max_overflow) = counts.sizes;
        let totals = counts.totals;
        Self {
            mode: counts.mode,
            pool_size,
            max_overflow,
            generation: counts.generation,
            outage: counts
                .down_since
                .map(|since| now.saturating_duration_since(since)),
            out: counts.out,
            idle: counts.idle,
            opening: counts.opening,
            closing: counts.closing,
            waiting: counts.waiting,
            suspected: counts.suspected,
            opened_total: totals.opened,
            closed_total: totals.closed,
            closed_by: ClosedBy::from(counts),
            open_failures_total: totals.open_failed,
            leases_issued: counts.leases.0,
            leases_returned: counts.leases.1,
            timeouts_total: totals.timed_out,
            queue_full_total: totals.queue_full,
            turned_away_total: totals.turned_away,
            suspected_total: totals.suspected,
            oldest: counts.oldest.map(|holder| holder_at(holder, now)),
        }
    }
}
