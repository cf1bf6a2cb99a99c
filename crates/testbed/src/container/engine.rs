//! Speaks to the container engine, on threads that outlive every caller.
//!
//! `testcontainers` keeps one client for the whole process, and its connections live on the runtime
//! that opened them. So all of it runs on one runtime of our own, and nothing here depends on
//! whether a caller has a runtime, or drops its future.

use std::collections::HashMap;
use std::io;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::time::Duration;

use testcontainers::TestcontainersError;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::client::docker_client_instance;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::error::{ContainerError, RemovalError};
use super::labels::TOKEN_LABEL;

/// How long an engine may take to say that it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long an engine may take to kill and remove a container, on a busy disk.
const REMOVE_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("poolproof-engine")
        .enable_all()
        .build()
});

fn runtime() -> Result<&'static Runtime, ContainerError> {
    // The error cannot be cloned, and is the same for every caller.
    RUNTIME
        .as_ref()
        .map_err(|error| ContainerError::Thread(io::Error::new(error.kind(), error.to_string())))
}

/// Starts `work` on the engine's runtime; it goes on if the handle is dropped.
pub(super) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<JoinHandle<T>, ContainerError> {
    Ok(runtime()?.spawn(work))
}

/// Does `work` on the engine's runtime and blocks until it is done. For threads that may block.
pub(super) fn block_on<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, ContainerError> {
    let (tell, told) = mpsc::sync_channel(1);
    let task = runtime()?.spawn(async move {
        drop(tell.send(work.await));
    });
    let done = told.recv().map_err(|_| ContainerError::Panicked);
    drop(task);
    done
}

/// Whether this thread drives the engine's runtime, so that waiting for it would never end.
pub(super) fn is_here() -> bool {
    let own = RUNTIME.as_ref().ok().map(|runtime| runtime.handle().id());
    Handle::try_current().ok().map(|handle| handle.id()) == own && own.is_some()
}

/// Where the engine is looked for, for messages.
fn host() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| DEFAULT_HOST.to_owned())
}

/// Whether the engine is on this machine.
pub(super) fn is_on_this_machine() -> bool {
    host().starts_with("unix://")
}

/// Returns a client of an engine that answers.
pub(super) async fn connect() -> Result<Docker, ContainerError> {
    let docker = docker_client_instance()
        .await
        .map_err(|source| ContainerError::Client {
            host: host(),
            source: Box::new(TestcontainersError::Client(source)),
        })?;
    let silent = |source| ContainerError::NoEngine {
        host: host(),
        source: Box::new(source),
    };
    match timeout(ANSWER_WITHIN, docker.ping()).await {
        Ok(Ok(_)) => Ok(docker),
        Ok(Err(error)) => Err(silent(error)),
        Err(_elapsed) => Err(silent(EngineError::RequestTimeoutError)),
    }
}

/// Removes the containers with this token, running or not, and waits until they are gone.
pub(super) async fn remove(token: String) -> Result<(), RemovalError> {
    let docker = connect().await?;
    let mut left = Vec::new();
    let gone = async {
        let mut ticks = interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            left = with_token(&docker, &token).await?;
            if left.is_empty() {
                return Ok(());
            }
            for id in &left {
                remove_one(&docker, id).await?;
            }
        }
    };
    match timeout(REMOVE_WITHIN, gone).await {
        Ok(done) => done,
        Err(_elapsed) => Err(RemovalError::Slow {
            ids: left,
            within: REMOVE_WITHIN,
        }),
    }
}

async fn with_token(docker: &Docker, token: &str) -> Result<Vec<String>, RemovalError> {
    let label = format!("{TOKEN_LABEL}={token}");
    let filters = HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let found = docker.list_containers(Some(options)).await;
    let found = found.map_err(|source| ContainerError::Ask(Box::new(source)))?;
    Ok(found.into_iter().filter_map(|found| found.id).collect())
}

async fn remove_one(docker: &Docker, id: &str) -> Result<(), RemovalError> {
    // With the anonymous volume that holds its data.
    let options = RemoveContainerOptionsBuilder::new()
        .force(true)
        .v(true)
        .build();
    match docker.remove_container(id, Some(options)).await {
        Ok(()) => Ok(()),
        // Gone, or about to be.
        Err(EngineError::DockerResponseServerError {
            status_code: 404 | 409,
            ..
        }) => Ok(()),
        Err(source) => Err(RemovalError::Refused {
            id: id.to_owned(),
            source: Box::new(source),
        }),
    }
}
