//! Postgres behind the pool: how connections are opened, pinged, reset and closed.

mod control;
mod error;
mod session;
mod transaction;

use std::fmt;
use std::time::{Duration, SystemTime};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, Row};

pub use error::{QueryError, SavepointError, TransactionError};
pub use session::{InDoubt, Session};
pub use transaction::Transaction;

use crate::connector::Connector;
use crate::error::AcquireError;
use crate::pool::{Lease, Pool};

/// Asks for what the protocol told sqlx and sqlx does not tell, and for the backend's birth, because a
/// pid alone is reused.
const IDENTIFY: &str = "select pg_backend_pid(), \
    (extract(epoch from backend_start) * 1000000)::int8 \
    from pg_stat_get_activity(pg_backend_pid())";

/// Brings everything back that a session may have changed, and keeps prepared statements: sqlx's cache
/// believes in them.
const RESET: &str = "ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; \
    UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Opens Postgres connections through sqlx, never through sqlx's pool.
pub struct PgConnector {
    options: PgConnectOptions,
}

impl PgConnector {
    /// Uses these options for every connection; statement logging is turned off.
    #[must_use]
    pub fn new(options: PgConnectOptions) -> Self {
        Self {
            options: options.disable_statement_logging(),
        }
    }
}

impl fmt::Debug for PgConnector {
    /// Leaves the options' own `Debug` out, because it prints the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConnector")
            .field("host", &self.options.get_host())
            .field("port", &self.options.get_port())
            .field("database", &self.options.get_database())
            .field("user", &self.options.get_username())
            .finish_non_exhaustive()
    }
}

/// Which server process serves a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Its process id.
    pub pid: i32,
    /// When it was started, to the microsecond; tells it from a later process with the same id.
    pub started: SystemTime,
}

/// A Postgres connection that knows its backend.
#[derive(Debug)]
pub struct PgConn {
    connection: PgConnection,
    backend: Backend,
}

impl PgConn {
    /// Returns which server process serves it.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Returns sqlx's connection.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Connector for PgConnector {
    type Connection = PgConn;
    type Error = sqlx::Error;

    async fn connect(&self) -> Result<PgConn, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let row = (&mut connection).fetch_one(IDENTIFY).await?;
        let micros: i64 = row.try_get(1)?;
        let backend = Backend {
            pid: row.try_get(0)?,
            started: SystemTime::UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs()),
        };
        Ok(PgConn {
            connection,
            backend,
        })
    }

    async fn ping(&self, connection: &mut PgConn) -> Result<(), sqlx::Error> {
        connection.connection.ping().await
    }

    async fn reset(&self, connection: &mut PgConn) -> Result<(), sqlx::Error> {
        let connection = &mut connection.connection;
        // sqlx's own count of transactions can only be wrong now, and there is no way to correct it:
        // the next borrower's `begin` would become a SAVEPOINT.
        if connection.is_in_transaction() {
            return Err(sqlx::Error::BeginFailed);
        }
        connection.execute(sqlx::raw_sql(RESET)).await?;
        Ok(())
    }

    async fn close(&self, connection: PgConn) -> Result<(), sqlx::Error> {
        connection.connection.close().await
    }

    fn is_permanent(&self, error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Database(error) => matches!(
                error.code().as_deref(),
                // Wrong password, not authorised, no such database.
                Some("28P01" | "28000" | "3D000")
            ),
            sqlx::Error::Configuration(_) => true,
            _ => false,
        }
    }
}

impl Lease<PgConnector> {
    /// Returns sqlx's connection, for what the session does not offer, such as COPY. It will be reset
    /// before anyone else gets it.
    pub fn raw(&mut self) -> &mut PgConnection {
        self.get_mut().connection()
    }

    /// Returns which server process serves the connection.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.get().backend()
    }
}

impl Pool<PgConnector> {
    /// Acquires a connection and opens a session on it. See [`Pool::acquire`].
    ///
    /// # Errors
    /// Those of [`Pool::acquire`].
    ///
    /// # Cancel safety
    /// Safe, like [`Pool::acquire`].
    #[track_caller]
    pub fn session(&self) -> impl Future<Output = Result<Session, AcquireError>> + Send + use<> {
        let acquire = self.acquire();
        async move { Ok(Session::from(acquire.await?)) }
    }
}
