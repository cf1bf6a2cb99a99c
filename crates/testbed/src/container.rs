//! A Postgres in a container: started through `testcontainers`, reached over TCP, removed with
//! the run.
//!
//! The run's directory holds a token that the container shows as a label, and the lock that says
//! whether the run lives: see [`crate::reap`].

mod engine;
mod error;
mod image;
mod labels;
mod life;
mod ready;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use sqlx::postgres::PgConnectOptions;
use testcontainers::ContainerAsync;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::runners::AsyncRunner;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use error::{ContainerError, RemovalError};
pub use image::{DEFAULT_IMAGE, ImageName, ImageNameError};
pub use labels::RUN_LABEL;

use crate::account::Account;
use crate::cluster::{is_run_id, unique_run_id};
use crate::home::Home;
use crate::random;
use crate::reap;
use crate::run_dir::RunDir;
use crate::settle::Alive;
use crate::teardown::{StopError, cluster_name};
use image::{Order, Postgres};
use labels::Labels;
use life::Death;

/// How a container is set up.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// Names the run; no other living run may have the same. At most 40 letters, digits, `-` and
    /// `_`. Default: one that nobody has.
    pub run_id: String,
    /// What the server runs in. Default: [`DEFAULT_IMAGE`].
    pub image: ImageName,
    /// Settings, given to the server as arguments. Default: none, which means
    /// `max_connections = 100` and the image's own.
    pub settings: BTreeMap<String, String>,
    /// The directory for what is known of running containers. Default: [`crate::default_home`].
    pub home: Option<PathBuf>,
}

impl Default for ContainerConfig {
    fn default() -> Self {
        Self {
            run_id: unique_run_id(),
            image: ImageName::default(),
            settings: BTreeMap::new(),
            home: None,
        }
    }
}

/// A private Postgres in a container, running; all of it goes with this value.
///
/// [`Container::stop`] removes it and says what went wrong. Dropping it removes it and blocks for
/// that time, some tenths of a second; a failure then goes to the log, and the next run removes the
/// rest. The same holds for a run that is killed: see [`crate::reap`].
pub struct Container {
    image: ImageName,
    options: PgConnectOptions,
    /// None once it is being removed.
    held: Option<Box<Held>>,
}

/// What has to be removed in the end.
struct Held {
    run: RunDir,
    token: String,
    container: Option<ContainerAsync<Postgres>>,
    life: watch::Receiver<Option<Death>>,
    /// Ends when the container does.
    log: Option<JoinHandle<()>>,
    /// Goes last.
    _alive: Alive,
}

impl Container {
    /// Starts a container, pulling its image where it is missing, and waits until the server in it
    /// answers a query. Removes first what killed runs left behind.
    ///
    /// # Errors
    /// [`ContainerError`]; [`ContainerError::help`] says what can be done.
    /// # Cancel safety
    /// Safe. What was started by then is removed by a task of its own; [`crate::settled`] waits for
    /// that.
    pub async fn start(config: ContainerConfig) -> Result<Self, ContainerError> {
        if std::env::var_os("PGOPTIONS").is_some_and(|options| !options.is_empty()) {
            return Err(ContainerError::Environment);
        }
        let alive = Alive::begin();
        let (mut tell, told) = oneshot::channel();
        let task = engine::spawn(async move {
            let started = Self::make(config, alive, &mut tell).await;
            // Nobody waits any more: it must not be dropped here, where dropping cannot wait.
            if let Err(Ok(mut container)) = tell.send(started)
                && let Some(held) = container.held.take()
            {
                held.end_and_log().await;
            }
        });
        drop(task?);
        told.await.map_err(|_| ContainerError::Panicked)?
    }

    /// Makes the container, until `asker` is closed.
    async fn make(
        config: ContainerConfig,
        alive: Alive,
        asker: &mut oneshot::Sender<Result<Self, ContainerError>>,
    ) -> Result<Self, ContainerError> {
        let ContainerConfig {
            run_id,
            image,
            settings,
            home,
        } = config;
        if !is_run_id(&run_id) {
            return Err(ContainerError::RunId { run_id });
        }
        let docker = engine::connect().await?;
        let prepared = tokio::task::spawn_blocking(move || prepare(home, &run_id));
        let (run, labels) = prepared.await.map_err(|_| ContainerError::Panicked)??;
        let password = random::hex(PASSWORD_BYTES).map_err(|source| files(&run, source))?;
        let name = cluster_name(&run.name());
        let order = Order {
            image: &image,
            settings: &settings,
            cluster_name: &name,
            password: &password,
            labels: &labels,
            engine_is_here: engine::is_on_this_machine(),
        };
        let (tell_death, life) = watch::channel(None);
        // From here on whatever fails, or is given up, is removed.
        let mut held = Box::new(Held {
            run,
            token: labels.token().to_owned(),
            container: None,
            life,
            log: None,
            _alive: alive,
        });
        let made = async {
            tokio::select! {
                pulled = have_image(&docker, &order) => pulled?,
                () = asker.closed() => return Err(ContainerError::Cancelled),
            }
            held.launch(&docker, &order, tell_death).await?;
            let ready = ready::wait(&mut held, &docker, &order);
            tokio::select! {
                options = ready => options,
                () = asker.closed() => Err(ContainerError::Cancelled),
            }
        };
        match made.await {
            Ok(options) => Ok(Self {
                image,
                options,
                held: Some(held),
            }),
            Err(error) => {
                held.end_and_log().await;
                Err(error)
            }
        }
    }

    /// Returns the options of a direct connection as superuser to the database `poolproof`.
    ///
    /// Their `Debug` shows the password: do not print them.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Returns the image that it was made from.
    #[must_use]
    pub fn image(&self) -> &ImageName {
        &self.image
    }

