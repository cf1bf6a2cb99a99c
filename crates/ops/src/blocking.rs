//! The same pool for threads without a runtime.
//!
//! A blocking call polls the async one on the calling thread and parks it in between; sockets and timers
//! belong to the pool's runtime. On a thread where a runtime is current, that would block a worker, and
//! on a runtime of one thread wait for ever; tokio does not tell a worker from a thread of
//! `spawn_blocking`. So such calls are refused, except where [`run_blocking`] has provided the
//! thread.

mod bridge;
mod session;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use thiserror::Error as ThisError;
use tokio::runtime::Builder;

pub use session::{BlockingSession, BlockingTransaction};

use poolproof_pool::{
    Acquire, AcquireError, Categorized, CloseReport, Config, ConfigError, Connector, ErrorKind,
    Hooks, Lease, PgConnector, Pool, Snapshot, brief,
};

/// How long the check of a connection may exceed an acquire's deadline before the pool's runtime counts as
/// stalled.
const GRACE: Duration = Duration::from_millis(250);

/// A pool for threads without a runtime. Cloning gives another handle to the same pool.
///
/// Made by [`BlockingPool::new`], with a runtime of its own that lives as long as the pool, or from an
/// async pool. The runtime of an async pool must be driven meanwhile: one of several threads drives
/// itself, one of a single thread is driven by whoever is in its `block_on`. All its calls block the thread, and are refused with
/// [`BlockingError::InRuntime`] where a tokio runtime is current.
///
/// # Examples
/// ```no_run
/// use poolproof_ops::BlockingPool;
/// use poolproof_pool::{Config, PgConnector};
/// use poolproof_url::DatabaseUrl;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let url: DatabaseUrl = "postgresql://app:secret@localhost/shop".parse()?;
/// let pool = BlockingPool::new(PgConnector::new(url.options()), Config::default())?;
/// let mut session = pool.session()?;
/// session.transaction(|tx| tx.execute("update stock set amount = amount - 1 where item = 7"))?;
/// # Ok(())
/// # }
/// ```
pub struct BlockingPool<C: Connector> {
    pool: Pool<C>,
}

/// Why a blocking call failed.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum BlockingError<E: Error + 'static = Infallible> {
    /// A tokio runtime is current on this thread: blocking here would stop its tasks. Use the async
    /// API, or [`run_blocking`].
    #[error(
        "a blocking call was made where a tokio runtime is current; use the async API or `run_blocking`"
    )]
    InRuntime,
    /// The deadline passed and the pool's runtime had not noticed: nobody drives it.
    #[error("nothing happened within {}, because nobody drives the pool's runtime", brief(*within))]
    Stalled {
        /// How long it was waited for.
        within: Duration,
    },
    /// A statement had not ended when the transaction's deadline passed. It was abandoned, and the
    /// transaction can only roll back.
    #[error("the statement had not ended when the transaction's {} were over", brief(*within))]
    DeadlinePassed {
        /// The transaction's deadline.
        within: Duration,
    },
    /// The pool's runtime shut down.
    #[error("the pool's runtime has shut down")]
    ShutDown,
    /// The operation itself failed.
    #[error(transparent)]
    Failed(E),
}

/// Why a blocking pool could not be built.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum BlockingBuildError {
    /// The settings cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The pool's runtime could not be started.
    #[error("the pool's runtime could not be started")]
    Runtime(#[source] std::io::Error),
}

impl<C: Connector> BlockingPool<C> {
    /// Builds a pool, with a runtime of one thread for its tasks. Opens nothing: connections are opened
    /// when they are needed.
    ///
    /// The runtime ends with the last handle, lease and task of the pool.
    ///
    /// # Errors
    /// [`BlockingError::InRuntime`], and [`BlockingBuildError`].
    pub fn new(connector: C, config: Config) -> Result<Self, BlockingError<BlockingBuildError>> {
        Self::with_hooks(connector, config, Hooks::new())
    }

    /// Builds a pool with hooks, which run on its runtime. See [`BlockingPool::new`].
    ///
    /// # Errors
    /// Those of [`BlockingPool::new`].
    pub fn with_hooks(
        connector: C,
        config: Config,
        hooks: Hooks<C::Connection>,
    ) -> Result<Self, BlockingError<BlockingBuildError>> {
        bridge::permit()?;
        config
            .validate()
            .map_err(|cause| BlockingError::Failed(cause.into()))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("poolproof")
            .enable_all()
            .build()
            .map_err(|cause| BlockingError::Failed(BlockingBuildError::Runtime(cause)))?;
        Pool::on_runtime(runtime, connector, config, hooks)
            .map(Self::from)
            .map_err(|cause| BlockingError::Failed(cause.into()))
    }

    /// Acquires a connection, waiting in arrival order until one is free, for `pool_timeout` at most.
    ///
    /// # Errors
    /// [`BlockingError`], with what [`Pool::acquire`] would say.
    #[track_caller]
    pub fn acquire(&self) -> Result<Lease<C>, BlockingError<AcquireError<C::Error>>> {
        self.acquire_within(self.pool.config().pool_timeout)
    }

    /// Acquires a connection within `budget` instead of `pool_timeout`.
    ///
    /// # Errors
    /// As for [`BlockingPool::acquire`].
    #[track_caller]
    pub fn acquire_within(
        &self,
        budget: Duration,
    ) -> Result<Lease<C>, BlockingError<AcquireError<C::Error>>> {
        take(&self.pool, self.pool.acquire().within(budget), budget)
    }

