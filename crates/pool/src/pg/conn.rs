//! One Postgres connection: which server process serves it, and how it is cleaned.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, RawSql, Row, raw_sql};

use super::ABORTED;
use super::error::{is_about_connections, is_notification, sqlstate};
use super::settings::{Pooler, SessionConfig};
use super::track::Track;

/// What identifies a backend, and whether the start-up parameters that sqlx sends reached it as such. No
/// pooler can pass all of them on that way: it sets them as the session's later on, or not at all.
macro_rules! identify_backend {
    () => {
        "set local role none; select pg_backend_pid(), \
        (extract(epoch from backend_start) * 1000000)::int8, usesysid::int8, \
        (select not coalesce(bool_and(source = 'client'), false) from pg_settings where name in \
        ('DateStyle', 'TimeZone', 'client_encoding', 'extra_float_digits'))"
    };
}

/// Asks for what the protocol told sqlx and sqlx does not tell, and for the backend's birth, because a
/// pid alone is reused; whether a pooler stands in between; and which server it is. A crash discards the
/// server's statistics, and nothing else that everybody may see tells of it.
///
/// By the role that logged in: a role that the connection began with may not see when its own backend was
/// started. The first statement lasts for as long as the second.
const IDENTIFY: &str = concat!(
    identify_backend!(),
    ", system_identifier, \
    case when not pg_is_in_recovery() then \
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 end, \
    (extract(epoch from pg_stat_get_bgwriter_stat_reset_time()) * 1000000)::int8 \
    from pg_stat_get_activity(pg_backend_pid()), pg_control_system()"
);

/// The part of it that everybody may ask everywhere.
const IDENTIFY_BACKEND: &str = concat!(
    identify_backend!(),
    " from pg_stat_get_activity(pg_backend_pid())"
);

/// Asks which process serves a transaction that just began behind a pooler. When a process was started may
/// not be seen by the role that the transaction began with; when the transaction was, by everybody.
pub(super) const IDENTIFY_TRANSACTION: &str = "SELECT pg_backend_pid(), \
    coalesce((extract(epoch from backend_start) * 1000000)::int8, 0), usesysid::int8, \
    (extract(epoch from now()) * 1000000)::int8 FROM pg_stat_get_activity(pg_backend_pid())";

/// Brings everything back that a session may have changed, and tells which statements it prepared with
/// PREPARE. The others are kept: sqlx's cache believes in them. RESET ROLE comes after the authorization, which sets no role, where the connection
/// began with one.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; \
    UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; \
    SELECT quote_ident(name) AS prepared FROM pg_prepared_statements WHERE from_sql";

/// Tells what a pooler has set, as calls that set it again.
const SET_BY_POOLER: &str = "SELECT coalesce(string_agg(format('set_config(%L, %L, false)', name, setting), \
    ', '), 'null') FROM pg_settings WHERE source = 'session'";

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
        let timeline: Option<i64> = row.try_get(5)?;
        let recovered: Option<i64> = row.try_get(6)?;
        Ok(Self {
            system: row.try_get::<i64, _>(4)?.cast_unsigned(),
            timeline: timeline.and_then(|timeline| u32::try_from(timeline).ok()),
            recovered_at: time_at(recovered.unwrap_or_default()),
        })
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) backend: Backend,
    pub(super) server: Option<ServerIdentity>,
    /// Whether a pooler stands in between.
    pub(super) is_pooled: bool,
}

