//! Watches a container: whether it lives, how it ended, what it prints.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::bollard::models::ContainerStateStatusEnum;
use testcontainers::bollard::query_parameters::{
    InspectContainerOptions, LogsOptionsBuilder, WaitContainerOptionsBuilder,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::interval;

/// The pause between two questions to an engine that did not answer as it should.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// Its main process ended.
    Exited { code: i64, out_of_memory: bool },
    /// It is not there any more, and we did not remove it.
    Removed,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited {
                code,
                out_of_memory: false,
            } => write!(f, "its container ended with exit code {code}"),
            Self::Exited { code, .. } => {
                write!(
                    f,
                    "its container ran out of memory and ended with exit code {code}"
                )
            }
            Self::Removed => f.write_str("somebody else removed its container"),
        }
    }
}

/// Tells of the container's end as soon as the engine does, until it is removed.
pub(super) async fn watch(docker: Docker, id: String, tell: watch::Sender<Option<Death>>) {
    let mut ticks = interval(ASK_EVERY);
    let mut awaited = "not-running";
    loop {
        ticks.tick().await;
        let options = WaitContainerOptionsBuilder::new().condition(awaited);
        let end = docker.wait_container(&id, Some(options.build()));
        // Whatever it says, and be it an error: the look that follows tells what is so.
        drop(Box::pin(end).next().await);
        match look(&docker, &id).await {
            Some(Death::Removed) => {
                tell.send_replace(Some(Death::Removed));
                return;
            }
            Some(death) => {
                tell.send_replace(Some(death));
                awaited = "removed";
            }
            None => {}
        }
    }
}

/// How the container ended; none when it lives, or the engine does not say.
async fn look(docker: &Docker, id: &str) -> Option<Death> {
    let seen = docker
        .inspect_container(id, None::<InspectContainerOptions>)
        .await;
    let state = match seen {
        Ok(seen) => seen.state?,
        Err(EngineError::DockerResponseServerError {
            status_code: 404, ..
        }) => return Some(Death::Removed),
        Err(_) => return None,
    };
    // `docker rm --force` marks it before it kills.
    if matches!(
        state.status,
        Some(ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::DEAD)
    ) {
        return Some(Death::Removed);
    }
    // Created, running, paused, restarting: not ended.
    (state.running == Some(false) && state.pid.unwrap_or(0) == 0).then(|| Death::Exited {
        code: state.exit_code.unwrap_or(-1),
        out_of_memory: state.oom_killed.unwrap_or(false),
    })
}

/// Writes what the container prints to a file, until it ends: with it the engine's own copy goes.
pub(super) async fn keep_log(docker: Docker, id: String, path: PathBuf) {
    let options = LogsOptionsBuilder::new()
        .follow(true)
        .stdout(true)
        .stderr(true)
        .build();
    let mut lines = docker.logs(&id, Some(options));
    let kept = async {
        let mut file = tokio::fs::File::create(&path).await?;
        while let Some(Ok(part)) = lines.next().await {
            file.write_all(&part.into_bytes()).await?;
            file.flush().await?;
        }
        Ok::<_, std::io::Error>(())
    };
    if let Err(error) = kept.await {
        tracing::warn!(%error, path = %path.display(), "the server's log is not kept");
    }
}
