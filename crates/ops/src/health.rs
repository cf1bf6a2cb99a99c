//! Whether the pool and its database can serve, judged within a deadline.

mod text;

use std::error::Error;
use std::time::Duration;

use poolproof_pool::{AcquireError, ConnectError, Connector, Pool, PoolMode, Snapshot};
use tokio::runtime::Handle;
use tokio::time::{Instant, Timeout, timeout};

/// The usual deadline of [`Health::of`].
pub const HEALTH_DEADLINE: Duration = Duration::from_millis(500);

/// A verdict that takes longer than this means that the pool is degraded.
///
/// Counts only where the deadline is longer. With [`HEALTH_DEADLINE`], which is shorter, the pool is unhealthy
/// long before: there was no answer by the deadline.
pub const HEALTH_SLOW: Duration = Duration::from_millis(1000);

/// Connections that are tried before the database is blamed.
const TRIES: u32 = 2;

/// What a look at the pool and its database came to.
#[derive(Debug, Clone)]
pub struct Health<E: Error + 'static> {
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
    /// From the pool's books alone, because a probe would have taken the last connection or stood in
    /// others' way, or the pool lends none.
    Books,
}

/// Why a pool is not healthy.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum HealthReason<E: Error + 'static> {
    /// All connections that there may be are in use, or on their way back. Degraded.
    Saturated {
        /// Leases.
        out: usize,
        /// Connections being reset or closed, whose slots are not free yet.
        closing: usize,
        /// Acquires that wait.
        waiting: usize,
    },
    /// Whoever asks depends on connections that are being opened, and none was by the deadline. Unhealthy,
    /// or degraded when others were lent meanwhile.
    Opening {
        /// Connections being opened.
        opening: usize,
        /// Leases.
        out: usize,
        /// Acquires that wait.
        waiting: usize,
        /// Leases that were issued meanwhile.
        served: u64,
        /// The deadline.
        within: Duration,
    },
    /// Finding out took longer than [`HEALTH_SLOW`], which it can where the deadline is longer than that.
    /// Degraded.
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

impl<E: Error + Send + Sync + 'static> Health<E> {
    /// Finds out whether a pool and its database can serve, and says so within `deadline`, which is
    /// usually [`HEALTH_DEADLINE`].
    ///
    /// Takes a connection, like any acquire, and pings it; when it does not answer, once more with
    /// another. But when fewer than two connections could be had beside those in use, so that the probe
    /// might take the last one from somebody who needs it, it judges by the pool's books alone, and where
    /// others wait for connections that are being opened it waits to see whether one is. What the probe
    /// itself waits for it passes on to those who have come behind it.
    ///
    /// # Cancel safety
    /// Safe. A connection that was just being pinged is reset before it is lent again.
    ///
    /// # Examples
    /// ```no_run
    /// # use poolproof_ops::*;
    /// # use poolproof_pool::{PgConnector, Pool};
    /// # async fn example(pool: &Pool<PgConnector>) {
    /// let health = Health::of(pool, HEALTH_DEADLINE).await;
    /// let http_status = match health.status {
    ///     HealthStatus::Healthy | HealthStatus::Degraded => 200,
    ///     HealthStatus::Unhealthy => 503,
    /// };
    /// println!("{http_status} {health}");
    /// # }
    /// ```
    pub async fn of<C: Connector<Error = E>>(pool: &Pool<C>, deadline: Duration) -> Self {
        let began = Instant::now();
        let state = pool.snapshot();
        let (mut reasons, method) = find_out(pool, &state, Deadline { began, deadline }).await;
        let took = began.elapsed();
        if took > HEALTH_SLOW {
            reasons.push(HealthReason::Slow { took });
        }
        let probed = method == HealthMethod::Probe && reasons.iter().all(HealthReason::is_mild);
        if let Some(outage) = pool.outage()
            && !reasons.iter().any(HealthReason::is_outage)
        {
            let (since, cause) = (outage.since, outage.cause);
            reasons.push(HealthReason::Unreachable { since, cause });
        }
        Self {
            status: status(&reasons, probed),
            reasons,
            method,
            took,
            state,
        }
    }
}

async fn find_out<C: Connector>(
    pool: &Pool<C>,
    began: &Snapshot,
    time: Deadline,
) -> (Vec<HealthReason<C::Error>>, HealthMethod) {
    let mut seen = *began;
    loop {
        let step = match judge_by_books(&seen, began) {
            Books::Suffice(reasons) => return (reasons, HealthMethod::Books),
            Books::Watch => bound(pool, time.left(), pool.attempt_ended(&seen)).await,
            Books::Probe => match bound(pool, time.left(), probe(pool, time)).await {
                Ok(Ok(())) => return (Vec::new(), HealthMethod::Probe),
                Ok(Err(Refused::Because(reason))) => {
                    return (vec![reason], HealthMethod::Probe);
                }
                Ok(Err(Refused::Spared(then))) => Ok(*then),
                Err(_) => {
                    let within = time.deadline;
                    return (vec![HealthReason::NoAnswer { within }], HealthMethod::Probe);
                }
            },
        };
        let Ok(then) = step else {
            let reason = still_opening(&pool.snapshot(), began, time.deadline);
            return (vec![reason], HealthMethod::Books);
        };
        seen = then;
    }
}

