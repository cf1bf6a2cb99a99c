//! Postgres behind the pool: how connections are opened, pinged, reset and closed.

mod commit;
mod conn;
mod connect;
mod control;
mod deadline;
mod error;
mod fence;
mod listing;
mod options;
mod reaper;
mod resolve;
mod retry;
mod session;
mod settings;
mod statement;
mod tag;
mod track;
mod transaction;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use conn::{Backend, PgConn, ServerIdentity};
pub use error::{QueryError, SavepointError, TransactionError};
pub use listing::{Activity, OpenSession, OpenTransaction, Reaped, Stale};
pub use options::{Isolation, TransactionOptions};
pub use resolve::{InDoubt, Resolution, ResolveError};
pub use retry::{Attempt, Attempted, RetryError, RetryPolicy};
pub use session::Session;
pub use settings::{
    Abandoned, Pooler, ResetMode, ServerTimeouts, SessionConfig, SessionConfigError,
};
pub use transaction::Transaction;

use crate::connector::{Connector, Ending};
use crate::error::AcquireError;
use crate::pool::{Lease, Pool};
use conn::{Asking, Pinned, Place};
use fence::Fence;
use tag::Tag;
use track::{Patience, Registry};

/// SQLSTATE of any statement in a transaction of which one has failed.
const ABORTED: &str = "25P02";

/// Why start-up options are refused behind a pooler.
const OPTIONS_LOST: &str = "a pooler stands before the server and does not pass on the start-up parameter \
    `options`: set what is in there with ALTER ROLE ... SET, timeouts with SessionConfig::timeouts";

/// Opens Postgres connections through sqlx, never through sqlx's pool.
pub struct PgConnector {
    options: PgConnectOptions,
    /// Whether there are start-up options beside our own timeouts.
    has_options: bool,
    config: SessionConfig,
    tag: Option<Tag>,
    shared: Arc<Shared>,
}

/// What the connections of a pool share.
struct Shared {
    fence: Arc<Fence>,
    registry: Registry,
    asking: Asking,
    /// Whether it was told that a pooler was noticed.
    told_pooled: AtomicBool,
    /// The task that ends stale sessions, if there are limits.
    reaper: Mutex<Option<AbortHandle>>,
}

impl PgConnector {
    /// Uses these options for every connection; statement logging is turned off.
    #[must_use]
    pub fn new(options: PgConnectOptions) -> Self {
        Self::unchecked(options, SessionConfig::default())
    }

    /// Uses these options for every connection, and sets up its sessions as configured.
    ///
    /// # Errors
    /// [`SessionConfigError`] when `config` is not valid.
    pub fn configured(
        options: PgConnectOptions,
        config: SessionConfig,
    ) -> Result<Self, SessionConfigError> {
        config.validate()?;
        Ok(Self::unchecked(options, config))
    }

    fn unchecked(options: PgConnectOptions, config: SessionConfig) -> Self {
        let options = options.disable_statement_logging();
        let fence = Arc::new(Fence::new(&options));
        let timeouts: Vec<_> = config.timeouts.in_millis().collect();
        Self {
            has_options: options.get_options().is_some(),
            // Without any, the start-up parameter is left out, which not all poolers accept.
            options: if timeouts.is_empty() {
                options
            } else {
                options.options(timeouts)
            },
            config,
            tag: None,
            shared: Arc::new(Shared {
                fence,
                registry: Registry::default(),
                asking: Asking::default(),
                told_pooled: AtomicBool::new(false),
                reaper: Mutex::new(None),
            }),
        }
    }

    /// Gives each connection an `application_name` of its own: `name/process-pool/connection`, such as
    /// `shop/4711-1/23`, where `name` is the one that the options have (or `poolproof`). It is cut, at
    /// the end of `name`, to the 63 bytes that Postgres keeps.
    ///
    /// So `pg_stat_activity` and the server's log show which pool opened a backend, and which of its
    /// connections it is; see [`Pool::tag`]. Off by default: others may look for the plain name.
    #[must_use]
    pub fn tagged(mut self) -> Self {
        let name = self.options.get_application_name();
        self.tag = Some(Tag::new(name.unwrap_or("poolproof")));
        self
    }

    /// Returns how sessions are set up.
    #[must_use]
    pub fn config(&self) -> SessionConfig {
        self.config
    }

    fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Says where nobody could be reached. An error that the server sent speaks for itself.
    fn unreachable(&self, cause: sqlx::Error) -> sqlx::Error {
        let sqlx::Error::Io(cause) = cause else {
            return cause;
        };
        let options = &self.options;
        let database = options.get_database().unwrap_or(options.get_username());
        let text = match options.get_socket() {
            Some(socket) => format!("{} for {database}", socket.display()),
            None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
        };
        let file = match connect::is_unreadable_file(&cause, options) {
            true => "the file of sslrootcert, sslcert or sslkey cannot be read: ",
            false => "",
        };
        let text = format!("could not connect to {text}: {file}{cause}");
        sqlx::Error::Io(io::Error::new(cause.kind(), text))
    }