    /// Runs a future to its end on this thread, within the pool's runtime: for what only the async API
    /// offers, such as COPY on [`Lease::raw`]. There is no deadline but the future's
    /// own.
    ///
    /// # Errors
    /// [`BlockingError::InRuntime`].
    pub fn wait<F: Future>(&self, future: F) -> Result<F::Output, BlockingError> {
        bridge::permit()?;
        Ok(bridge::drive(self.pool.runtime(), future))
    }

    /// Returns the pool's numbers. Never blocks, and is allowed anywhere.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.pool.snapshot()
    }

    /// Closes the pool like [`Pool::close`], within `deadline`.
    ///
    /// # Errors
    /// [`BlockingError::InRuntime`].
    pub fn close(&self, deadline: Duration) -> Result<CloseReport, BlockingError> {
        self.wait(self.pool.close(deadline))
    }

    /// Returns the async pool behind this one. Its futures may be awaited on any runtime.
    #[must_use]
    pub fn as_async(&self) -> &Pool<C> {
        &self.pool
    }

    /// Turns into the async pool behind this one; a runtime that this pool brought goes on for it.
    #[must_use]
    pub fn into_async(self) -> Pool<C> {
        self.pool
    }
}

impl BlockingPool<PgConnector> {
    /// Acquires a connection and opens a session on it.
    ///
    /// # Errors
    /// As for [`BlockingPool::acquire`].
    #[track_caller]
    pub fn session(&self) -> Result<BlockingSession, BlockingError<AcquireError<sqlx::Error>>> {
        Ok(BlockingSession::from(self.acquire()?))
    }

    /// Acquires a connection within `budget` instead of `pool_timeout`, and opens a session on it.
    ///
    /// # Errors
    /// As for [`BlockingPool::acquire`].
    #[track_caller]
    pub fn session_within(
        &self,
        budget: Duration,
    ) -> Result<BlockingSession, BlockingError<AcquireError<sqlx::Error>>> {
        Ok(BlockingSession::from(self.acquire_within(budget)?))
    }
}

/// Waits for an acquire by the system's clock: on a runtime that nobody drives no timer fires, and on one
/// that has shut down none can be had.
fn take<C: Connector>(
    pool: &Pool<C>,
    acquire: Acquire<C>,
    within: Duration,
) -> Result<Lease<C>, BlockingError<AcquireError<C::Error>>> {
    bridge::permit()?;
    let home = pool.runtime();
    let mut acquire = acquire.untimed();
    let outcome = bridge::drive_within(home, within, &mut acquire).or_else(|| {
        // The books know best why. Only a check of the connection can still be under way.
        acquire.give_up();
        bridge::drive_within(home, GRACE, &mut acquire)
    });
    match outcome {
        Some(outcome) => outcome.map_err(BlockingError::Failed),
        None => Err(BlockingError::Stalled { within }),
    }
}

impl<C: Connector> From<Pool<C>> for BlockingPool<C> {
    fn from(pool: Pool<C>) -> Self {
        Self { pool }
    }
}

/// Runs `work` on a thread of the pool's runtime where it may block, and where the blocking API is
/// allowed. A panic in `work` goes on in the caller.
///
/// # Errors
/// [`BlockingError::ShutDown`] when the pool's runtime shut down before `work` had begun.
///
/// # Cancel safety
/// Dropping the future does not stop `work`; its result is lost.
///
/// # Examples
/// ```no_run
/// # use poolproof_ops::run_blocking;
/// # use poolproof_pool::{PgConnector, Pool};
/// # async fn example(pool: Pool<PgConnector>) -> Result<(), Box<dyn std::error::Error>> {
/// run_blocking(&pool, |pool| {
///     let mut session = pool.session()?;
///     session.execute("refresh materialized view totals")?;
///     Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// })
/// .await?
/// .map_err(|error| error.to_string())?;
/// # Ok(())
/// # }
/// ```
pub async fn run_blocking<C, T, F>(pool: &Pool<C>, work: F) -> Result<T, BlockingError>
where
    C: Connector,
    F: FnOnce(BlockingPool<C>) -> T + Send + 'static,
    T: Send + 'static,
{
    let (blocking, home) = (BlockingPool::from(pool.clone()), pool.runtime().clone());
    let worked = pool
        .runtime()
        .spawn_blocking(move || bridge::permitted(&home, || work(blocking)));
    match worked.await {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(BlockingError::ShutDown),
        },
    }
}

impl<E: Categorized + Error + 'static> Categorized for BlockingError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InRuntime => ErrorKind::Refused,
            Self::Stalled { .. } => ErrorKind::Other,
            Self::DeadlinePassed { .. } => ErrorKind::Canceled,
            Self::ShutDown => ErrorKind::Closed,
            Self::Failed(error) => error.kind(),
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Failed(error) => error.sqlstate(),
            _ => None,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_retryable())
    }

    fn pool_state(&self) -> Option<&Snapshot> {
        match self {
            Self::Failed(error) => error.pool_state(),
            _ => None,
        }
    }
}

impl<C: Connector> Clone for BlockingPool<C> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
        }
    }
}

impl<C: Connector> fmt::Debug for BlockingPool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockingPool").field(&self.pool).finish()
    }
}
