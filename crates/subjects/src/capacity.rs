//! The capacity probe: all connections at once.

use std::fmt::Display;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use poolproof_oracle::CapacityProbe;
use tokio::time::{Instant, timeout_at};

/// Acquires `wanted` leases at once, holds them until all are there or `within` is over, and
/// gives them back by dropping them.
pub(crate) async fn probe<L, E: Display, F: Future<Output = Result<L, E>>>(
    wanted: u64,
    within: Duration,
    acquire: impl Fn() -> F,
) -> CapacityProbe {
    let started = Instant::now();
    let deadline = started + within;
    let mut pending: FuturesUnordered<F> = (0..wanted).map(|_| acquire()).collect();
    let mut held = Vec::new();
    let mut error = None;
    loop {
        match timeout_at(deadline, pending.next()).await {
            Ok(Some(Ok(lease))) => held.push(lease),
            Ok(Some(Err(cause))) => {
                error.get_or_insert_with(|| cause.to_string());
            }
            Ok(None) => break,
            Err(_) => {
                error.get_or_insert_with(|| {
                    format!(
                        "{} acquires still waited when the time was over",
                        pending.len()
                    )
                });
                break;
            }
        }
    }
    CapacityProbe {
        wanted,
        acquired: held.len() as u64,
        took_us: micros(started.elapsed()),
        within_us: micros(within),
        error,
    }
}

/// Converts a duration into whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

    use super::*;

    async fn probed(there: usize, wanted: u64) -> CapacityProbe {
        let permits = Arc::new(Semaphore::new(there));
        let result = probe(wanted, Duration::from_secs(3), || {
            let permits = Arc::clone(&permits);
            async move {
                let permit: Result<OwnedSemaphorePermit, AcquireError> =
                    permits.acquire_owned().await;
                permit
            }
        })
        .await;
        assert_eq!(permits.available_permits(), there, "all were given back");
        result
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_pool_gives_all_at_once() {
        assert_eq!(
            probed(15, 15).await,
            CapacityProbe {
                wanted: 15,
                acquired: 15,
                took_us: 0,
                within_us: 3_000_000,
                error: None,
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_that_lost_some_says_how_many_were_had() {
        assert_eq!(
            probed(12, 15).await,
            CapacityProbe {
                wanted: 15,
                acquired: 12,
                took_us: 3_000_000,
                within_us: 3_000_000,
                error: Some("3 acquires still waited when the time was over".to_owned()),
            }
        );
    }
}
