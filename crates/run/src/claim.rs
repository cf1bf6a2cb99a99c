//! What a run owns in a database, and the proof of it.
//!
//! A run's schema is its own for as long as it holds the advisory lock on the schema's name. Its
//! connection can be lost, and the lock with it. Then the lock is taken again, and the schema's oid
//! tells whether anybody dropped it in between: a schema that was made again has another.

use std::time::Duration;

use poolproof_testbed::{Admin, AdminError};
use sqlx::Row;
use sqlx::postgres::{PgConnectOptions, PgRow};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::error::chain;

/// How long the lock may be held by somebody else before it counts as lost: the server may take a
/// moment to notice that the connection that held it is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is tried until then.
const TRY: Duration = Duration::from_millis(50);

/// Takes the lock where it is not held yet: it may be held several times by one session.
const PROOF_SQL: &str = "select pg_try_advisory_lock(hashtextextended($1, 0)), \
    to_regnamespace($1)::oid::int8, current_setting('search_path'), \
    (select count(*) from pg_stat_activity where application_name = $2)";

/// Ends what the server still has of this run's lost connections. The name is this run's alone.
const END_LOST_SQL: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
    where application_name = $1 and pid <> pg_backend_pid()";

/// A schema of the run's own, and the connection that holds the lock on its name.
pub(crate) struct Claim {
    pub(crate) admin: Admin,
    schema: String,
    /// The schema's oid, from when it was made.
    oid: Option<i64>,
    /// The subject's `application_name`, whose connections are counted along with each proof.
    subject: String,
    /// The most of them that a proof showed.
    pub(crate) backends_peak: u64,
    /// That of the claim's own connection.
    own: String,
    /// When it was staked, by the server's clock in microseconds: what is older is not the run's.
    pub(crate) since_us: i64,
}

/// Why a run cannot be sure of what it owns.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// The server gave no answer, or refused one.
    #[error(transparent)]
    Ask(#[from] AdminError),
    /// Something in between keeps the start-up parameters for itself.
    #[error("the search path is {found} and not the run's own schema")]
    Elsewhere {
        /// What it is.
        found: String,
    },
    /// Another session holds the lock on its name.
    #[error("another session took the lock on schema {schema}")]
    Taken {
        /// The schema.
        schema: String,
    },
    /// The schema is not there, or is another one of the same name.
    #[error("schema {schema} was dropped or renamed by somebody else")]
    Dropped {
        /// The schema.
        schema: String,
    },
}

impl ClaimError {
    /// Whether it can pass: the server may come back, and a schema that was dropped does not.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Ask(_))
    }

    /// Returns it with its causes in one line.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Ask(error) => chain(error),
            _ => self.to_string(),
        }
    }
}

impl Claim {
    /// Connects and takes the lock, before there is a schema.
    pub(crate) async fn stake(
        options: &PgConnectOptions,
        schema: &str,
        subject: &str,
    ) -> Result<Self, ClaimError> {
        let own = connection_name(schema, "claim");
        let mut admin = Admin::connect_as(options.clone(), &own).await?;
        let since_us = admin.clock_us().await?;
        let mut claim = Self {
            admin,
            since_us,
            schema: schema.to_owned(),
            oid: None,
            subject: subject.to_owned(),
            backends_peak: 0,
            own,
        };
        claim.prove().await?;
        Ok(claim)
    }

    /// Notes which schema it is, once that was made.
    pub(crate) async fn adopt(&mut self) -> Result<(), ClaimError> {
        let proof = self.look().await?;
        self.oid = Some(proof.oid.ok_or_else(|| self.dropped())?);
        self.prove().await
    }

    /// Proves that the schema is still the run's own.
    ///
    /// # Cancel safety
    /// Safe. The connection is opened again for the next proof.
    pub(crate) async fn prove(&mut self) -> Result<(), ClaimError> {
        let until = Instant::now() + PATIENCE;
        let mut tries = interval(TRY);
        tries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let proof = loop {
            tries.tick().await;
            let proof = self.look().await?;
            if proof.locked {
                break proof;
            }
            if Instant::now() >= until {
                let schema = self.schema.clone();
                return Err(ClaimError::Taken { schema });
            }
            let own = self.own.clone();
            let lost = "its lost connections";
            self.admin.ask(lost, END_LOST_SQL, &[&own]).await?;
        };
        if proof.search_path != self.schema {
            let found = proof.search_path;
            return Err(ClaimError::Elsewhere { found });
        }
        if self.oid.is_some() && self.oid != proof.oid {
            return Err(self.dropped());
        }
        self.backends_peak = self.backends_peak.max(proof.backends);
        Ok(())
    }

    async fn look(&mut self) -> Result<Proof, ClaimError> {
        let what = "the run's own schema";
        let rows = self
            .admin
            .ask(what, PROOF_SQL, &[&self.schema, &self.subject])
            .await?;
        let read = rows.first().ok_or(sqlx::Error::RowNotFound);
        let proof = read.and_then(Proof::read);
        Ok(proof.map_err(|source| AdminError::Ask { what, source })?)
    }

    fn dropped(&self) -> ClaimError {
        ClaimError::Dropped {
            schema: self.schema.clone(),
        }
    }
}

/// The `application_name` of one of a run's own connections. It begins like the names of all
/// connections of the run, so that nobody takes the run for dead while one of them lives.
pub(crate) fn connection_name(schema: &str, role: &str) -> String {
    let run = schema.trim_start_matches(crate::namespace::PREFIX);
    format!("poolproof/{run}/{role}")
}

/// Says that a connection of the run's own did not last, if so.
pub(crate) fn reconnected(whose: &str, times: u32) -> Option<String> {
    let times = match times {
        0 => return None,
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    Some(format!(
        "{whose} lost its connection to the server and opened it again {times}"
    ))
}

struct Proof {
    locked: bool,
    oid: Option<i64>,
    search_path: String,
    backends: u64,
}

impl Proof {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            locked: row.try_get(0)?,
            oid: row.try_get(1)?,
            search_path: row.try_get(2)?,
            backends: row.try_get::<i64, _>(3)?.unsigned_abs(),
        })
    }
}
