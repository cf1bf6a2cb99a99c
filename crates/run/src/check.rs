//! What a database says when one asks it politely: can it be reached, how fast, and how much
//! room is left. Nothing is written and nothing is broken.

use std::time::Duration;

use poolproof_testbed::{Admin, AdminError, ServerInfo};
use poolproof_url::DatabaseUrl;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::advice::{Step, advice};
use crate::error::POOLER;

/// How often [`check`] connects, so that its figures are not one accident.
pub const TRIES: usize = 5;

/// How long one connection with its first query may take.
const TRY_DEADLINE: Duration = Duration::from_secs(5);

/// TLS as the server sees it, whether anything can be written, and the limits that hold for this role and this database; null
/// where the server does not tell.
const SESSION_SQL: &str = "select s.version, s.cipher, \
    (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user), \
    (select nullif(datconnlimit, -1) from pg_database where datname = current_database()), \
    (select count(*) from pg_stat_activity \
        where usename = current_user and pid <> pg_backend_pid()), \
    (select count(*) from pg_stat_activity \
        where datname = current_database() and pid <> pg_backend_pid()), \
    pg_is_in_recovery(), current_setting('transaction_read_only')::bool, \
    has_database_privilege(current_database(), 'create') \
    from (select 1) one left join pg_stat_ssl s on s.pid = pg_backend_pid() and s.ssl";

/// What [`check`] found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// User, host, port and database, without a password.
    pub target: String,
    /// The server's version, one line of text.
    pub version: String,
    /// Why a run cannot write there, if that is so.
    pub unwritable: Option<Unwritable>,
    /// Parameters of the URL that have no meaning here.
    pub ignored: Vec<String>,
    /// TLS version and cipher; none when the connection is not encrypted.
    pub tls: Option<String>,
    /// Opening a connection: median and slowest of [`TRIES`].
    pub connect: Timing,
    /// The first query on a fresh connection: median and slowest of [`TRIES`].
    pub first_query: Timing,
    /// How many connections there can be.
    pub room: Room,
}

/// Why a run cannot write to a database: it keeps its tables in a schema of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwritable {
    /// The server is a standby.
    Standby,
    /// `default_transaction_read_only` is on.
    ReadOnly,
    /// The role may not create a schema in the database.
    NoCreate,
}

impl Unwritable {
    /// Says why, and what to do.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Standby => "it is a standby: name the primary",
            Self::ReadOnly => {
                "default_transaction_read_only is on, for the server, the database or this role"
            }
            Self::NoCreate => {
                "this role may not create a schema in it: GRANT CREATE ON DATABASE … TO …"
            }
        }
    }
}

/// A duration that was measured a few times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The median.
    pub median: Duration,
    /// The slowest.
    pub slowest: Duration,
}

/// How many connections a server has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// `max_connections`.
    pub max_connections: u32,
    /// Kept back for superusers and, from version 16, for a role.
    pub reserved: u32,
    /// Clients at this moment, without this check.
    pub in_use: u32,
    /// The role's own limit and how many it has, if there is a limit.
    pub role: Option<Share>,
    /// The database's own limit and how many it has, if there is a limit.
    pub database: Option<Share>,
}

/// A limit on a part of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The limit.
    pub limit: u32,
    /// Connections that count against it, without this check.
    pub in_use: u32,
}

impl Room {
    /// Returns how many connections an ordinary user could still open: the tightest limit.
    #[must_use]
    pub fn usable(&self) -> u32 {
        let server = self
            .max_connections
            .saturating_sub(self.reserved)
            .saturating_sub(self.in_use);
        let shares = [self.role, self.database].into_iter().flatten();
        shares.map(Share::left).fold(server, u32::min)
    }

    /// Says which limit is the tightest, and how it is raised.
    pub(crate) fn bound(&self) -> &'static str {
        let usable = self.usable();
        let is_bound = |share: Option<Share>| share.is_some_and(|share| share.left() == usable);
        if is_bound(self.role) {
            "this role's own limit (ALTER ROLE … CONNECTION LIMIT)"
        } else if is_bound(self.database) {
            "this database's own limit (ALTER DATABASE … CONNECTION LIMIT)"
        } else {
            "max_connections: of the server, or in [postgres] settings"
        }
    }
}

