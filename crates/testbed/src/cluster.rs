//! A private Postgres of a run: started from a template, reachable over TCP on loopback only.

mod error;
mod pgbouncer;
mod server;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{Connection, Row};
use tokio::time::{MissedTickBehavior, interval, timeout};

pub(crate) use error::messages;
pub use error::{RefusedSetting, StartError};
pub use pgbouncer::{PgBouncer, PgBouncerError, PoolMode};
use server::Server;

use crate::settle::Alive;
use crate::teardown::{Gentleness, StopError};
use crate::template::{DATABASE, SUPERUSER};
use crate::version::Version;

/// How long a server may take from its start to its first answer.
pub const START_DEADLINE: Duration = Duration::from_secs(30);

const RUN_ID_LENGTH_MAX: usize = 40;

/// Ports are raced for: between the moment one is found free and the server's own bind, another
/// process may take it.
const PORT_ATTEMPTS: u32 = 10;

/// One attempt to connect while the server starts.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const CONNECT_EVERY: Duration = Duration::from_millis(10);

/// How a cluster is set up.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Names the run; no other living run may have the same. At most 40 letters, digits, `-` and
    /// `_`. Default: one that nobody has.
    pub run_id: String,
    /// Lines for `postgresql.conf`. Default: none, which means `max_connections = 100`,
    /// `dynamic_shared_memory_type = mmap` and the server's own defaults, `fsync = on` among them.
    pub settings: BTreeMap<String, String>,
    /// The directory for templates, downloads and running clusters. Default:
    /// [`crate::default_home`].
    pub home: Option<PathBuf>,
    /// The directory that holds `postgres`, `initdb` and `pg_ctl`. Default: what
    /// `POOLPROOF_PG_BIN` says, else the newest on this machine, else a download.
    pub bin_dir: Option<PathBuf>,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            run_id: unique_run_id(),
            settings: BTreeMap::new(),
            home: None,
            bin_dir: None,
        }
    }
}

/// Time, process and a counter: unique on this machine, and readable in a listing.
pub(crate) fn unique_run_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let millis = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_millis());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("r{millis:x}-{}-{count}", std::process::id())
}

/// Whether a run may be called so: its name is that of a directory.
pub(crate) fn is_run_id(run_id: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=RUN_ID_LENGTH_MAX).contains(&run_id.len()) && run_id.chars().all(letter)
}

/// A private Postgres, running; all of it goes with this value.
///
/// [`Cluster::stop`] ends it and says what went wrong. Dropping it ends it at once and blocks for
/// that time, about 0.1 s; a failure then goes to the log, and the next run removes the rest. The
/// same holds for a run that is killed: see [`crate::reap`].
pub struct Cluster {
    server: Server,
    port: u16,
}

impl Cluster {
    /// Starts a cluster and waits until it answers a query, [`START_DEADLINE`] at most.
    ///
    /// The first start for a version of Postgres initialises a template (some seconds), all
    /// others copy it (well below a second). Removes first what killed runs left behind.
    ///
    /// # Errors
    /// [`StartError`]; [`StartError::help`] says what can be done.
    /// # Cancel safety
    /// Safe. What was started by then is ended and removed, by a thread of the runtime if need be;
    /// [`crate::settled`] waits for that.
    pub async fn start(config: LocalConfig) -> Result<Self, StartError> {
        if std::env::var_os("PGOPTIONS").is_some_and(|options| !options.is_empty()) {
            return Err(StartError::Environment);
        }
        let alive = Alive::begin();
        let mut server = tokio::task::spawn_blocking(move || Server::prepare(&config, alive))
            .await
            .map_err(|_panic| StartError::Panicked)??;
        for attempt in 1.. {
            let port = server.launch()?;
            let options = options(port, server.password());
            match ready(&server, &options).await {
                Ok(()) => {
                    server.note_shared_memory()?;
                    return Ok(Self { server, port });
                }
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => {
                    tracing::debug!(
                        port,
                        attempt,
                        "another process took the port; trying another"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("bug: the last attempt returns")
    }

    /// Returns the options of a direct connection as superuser to the database `poolproof`.
    ///
    /// Their `Debug` shows the password: do not print them.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        options(self.port, self.server.password())
    }

    /// Returns the port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the server's version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.server.binaries().version
    }

    /// Returns the name of the run that the cluster belongs to.
    #[must_use]
    pub fn run_id(&self) -> String {
        self.server.run_id()
    }

    /// Returns the data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.server.data()
    }

    /// Returns the file that the server's log goes to; it is removed with the cluster.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.server.log()
    }

    /// Returns the directory of the server's programs.
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.server.binaries().dir
    }

    /// Returns the postmaster's process id.
    #[must_use]
    pub fn postmaster_pid(&self) -> u32 {
        self.server.postmaster_pid()
    }

    /// Tells whether the postmaster is alive. It says nothing about answers.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.server.is_running()
    }

    /// Tells how the postmaster ended; none while it is alive.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.server.exit_status()
    }

    /// Ends the server orderly, at once if that takes too long, by force if it has to be, and
    /// removes everything that it had.
    ///
    /// # Errors
    /// [`StopError`] when something is left; the next run tries again.
    /// # Cancel safety
    /// Safe. A thread of the runtime carries on; [`crate::settled`] waits for it.
    pub async fn stop(self) -> Result<(), StopError> {
        let Self { mut server, .. } = self;
        tokio::task::spawn_blocking(move || server.end(Gentleness::Fast))
            .await
            .map_err(|_panic| StopError::Panicked)?
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("run_id", &self.run_id())
            .field("port", &self.port)
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

fn options(port: u16, password: &str) -> PgConnectOptions {
    // Every option that sqlx would take from a `PG*` variable of the user is set here, but for
    // `PGOPTIONS`, with which no cluster starts, and certificates, which are not used without TLS.
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(SUPERUSER)
        .password(password)
        .database(DATABASE)
        .ssl_mode(PgSslMode::Disable)
        .application_name("poolproof")
}

/// Waits for the answer to a query.
async fn ready(server: &Server, options: &PgConnectOptions) -> Result<(), StartError> {
    let mut last = None;
    let answered = async {
        let mut ticks = interval(CONNECT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(error) = server.start_failure() {
                return Err(error);
            }
            match timeout(CONNECT_WITHIN, data_directory(options)).await {
                // A neighbour's server may have the port, and the same password with it.
                Ok(Ok(answer)) if Path::new(&answer) == server.data() => return Ok(()),
                Ok(Ok(_neighbour)) => {}
                Ok(Err(error)) => last = Some(error),
                Err(_elapsed) => {}
            }
        }
    };
    match timeout(START_DEADLINE, answered).await {
        Ok(end) => end,
        Err(_elapsed) => Err(StartError::NotReady {
            within: START_DEADLINE,
            log: server.log_tail(),
            source: last,
        }),
    }
}

async fn data_directory(options: &PgConnectOptions) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let row = sqlx::query("select current_setting('data_directory')")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    row.try_get(0)
}

#[cfg(test)]
mod tests;