/// Bounds work by a timer, which turns on the pool's runtime where none is current.
fn bound<C: Connector, F: Future>(pool: &Pool<C>, within: Duration, work: F) -> Timeout<F> {
    let elsewhere = Handle::try_current().is_err();
    let _runtime = elsewhere.then(|| pool.runtime().enter());
    timeout(within, work)
}

async fn probe<C: Connector>(pool: &Pool<C>, time: Deadline) -> Result<(), Refused<C::Error>> {
    for left in (0..TRIES).rev() {
        let acquire = pool.acquire().within(time.left()).sparing();
        let lease = acquire.await.map_err(|error| {
            let refused = Refused::of(error, time.deadline);
            // That there is none to spare for another try excuses nothing: one did not answer.
            let silent = left + 1 < TRIES && refused.is_mild();
            if silent {
                Refused::Because(HealthReason::PingFailed)
            } else {
                refused
            }
        })?;
        // One connection that is dead without saying so must not use up the whole deadline.
        if lease.ping(time.left() / (left + 1)).await {
            return Ok(());
        }
    }
    Err(Refused::Because(HealthReason::PingFailed))
}

/// How long a verdict may take, and since when.
#[derive(Clone, Copy)]
struct Deadline {
    began: Instant,
    deadline: Duration,
}

impl Deadline {
    fn left(self) -> Duration {
        self.deadline.saturating_sub(self.began.elapsed())
    }
}

/// What the books are good for.
enum Books<E: Error + 'static> {
    /// They say it all.
    Suffice(Vec<HealthReason<E>>),
    /// They will, when an attempt to open a connection has ended.
    Watch,
    /// A connection can be spared, and says more.
    Probe,
}

fn judge_by_books<E: Error + 'static>(seen: &Snapshot, began: &Snapshot) -> Books<E> {
    let answers = seen.opened_total > began.opened_total;
    Books::Suffice(match seen.mode {
        PoolMode::Paused => vec![HealthReason::Paused],
        PoolMode::Draining => vec![HealthReason::Draining],
        PoolMode::Closed => vec![HealthReason::Closed],
        PoolMode::Open if seen.is_saturated() => vec![HealthReason::Saturated {
            out: seen.out,
            closing: seen.closing,
            waiting: seen.waiting,
        }],
        PoolMode::Open if seen.can_spare_one() => return Books::Probe,
        // What an outage means is said whatever else is found.
        PoolMode::Open if depends_on_opening(seen) && !answers && seen.outage.is_none() => {
            return Books::Watch;
        }
        PoolMode::Open => Vec::new(),
    })
}

/// Returns whether whoever asks now gets what is being opened, if that ever is.
fn depends_on_opening(seen: &Snapshot) -> bool {
    seen.idle == 0 && (seen.opening > 0 || seen.waiting > 0) && !seen.is_saturated()
}

fn still_opening<E: Error + 'static>(
    seen: &Snapshot,
    began: &Snapshot,
    within: Duration,
) -> HealthReason<E> {
    HealthReason::Opening {
        opening: seen.opening,
        out: seen.out,
        waiting: seen.waiting,
        served: seen.leases_issued - began.leases_issued,
        within,
    }
}

/// Why the probe got no connection, or no answer.
enum Refused<E: Error + 'static> {
    /// The pool had none to spare, and these numbers.
    Spared(Box<Snapshot>),
    Because(HealthReason<E>),
}

impl<E: Error + 'static> Refused<E> {
    fn of(error: AcquireError<E>, within: Duration) -> Self {
        Self::Because(match error {
            AcquireError::Exhausted { state, .. } | AcquireError::QueueFull { state, .. } => {
                return Self::Spared(state);
            }
            AcquireError::ConnectTimeout { .. } => HealthReason::NoAnswer { within },
            AcquireError::Down { cause, since, .. } => HealthReason::Unreachable { since, cause },
            AcquireError::Rejected { cause } => HealthReason::Rejected { cause },
            AcquireError::Paused { .. } => HealthReason::Paused,
            AcquireError::Hook { .. } => HealthReason::Hook,
            AcquireError::Draining => HealthReason::Draining,
            AcquireError::Closed => HealthReason::Closed,
            // Whatever a later pool refuses for: there was no connection to ask with.
            _ => HealthReason::NoAnswer { within },
        })
    }

    fn is_mild(&self) -> bool {
        match self {
            Self::Spared(_) => true,
            Self::Because(reason) => reason.is_mild(),
        }
    }
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
            Self::Saturated { .. }
                | Self::Slow { .. }
                | Self::Paused
                | Self::Opening { served: 1.., .. }
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
