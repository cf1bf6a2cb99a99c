//! One Postgres connection: which server process serves it, and how it is cleaned.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, RawSql, Row, raw_sql};

use super::ABORTED;
use super::error::{is_about_connections, is_notification, sqlstate};
use super::settings::SessionConfig;
use super::track::Track;

/// Asks for what the protocol told sqlx and sqlx does not tell, and for the backend's birth, because a
/// pid alone is reused; and which server it is. A crash discards the server's statistics, and nothing
/// else that everybody may see tells of it.
///
/// By the role that logged in: a role that the connection began with may not see when its own backend was
/// started. The first statement lasts for as long as the second.
const IDENTIFY: &str = "set local role none; select pg_backend_pid(), \
    (extract(epoch from backend_start) * 1000000)::int8, usesysid::int8, system_identifier, \
    case when not pg_is_in_recovery() then \
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 end, \
    (extract(epoch from pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::int8 \
    from pg_stat_get_activity(pg_backend_pid()), pg_control_system()";

/// The part of it that everybody may ask everywhere.
const IDENTIFY_BACKEND: &str = "set local role none; select pg_backend_pid(), \
    (extract(epoch from backend_start) * 1000000)::int8, usesysid::int8 \
    from pg_stat_get_activity(pg_backend_pid())";

/// Brings everything back that a session may have changed, and keeps prepared statements: sqlx's cache
/// believes in them. RESET ROLE comes after the authorization, which sets no role, where the connection
/// began with one.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; \
    UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Whether the server is within a transaction, other than the one of this very query.
const IS_INSIDE: &str = "SELECT now() <> statement_timestamp()";

/// Which server process serves a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Its process id.
    pub pid: i32,
    /// When it was started, to the microsecond; tells it from a later process with the same id.
    pub started: SystemTime,
    /// The role that logged in, by its oid.
    pub role: u32,
}

impl Backend {
    /// Reads the first three columns: process id, microseconds, role.
    pub(super) fn read(row: &PgRow) -> sqlx::Result<Self> {
        let role: i64 = row.try_get(2)?;
        Ok(Self {
            pid: row.try_get(0)?,
            started: time_at(row.try_get(1)?),
            role: u32::try_from(role).map_err(|error| sqlx::Error::Decode(error.into()))?,
        })
    }

    /// Returns when it was started, as the server counts.
    pub(super) fn micros(&self) -> i64 {
        let since = self.started.duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        })
    }
}

/// Which server a connection was made to, and on which of its histories it was at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerIdentity {
    /// The database system's identifier. Standbys have that of their primary.
    pub system: u64,
    /// The timeline, which changes when a standby is promoted; none on a standby.
    pub timeline: Option<u32>,
    /// When the server last recovered from a crash, or its statistics were reset.
    pub recovered_at: SystemTime,
}

impl ServerIdentity {
    fn read(row: &PgRow) -> sqlx::Result<Self> {
        let timeline: Option<i64> = row.try_get(4)?;
        let recovered: Option<i64> = row.try_get(5)?;
        Ok(Self {
            system: row.try_get::<i64, _>(3)?.cast_unsigned(),
            timeline: timeline.and_then(|timeline| u32::try_from(timeline).ok()),
            recovered_at: time_at(recovered.unwrap_or_default()),
        })
    }
}

/// Whether the server may be asked which one it is. A service can lock that away.
#[derive(Debug, Default)]
pub(super) struct Asking {
    is_refused: AtomicBool,
}

impl Asking {
    /// Asks who is at the other end. A server that refuses a part is not asked for it again: it would log
    /// an error each time.
    pub(super) async fn identify(
        &self,
        connection: &mut PgConnection,
    ) -> sqlx::Result<(Backend, Option<ServerIdentity>)> {
        if !self.is_refused.load(Ordering::Relaxed) {
            match connection.fetch_one(IDENTIFY).await {
                Ok(row) => return Ok((Backend::read(&row)?, Some(ServerIdentity::read(&row)?))),
                Err(cause) if matches!(sqlstate(&cause).as_deref(), Some("42501" | "42883")) => {
                    self.is_refused.store(true, Ordering::Relaxed);
                    tracing::debug!(
                        error = &cause as &dyn Error,
                        "the server does not tell which one it is: no commit in doubt can be resolved"
                    );
                }
                Err(cause) => return Err(cause),
            }
        }
        let row = connection.fetch_one(IDENTIFY_BACKEND).await?;
        Ok((Backend::read(&row)?, None))
    }
}

