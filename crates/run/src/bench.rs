//! The bench: a server that is there for as many trials as are asked for, one after the other.

use std::path::PathBuf;
use std::time::Duration;

use poolproof_testbed::{
    Admin, AdminError, Cluster, Container, ContainerConfig, ContainerError, Existing, LocalConfig,
    Server, ServerInfo, StartError,
};
use sqlx::postgres::PgConnectOptions;

use crate::blast::{RemoteConsent, check_blast_radius};
use crate::check::room_for;
use crate::drive::drive;
use crate::error::{SlowStep, chain};
use crate::evidence::Evidence;
use crate::interrupt::Interrupt;
use crate::observe::observe;
use crate::progress::{ProgressSink, phase};
use crate::scenario::Scenario;
use crate::stage::Stage;
use crate::trial::Planned;
use crate::{PostgresChoice, RunError};

/// How long reaching the server and making the tables may take.
pub(crate) const PREPARE: Duration = Duration::from_secs(30);
/// Connections that a trial has beside the pool's: claim, bank, server faults, last look.
pub(crate) const OWN_CONNECTIONS: u32 = 4;

/// Which server a bench is for.
#[derive(Debug, Clone, Copy)]
pub struct ServerChoice<'a> {
    /// The server.
    pub postgres: &'a PostgresChoice,
    /// What the user said about one that is not loopback.
    pub remote: &'a RemoteConsent,
    /// A private server has the settings of this one.
    pub scenario: &'a Scenario,
    /// A part of a private server's name, which no other server of this machine has.
    pub id: &'a str,
}

/// A server, reached and asked about itself. Dropping it stops a private one too, but only
/// [`Bench::stop`] says whether that went well.
pub struct Bench {
    pub(crate) server: Server,
    /// Straight to the server.
    pub(crate) direct: PgConnectOptions,
    pub(crate) info: ServerInfo,
}

impl Bench {
    /// Starts or reaches the server.
    ///
    /// # Errors
    /// [`RunError`] when it cannot be started, reached or touched; what was started is gone again.
    ///
    /// # Cancel safety
    /// Safe: dropping the future stops what was started so far.
    pub async fn start(
        choice: ServerChoice<'_>,
        progress: &mut ProgressSink<'_>,
        interrupt: &Interrupt,
    ) -> Result<Self, RunError> {
        // On the heap: connecting makes large futures.
        let reached = Box::pin(async {
            let started = start_server(choice);
            let server = interrupt.or(started).await?;
            let direct = server.options();
            let info = look_at(&direct).await?;
            // "PostgreSQL 15.18" of a line that goes on with the compiler.
            let mut words = info.version_text.split_whitespace();
            let version: Vec<_> = words.by_ref().take(2).collect();
            let detail = format!("{}, {}", version.join(" "), server.source());
            let bench = Self {
                server,
                direct,
                info,
            };
            Ok((bench, detail))
        });
        phase(progress, "postgres", "start or reach the server", reached).await
    }

    /// Does one trial: makes its tables, puts proxy and subject before the server, offers the load with
    /// its faults, looks at everything once it is quiet, and takes all of it away again. What it saw is
    /// for [`Evidence::judge`].
    ///
    /// # Errors
    /// [`RunError`] when there is nothing to judge, since the set-up failed or was refused.
    ///
    /// # Cancel safety
    /// Not safe: use `interrupt`. Dropping the future leaves a schema for the next trial to remove.
    pub async fn run(
        &self,
        trial: &Planned,
        progress: &mut ProgressSink<'_>,
        interrupt: &Interrupt,
    ) -> Result<Evidence, RunError> {
        let mut stage = Stage::set_up(self, trial, progress, interrupt).await?;
        let loaded = stage.keeping(async |stage| drive(trial, stage, progress, interrupt).await);
        let loaded = Box::pin(loaded).await;
        let looked = phase(progress, "look", "at pool, server and tables", async {
            let observed = observe(trial, &mut stage, &loaded).await;
            let detail = observed.describe();
            Ok((observed, detail))
        });
        let observed = looked.await?;
        let mut evidence = Evidence::new(trial, &stage, loaded, observed);
        // On the heap: it drops the schema over a connection that may have to be opened again.
        evidence.notes.extend(Box::pin(stage.teardown()).await);
        Ok(evidence)
    }

    /// Returns whether the server is known to be gone. Only a private server can be known so.
    pub(crate) fn is_gone(&self) -> bool {
        !self.server.is_running()
    }

    /// Returns the log of a private server that died.
    pub(crate) fn log_of_death(&self) -> Option<PathBuf> {
        self.server.cause_of_death()?;
        self.server.log_file()
    }