    /// Takes a connection among those that are listed, and sees to it that somebody watches them.
    fn enlist(&self, conn: &PgConn) {
        let SessionConfig {
            session_age_max: session,
            idle_in_transaction_max: idle_in_transaction,
            ..
        } = self.config;
        if self.shared.registry.add(conn.track()) && session.or(idle_in_transaction).is_some() {
            let patience = Patience {
                session,
                idle_in_transaction,
            };
            let watch = reaper::watch(Arc::downgrade(&self.shared), patience);
            let task = Handle::current().spawn(watch).abort_handle();
            let reaper = self.shared.reaper.lock();
            *reaper.unwrap_or_else(PoisonError::into_inner) = Some(task);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let reaper = self.reaper.get_mut();
        if let Some(task) = reaper.unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
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
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Connector for PgConnector {
    type Connection = PgConn;
    type Error = sqlx::Error;

    async fn connect(&self) -> Result<PgConn, sqlx::Error> {
        let connection = match &self.tag {
            None => connect::open(&self.options).await,
            Some(tag) => {
                let options = self.options.clone().application_name(&tag.next());
                connect::open(&options).await
            }
        };
        let connection = connection.map_err(|cause| self.unreachable(cause))?;
        let conn = PgConn::new(connection, self.config, &self.shared.asking).await?;
        if self.has_options && conn.pinned() != Pinned::Connection {
            return Err(sqlx::Error::Configuration(OPTIONS_LOST.into()));
        }
        if self.config.pooler == Pooler::Notice
            && conn.is_pooled()
            && !self.shared.told_pooled.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "a pooler stands before the server and is taken for one that pools transactions, so that \
                 sessions refuse what cannot work there; where that is known, say so with \
                 SessionConfig::pooler"
            );
        }
        self.enlist(&conn);
        Ok(conn)
    }

    async fn ping(&self, connection: &mut PgConn) -> Result<(), sqlx::Error> {
        connection.tracked().ping().await
    }

    async fn reset(&self, connection: &mut PgConn) -> Result<(), sqlx::Error> {
        connection.reset().await
    }

    async fn close(&self, connection: PgConn) -> Result<(), sqlx::Error> {
        connection.close().await
    }

    /// Keeps the connection open until its backend is gone or has answered: from then on, a pooler in
    /// between may give the backend to somebody else.
    fn abandon(&self, connection: PgConn) -> Option<Ending> {
        let ends = match (self.config.abandoned, connection.place()) {
            _ if connection.is_reaped() => true,
            (Abandoned::Drop, _) => return None,
            // Whoever wants to know how it ended shall find it as the server would have ended it.
            (Abandoned::Await, _) | (Abandoned::Terminate, Place::Committing) => false,
            (Abandoned::Terminate, _) => true,
        };
        let Some(target) = connection.target().filter(|_| ends) else {
            return Some(Box::pin(connection.outlast()));
        };
        let fence = Arc::clone(&self.shared.fence);
        Some(Box::pin(async move {
            fence.end(target).await;
            drop(connection);
        }))
    }

    fn pid(&self, connection: &PgConn) -> Option<i32> {
        Some(connection.backend().pid)
    }

    fn is_permanent(&self, error: &sqlx::Error) -> bool {
        connect::is_permanent(error, &self.options)
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
    pub fn session(
        &self,
    ) -> impl Future<Output = Result<Session, AcquireError<sqlx::Error>>> + Send + use<> {
        let acquire = self.acquire();
        async move { Ok(Session::from(acquire.await?)) }
    }

    /// Returns the open sessions, the oldest first. Costs O(n log n) for n connections. Leases that
    /// are not sessions are not among them; [`Pool::holders`] has those, too.
    #[must_use]
    pub fn sessions(&self) -> Vec<OpenSession> {
        self.connector().shared().registry.sessions()
    }

    /// Returns what the `application_name` of all connections of this pool, and of no others, has
    /// between its slashes, such as `4711-1`; none without [`PgConnector::tagged`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example(
    /// #     pool: poolproof_pool::Pool<poolproof_pool::PgConnector>,
    /// # ) -> Result<(), Box<dyn std::error::Error>> {
    /// let mine = format!("%/{}/%", pool.tag().unwrap_or_default());
    /// let backends = sqlx::query("select pid from pg_stat_activity where application_name like $1");
    /// let rows = pool.session().await?.fetch_all(backends.bind(mine)).await?;
    /// # drop(rows);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tag(&self) -> Option<String> {
        let tag = self.connector().tag.as_ref()?;
        Some(tag.pool().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_told_from_a_server_that_cannot_be_reached() {
        let options = PgConnectOptions::new_without_pgpass();
        let connector = PgConnector::new(options.host("db.shop").database("shop"));
        let told = |kind: io::ErrorKind| {
            let cause = connector.unreachable(sqlx::Error::Io(kind.into()));
            cause.to_string()
        };
        let missing = told(io::ErrorKind::NotFound);
        assert!(missing.contains("sslrootcert"), "{missing}");
        let refused = told(io::ErrorKind::ConnectionRefused);
        assert!(refused.contains("to db.shop:5432/shop: "), "{refused}");
        assert!(!refused.contains("sslrootcert"), "{refused}");
    }

    #[test]
    fn a_connector_tells_how_it_is_set_up_and_shows_no_password() {
        let options = PgConnectOptions::new_without_pgpass();
        let options = options.host("db.shop").username("app").password("s3cret");
        let config = SessionConfig {
            reset: ResetMode::Clean,
            ..SessionConfig::default()
        };
        let connector = PgConnector::configured(options, config).unwrap();
        assert_eq!(connector.config(), config);
        let shown = format!("{connector:?}");
        assert!(
            shown.contains("db.shop") && shown.contains("app"),
            "{shown}"
        );
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
