//! A small connection pool and session core for Postgres over sqlx, with SQLAlchemy's words and rules.
//!
//! - [`Pool`] lends connections: strict arrival order, direct hand-over, one deadline for queue,
//!   connect and ping, connections opened in tasks that outlive the caller.
//! - [`Session`] and [`Transaction`] scope what is done on them: a commit is believed only when the
//!   server confirmed it, and whatever was interrupted is rolled back.
//! - [`DatabaseUrl`] reads the URLs that SQLAlchemy and libpq write.
//!
//! Not here: replica routing, migrations, LISTEN.
//!
//! # Examples
//! ```no_run
//! use poolproof_pool::{Config, DatabaseUrl, PgConnector, Pool, QueryError};
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

mod config;
mod connector;
mod error;
mod pg;
mod pool;
mod state;
mod url;

pub use config::{Config, ConfigError};
pub use connector::Connector;
pub use error::{AcquireError, Categorized, Category, CloseReport, ConnectError, Holder};
pub use pg::{
    Backend, InDoubt, PgConn, PgConnector, QueryError, SavepointError, Session, Transaction,
    TransactionError,
};
pub use pool::{Acquire, Lease, Pool, Snapshot};
pub use url::{DatabaseUrl, UrlError};
