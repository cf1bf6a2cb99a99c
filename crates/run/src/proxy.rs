//! The fault proxy on its own, with its HTTP API.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use poolproof_faults::{Proxies, ServeError, serve};
use thiserror::Error;
use tokio::net::TcpListener;

/// Why the fault proxy cannot be served.
#[derive(Debug, Error)]
pub enum ProxyServerError {
    /// The address cannot be listened on.
    #[error("the address cannot be used")]
    Bind(#[source] io::Error),
    /// Serving ended with an error.
    #[error("the server ended")]
    Serve(#[source] ServeError),
}

impl ProxyServerError {
    /// Returns what to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        let Self::Bind(error) = self else { return None };
        let text = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "something listens there already, perhaps a Toxiproxy: stop it or choose another \
                 port with --listen"
            }
            io::ErrorKind::PermissionDenied => "ports below 1024 need privileges: choose another",
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// A fault proxy that listens, and serves when it is told to.
#[derive(Debug)]
pub struct ProxyServer {
    listener: TcpListener,
    address: SocketAddr,
    proxies: Proxies,
}

impl ProxyServer {
    /// Opens the address of the HTTP API; connections wait until [`ProxyServer::serve`].
    ///
    /// `seed` decides jitter and toxicity.
    ///
    /// # Errors
    /// [`ProxyServerError::Bind`] when the address cannot be used.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn bind(listen: SocketAddr, seed: u64) -> Result<Self, ProxyServerError> {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(ProxyServerError::Bind)?;
        let address = listener.local_addr().map_err(ProxyServerError::Bind)?;
        Ok(Self {
            listener,
            address,
            proxies: Proxies::new(seed),
        })
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, then closes every proxy and its links.
    ///
    /// # Errors
    /// [`ProxyServerError::Serve`] when the HTTP server fails.
    ///
    /// # Cancel safety
    /// Dropping it closes everything at once.
    pub async fn serve<S>(self, shutdown: S) -> Result<(), ProxyServerError>
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let served = serve(self.proxies.clone(), self.listener, shutdown).await;
        self.proxies.shutdown().await;
        served.map_err(ProxyServerError::Serve)
    }
}