impl Identity {
    fn read(row: &PgRow, server: Option<ServerIdentity>) -> sqlx::Result<Self> {
        Ok(Self {
            backend: Backend::read(row)?,
            server,
            is_pooled: row.try_get(3)?,
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
    pub(super) async fn identify(&self, connection: &mut PgConnection) -> sqlx::Result<Identity> {
        if !self.is_refused.load(Ordering::Relaxed) {
            match connection.fetch_one(IDENTIFY).await {
                Ok(row) => return Identity::read(&row, Some(ServerIdentity::read(&row)?)),
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
        Identity::read(&row, None)
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
    /// At its ROLLBACK.
    RollingBack,
    /// Anything may have been done on the connection.
    Unknown,
}

/// For how long the process that serves a connection serves no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pinned {
    /// As long as the connection's own socket is open.
    Connection,
    /// The same, but for a pooler that was noticed: what was declared of it is checked at each BEGIN.
    Declared,
    /// From the answer to BEGIN until something is sent that ends the transaction.
    Transaction,
}

impl Pinned {
    fn of(pooler: Pooler, is_pooled: bool) -> Self {
        match (pooler, is_pooled) {
            (Pooler::Transaction, _) | (Pooler::Notice, true) => Self::Transaction,
            (Pooler::Session, true) => Self::Declared,
            (Pooler::Session | Pooler::Notice, false) => Self::Connection,
        }
    }
}

/// A server process that may be ended, because it serves one connection and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) backend: Backend,
    /// When the transaction began that it must still be in, in microseconds; none for any time.
    pub(super) began: Option<i64>,
}

impl From<Backend> for Target {
    fn from(backend: Backend) -> Self {
        let began = None;
        Self { backend, began }
    }
}

/// A Postgres connection that knows its backend.
#[derive(Debug)]
pub struct PgConn {
    connection: PgConnection,
    backend: Backend,
    server: Option<ServerIdentity>,
    pinned: Pinned,
    /// What serves the transaction that it is in, where a process is pinned to that only.
    serving: Option<Target>,
    place: Place,
    /// What follows a reset, to bring back what the server did not begin with.
    restore: String,
    /// Whether its backend is being ended from outside.
    is_reaped: bool,
    config: SessionConfig,
    track: Arc<Track>,
}

impl PgConn {
    pub(super) async fn new(
        mut connection: PgConnection,
        config: SessionConfig,
        asking: &Asking,
    ) -> sqlx::Result<Self> {
        let identity = asking.identify(&mut connection).await?;
        let Identity {
            backend,
            server,
            is_pooled,
        } = identity;
        let pinned = Pinned::of(config.pooler, is_pooled);
        let restore = match pinned {
            Pinned::Declared => set_up(&mut connection, config).await?,
            Pinned::Connection | Pinned::Transaction => String::new(),
        };
        Ok(Self {
            connection,
            backend,
            server,
            pinned,
            serving: None,
            place: Place::Outside,
            restore,
            is_reaped: false,
            config,
            track: Arc::new(Track::new(backend, pinned)),
        })
    }

    /// Returns which server process serves it; behind a pooler that pools transactions, which one served
    /// it last.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Returns whether a pooler in between may give each of its transactions another server process; see
    /// [`Pooler`].
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.pinned == Pinned::Transaction
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

    /// Call it before what leads there is sent.
    pub(super) fn set_place(&mut self, place: Place) {
        if matches!(place, Place::Committing | Place::RollingBack) {
            self.serving = None;
        }
        self.place = place;
    }

    pub(super) fn is_reaped(&self) -> bool {
        self.is_reaped
    }

    pub(super) fn set_reaped(&mut self) {
        self.is_reaped = true;
    }

    pub(super) fn pinned(&self) -> Pinned {
        self.pinned
    }

    /// Records what serves the transaction that began.
    pub(super) fn serve(&mut self, target: Target) {
        self.backend = target.backend;
        self.serving = Some(target);
        self.track.serve(target);
    }

    /// Another process was seen to serve the connection than the one that it was pinned to.
    pub(super) fn unpin(&mut self) {
        self.pinned = Pinned::Transaction;
        // Nor may the reaper end it any more.
        self.track.close();
    }

    /// Returns the server process that serves this connection and no other, if there is one and it is
    /// known. It stays so for as long as the connection is open and nothing is sent on it.
    pub(super) fn target(&self) -> Option<Target> {
        match self.pinned {
            Pinned::Connection | Pinned::Declared => Some(self.backend.into()),
            Pinned::Transaction => self.serving.filter(|_| self.place == Place::Inside),
        }
    }

    /// Waits until what is in flight has ended, and says goodbye.
    pub(super) async fn outlast(mut self) {
        let ended = self.connection.ping().await;
        let closed = match ended {
            Ok(()) => self.close().await,
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "a connection did not end cleanly");
        }
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
            Place::Inside | Place::Committing | Place::RollingBack => true,
            Place::Unknown => self.is_inside().await?,
        };
        if inside {
            self.set_place(Place::RollingBack);
        }
        if self.is_pooled() {
            // Outside a transaction nothing is ours, and the process that would be reset is anybody's.
            if inside {
                self.control(raw_sql("ROLLBACK")).await?;
            }
        } else {
            let rollback = if inside { "ROLLBACK; " } else { "" };
            let reset = format!("{rollback}{RESET}{}", self.restore);
            let rows = loop {
                let sql = raw_sql(AssertSqlSafe(reset.clone()));
                // A notification comes once at most: nothing listens after it.
                if let Some(rows) = self.control(sql).await? {
                    break rows;
                }
            };
            self.deallocate(&rows).await?;
        }
        self.place = Place::Outside;
        Ok(())
    }

    /// Ends what was prepared by hand.
    async fn deallocate(&mut self, rows: &[PgRow]) -> sqlx::Result<()> {
        let prepared = rows.iter().filter_map(|row| row.try_get("prepared").ok());
        let deallocate = prepared.fold(String::new(), |sql, name: &str| {
            format!("{sql}DEALLOCATE {name}; ")
        });
        if !deallocate.is_empty() {
            let deallocate = raw_sql(AssertSqlSafe(deallocate));
            self.connection.execute(deallocate).await?;
        }
        Ok(())
    }
}

/// Sets what a pooler does not pass on, and returns what must follow each reset: that, and what the pooler
/// has set on its part, such as the time zone and the `application_name`.
async fn set_up(connection: &mut PgConnection, config: SessionConfig) -> sqlx::Result<String> {
    let timeouts = config.timeouts.in_millis();
    let set = timeouts.fold(String::new(), |sql, (name, millis)| {
        format!("{sql}SET {name} = {millis}; ")
    });
    let asked = raw_sql(AssertSqlSafe(format!("{set}{SET_BY_POOLER}")));
    let calls: String = connection.fetch_one(asked).await?.try_get(0)?;
    Ok(format!("; SELECT {calls}"))
}
