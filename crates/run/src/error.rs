//! Why a run could not be started, or could not be finished.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgDatabaseError;
use thiserror::Error;

use crate::advice::{Step, advice, write_advice};
use crate::check::Room;
use crate::execute::Finished;
use crate::scenario::ScenarioError;

/// What to do about a pooler in between.
pub(crate) const POOLER: &str = "locks, looks and tables of a run need the server itself, and a pooler may \
    lend one session to several clients: name the server's own host and port; nothing was changed";

/// Why [`crate::execute()`] has no verdict to give.
///
/// Reads well after "failed to run the scenario: ".
#[derive(Debug, Error)]
pub enum RunError {
    /// The database is not loopback and the two consents are missing or do not match.
    #[error("{host} is not this machine, and faults are aimed only at what they may break")]
    NotLoopback {
        /// The host that was named.
        host: String,
        /// The database that was named.
        database: String,
    },
    /// `--confirm-database` names another database than the URL does.
    #[error("--confirm-database names \"{confirmed}\", but the URL names \"{database}\"")]
    WrongConfirmation {
        /// What the flag says.
        confirmed: String,
        /// What the URL says.
        database: String,
    },
    /// The URL names a socket directory, which a TCP proxy cannot stand before.
    #[error("{host} is a socket directory, and the fault proxy speaks TCP")]
    NotTcp {
        /// What the URL says.
        host: String,
    },
    /// The load cannot be generated.
    #[error("the load of the scenario cannot be generated")]
    Schedule(#[from] poolproof_load::ScheduleError),
    /// The server does not accept settings of the scenario.
    #[error("the scenario cannot be run")]
    Scenario(#[source] ScenarioError),
    /// The local cluster did not start.
    #[error("the local Postgres did not start")]
    Start(#[source] Box<poolproof_testbed::StartError>),
    /// The server in a container did not start.
    #[error("the Postgres in a container did not start")]
    Container(#[source] Box<poolproof_testbed::ContainerError>),
    /// The server cannot be reached.
    #[error("no connection to {target}")]
    Connect {
        /// Host, port and database, without a password.
        target: String,
        /// What the attempt came to.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server has fewer connections left than the pool and the run need.
    #[error(
        "there are {} connections left, and the pool may open {pool_max}, the run itself {own}",
        .room.usable(), own = crate::bench::OWN_CONNECTIONS
    )]
    NoRoom {
        /// How many connections this role can have, and why not more.
        room: Room,
        /// `pool_size` + `max_overflow`.
        pool_max: u32,
    },
    /// The subject cannot have the pool that the scenario asks for.
    #[error("{subject} cannot have the pool of this scenario")]
    Unfit {
        /// The subject's name.
        subject: String,
        /// Why not.
        #[source]
        source: poolproof_subjects::BuildError,
    },
    /// The tables could not be made.
    #[error("the tables could not be created in schema {schema}")]
    Prepare {
        /// The run's own schema.
        schema: String,
        /// The server's answer.
        #[source]
        source: sqlx::Error,
    },
    /// What answers is no server.
    #[error("a connection pooler answers at {target}, and not the server")]
    Pooler {
        /// Host, port and database, without a password.
        target: String,
    },
    /// Names would lead elsewhere than into the run's own schema.
    #[error("the server was asked for the search path {schema} at connect, and has {found}")]
    Elsewhere {
        /// The run's own schema.
        schema: String,
        /// What the search path is.
        found: String,
    },
    /// The schema was no longer the run's own before the load began.
    #[error("schema {schema} could not be kept: another session took its lock or dropped it")]
    NotKept {
        /// The run's own schema.
        schema: String,
    },
    /// The fault proxy did not start.
    #[error("the fault proxy did not start")]
    Proxy(#[source] poolproof_faults::ProxyError),
    /// The pool under test could not be built.
    #[error("the subject {name} could not be built")]
    Subject {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: poolproof_subjects::BuildError,
    },
    /// The place for the report could not be made or written to.
    #[error("the report could not be written to {}", path.display())]
    Report {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The run took place, and its report could not be written.
    #[error("{} cannot be written", path.display())]
    Unreported {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
        /// What is known all the same; none once it was taken.
        finished: Option<Box<Finished>>,
    },
    /// The interrupt came before there was anything to report.
    #[error("interrupted before the load began, so there is nothing to report")]
    Interrupted,
    /// Setting up took too long.
    #[error("{step} did not end within {} s", limit.as_secs())]
    Slow {
        /// What was waited for.
        step: SlowStep,
        /// For how long.
        limit: Duration,
    },
}

/// A step of the set-up that has a time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlowStep {
    /// Reaching the server.
    Connecting,
    /// Making the tables of the workloads and filling them.
    Creating,
}

impl SlowStep {
    fn remedy(self) -> &'static str {
        match self {
            Self::Connecting => {
                "see with `poolproof check URL` whether the server answers at all; a firewall that \
                 drops packets, a server that is out of connections, or one that is just starting \
                 looks like this"
            }
            Self::Creating => {
                "lower `accounts` of the workload `bank`, which are written one row each; else see \
                 whether the server's disk is busy or another session holds a lock (pg_stat_activity)"
            }
        }
    }
}

impl fmt::Display for SlowStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting to the server",
            Self::Creating => "creating the tables",
        })
    }
}

