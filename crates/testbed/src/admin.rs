//! A direct connection to the server, never through a proxy: looks at it and breaks it.

mod inject;

use std::fmt;
use std::time::{Duration, SystemTime};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, Executor, Row};
use tokio::time::timeout;

pub use inject::InjectError;

use crate::{Backend, ServerInfo};

/// How long one statement of [`Admin`], and opening its connection, may take.
pub const ADMIN_DEADLINE: Duration = Duration::from_secs(10);

/// The `application_name` of [`Admin`]'s own backend, so that nobody takes it for the subject's.
pub const ADMIN_APPLICATION_NAME: &str = "poolproof-admin";

/// Without privileges the server hides `backend_type`; a backend with a database is then taken
/// for a client's.
const SERVER_INFO_SQL: &str = "select version(), \
    current_setting('server_version_num')::int, \
    current_setting('max_connections')::int, \
    current_setting('superuser_reserved_connections')::int \
        + coalesce(current_setting('reserved_connections', true)::int, 0), \
    (select count(*) from pg_stat_activity \
        where backend_type = 'client backend' or (backend_type is null and datid is not null)), \
    (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint, \
    current_setting('fsync')::bool and current_setting('synchronous_commit') <> 'off'";

/// A server, or a role, may be set to end sessions that are idle and statements that are slow. What
/// looks at a pool must outlive that: a look that was cut off would have seen nothing.
///
/// The first statement has to fit into a timeout that there is, so it is a quick one; not all versions
/// know all that the second one is about.
const OUTLIVE_SQL: [&str; 2] = [
    "set statement_timeout = 0",
    "select set_config(name, '0', false) from pg_settings where name in \
    ('idle_session_timeout', 'idle_in_transaction_session_timeout', \
    'lock_timeout', 'transaction_timeout')",
];

/// A start-up option that means nothing to the server, and by which a connection knows its own session:
/// a pooler in between keeps start-up options for itself, or lends a session that others use too.
const DIRECT: (&str, &str) = ("poolproof.direct", "yes");

/// Asked before anything else, and without a prepared statement: it leaves nothing in a session that is
/// not ours.
const DIRECT_SQL: &str = "select coalesce(current_setting('poolproof.direct', true), '')";

const BACKENDS_SQL: &str = "select pid, coalesce(state, ''), xact_start is not null, \
    (select count(*) from pg_locks l where l.pid = a.pid \
        and not (l.locktype = 'virtualxid' and l.virtualxid = l.virtualtransaction)) \
    from pg_stat_activity a \
    where application_name = $1 and pid <> pg_backend_pid() order by pid";

/// Why the server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No connection could be opened.
    #[error("connect to {host}:{port}")]
    Connect {
        /// Name or address of the server.
        host: String,
        /// Its port.
        port: u16,
        /// What the server or the network said.
        #[source]
        source: sqlx::Error,
    },
    /// Something in between keeps the start-up options for itself, so the session may be shared. Nothing
    /// was changed in it.
    #[error("{host}:{port} is a connection pooler, and not the server")]
    Pooler {
        /// Name or address of what answered.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The connection was there and the question failed.
    #[error("ask the server for {what}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// What the server said.
        #[source]
        source: sqlx::Error,
    },
    /// No answer came within [`ADMIN_DEADLINE`].
    #[error("get an answer about {what} within {:?}", ADMIN_DEADLINE)]
    Deadline {
        /// What was asked for.
        what: &'static str,
    },
}

impl AdminError {
    /// Whether the server gave no answer, as when it is down or out of reach; not when it refused.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect { source, .. } | Self::Ask { source, .. } => broken(source),
            Self::Deadline { .. } => true,
            Self::Pooler { .. } => false,
        }
    }
}

/// A direct connection to the server that is opened again when it was lost.
///
/// A question that fails because the connection broke is asked once more on a new one. Timeouts that
/// the server or the role has for idle sessions and slow statements are switched off on it.
pub struct Admin {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    opened: u32,
}

impl Admin {
    /// Connects; `options` keep all they have but the application name.
    ///
    /// # Errors
    /// [`AdminError::Connect`] or [`AdminError::Deadline`] when the server cannot be reached.
    /// # Cancel safety
    /// Safe. A connection half opened is closed.
    pub async fn connect(options: PgConnectOptions) -> Result<Self, AdminError> {
        Self::connect_as(options, ADMIN_APPLICATION_NAME).await
    }