    /// Returns the engine's name for it.
    #[must_use]
    pub fn id(&self) -> &str {
        let container = self.held.as_ref().and_then(|held| held.container.as_ref());
        container.map_or("", |container| container.id())
    }

    /// Tells whether it is there and its main process is alive, as far as the engine has said. It
    /// says nothing about answers.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.death().is_none()
    }

    /// Tells how it ended; none while it runs.
    #[must_use]
    pub fn cause_of_death(&self) -> Option<String> {
        self.death().map(|death| death.to_string())
    }

    /// Returns the file that holds what it printed; it is removed with the container.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        let run = self.held.as_ref().map(|held| held.run.log());
        run.unwrap_or_default()
    }

    fn death(&self) -> Option<Death> {
        *self.held.as_ref()?.life.borrow()
    }

    /// Kills and removes it, with its data.
    ///
    /// # Errors
    /// [`StopError`] when something is left; the next run tries again.
    /// # Cancel safety
    /// Safe. A task of its own carries on; [`crate::settled`] waits for it.
    pub async fn stop(mut self) -> Result<(), StopError> {
        let Some(held) = self.held.take() else {
            return Ok(());
        };
        let ended = engine::spawn(held.end()).map_err(RemovalError::from)?;
        ended.await.map_err(|_| StopError::Panicked)?
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let ended = held.end_and_log();
        let begun = if engine::is_here() {
            engine::spawn(ended).map(drop)
        } else {
            engine::block_on(ended)
        };
        if let Err(error) = begun {
            tracing::error!(%error, "a container could not be removed");
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("id", &self.id())
            .field("image", &self.image.to_string())
            .finish_non_exhaustive()
    }
}

const PASSWORD_BYTES: usize = 16;

impl Held {
    /// Makes and starts the container, and watches it from then on.
    async fn launch(
        &mut self,
        docker: &Docker,
        order: &Order<'_>,
        tell_death: watch::Sender<Option<Death>>,
    ) -> Result<(), ContainerError> {
        let request = order.request().map_err(ContainerError::Setting)?;
        // Not to be given up half-way: the engine would go on, and nobody would know.
        let container = request
            .start()
            .await
            .map_err(|source| ContainerError::Start {
                image: order.image.to_string(),
                source: Box::new(source),
            })?;
        let id = container.id().to_owned();
        self.container = Some(container);
        let log = life::keep_log(docker.clone(), id.clone(), self.run.log());
        self.log = Some(engine::spawn(log)?);
        drop(engine::spawn(life::watch(docker.clone(), id, tell_death))?);
        Ok(())
    }

    async fn end(mut self) -> Result<(), StopError> {
        if let Some(container) = self.container.take()
            && let Err(error) = container.rm().await
        {
            // It may be gone, or on its way; what is left is found by its token.
            tracing::debug!(%error, "the container was not removed at the first attempt");
        }
        engine::remove(self.token.clone()).await?;
        forget(self.run).await
    }

    async fn end_and_log(self) {
        let run = self.run.name();
        if let Err(error) = self.end().await {
            tracing::error!(run, %error, "a container is left; the next run tries again");
        }
    }
}

/// Removes the directory of a run without a container.
async fn forget(mut run: RunDir) -> Result<(), StopError> {
    let removed = tokio::task::spawn_blocking(move || {
        run.remove().map_err(|source| StopError::Remove {
            path: run.path().to_path_buf(),
            source,
        })
    });
    removed.await.map_err(|_| StopError::Panicked)?
}

/// Makes the run's directory, with a token in it.
fn prepare(home: Option<PathBuf>, run_id: &str) -> Result<(RunDir, Labels), ContainerError> {
    let account = Account::for_servers().map_err(ContainerError::Account)?;
    let home = Home::open(home.as_deref(), account.as_ref()).map_err(ContainerError::Home)?;
    reap::before_start(&home, account.as_ref());
    let mut run = RunDir::create(&home, run_id).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            let run_id = run_id.to_owned();
            return ContainerError::RunTaken { run_id };
        }
        let path = home.runs().join(run_id);
        ContainerError::Files { path, source }
    })?;
    match Labels::note(&run) {
        Ok(labels) => Ok((run, labels)),
        Err(source) => {
            let error = files(&run, source);
            drop(run.remove());
            Err(error)
        }
    }
}

fn files(run: &RunDir, source: io::Error) -> ContainerError {
    let path = run.path().to_path_buf();
    ContainerError::Files { path, source }
}

/// Pulls the image unless it is there.
async fn have_image(docker: &Docker, order: &Order<'_>) -> Result<(), ContainerError> {
    let image = order.image.to_string();
    match docker.inspect_image(&image).await {
        Ok(_) => return Ok(()),
        Err(EngineError::DockerResponseServerError {
            status_code: 404, ..
        }) => {}
        Err(source) => return Err(ContainerError::Ask(Box::new(source))),
    }
    let request = order.request().map_err(ContainerError::Setting)?;
    match request.pull_image().await {
        Ok(_) => Ok(()),
        Err(source) => Err(ContainerError::NoImage {
            image,
            source: Box::new(source),
        }),
    }
}

/// Whether a dead run had a container.
pub(crate) fn was_of(run: &RunDir) -> bool {
    run.container().exists()
}

/// Removes what a dead run's container left, and the run's directory. Blocks.
pub(crate) fn reap_run(mut run: RunDir) -> Result<(), StopError> {
    let token = labels::token_of(&run)
        .map_err(|(path, source)| StopError::Container(RemovalError::Note { path, source }))?;
    if let Some(token) = token {
        engine::block_on(engine::remove(token)).map_err(RemovalError::from)??;
    }
    run.remove().map_err(|source| StopError::Remove {
        path: run.path().to_path_buf(),
        source,
    })
}
