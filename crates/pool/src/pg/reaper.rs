//! Ends sessions that were left alone for too long.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::track::{Doomed, Patience, Scan};

/// A pause that is as good as none, where nothing is due within the clock's range.
const FAR: Duration = Duration::from_secs(3600);

/// Watches the sessions of a pool, for as long as it has connections.
pub(super) async fn watch(shared: Weak<Shared>, patience: Patience) {
    let mut endings = JoinSet::new();
    loop {
        let Some(next) = look(&shared, patience, &mut endings) else {
            return;
        };
        while let Some(ended) = endings.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "ending a stale session failed");
            }
        }
        sleep_until(next).await;
    }
}

/// Marks what is stale and has it ended. Returns when to look again; none when there is nothing left.
fn look(shared: &Weak<Shared>, patience: Patience, endings: &mut JoinSet<()>) -> Option<Instant> {
    let shared = shared.upgrade()?;
    let now = Instant::now();
    let Scan::Sessions { doomed, next } = shared.registry.scan(patience, now) else {
        return None;
    };
    for Doomed {
        target,
        location,
        reaped,
    } in doomed
    {
        let Some(target) = target else {
            tracing::warn!(%location, "a stale session ends at its next call: {reaped}");
            continue;
        };
        tracing::warn!(pid = target.backend.pid, %location, "ending a stale session: {reaped}");
        let fence = Arc::clone(&shared.fence);
        endings.spawn(async move { fence.end(target).await });
    }
    Some(next.unwrap_or(now + FAR))
}