    /// Connects under an `application_name` of the caller's.
    ///
    /// # Errors
    /// As [`Admin::connect`].
    /// # Cancel safety
    /// Safe. A connection half opened is closed.
    pub async fn connect_as(
        options: PgConnectOptions,
        application_name: &str,
    ) -> Result<Self, AdminError> {
        let mut admin = Self {
            options: options.application_name(application_name),
            connection: None,
            opened: 0,
        };
        admin.connection().await?;
        Ok(admin)
    }

    /// Returns the connection for statements of the caller, opening it again when it was lost.
    ///
    /// Statements on it have no deadline but the caller's.
    ///
    /// # Errors
    /// As [`Admin::connect`].
    /// # Cancel safety
    /// Safe. A connection half opened is closed.
    pub async fn connection(&mut self) -> Result<&mut PgConnection, AdminError> {
        let lost = match self.connection.as_mut() {
            // A ping also finds out that the other end went away while nobody looked.
            Some(connection) => {
                !matches!(timeout(ADMIN_DEADLINE, connection.ping()).await, Ok(Ok(())))
            }
            None => true,
        };
        if lost {
            self.connection = None;
        }
        match self.connection {
            Some(ref mut connection) => Ok(connection),
            None => {
                let opened = self.open().await?;
                Ok(self.connection.insert(opened))
            }
        }
    }

    /// Returns how often the connection was lost and opened again.
    #[must_use]
    pub fn reconnects(&self) -> u32 {
        self.opened.saturating_sub(1)
    }

    /// Closes the connection. The next question opens another one.
    ///
    /// # Cancel safety
    /// Safe. The connection is closed without a goodbye.
    pub async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            // One that is broken already cannot be closed better than by dropping it.
            drop(timeout(ADMIN_DEADLINE, connection.close()).await);
        }
    }

    /// Asks the server what it is and how much room it has.
    ///
    /// # Errors
    /// [`AdminError`] when there is no answer in time.
    /// # Cancel safety
    /// Safe. The connection is opened again for the next question.
    pub async fn server_info(&mut self) -> Result<ServerInfo, AdminError> {
        let rows = self.ask("its limits", SERVER_INFO_SQL, &[]).await?;
        let read = |row: &PgRow| -> Result<ServerInfo, sqlx::Error> {
            let started_us: i64 = row.try_get(5)?;
            Ok(ServerInfo {
                version_text: row.try_get(0)?,
                version_num: count(row.try_get::<i32, _>(1)?),
                max_connections: count(row.try_get::<i32, _>(2)?),
                reserved: count(row.try_get::<i32, _>(3)?),
                in_use: count(row.try_get::<i64, _>(4)?),
                started_at: SystemTime::UNIX_EPOCH
                    + Duration::from_micros(u64::try_from(started_us).unwrap_or(0)),
                durable: row.try_get(6)?,
            })
        };
        one(&rows).and_then(read).map_err(|source| AdminError::Ask {
            what: "its limits",
            source,
        })
    }

    /// Lists the backends that carry `application_name`, by process id.
    ///
    /// # Errors
    /// [`AdminError`] when there is no answer in time.
    /// # Cancel safety
    /// Safe. The connection is opened again for the next question.
    pub async fn backends(&mut self, application_name: &str) -> Result<Vec<Backend>, AdminError> {
        let what = "its backends";
        let rows = self.ask(what, BACKENDS_SQL, &[application_name]).await?;
        rows.iter()
            .map(backend)
            .collect::<Result<_, _>>()
            .map_err(|source| AdminError::Ask { what, source })
    }

    /// Counts the prepared transactions of this role in the connection's database that are not older
    /// than `since`, in microseconds of the server's clock from 1970.
    ///
    /// # Errors
    /// [`AdminError`] when there is no answer in time.
    /// # Cancel safety
    /// Safe. The connection is opened again for the next question.
    pub async fn prepared_transactions(&mut self, since_us: i64) -> Result<u64, AdminError> {
        let what = "its prepared transactions";
        let sql = "select count(*) from pg_prepared_xacts where database = current_database() \
            and owner = current_user and prepared >= to_timestamp($1::text::float8 / 1000000)";
        let rows = self.ask(what, sql, &[&since_us.to_string()]).await?;
        one(&rows)
            .and_then(|row| row.try_get::<i64, _>(0))
            .map(count)
            .map_err(|source| AdminError::Ask { what, source })
    }

    /// Returns the server's clock, in microseconds from 1970.
    ///
    /// # Errors
    /// [`AdminError`] when there is no answer in time.
    /// # Cancel safety
    /// Safe. The connection is opened again for the next question.
    pub async fn clock_us(&mut self) -> Result<i64, AdminError> {
        let what = "its clock";
        let sql = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let rows = self.ask(what, sql, &[]).await?;
        one(&rows)
            .and_then(|row| row.try_get(0))
            .map_err(|source| AdminError::Ask { what, source })
    }

    /// Asks one question, once more if the connection turns out to be broken; `what` says in errors
    /// what was asked for.
    ///
    /// # Errors
    /// [`AdminError`] when there is no answer within [`ADMIN_DEADLINE`].
    /// # Cancel safety
    /// Safe. The connection is opened again for the next question.
    pub async fn ask(
        &mut self,
        what: &'static str,
        sql: &'static str,
        parameters: &[&str],
    ) -> Result<Vec<PgRow>, AdminError> {
        match self.ask_once(what, sql, parameters).await {
            Err(AdminError::Ask { source, .. }) if broken(&source) => {
                self.connection = None;
                self.ask_once(what, sql, parameters).await
            }
            answer => answer,
        }
    }

    async fn ask_once(
        &mut self,
        what: &'static str,
        sql: &'static str,
        parameters: &[&str],
    ) -> Result<Vec<PgRow>, AdminError> {
        // Taken out for the time of the question: a future dropped in the middle of it must not
        // leave a connection whose next answer belongs to this question.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let bind = |query: Query<'static, _, PgArguments>, parameter: &&str| {
            query.bind((*parameter).to_owned())
        };
        // Without a name: behind a pooler the process may have a statement of that name already.
        let query = parameters
            .iter()
            .fold(sqlx::query(sql).persistent(false), bind);
        let answer = timeout(ADMIN_DEADLINE, query.fetch_all(&mut connection))
            .await
            .map_err(|_elapsed| AdminError::Deadline { what })?;
        self.connection = Some(connection);
        answer.map_err(|source| AdminError::Ask { what, source })
    }

    async fn open(&mut self) -> Result<PgConnection, AdminError> {
        let opened = timeout(ADMIN_DEADLINE, connect(&self.options))
            .await
            .map_err(|_elapsed| AdminError::Deadline {
                what: "a new connection",
            })?
            .map_err(|source| AdminError::Connect {
                host: self.options.get_host().to_owned(),
                port: self.options.get_port(),
                source,
            })?;
        self.opened += 1;
        opened.ok_or_else(|| AdminError::Pooler {
            host: self.options.get_host().to_owned(),
            port: self.options.get_port(),
        })
    }
}