impl Share {
    fn left(self) -> u32 {
        self.limit.saturating_sub(self.in_use)
    }
}

/// Why a database cannot be used.
#[derive(Debug, Error)]
pub enum CheckError {
    /// No connection.
    #[error("no connection to {target}")]
    Connect {
        /// User, host, port and database.
        target: String,
        /// What the server or the network said.
        #[source]
        source: sqlx::Error,
    },
    /// Connected, and no answer to the simplest query.
    #[error("{target} takes connections but answers no query")]
    Query {
        /// User, host, port and database.
        target: String,
        /// What the server said.
        #[source]
        source: sqlx::Error,
    },
    /// Nothing within five seconds.
    #[error("{target} did not answer within {} s", TRY_DEADLINE.as_secs())]
    Silent {
        /// User, host, port and database.
        target: String,
    },
    /// What answers is no server.
    #[error("a connection pooler answers at {target}, and not the server")]
    Pooler {
        /// User, host, port and database.
        target: String,
    },
    /// It answers queries, but not those about itself.
    #[error("{target} does not say how many connections it has")]
    Ask {
        /// User, host, port and database.
        target: String,
        /// What went wrong.
        #[source]
        source: Box<AdminError>,
    },
}

impl CheckError {
    /// Returns what to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Connect { .. } | Self::Query { .. } => advice(self, Step::Connecting)
                .unwrap_or_else(|| "check host, port, user and database of the URL".to_owned()),
            Self::Silent { .. } => "the address exists but stays silent: a firewall that drops, a \
                                    server that hangs, or a wrong port"
                .to_owned(),
            Self::Ask { source, .. } if matches!(**source, AdminError::Connect { .. }) => {
                advice(self, Step::Connecting).unwrap_or_default()
            }
            Self::Pooler { .. } => POOLER.to_owned(),
            Self::Ask { .. } => "a pooler such as pgbouncer may stand in between: name the \
                                 server's own address"
                .to_owned(),
        }
    }
}

/// Connects a few times, measures, and asks how much room there is.
///
/// # Errors
/// [`CheckError`] when the first failing try failed; see its help for the remedy.
///
/// # Cancel safety
/// Safe. An open connection is dropped.
pub async fn check(url: &DatabaseUrl) -> Result<Checked, CheckError> {
    let target = target_of(url);
    let options = url.options();
    let mut connects = Vec::with_capacity(TRIES);
    let mut queries = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let (connect, query) = timeout(TRY_DEADLINE, try_once(&options, &target))
            .await
            .map_err(|_elapsed| CheckError::Silent {
                target: target.clone(),
            })??;
        connects.push(connect);
        queries.push(query);
    }
    let asked = |source| match source {
        AdminError::Pooler { .. } => CheckError::Pooler {
            target: target.clone(),
        },
        source => CheckError::Ask {
            target: target.clone(),
            source: Box::new(source),
        },
    };
    let mut admin = Admin::connect(options).await.map_err(asked)?;
    let info = admin.server_info().await.map_err(asked)?;
    let session = session(&mut admin).await.map_err(asked)?;
    Ok(Checked {
        room: room(&info, &session),
        version: info.version_text,
        unwritable: session.unwritable,
        ignored: url.ignored().to_vec(),
        tls: session.tls,
        connect: timing(connects),
        first_query: timing(queries),
        target,
    })
}

/// Returns how many connections the role behind `admin` can have, that one not counted.
pub(crate) async fn room_for(admin: &mut Admin, info: &ServerInfo) -> Result<Room, AdminError> {
    let session = session(admin).await?;
    Ok(room(info, &session))
}

fn room(info: &ServerInfo, session: &Session) -> Room {
    Room {
        max_connections: info.max_connections,
        reserved: info.reserved,
        in_use: info.in_use.saturating_sub(1),
        role: session.role,
        database: session.database,
    }
}