impl RunError {
    /// Takes out what is known of a run whose report could not be written.
    pub fn take_finished(&mut self) -> Option<Finished> {
        match self {
            Self::Unreported { finished, .. } => finished.take().map(|finished| *finished),
            _ => None,
        }
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotLoopback { database, .. } => Some(format!(
                "if {database} may be loaded, cut off and broken, say so twice: \
                 --allow-remote --confirm-database {database}"
            )),
            Self::WrongConfirmation { database, .. } => Some(format!(
                "check which database you mean; the flag must say {database}"
            )),
            Self::NotTcp { .. } => {
                Some("name a host and a port, such as postgres://user@127.0.0.1:5432/db".into())
            }
            Self::Start(source) => source.help(),
            Self::Container(source) => source.help(),
            Self::Connect { .. } => advice(self, Step::Connecting).or_else(|| {
                Some(
                    "`poolproof check URL` says more; is the server up, and do host, port, user and \
                     database match?"
                        .into(),
                )
            }),
            Self::NoRoom { room, .. } => Some(format!(
                "lower pool_size or max_overflow, close other connections (`poolproof check` counts \
                 them), or raise {}",
                room.bound()
            )),
            Self::Prepare { .. } => advice(self, Step::Creating),
            Self::Subject { .. } => advice(self, Step::Connecting).or_else(|| {
                Some("raise pool_timeout, or see with `poolproof check URL` how long connecting takes".into())
            }),
            Self::Report { source, .. } | Self::Unreported { source, .. } => Some(write_advice(
                source.kind(),
                "choose another folder with --out",
            )),
            Self::Pooler { .. } => Some(POOLER.into()),
            Self::Elsewhere { .. } => Some(
                "a connection pooler in between keeps start-up parameters to itself, so the tables \
                 would be made where others have theirs: name the server's own host and port; \
                 nothing was written"
                    .into(),
            ),
            Self::NotKept { .. } => Some(
                "a connection pooler in between may give one session to several clients, and then \
                 no lock means anything: name the server's own host and port"
                    .into(),
            ),
            Self::Slow { step, .. } => Some(step.remedy().to_owned()),
            Self::Schedule(_)
            | Self::Scenario(_)
            | Self::Proxy(_)
            | Self::Unfit { .. }
            | Self::Interrupted => None,
        }
    }
}

/// Returns what an error's causes say, from the nearest to the farthest, each once.
#[must_use]
pub fn causes(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    texts(error).split_off(1)
}

/// Returns an error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    texts(error).join(": ")
}

fn texts(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for cause in chain_of(error) {
        let answer = match driver_error(cause) {
            Some(sqlx::Error::Database(answer)) => answer.try_downcast_ref::<PgDatabaseError>(),
            _ => None,
        };
        let text = answer.map_or_else(|| without_place(cause.to_string()), server_words);
        // Some libraries repeat the cause in their own text.
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
        if answer.is_some() {
            break;
        }
    }
    texts
}

/// A text without the place in sqlx's source at which its protocol errors end.
fn without_place(mut text: String) -> String {
    if let Some(at) = text.rfind(" (sqlx_").filter(|_| text.ends_with(')')) {
        text.truncate(at);
    }
    text
}

/// What the server said, without the line of its own source that it names.
fn server_words(answer: &PgDatabaseError) -> String {
    let mut text = format!("{} (SQLSTATE {})", answer.message(), answer.code());
    for more in [answer.detail(), answer.hint()].into_iter().flatten() {
        text = text + "; " + more;
    }
    text
}

pub(crate) fn chain_of<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The driver's error itself, be it shared.
pub(crate) fn driver_error<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e sqlx::Error> {
    let shared = || error.downcast_ref::<Arc<sqlx::Error>>().map(Arc::as_ref);
    error.downcast_ref::<sqlx::Error>().or_else(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_that_was_too_slow_has_a_remedy() {
        for (step, word) in [
            (SlowStep::Connecting, "poolproof check"),
            (SlowStep::Creating, "accounts"),
        ] {
            let limit = Duration::from_secs(30);
            let error = RunError::Slow { step, limit };
            let help = error.help().unwrap_or_default();
            assert!(help.contains(word), "{error}: {help}");
        }
    }
}