/// Connects; none where a pooler stands in between.
async fn connect(options: &PgConnectOptions) -> Result<Option<PgConnection>, sqlx::Error> {
    let options = options.clone().options([DIRECT]);
    let mut connection = PgConnection::connect_with(&options).await?;
    let row = connection.fetch_one(sqlx::raw_sql(DIRECT_SQL)).await?;
    if row.try_get::<String, _>(0)? != DIRECT.1 {
        connection.close().await?;
        return Ok(None);
    }
    for sql in OUTLIVE_SQL {
        connection.execute(sql).await?;
    }
    Ok(Some(connection))
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("host", &self.options.get_host())
            .field("port", &self.options.get_port())
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

/// Whether the connection is of no use any more after this error.
///
/// Class 57 are the server's farewells: terminated by an administrator, shutting down, crashed, idle
/// for too long. 25P03 and 25P04 are those of a transaction that took too long.
fn broken(error: &sqlx::Error) -> bool {
    let farewell = |code: &str| code.starts_with("57P") || matches!(code, "25P03" | "25P04");
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| farewell(&code)),
        _ => false,
    }
}

fn one(rows: &[PgRow]) -> Result<&PgRow, sqlx::Error> {
    rows.first().ok_or(sqlx::Error::RowNotFound)
}

fn backend(row: &PgRow) -> Result<Backend, sqlx::Error> {
    Ok(Backend {
        pid: row.try_get(0)?,
        state: row.try_get(1)?,
        in_transaction: row.try_get(2)?,
        locks: count(row.try_get::<i64, _>(3)?),
    })
}

/// Counts of the server are signed in SQL and never negative.
fn count<Signed, Count>(number: Signed) -> Count
where
    Count: TryFrom<Signed> + Default,
{
    Count::try_from(number).unwrap_or_default()
}