fn time_at(micros: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())
}

/// Where the server is, as far as was seen, when nothing is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Outside,
    /// In a transaction.
    Inside,
    /// At its COMMIT.
    Committing,
    /// Anything may have been done on the connection.
    Unknown,
}

/// A Postgres connection that knows its backend.
#[derive(Debug)]
pub struct PgConn {
    connection: PgConnection,
    backend: Backend,
    server: Option<ServerIdentity>,
    place: Place,
    config: SessionConfig,
    track: Arc<Track>,
}

impl PgConn {
    pub(super) async fn new(
        mut connection: PgConnection,
        config: SessionConfig,
        asking: &Asking,
    ) -> sqlx::Result<Self> {
        let (backend, server) = asking.identify(&mut connection).await?;
        Ok(Self {
            connection,
            backend,
            server,
            place: Place::Outside,
            config,
            track: Arc::new(Track::new(backend)),
        })
    }

    /// Returns which server process serves it.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Returns which server it was made to; none where the user may not ask.
    #[must_use]
    pub fn server(&self) -> Option<ServerIdentity> {
        self.server
    }

    /// Returns sqlx's connection, to do anything with.
    pub fn connection(&mut self) -> &mut PgConnection {
        self.place = Place::Unknown;
        &mut self.connection
    }

    /// Returns sqlx's connection to code that keeps track of where the server is.
    pub(super) fn tracked(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn set_place(&mut self, place: Place) {
        self.place = place;
    }

    pub(super) fn config(&self) -> SessionConfig {
        self.config
    }

    pub(super) fn track(&self) -> &Arc<Track> {
        &self.track
    }

    pub(super) async fn close(self) -> sqlx::Result<()> {
        self.connection.close().await
    }

    /// Returns whether a transaction is open, at the cost of a round trip.
    pub(super) async fn is_inside(&mut self) -> sqlx::Result<bool> {
        if self.connection.is_in_transaction() {
            return Ok(true);
        }
        loop {
            match self.control(raw_sql(IS_INSIDE)).await {
                Ok(Some(rows)) => return rows.first().map_or(Ok(true), |row| row.try_get(0)),
                // A notification came instead: only where nothing is open, but ask.
                Ok(None) => {}
                Err(cause) if sqlstate(&cause).as_deref() == Some(ABORTED) => return Ok(true),
                Err(cause) => return Err(cause),
            }
        }
    }

    /// Executes statements of which it counts whether they succeed. Returns none in place of the rows where
    /// a notification came, which sqlx reads as an answer: they did succeed.
    pub(super) async fn control(&mut self, sql: RawSql) -> sqlx::Result<Option<Vec<PgRow>>> {
        match self.connection.fetch_all(sql).await {
            // A ping reads on to the end of the answer, past all that comes unasked, and finds the errors.
            Err(cause) if is_notification(&cause) => self.connection.ping().await.map(|()| None),
            Err(cause) if is_about_connections(&cause) => {
                self.connection.ping().await.and(Err(cause))
            }
            answer => answer.map(Some),
        }
    }

    /// Brings it back to how it was opened. ROLLBACK is sent only where there is something to roll back:
    /// the server would log a warning each time.
    pub(super) async fn reset(&mut self) -> sqlx::Result<()> {
        // sqlx's own count of transactions can only be wrong now, and there is no way to correct it:
        // the next borrower's `begin` would become a SAVEPOINT.
        if self.connection.is_in_transaction() {
            return Err(sqlx::Error::BeginFailed);
        }
        let inside = match self.place {
            Place::Outside => false,
            Place::Inside | Place::Committing => true,
            Place::Unknown => self.is_inside().await?,
        };
        let reset = if inside {
            raw_sql(AssertSqlSafe(format!("ROLLBACK; {RESET}")))
        } else {
            raw_sql(RESET)
        };
        self.control(reset).await?;
        self.place = Place::Outside;
        Ok(())
    }
}