    /// Stops and removes what was started, and returns what could not be.
    ///
    /// # Cancel safety
    /// Safe: a server whose stop was given up is stopped by dropping it.
    pub async fn stop(self, progress: &mut ProgressSink<'_>) -> Vec<String> {
        let stopped = Box::pin(async {
            let mut problems = Vec::new();
            if let Err(error) = self.server.stop().await {
                problems.push(format!(
                    "the private Postgres was not stopped cleanly: {}",
                    chain(&error)
                ));
            }
            let detail = if problems.is_empty() {
                "nothing left".to_owned()
            } else {
                problems.join("; ")
            };
            Ok((problems, detail))
        });
        let stopped = phase(progress, "stop", "stop and remove everything", stopped).await;
        stopped.unwrap_or_else(|error| vec![chain(&error)])
    }

    /// Refuses a trial for which the server has no room.
    pub(crate) async fn check_room(&self, trial: &Planned) -> Result<(), RunError> {
        let mut admin = connect_admin(&self.direct).await?;
        let room = room_for(&mut admin, &self.info).await;
        let room = room.map_err(|source| unanswered(&self.direct, source))?;
        let pool = &trial.trial.scenario.pool;
        // A pool without a limit is at least asked for twice its size in the end.
        let overflow = u32::try_from(pool.max_overflow).unwrap_or(pool.pool_size);
        let pool_max = pool.pool_size.saturating_add(overflow);
        if room.usable() < pool_max.saturating_add(OWN_CONNECTIONS) {
            return Err(RunError::NoRoom { room, pool_max });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Bench {
    /// Without the options: they hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench")
            .field("source", &self.server.source())
            .finish_non_exhaustive()
    }
}

async fn start_server(choice: ServerChoice<'_>) -> Result<Server, RunError> {
    let ServerChoice {
        postgres,
        remote,
        scenario,
        id,
    } = choice;
    let settings = &scenario.postgres.settings;
    match postgres {
        PostgresChoice::Local => {
            let config = LocalConfig {
                run_id: id.to_owned(),
                settings: settings.clone(),
                ..LocalConfig::default()
            };
            let cluster = Cluster::start(config).await.map_err(|error| match error {
                StartError::SettingRefused { refused } => {
                    RunError::Scenario(scenario.refused(&refused))
                }
                other => RunError::Start(Box::new(other)),
            })?;
            Ok(Server::Local(cluster))
        }
        PostgresChoice::Container(image) => {
            let config = ContainerConfig {
                run_id: id.to_owned(),
                image: image.clone(),
                settings: settings.clone(),
                ..ContainerConfig::default()
            };
            let started = Container::start(config).await;
            let container = started.map_err(|error| match error {
                ContainerError::SettingRefused { refused } => {
                    RunError::Scenario(scenario.refused(&refused))
                }
                other => RunError::Container(Box::new(other)),
            })?;
            Ok(Server::Container(container))
        }
        PostgresChoice::Url(url) => {
            check_blast_radius(url, remote)?;
            let target = describe_target(&url.options());
            Ok(Server::Existing(Existing::new(url.options(), target)))
        }
    }
}

/// Asks the server about itself.
async fn look_at(direct: &PgConnectOptions) -> Result<ServerInfo, RunError> {
    let mut admin = connect_admin(direct).await?;
    let info = admin.server_info().await;
    info.map_err(|source| unanswered(direct, source))
}

fn unanswered(direct: &PgConnectOptions, source: AdminError) -> RunError {
    RunError::Connect {
        target: describe_target(direct),
        source: Box::new(source),
    }
}

async fn connect_admin(direct: &PgConnectOptions) -> Result<Admin, RunError> {
    match tokio::time::timeout(PREPARE, Admin::connect(direct.clone())).await {
        Ok(Ok(admin)) => Ok(admin),
        Ok(Err(AdminError::Pooler { .. })) => Err(RunError::Pooler {
            target: describe_target(direct),
        }),
        Ok(Err(source)) => Err(RunError::Connect {
            target: describe_target(direct),
            source: Box::new(source),
        }),
        Err(_) => Err(RunError::Slow {
            step: SlowStep::Connecting,
            limit: PREPARE,
        }),
    }
}

/// Returns host, port and database; never a password.
pub(crate) fn describe_target(options: &PgConnectOptions) -> String {
    let (host, database) = (bracketed(options.get_host()), database_of(options));
    format!("{host}:{}/{database}", options.get_port())
}

/// Returns the database; without a name in the options it is that of the user, as everywhere.
pub(crate) fn database_of(options: &PgConnectOptions) -> String {
    options
        .get_database()
        .unwrap_or_else(|| options.get_username())
        .to_owned()
}

pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests;
