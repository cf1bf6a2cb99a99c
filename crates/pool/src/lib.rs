//! A small connection pool and session core for Postgres over sqlx, with SQLAlchemy's words and rules.
//!
//! - [`Pool`] lends connections: strict arrival order, direct hand-over, one deadline for queue,
//!   connect and ping, connections opened in tasks that outlive the caller.
//! - [`Session`] and [`Transaction`] scope what is done on them: a commit is believed only when the
//!   server confirmed it, and whatever was interrupted is rolled back.
//! - [`Pool::retry`] runs a transaction again where that is safe, and [`InDoubt::resolve`] finds out how
//!   a commit ended whose answer never came.
//! - [`Pool::snapshot`], [`Pool::durations`], [`Pool::sessions`] and [`Hooks`] tell those who operate it what
//!   happens; `poolproof-ops` makes health, metrics and a summary of that, and serves threads without a runtime.
//!   [`Categorized`] says what to do about an error.
//!
//! The README has the settings with their defaults, the guarantees, the metrics, and what differs from
//! SQLAlchemy and why. `examples/` has a program for each of these, which starts its own Postgres.
//!
//! Not here: replica routing, migrations, LISTEN; and reading the URLs that SQLAlchemy and libpq write,
//! which `poolproof-url` does.
//!
//! # Examples
//! ```no_run
//! use poolproof_pool::{Config, PgConnector, Pool, QueryError};
//! use poolproof_url::DatabaseUrl;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let url: DatabaseUrl = "postgresql+asyncpg://app:secret@localhost/shop".parse()?;
//! let pool = Pool::new(PgConnector::new(url.options()), Config::default())?;
//! let mut session = pool.session().await?;
//! let id = session
//!     .transaction(async |tx| {
//!         tx.execute("update stock set amount = amount - 1 where item = 7").await?;
//!         tx.fetch_one("insert into orders (item) values (7) returning id").await
//!     })
//!     .await?;
//! # drop(id);
//! # Ok(())
//! # }
//! ```

// Tests that other crates share name this one as those do.
#[cfg(test)]
extern crate self as poolproof_pool;

mod brief;
mod config;
mod connector;
mod critical;
mod error;
mod hooks;
mod meters;
mod pg;
mod pool;
mod span;
mod state;

pub use brief::brief;
pub use config::{Config, ConfigError, IdleOrder};
pub use connector::{Connector, Ending};
pub use critical::{Critical, UnknownCommit};
pub use error::{
    AcquireError, Categorized, Category, CloseReport, ConnectError, ErrorKind, Holder,
};
pub use hooks::{HookError, HookFuture, Hooks, LeakEvent, Rejection};
pub use meters::{Durations, HistogramSnapshot};
pub use pg::{
    Abandoned, Activity, Attempt, Attempted, Backend, InDoubt, Isolation, OpenSession,
    OpenTransaction, PgConn, PgConnector, Pooler, QueryError, Reaped, ResetMode, Resolution,
    ResolveError, RetryError, RetryPolicy, SavepointError, ServerIdentity, ServerTimeouts, Session,
    SessionConfig, SessionConfigError, Stale, Transaction, TransactionError, TransactionOptions,
};
pub use pool::{Acquire, ClosedBy, Lease, Outage, Pool, Snapshot, WarmUp};
pub use state::Mode as PoolMode;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
