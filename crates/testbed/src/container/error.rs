//! Why a container did not start, and what can be done about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use testcontainers::TestcontainersError;
use testcontainers::bollard::errors::Error as EngineError;

use super::DEFAULT_IMAGE;
use crate::account::AccountError;
use crate::cluster::RefusedSetting;
use crate::home::HomeError;
use crate::settings::SettingError;

/// Why no Postgres runs in a container.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The run's name cannot be the name of a directory.
    #[error("name a run {run_id:?}: at most 40 letters, digits, '-' and '_' make a run id")]
    RunId {
        /// The name.
        run_id: String,
    },
    /// A living run has this name.
    #[error("start a second server for run {run_id}, which has one that is alive")]
    RunTaken {
        /// The name.
        run_id: String,
    },
    /// A setting cannot be passed on.
    #[error("configure the server")]
    Setting(#[source] SettingError),
    /// The server does not accept settings.
    #[error("configure the server, which says: {}", crate::cluster::messages(.refused))]
    SettingRefused {
        /// Which, and why not.
        refused: Vec<RefusedSetting>,
    },
    /// `PGOPTIONS` is set, which sqlx takes into every connection and lets nobody take out again.
    #[error("start a Postgres while PGOPTIONS is set, which every connection to it would follow")]
    Environment,
    /// It is not known whose the files of runs are.
    #[error("find a place for what is known of the container")]
    Account(#[source] AccountError),
    /// There is no directory to work in.
    #[error("find a place for what is known of the container")]
    Home(#[source] HomeError),
    /// Files of the run could not be written.
    #[error("prepare the run's directory {}", path.display())]
    Files {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No thread for the engine's client could be started.
    #[error("start a thread that speaks to the container engine")]
    Thread(#[source] io::Error),
    /// No engine answers.
    #[error("reach a container engine at {host}")]
    NoEngine {
        /// Where it was looked for.
        host: String,
        /// What the attempt came to.
        #[source]
        source: Box<EngineError>,
    },
    /// The engine cannot even be looked for.
    #[error("reach a container engine at {host}")]
    Client {
        /// Where it was looked for.
        host: String,
        /// Why not.
        #[source]
        source: Box<TestcontainersError>,
    },
    /// The image is not there and cannot be pulled.
    #[error("get the image {image}, which the engine does not have and cannot pull")]
    NoImage {
        /// Its name.
        image: String,
        /// What the engine said.
        #[source]
        source: Box<TestcontainersError>,
    },
    /// The engine did not make or start the container.
    #[error("start a container of {image}")]
    Start {
        /// The image.
        image: String,
        /// What the engine said.
        #[source]
        source: Box<TestcontainersError>,
    },
    /// The engine did not answer a question.
    #[error("ask the engine about its container")]
    Ask(#[source] Box<EngineError>),
    /// The container ended while the server was starting.
    #[error(
        "see the server start: its container ended with exit code {code} and these last words:\n{log}"
    )]
    Exited {
        /// The exit code of its main process.
        code: i64,
        /// The last lines of its log.
        log: String,
    },
    /// Somebody else removed the container.
    #[error("see the server start: somebody else removed its container")]
    Removed,
    /// The server gave no answer in time.
    #[error(
        "get an answer from the server in the container within {within:?}; the end of its log:\n{log}"
    )]
    NotReady {
        /// How long it was waited for.
        within: Duration,
        /// The last lines of its log.
        log: String,
        /// What the last attempt to connect ended with.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// Nobody waits for the container any more.
    #[error("start a container: nobody waits for it any more")]
    Cancelled,
    /// The task that does it panicked.
    #[error("start a container: its task panicked")]
    Panicked,
}

impl ContainerError {
    /// Says what can be done about it, where something can.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::RunId { .. } | Self::Cancelled | Self::Panicked => return None,
            Self::RunTaken { .. } => {
                "give each run its own id, or wait for the other to end".into()
            }
            Self::Setting(_) | Self::SettingRefused { .. } => {
                "correct the setting in the scenario's [postgres] section".into()
            }
            Self::Environment => "unset PGOPTIONS; settings of the server stand in the scenario's \
                 [postgres] section"
                .into(),
            Self::Account(_) | Self::Home(_) | Self::Files { .. } => {
                "set POOLPROOF_HOME to a directory that you may write to".into()
            }
            Self::Thread(_) => "see how many processes this user may have (ulimit -u)".into(),
            Self::NoEngine { .. } | Self::Client { .. } => {
                "start Docker or Podman's service, see whether you may use its socket, or name \
                 another with DOCKER_HOST; without an engine, --postgres local starts a Postgres \
                 as a process"
                    .into()
            }
            Self::NoImage { .. } => format!(
                "check the name ({DEFAULT_IMAGE} is the official image) and the way to its registry; \
                 without one, docker/build-images makes poolproof-postgres:15 and :17 from Debian \
                 packages"
            ),
            Self::Start { .. } => "the engine's own words above tell the cause".into(),
            Self::Ask(_) => "see whether the engine is still up (docker info)".into(),
            Self::Exited { .. } | Self::NotReady { .. } => {
                "the server's own words above tell the cause; the image must start Postgres as the \
                 official one does"
                    .into()
            }
            Self::Removed => {
                "leave containers with the label poolproof.run alone: a run removes its own".into()
            }
        };
        Some(text)
    }
}

/// Why a container is left.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// The engine cannot be reached.
    #[error(transparent)]
    Engine(#[from] ContainerError),
    /// The engine refused.
    #[error("remove container {id}")]
    Refused {
        /// The container.
        id: String,
        /// What the engine said.
        #[source]
        source: Box<EngineError>,
    },
    /// The engine has not removed it in time.
    #[error("remove containers {ids:?} within {within:?}")]
    Slow {
        /// The containers.
        ids: Vec<String>,
        /// How long that was waited for.
        within: Duration,
    },
    /// What tells the run's containers from others cannot be read.
    #[error("read {}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
