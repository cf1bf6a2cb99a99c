//! What an operator does to a pool, and what waits for the pool as a whole.

use std::time::Duration;

use super::{Books, Inner, Phase, Pool, now};
use crate::config::{Config, ConfigError};
use crate::connector::Connector;
use crate::error::{CloseReport, ConnectError, Holder};
use crate::state::{Counts, Mode};

/// What came of warming a pool up.
#[derive(Debug, Clone)]
pub struct WarmUp<E: std::error::Error + 'static> {
    /// Connections that are there now: idle or in use.
    pub ready: usize,
    /// Why there are not more, where connecting failed.
    pub failure: Option<ConnectError<E>>,
}

/// An outage that lasts: the pool cannot open connections.
#[derive(Debug, Clone)]
pub struct Outage<E: std::error::Error + 'static> {
    /// How long ago the first failing attempt ended.
    pub since: Duration,
    /// The last attempt's error.
    pub cause: ConnectError<E>,
}

impl<C: Connector> Pool<C> {
    /// Opens connections until there are `wanted`, but no more than `pool_size`, and waits for them: no
    /// longer than until the first attempt that fails, nor than `pool_timeout`.
    ///
    /// The pool goes on trying what is missing after this has returned, so that it recovers by itself
    /// when the database was not there yet.
    ///
    /// # Cancel safety
    /// Safe. What was ordered is opened all the same.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(pool: poolproof_pool::Pool<poolproof_pool::PgConnector>) {
    /// let warm = pool.warm_up(5).await;
    /// if let Some(cause) = warm.failure {
    ///     eprintln!("starting with {} connections: {cause}", warm.ready);
    /// }
    /// # }
    /// ```
    pub async fn warm_up(&self, wanted: u32) -> WarmUp<C::Error> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let failed_before = self.inner.change_and_tell(|books| {
            let failed_before = books.counts().totals.open_failed;
            (failed_before, books.warm_up(wanted, now()))
        });
        let ended = |counts: &Counts| {
            let size = usize::try_from(counts.sizes.0).unwrap_or(usize::MAX);
            counts.mode != Mode::Open
                || counts.out + counts.idle >= wanted.min(size)
                || counts.down_since.is_some() && counts.totals.open_failed > failed_before
        };
        let deadline = self.inner.config.pool_timeout;
        self.inner
            .wait_until(deadline, |books| ended(&books.counts()))
            .await;
        self.inner.shell.read(|books| {
            let counts = books.counts();
            WarmUp {
                ready: counts.out + counts.idle,
                failure: books.outage().map(|(_, cause)| cause),
            }
        })
    }

    /// Makes all connections that there are now stale: idle ones are closed, lent ones may be used on
    /// and are closed when they come back (SQLAlchemy's soft invalidation). For new credentials, say, or
    /// after a failover.
    pub fn invalidate(&self) {
        self.inner.change(|books| books.invalidate_all(now()));
    }

    /// Changes `pool_size` and `max_overflow`. Idle connections that are too many now are closed at
    /// once, lent ones when they come back. [`Pool::config`] goes on showing what the pool was built
    /// with; [`Snapshot`](crate::Snapshot) shows what holds.
    ///
    /// # Errors
    /// [`ConfigError`] when the two are not valid, or below `min_idle`; then nothing changes.
    pub fn resize(&self, pool_size: u32, max_overflow: i32) -> Result<(), ConfigError> {
        let resized = Config {
            pool_size,
            max_overflow,
            ..self.inner.config.clone()
        };
        resized.validate_sizes()?;
        let limits = resized.limits();
        let (pool_size, max_open) = (limits.pool_size, limits.max_open);
        self.inner
            .change(|books| books.resize(pool_size, max_open, now()));
        Ok(())
    }

    /// Stops lending until [`Pool::resume`]: acquires wait, for `pool_timeout` as always. Waits until
    /// all leases have come back, but no longer than `deadline`, and returns who still holds one.
    /// Connections stay open; none is opened.
    ///
    /// Does nothing to a pool that is closed.
    ///
    /// # Cancel safety
    /// Safe. The pool is paused by the first poll, and stays so.
    pub async fn pause(&self, deadline: Duration) -> Vec<Holder> {
        self.inner.change(|books| books.pause(now()));
        self.without_leases(deadline, Mode::Paused).await
    }

    /// Stops lending until [`Pool::resume`]: acquires, and those that wait already, are refused with
    /// [`AcquireError::Draining`](crate::AcquireError::Draining). Waits until all leases have come
    /// back, but no longer than `deadline`, and returns who still holds one. Connections stay open;
    /// none is opened.
    ///
    /// Does nothing to a pool that is closed.
    ///
    /// # Cancel safety
    /// Safe. The pool is drained by the first poll, and stays so.
    pub async fn drain(&self, deadline: Duration) -> Vec<Holder> {
        self.inner.change(|books| books.drain(now()));
        self.without_leases(deadline, Mode::Draining).await
    }

    /// Lends again after [`Pool::pause`] or [`Pool::drain`], first to those that wait.
    pub fn resume(&self) {
        self.inner.change(|books| books.resume(now()));
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
        self.inner.advance(Phase::Closing);
        self.inner.change(|books| books.close(started));
        let in_time = self
            .inner
            .wait_until(deadline, Books::<C>::is_drained)
            .await;
        let (holders, counts) = (
            self.inner.holders(),
            self.inner.shell.read(Books::<C>::counts),
        );
        if !in_time {
            self.inner.advance(Phase::CutShort);
        }
        CloseReport {
            holders,
            cut_short: counts.opening + counts.closing,
            took: now().saturating_duration_since(started),
        }
    }

    /// Returns why and for how long the database cannot be reached; none when the last attempt to
    /// connect reached it, or there was none.
    #[must_use]
    pub fn outage(&self) -> Option<Outage<C::Error>> {
        let (since, cause) = self.inner.shell.read(Books::<C>::outage)?;
        Some(Outage {
            since: now().saturating_duration_since(since),
            cause,
        })
    }

    /// Waits until nothing is lent in this mode, or the mode is another.
    async fn without_leases(&self, deadline: Duration, mode: Mode) -> Vec<Holder> {
        let back = |books: &Books<C>| {
            let counts = books.counts();
            counts.mode != mode || counts.out == 0
        };
        if self.inner.wait_until(deadline, back).await {
            return Vec::new();
        }
        self.inner.holders()
    }
}

impl<C: Connector> Inner<C> {
    /// Waits until `holds`, no longer than `within`; returns whether it did. Only what the books
    /// announce is noticed.
    async fn wait_until(&self, within: Duration, holds: impl Fn(&Books<C>) -> bool) -> bool {
        let mut phase = self.phase.subscribe();
        let held = async {
            // The phase is re-announced whenever there may be something to see.
            let waited = phase.wait_for(|_| self.shell.read(&holds)).await;
            drop(waited);
        };
        tokio::time::timeout(within, held).await.is_ok()
    }
}