/// Returns user, host, port and database of a URL, as messages name it.
#[must_use]
fn target_of(url: &DatabaseUrl) -> String {
    let (user, host, port) = (url.user(), url.host(), url.port());
    // Postgres' own rule for a URL that names no database.
    let database = url.database().unwrap_or(user);
    if host.contains(':') {
        format!("{user}@[{host}]:{port}/{database}")
    } else {
        format!("{user}@{host}:{port}/{database}")
    }
}

async fn try_once(
    options: &PgConnectOptions,
    target: &str,
) -> Result<(Duration, Duration), CheckError> {
    let began = Instant::now();
    let mut connection = PgConnection::connect_with(options)
        .await
        .map_err(|source| CheckError::Connect {
            target: target.to_owned(),
            source,
        })?;
    let connected = began.elapsed();
    let failed = |source| CheckError::Query {
        target: target.to_owned(),
        source,
    };
    // Not prepared: behind a pooler that would stay in a session of others.
    sqlx::raw_sql("select 1")
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    let answered = began.elapsed();
    connection.close().await.map_err(failed)?;
    Ok((connected, answered.saturating_sub(connected)))
}

struct Session {
    unwritable: Option<Unwritable>,
    tls: Option<String>,
    role: Option<Share>,
    database: Option<Share>,
}

async fn session(admin: &mut Admin) -> Result<Session, AdminError> {
    let connection = admin.connection().await?;
    let what = "its limits for this user";
    let row = timeout(TRY_DEADLINE, sqlx::query(SESSION_SQL).fetch_one(connection))
        .await
        .map_err(|_elapsed| AdminError::Deadline { what })?;
    let read = |row: sqlx::postgres::PgRow| -> Result<Session, sqlx::Error> {
        let tls: (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let (standby, read_only) = (row.try_get(6)?, row.try_get(7)?);
        let may_create: bool = row.try_get(8)?;
        Ok(Session {
            unwritable: match (standby, read_only) {
                (true, _) => Some(Unwritable::Standby),
                (false, true) => Some(Unwritable::ReadOnly),
                (false, false) => (!may_create).then_some(Unwritable::NoCreate),
            },
            tls: tls.0.map(|version| match tls.1 {
                Some(cipher) => format!("{version}, {cipher}"),
                None => version,
            }),
            role: share(row.try_get(2)?, row.try_get(4)?),
            database: share(row.try_get(3)?, row.try_get(5)?),
        })
    };
    row.and_then(read)
        .map_err(|source| AdminError::Ask { what, source })
}

fn share(limit: Option<i32>, in_use: i64) -> Option<Share> {
    Some(Share {
        limit: u32::try_from(limit?).ok()?,
        in_use: u32::try_from(in_use).unwrap_or(u32::MAX),
    })
}

fn timing(mut durations: Vec<Duration>) -> Timing {
    durations.sort_unstable();
    Timing {
        median: durations[durations.len() / 2],
        slowest: durations[durations.len() - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room {
        Room {
            max_connections: 100,
            reserved: 3,
            in_use: 40,
            role: None,
            database: None,
        }
    }

    #[test]
    fn usable_connections_are_the_limit_without_the_reserved_and_the_used() {
        assert_eq!(room().usable(), 57);
    }

    #[test]
    fn the_tightest_limit_decides() {
        let role = Some(Share {
            limit: 20,
            in_use: 5,
        });
        let database = Some(Share {
            limit: 30,
            in_use: 29,
        });
        let limited = Room { role, ..room() };
        assert_eq!(limited.usable(), 15);
        assert!(limited.bound().contains("ALTER ROLE"));
        assert!(room().bound().starts_with("max_connections"));
        assert_eq!(
            Room {
                role,
                database,
                ..room()
            }
            .usable(),
            1
        );
    }

    #[test]
    fn a_full_server_has_no_room_and_not_less() {
        assert_eq!(
            Room {
                in_use: 99,
                ..room()
            }
            .usable(),
            0
        );
    }

    #[test]
    fn the_median_of_five_is_the_third() {
        let ms = Duration::from_millis;
        let timed = timing(vec![ms(9), ms(1), ms(3), ms(2), ms(50)]);
        assert_eq!(
            timed,
            Timing {
                median: ms(3),
                slowest: ms(50)
            }
        );
    }
}
