//! Whether the pool and its database can serve, judged within a deadline.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::brief::brief;
use crate::connector::Connector;
use crate::error::{AcquireError, ConnectError};
use crate::pool::{Fate, Lease, Pool, Snapshot, now};
use crate::state::Mode as PoolMode;

/// The usual deadline of [`Pool::health`].
pub const HEALTH_DEADLINE: Duration = Duration::from_millis(500);

/// A probe that takes longer than this means that the pool is degraded.
pub const HEALTH_SLOW: Duration = Duration::from_millis(1000);

/// Connections that are tried before the database is blamed.
const TRIES: u32 = 2;

/// What a look at the pool and its database came to.
#[derive(Debug, Clone)]
pub struct Health<E: Error + 'static = sqlx::Error> {
    /// The verdict: the worst of the reasons.
    pub status: HealthStatus,
    /// Why it is not better. Empty when it is healthy.
    pub reasons: Vec<HealthReason<E>>,
    /// How it was found out.
    pub method: HealthMethod,
    /// How long that took.
    pub took: Duration,
    /// The pool's numbers, as they were at the beginning.
    pub state: Snapshot,
}

/// Whether the pool and its database can serve. The better is the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthStatus {
    /// They serve.
    Healthy,
    /// They serve slowly, or not everybody.
    Degraded,
    /// They do not serve.
    Unhealthy,
}

/// How a [`Health`] was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HealthMethod {
    /// A connection was taken and pinged.
    Probe,
    /// From the pool's books alone, because a probe would have taken the last connection, or the pool
    /// lends none.
    Books,
}

/// Why a pool is not healthy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HealthReason<E: Error + 'static = sqlx::Error> {
    /// All connections that there may be are in use, or others wait already. Degraded.
    Saturated {
        /// Leases.
        out: usize,
        /// Acquires that wait.
        waiting: usize,
    },
    /// The probe took longer than [`HEALTH_SLOW`]. Degraded.
    Slow {
        /// How long it took.
        took: Duration,
    },
    /// The pool is paused. Degraded.
    Paused,
    /// No new connection can be opened. Unhealthy, or degraded when one that is open works.
    Unreachable {
        /// How long ago that began.
        since: Duration,
        /// The last attempt's error.
        cause: ConnectError<E>,
    },
    /// The server refuses the connection, and trying again cannot help. Unhealthy.
    Rejected {
        /// Why.
        cause: ConnectError<E>,
    },
    /// There was no answer by the deadline. Unhealthy.
    NoAnswer {
        /// The deadline.
        within: Duration,
    },
    /// No connection answered its ping as it should. Unhealthy.
    PingFailed,
    /// The acquire hook lets no connection be lent. Unhealthy.
    Hook,
    /// The pool is being drained. Unhealthy.
    Draining,
    /// The pool is closed. Unhealthy.
    Closed,
}

impl<C: Connector> Pool<C> {
    /// Finds out whether the pool and its database can serve, and says so within `deadline`, which is
    /// usually [`HEALTH_DEADLINE`].
    ///
    /// Takes a connection, like any acquire, and pings it; when it does not answer, once more with
    /// another. But when fewer than two connections could be had beside those in use, so that the probe
    /// might take the last one from somebody who needs it, it judges by the pool's books alone.
    ///
    /// # Cancel safety
    /// Safe. A connection that was just being pinged is reset before it is lent again.
    ///
    /// # Examples
    /// ```no_run
    /// # use poolproof_pool::*;
    /// # async fn example(pool: &Pool<PgConnector>) {
    /// let health = pool.health(HEALTH_DEADLINE).await;
    /// let http_status = match health.status {
    ///     HealthStatus::Healthy | HealthStatus::Degraded => 200,
    ///     HealthStatus::Unhealthy => 503,
    /// };
    /// println!("{http_status} {health}");
    /// # }
    /// ```
    pub async fn health(&self, deadline: Duration) -> Health<C::Error> {
        let began = now();
        let state = self.snapshot();
        let (mut reasons, method) = match self.judge_by_books(&state) {
            Some(reasons) => (reasons, HealthMethod::Books),
            None => (self.probe_within(deadline).await, HealthMethod::Probe),
        };
        let took = now().saturating_duration_since(began);
        if took > HEALTH_SLOW {
            reasons.push(HealthReason::Slow { took });
        }
        let probed = method == HealthMethod::Probe && reasons.iter().all(HealthReason::is_mild);
        if let Some(outage) = self.outage()
            && !reasons.iter().any(HealthReason::is_outage)
        {
            let (since, cause) = (outage.since, outage.cause);
            reasons.push(HealthReason::Unreachable { since, cause });
        }
        Health {
            status: status(&reasons, probed),
            reasons,
            method,
            took,
            state,
        }
    }

    /// Returns what the books say, where they must suffice.
    fn judge_by_books(&self, state: &Snapshot) -> Option<Vec<HealthReason<C::Error>>> {
        match state.mode {
            PoolMode::Paused => Some(vec![HealthReason::Paused]),
            PoolMode::Draining => Some(vec![HealthReason::Draining]),
            PoolMode::Closed => Some(vec![HealthReason::Closed]),
            PoolMode::Open if state.is_saturated() => Some(vec![HealthReason::Saturated {
                out: state.out,
                waiting: state.waiting,
            }]),
            PoolMode::Open if !state.can_spare_one() => Some(Vec::new()),
            PoolMode::Open => None,
        }
    }

