//! One proxy of the registry: its addresses, its toxics and, while it listens, its task.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::accept;
use crate::chain::ActiveToxic;
use crate::error::ProxyError;
use crate::link::{Orders, Site};
use crate::listen;
use crate::proxy::ProxyView;
use crate::tally::Tally;
use crate::toxic::{Stream, ToxicView};

pub(super) struct Proxy {
    pub(super) name: String,
    pub(super) listen: String,
    pub(super) upstream: String,
    pub(super) toxics: Vec<ActiveToxic>,
    pub(super) shared: Arc<Shared>,
    seed: u64,
    /// The accepting task, which owns the links; empty while disabled.
    task: JoinSet<()>,
}

impl Proxy {
    pub(super) fn new(seed: u64, name: String, listen: String, upstream: String) -> Self {
        Self {
            name,
            listen,
            upstream,
            toxics: Vec::new(),
            shared: Arc::new(Shared::default()),
            seed,
            task: JoinSet::new(),
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        !self.task.is_empty()
    }

    /// Whether it would have to be started anew to listen on and connect to these.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn differs(&self, listen: &str, upstream: &str) -> Result<bool, ProxyError> {
        let resolved = resolve(listen).await?;
        Ok(self.listen != resolved.to_string() || self.upstream != upstream)
    }

    /// Takes over changed addresses and starts or stops as needed.
    pub(super) async fn apply(
        &mut self,
        listen: String,
        upstream: String,
        enabled: bool,
    ) -> Result<(), ProxyError> {
        if self.differs(&listen, &upstream).await? {
            self.stop().await;
            self.listen = listen;
            self.upstream = upstream;
        }
        match (enabled, self.is_enabled()) {
            (true, false) => self.start().await,
            (false, true) => {
                self.stop().await;
                Ok(())
            }
            (true, true) | (false, false) => Ok(()),
        }
    }

    pub(super) async fn start(&mut self) -> Result<(), ProxyError> {
        let address = resolve(&self.listen).await?;
        let bind_error = |source: io::Error| ProxyError::Bind {
            listen: address.to_string(),
            source,
        };
        let listener = listen::bind(address).map_err(bind_error)?;
        self.listen = listener.local_addr().map_err(bind_error)?.to_string();
        let (orders, receiver) = watch::channel(Orders {
            toxics: self.toxics.clone().into(),
            resets: 0,
        });
        *self.shared.orders() = Some(orders);
        let site = Arc::new(Site {
            seed: self.seed,
            proxy: self.name.clone(),
            upstream: self.upstream.clone(),
            tally: Arc::clone(&self.shared.tally),
        });
        self.task.spawn(accept::run(listener, site, receiver));
        Ok(())
    }

    /// Closes the listener and ends every link, and waits until that has happened.
    pub(super) async fn stop(&mut self) {
        *self.shared.orders() = None;
        while let Some(ended) = self.task.join_next().await {
            if let Err(error) = ended {
                tracing::error!(proxy = %self.name, %error, "the accepting task panicked");
            }
        }
    }

    /// Makes the links obey the toxics as they are now.
    pub(super) fn publish_toxics(&self) {
        if let Some(orders) = self.shared.orders().as_ref() {
            orders.send_modify(|orders| orders.toxics = self.toxics.clone().into());
        }
    }

    pub(super) fn toxic_views(&self) -> Vec<ToxicView> {
        [Stream::Upstream, Stream::Downstream]
            .into_iter()
            .flat_map(|stream| self.toxics.iter().filter(move |t| t.view.stream == stream))
            .map(|toxic| toxic.view.clone())
            .collect()
    }

    pub(super) fn view(&self) -> ProxyView {
        ProxyView {
            name: self.name.clone(),
            listen: self.listen.clone(),
            upstream: self.upstream.clone(),
            enabled: self.is_enabled(),
            toxics: self.toxic_views(),
        }
    }
}

/// What can be read and ordered without the actor.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) tally: Arc<Tally>,
    /// The sender of the orders while the proxy listens. The lock is never held across an await.
    orders: Mutex<Option<watch::Sender<Orders>>>,
}

impl Shared {
    pub(super) fn reset_links(&self) -> u64 {
        let orders = self.orders();
        let Some(orders) = orders.as_ref() else {
            return 0;
        };
        let links = self.tally.live_links.load(Ordering::Relaxed);
        orders.send_modify(|orders| orders.resets += 1);
        links
    }

    fn orders(&self) -> MutexGuard<'_, Option<watch::Sender<Orders>>> {
        // What is behind the lock is replaced as a whole, so a panic leaves it valid.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn resolve(listen: &str) -> Result<std::net::SocketAddr, ProxyError> {
    listen::resolve(listen)
        .await
        .map_err(|source| ProxyError::Resolve {
            listen: listen.to_owned(),
            source,
        })
}
