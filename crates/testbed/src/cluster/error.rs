//! Why a cluster did not start, and what can be done about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::account::AccountError;
use crate::binaries::FindError;
use crate::download::DownloadError;
use crate::home::HomeError;
use crate::install::install_hint;
use crate::settings::SettingError;
use crate::teardown::StopError;
use crate::template::TemplateError;

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The run's name cannot be the name of a directory.
    #[error("name a run {run_id:?}: at most 40 letters, digits, '-' and '_' make a run id")]
    RunId {
        /// The name.
        run_id: String,
    },
    /// A living run has this name.
    #[error("start a second cluster for run {run_id}, which has one that is alive")]
    RunTaken {
        /// The name.
        run_id: String,
    },
    /// A setting cannot be written down.
    #[error("configure the server")]
    Setting(#[source] SettingError),
    /// The server does not accept settings.
    #[error("configure the server, which says: {}", messages(.refused))]
    SettingRefused {
        /// Which, and why not.
        refused: Vec<RefusedSetting>,
    },
    /// `PGOPTIONS` is set, which sqlx takes into every connection and lets nobody take out again.
    #[error(
        "start a private Postgres while PGOPTIONS is set, which every connection to it would follow"
    )]
    Environment,
    /// There is no unprivileged user to run the server as.
    #[error("start a server as root")]
    Account(#[source] AccountError),
    /// There is no directory to work in.
    #[error("start a private Postgres")]
    Home(#[source] HomeError),
    /// The Postgres that was asked for is of no use, or no program can be run.
    #[error("start a private Postgres")]
    Find(#[source] FindError),
    /// There is no Postgres on this machine, and none could be downloaded.
    #[error("start a private Postgres: failed to {find}, and then to download one")]
    NoPostgres {
        /// What was found on this machine.
        find: FindError,
        /// Why there is no download.
        #[source]
        source: Box<DownloadError>,
    },
    /// There is no data directory to start with.
    #[error("start a private Postgres")]
    Template(#[source] TemplateError),
    /// There is no room.
    #[error("start a private Postgres: no space left in {}", path.display())]
    DiskFull {
        /// Where the room was needed.
        path: PathBuf,
    },
    /// Files of the run could not be written.
    #[error("prepare the run's directory {}", path.display())]
    Files {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server could not be executed.
    #[error("run {}", program.display())]
    Spawn {
        /// The server's program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No port was free.
    #[error("find a free port on 127.0.0.1")]
    Port(#[source] io::Error),
    /// Another process was faster to take the port, again and again.
    #[error("listen on 127.0.0.1:{port}: another process took the port")]
    PortTaken {
        /// The last port that was tried.
        port: u16,
    },
    /// The server ended while it was starting.
    #[error("see the server start: it ended with {status} and these last words:\n{log}")]
    Exited {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// The server gave no answer in time.
    #[error("get an answer from the server within {within:?}; the end of its log:\n{log}")]
    NotReady {
        /// How long it was waited for.
        within: Duration,
        /// The last lines of its log.
        log: String,
        /// What the last attempt to connect ended with.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// An attempt failed and could not be cleaned up.
    #[error("clean up after a failed attempt")]
    CleanUp(#[source] StopError),
    /// The thread that does it panicked.
    #[error("start a private Postgres: its thread panicked")]
    Panicked,
}

/// A setting that the server does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSetting {
    /// Its name in lower case.
    pub name: String,
    /// What the server said, in its own words.
    pub message: String,
}

pub(crate) fn messages(refused: &[RefusedSetting]) -> String {
    let messages: Vec<_> = refused.iter().map(|r| r.message.as_str()).collect();
    messages.join("; ")
}

impl StartError {
    /// Says what can be done about it, where something can.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::RunId { .. } | Self::Panicked => return None,
            Self::RunTaken { .. } => "give each run its own id, or wait for the other to end".into(),
            Self::Setting(_) | Self::SettingRefused { .. } => {
                "correct the setting in the scenario's [postgres] section".into()
            }
            Self::Environment => "unset PGOPTIONS; settings of the server stand in the scenario's \
                 [postgres] section"
                .into(),
            Self::Account(_) => "Postgres refuses to run as root: run poolproof as an ordinary user, \
                 or create a user for the server (useradd --system postgres)"
                .into(),
            Self::Home(HomeError::Unreachable { .. }) => {
                "set POOLPROOF_HOME to a directory that this user may enter, or run poolproof as an \
                 ordinary user"
                    .into()
            }
            Self::Home(_) | Self::Files { .. } | Self::Template(TemplateError::Files { .. }) => {
                "set POOLPROOF_HOME to a directory that you may write to".into()
            }
            Self::Find(FindError::Machine(_)) => {
                "set TMPDIR to a directory that exists, has room and may be written to".into()
            }
            Self::Find(_) => {
                "correct or unset POOLPROOF_PG_BIN; unset, the newest Postgres on this machine is used"
                    .into()
            }
            Self::NoPostgres { .. } => install_hint(),
            Self::DiskFull { .. } => {
                "a cluster needs about 100 MB: free some, or set POOLPROOF_HOME to a directory on \
                 another disk"
                    .into()
            }
            Self::Template(TemplateError::Failed { output, .. })
                if output.contains("could not look up effective user") =>
            {
                "Postgres wants a name for the user that it runs as: add this one to /etc/passwd, or \
                 in a container install libnss-unknown"
                    .into()
            }
            Self::Template(_) => {
                "see whether this Postgres is installed completely, or set POOLPROOF_PG_BIN to another"
                    .into()
            }
            Self::Spawn { .. } => "see whether the server's user may execute this file".into(),
            Self::Port(_) | Self::PortTaken { .. } => {
                "see what holds the ports of 127.0.0.1, and try again".into()
            }
            Self::Exited { .. } | Self::NotReady { .. } => {
                "the server's own words above tell the cause".into()
            }
            Self::CleanUp(_) => "the next run removes what is left".into(),
        };
        Some(text)
    }

    pub(super) fn is_port_taken(&self) -> bool {
        matches!(self, Self::PortTaken { .. })
    }

    /// The error for files at `path` that could not be written.
    pub(super) fn files(path: PathBuf, source: io::Error) -> Self {
        if is_full(&source) {
            Self::DiskFull { path }
        } else {
            Self::Files { path, source }
        }
    }

    pub(super) fn template(home: PathBuf, error: TemplateError) -> Self {
        let said_full = matches!(&error, TemplateError::Failed { output, .. } if says_full(output));
        if said_full || error.io().is_some_and(is_full) {
            Self::DiskFull { path: home }
        } else {
            Self::Template(error)
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

pub(super) fn says_full(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}
