//! The server: a task per connection, all owned by [`serve`] and gone when it returns.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::accept::ACCEPT_REST;
use crate::registry::Proxies;

/// How long requests that run at the end may take to finish.
const GRACE: Duration = Duration::from_secs(2);

/// Failures to accept in a row after which the listener counts as broken; 30 s of them.
const ACCEPT_FAILURES_MAX: u32 = 600;

/// Why the HTTP API stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener no longer accepts connections.
    #[error("accept connections of the fault proxy's HTTP API")]
    Accept {
        /// The last failure of many.
        #[source]
        source: io::Error,
    },
}

/// Serves Toxiproxy's HTTP API on `listener` until `shutdown` is ready.
///
/// Requests that run then have 2 s to finish. The proxies go on: end them with
/// [`Proxies::shutdown`]. Whoever can connect can make this process listen and connect anywhere,
/// so the listener should be on a loopback address.
///
/// # Errors
/// [`ServeError::Accept`] when the listener breaks.
/// # Cancel safety
/// Safe: dropping the future closes the listener and every connection of the API.
pub async fn serve(
    proxies: Proxies,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let router = super::router(proxies);
    let (closing, _) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut failures = 0;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => note(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    connections.spawn(connection(stream, router.clone(), closing.subscribe()));
                }
                Err(source) if failures < ACCEPT_FAILURES_MAX => {
                    failures += 1;
                    rest(&source).await;
                }
                Err(source) => return Err(ServeError::Accept { source }),
            },
        }
    }
    drop(listener);
    drop(closing);
    let finish = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    if tokio::time::timeout(GRACE, finish).await.is_err() {
        tracing::warn!("requests were cut off at the end of the HTTP API");
    }
    connections.shutdown().await;
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, mut closing: watch::Receiver<()>) {
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = tokio::select! {
        served = &mut connection => served,
        // Nothing is ever sent: the channel says that its sender is gone.
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the HTTP API broke");
    }
}

async fn rest(error: &io::Error) {
    tracing::warn!(%error, "accepting a connection of the HTTP API failed");
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no event to wait for: descriptors become free elsewhere"
    )]
    tokio::time::sleep(ACCEPT_REST).await;
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection of the HTTP API ended with a panic");
    }
}
