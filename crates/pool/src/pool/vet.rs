//! What a connection must pass before it is lent: a ping, and the acquire hook.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::lease::{Fate, Lease};
use super::runtime::with_timers;
use super::{Inner, now};
use crate::connector::Connector;
use crate::hooks::{self, HookError};

/// Owns the lease: when it is dropped in the middle, the lease finds its way back by its fate.
pub(super) type Vetting<C> = Pin<Box<dyn Future<Output = Result<Lease<C>, Unfit>> + Send>>;

/// Why a connection is not lent. It is gone already.
pub(super) enum Unfit {
    /// It did not answer its ping. All connections as old as it went with it, so that at most one ping
    /// fails per outage (SQLAlchemy's rule 31).
    Dead,
    /// The hook did not want it.
    Hook(HookError),
}

/// What is to be done.
pub(super) struct Checks {
    pub(super) ping: bool,
    /// How long all may take.
    pub(super) within: Duration,
}

pub(super) async fn vet<C: Connector>(
    inner: Arc<Inner<C>>,
    mut lease: Lease<C>,
    checks: Checks,
) -> Result<Lease<C>, Unfit> {
    let began = now();
    if checks.ping {
        lease = ping(&inner, lease, checks.within).await?;
    }
    let Some(hook) = &inner.hooks.acquire else {
        return Ok(lease);
    };
    let left = checks
        .within
        .saturating_sub(now().saturating_duration_since(began));
    // Nobody knows what a hook that was dropped had under way.
    lease.set_fate(Fate::Abandon);
    let refusal = match with_timers(&inner.handle, || {
        timeout(left, hooks::run(hook, lease.tracked()))
    })
    .await
    {
        Ok(Ok(())) => {
            lease.set_fate(Fate::Return);
            return Ok(lease);
        }
        Ok(Err(error)) => {
            lease.set_fate(Fate::Unfit);
            error
        }
        Err(_) => HookError::TimedOut { after: left },
    };
    tracing::warn!(
        error = &refusal as &dyn std::error::Error,
        "a connection is not lent"
    );
    Err(Unfit::Hook(refusal))
}

impl<C: Connector> Lease<C> {
    /// Pings the connection, for `within` and `ping_timeout` at most, and gives it back. Returns whether it
    /// answered; one that did not is closed, and so are all that are as old as it.
    ///
    /// # Cancel safety
    /// Safe. A connection that was just being pinged is reset before it is lent again.
    pub async fn ping(self, within: Duration) -> bool {
        let inner = self.pool();
        ping(&inner, self, within).await.is_ok()
    }
}

async fn ping<C: Connector>(
    inner: &Inner<C>,
    mut lease: Lease<C>,
    within: Duration,
) -> Result<Lease<C>, Unfit> {
    let patience = inner.config.ping_timeout.min(within);
    // Nothing but the ping can be in flight when this is dropped, so that a reset cleans up.
    lease.set_fate(Fate::Reset);
    let began = now();
    let answer = with_timers(&inner.handle, || {
        timeout(patience, inner.connector.ping(lease.tracked()))
    });
    let answer = answer.await;
    inner.meters.ping(now().saturating_duration_since(began));
    match answer {
        Ok(Ok(())) => {
            lease.set_fate(Fate::Return);
            return Ok(lease);
        }
        Ok(Err(error)) => tracing::debug!(%error, "an idle connection failed its ping"),
        Err(_) => tracing::debug!("an idle connection did not answer its ping"),
    }
    lease.set_fate(Fate::Broken);
    Err(Unfit::Dead)
}