    async fn probe_within(&self, deadline: Duration) -> Vec<HealthReason<C::Error>> {
        let probe = {
            // The timers turn on the pool's runtime where none is current.
            let elsewhere = Handle::try_current().is_err();
            let _runtime = elsewhere.then(|| self.home().enter());
            timeout(deadline, self.probe(deadline))
        };
        match probe.await {
            Ok(Ok(())) => Vec::new(),
            Ok(Err(reason)) => vec![reason],
            Err(_) => vec![HealthReason::NoAnswer { within: deadline }],
        }
    }

    async fn probe(&self, deadline: Duration) -> Result<(), HealthReason<C::Error>> {
        let began = now();
        for left in (0..TRIES).rev() {
            let budget = deadline.saturating_sub(now().saturating_duration_since(began));
            let acquire = self.acquire().within(budget).sparing();
            let lease = match acquire.await {
                Ok(lease) => lease,
                Err(error) => return refusal(error, deadline),
            };
            // One connection that is dead without saying so must not use up the whole deadline.
            let rest = deadline.saturating_sub(now().saturating_duration_since(began));
            if self.ping(lease, rest / (left + 1)).await {
                return Ok(());
            }
        }
        Err(HealthReason::PingFailed)
    }

    /// Returns whether the connection answered as it should.
    async fn ping(&self, mut lease: Lease<C>, patience: Duration) -> bool {
        // Nothing but the ping can be in flight when this is dropped, so that a reset cleans up.
        lease.set_fate(Fate::Reset);
        let patience = patience.min(self.config().ping_timeout);
        let began = now();
        let answer = timeout(patience, self.connector().ping(lease.tracked())).await;
        self.meters().ping(now().saturating_duration_since(began));
        let works = matches!(answer, Ok(Ok(())));
        lease.set_fate(if works { Fate::Return } else { Fate::Broken });
        works
    }
}

/// What it means that no connection could be had. That others took them meanwhile is what the books would
/// have said.
fn refusal<E: Error + 'static>(
    error: AcquireError<E>,
    within: Duration,
) -> Result<(), HealthReason<E>> {
    Err(match error {
        AcquireError::Exhausted { out, waiting, .. } => HealthReason::Saturated { out, waiting },
        AcquireError::QueueFull { state, .. } => HealthReason::Saturated {
            out: state.out,
            waiting: state.waiting,
        },
        AcquireError::ConnectTimeout { .. } => HealthReason::NoAnswer { within },
        AcquireError::Down { cause, since, .. } => HealthReason::Unreachable { since, cause },
        AcquireError::Rejected { cause } => HealthReason::Rejected { cause },
        AcquireError::Paused { .. } => HealthReason::Paused,
        AcquireError::Hook { .. } => HealthReason::Hook,
        AcquireError::Draining => HealthReason::Draining,
        AcquireError::Closed => HealthReason::Closed,
    })
}

fn status<E: Error + 'static>(reasons: &[HealthReason<E>], probed: bool) -> HealthStatus {
    let worst = reasons.iter().map(|reason| match reason {
        HealthReason::Unreachable { .. } if probed => HealthStatus::Degraded,
        reason if reason.is_mild() => HealthStatus::Degraded,
        _ => HealthStatus::Unhealthy,
    });
    worst.max().unwrap_or(HealthStatus::Healthy)
}

impl<E: Error + 'static> HealthReason<E> {
    /// Returns whether somebody is served all the same.
    fn is_mild(&self) -> bool {
        matches!(
            self,
            Self::Saturated { .. } | Self::Slow { .. } | Self::Paused
        )
    }

    fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Rejected { .. })
    }
}

impl HealthStatus {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<E: Error + 'static> fmt::Display for HealthReason<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saturated { out, waiting } => {
                write!(
                    f,
                    "saturated: {out} connections are in use and {waiting} acquires wait"
                )
            }
            Self::Slow { took } => write!(f, "slow: the probe took {}", brief(*took)),
            Self::Paused => f.write_str("the pool is paused"),
            Self::Unreachable { since, cause } => {
                write!(f, "no connection could be opened for {}", brief(*since))?;
                write_chain(f, cause)
            }
            Self::Rejected { cause } => {
                f.write_str("the database refuses the connection")?;
                write_chain(f, cause)
            }
            Self::NoAnswer { within } => write!(f, "no answer within {}", brief(*within)),
            Self::PingFailed => f.write_str("no connection answered its ping"),
            Self::Hook => f.write_str("the acquire hook lets no connection be lent"),
            Self::Draining => f.write_str("the pool is being drained"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

/// Writes an error and its causes; one that repeats its own cause leaves it out.
fn write_chain(f: &mut fmt::Formatter<'_>, error: &dyn Error) -> fmt::Result {
    let mut written = String::new();
    for cause in std::iter::successors(Some(error), |&error| error.source()) {
        let cause = cause.to_string();
        if !written.contains(&cause) {
            write!(f, ": {cause}")?;
            written = cause;
        }
    }
    Ok(())
}

impl<E: Error + 'static> fmt::Display for Health<E> {
    /// Says the status and the reasons in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)?;
        for (index, reason) in self.reasons.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{reason}")?;
        }
        Ok(())
    }
}
