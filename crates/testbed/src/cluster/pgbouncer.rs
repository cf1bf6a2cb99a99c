//! A PgBouncer in front of a cluster.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use super::server::free_port;
use super::{Cluster, options};
use crate::last_words::tail;
use crate::process;
use crate::template::SUPERUSER;
use crate::wait;

/// Where packages put it.
const PLACES: [&str; 4] = [
    "/usr/sbin",
    "/usr/bin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
];

/// It starts in some milliseconds.
const START_WITHIN: Duration = Duration::from_secs(20);

/// How many others may take the port that was free.
const PORT_ATTEMPTS: u32 = 10;

/// For how long PgBouncer gives a client a connection to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// As long as the client stays connected.
    Session,
    /// As long as a transaction is open.
    Transaction,
}

/// Why no PgBouncer could be started.
#[derive(Debug, thiserror::Error)]
pub enum PgBouncerError {
    /// It is not installed.
    #[error("find pgbouncer in {}; install it, on Debian with: apt-get install pgbouncer", PLACES.join(", "))]
    Missing,
    /// Its files could not be written, or it could not be executed.
    #[error("start pgbouncer in {}", path.display())]
    Io {
        /// Its directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended, or did not listen in time.
    #[error("see pgbouncer listen; its log ends with:\n{log}")]
    Silent {
        /// The end of its log.
        log: String,
    },
}

/// A PgBouncer on loopback in front of a cluster, running; it ends when this value is dropped.
///
/// It takes any user of the server with that user's password, ignores the start-up parameters
/// `extra_float_digits` and `options`, and opens up to 80 connections to the server.
#[derive(Debug)]
pub struct PgBouncer {
    cluster: Arc<Cluster>,
    child: Child,
    port: u16,
    log: PathBuf,
}

impl PgBouncer {
    /// Starts one and waits until it listens. Blocks meanwhile, for some milliseconds.
    ///
    /// # Errors
    /// [`PgBouncerError`].
    pub fn start(cluster: Arc<Cluster>, pool_mode: PoolMode) -> Result<Self, PgBouncerError> {
        let program = PLACES
            .iter()
            .map(|place| Path::new(place).join("pgbouncer"));
        let program = program.clone().find(|program| program.exists());
        let program = program.ok_or(PgBouncerError::Missing)?;
        for attempt in 1.. {
            match Self::launch(&program, Arc::clone(&cluster), pool_mode) {
                Err(PgBouncerError::Silent { .. }) if attempt < PORT_ATTEMPTS => {}
                started => return started,
            }
        }
        unreachable!("bug: the last attempt returns")
    }

    /// Returns the options of a connection through it as superuser to the database `poolproof`.
    ///
    /// Their `Debug` shows the password: do not print them.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        options(self.port, self.cluster.server.password())
    }

    /// Returns its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&fs::read_to_string(&self.log).unwrap_or_default())
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("bug: a process id beyond i32")
    }

    fn launch(
        program: &Path,
        cluster: Arc<Cluster>,
        pool_mode: PoolMode,
    ) -> Result<Self, PgBouncerError> {
        let port = free_port().map_err(|source| PgBouncerError::Io {
            path: PathBuf::from("127.0.0.1"),
            source,
        })?;
        // In the run's directory, where it is found and ended should this process be killed.
        let dir = cluster.server.run_path().join(format!("pgbouncer-{port}"));
        let io = |source| PgBouncerError::Io {
            path: dir.clone(),
            source,
        };
        let log = dir.join("log");
        let child = spawn(program, &dir, &cluster, (port, pool_mode)).map_err(io)?;
        let mut started = Self {
            cluster,
            child,
            port,
            log,
        };
        match started.listens() {
            true => Ok(started),
            false => Err(PgBouncerError::Silent { log: started.log() }),
        }
    }

    fn listens(&mut self) -> bool {
        let mut is_alive = true;
        let listens = wait::until(START_WITHIN, || {
            is_alive = matches!(self.child.try_wait(), Ok(None));
            !is_alive || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
        listens && is_alive
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            tracing::error!(%error, "pgbouncer could not be ended; the next run tries again");
        }
    }
}

fn spawn(
    program: &Path,
    dir: &Path,
    cluster: &Cluster,
    (port, pool_mode): (u16, PoolMode),
) -> io::Result<Child> {
    let account = cluster.server.account();
    let own = |path: &Path| match account {
        Some(account) => chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())),
        None => Ok(()),
    };
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        let mut file = OpenOptions::new();
        file.write(true).create_new(true).mode(0o600);
        file.open(&path)?.write_all(text.as_bytes())?;
        own(&path)
    };
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    own(dir)?;
    let password = cluster.server.password();
    write("users", &format!("\"{SUPERUSER}\" \"{password}\"\n"))?;
    write(
        "pgbouncer.ini",
        &configuration(cluster.port(), port, pool_mode),
    )?;
    let log = File::create(dir.join("log"))?;
    let mut command = process::command(program, account, dir);
    command.arg("pgbouncer.ini");
    command.stdout(log.try_clone()?).stderr(log);
    process::spawn(&mut command)
}

fn configuration(server: u16, port: u16, pool_mode: PoolMode) -> String {
    let pool_mode = match pool_mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
    };
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={server} auth_user={SUPERUSER}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         pool_mode = {pool_mode}\n\
         auth_type = scram-sha-256\n\
         auth_file = users\n\
         auth_query = select usename, passwd from pg_catalog.pg_shadow where usename = $1\n\
         ignore_startup_parameters = extra_float_digits,options\n\
         default_pool_size = 80\n\
         max_client_conn = 1000\n"
    )
}
