//! The task of a listening proxy: accepts clients and owns their links.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::link::{Link, Orders, Site, without_delay};
use crate::tally::LiveLink;

/// How long accepting rests after an error, typically for want of file descriptors.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves until the sender of the orders is gone; then every link has ended and nothing is left.
pub(crate) async fn run(
    listener: TcpListener,
    site: Arc<Site>,
    mut orders: watch::Receiver<Orders>,
) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = orders.changed() => if changed.is_err() {
                break;
            },
            Some(ended) = links.join_next(), if !links.is_empty() => note(ended),
            accepted = listener.accept() => match accepted.and_then(|(c, _)| without_delay(c)) {
                Ok(client) => {
                    links.spawn(link(client, &site, &mut orders).run());
                }
                Err(error) => rest(&site, &error).await,
            },
        }
    }
    drop(listener);
    while let Some(ended) = links.join_next().await {
        note(ended);
    }
}

fn link(client: TcpStream, site: &Arc<Site>, orders: &mut watch::Receiver<Orders>) -> Link {
    let resets = orders.borrow_and_update().resets;
    Link {
        client,
        site: Arc::clone(site),
        ordinal: site.tally.connections.fetch_add(1, Ordering::Relaxed),
        orders: orders.clone(),
        resets,
        live: LiveLink::count(&site.tally),
    }
}

async fn rest(site: &Site, error: &io::Error) {
    tracing::warn!(proxy = %site.proxy, %error, "accepting a connection failed");
    #[expect(
        clippy::disallowed_methods,
        reason = "there is no event to wait for: descriptors become free elsewhere"
    )]
    tokio::time::sleep(ACCEPT_REST).await;
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a link ended with a panic");
    }
}
