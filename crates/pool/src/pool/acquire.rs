//! The future of an acquire.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until, timeout};

use super::lease::{Fate, Lease};
use super::{Inner, holder_at, now};
use crate::connector::Connector;
use crate::error::{AcquireError, ConnectError};
use crate::state::{Asked, Expired, Found, Granted, Place, Request, Shortage, WaiterKey};

/// Waits for a lease. Returned by [`Pool::acquire`](crate::Pool::acquire), which says all about it.
#[must_use = "an acquire does nothing until it is awaited"]
pub struct Acquire<C: Connector> {
    inner: Arc<Inner<C>>,
    location: &'static Location<'static>,
    budget: Duration,
    /// When the first poll was; none before.
    begun: Option<Instant>,
    step: Step<C>,
    /// Only an acquire that must wait needs a timer.
    timer: Option<Pin<Box<Sleep>>>,
}

enum Step<C: Connector> {
    /// To be asked for, from this place in the queue.
    Ask(Place),
    Queued(WaiterKey),
    Pinging(Pinging<C>),
    Done,
}

/// Owns the lease: when it is dropped in the middle, the lease finds its way back by its fate.
type Pinging<C> = Pin<Box<dyn Future<Output = Result<Lease<C>, Lease<C>>> + Send>>;

type Outcome<C> = Result<Lease<C>, AcquireError<<C as Connector>::Error>>;

/// A connection that is not a lease yet, because it may need a ping.
type Served<C> =
    Result<Granted<<C as Connector>::Connection>, AcquireError<<C as Connector>::Error>>;

impl<C: Connector> Acquire<C> {
    pub(super) fn new(inner: Arc<Inner<C>>, location: &'static Location<'static>) -> Self {
        let budget = inner.config.pool_timeout;
        Self {
            inner,
            location,
            budget,
            begun: None,
            step: Step::Ask(Place::Tail),
            timer: None,
        }
    }

    /// Replaces `pool_timeout` for this acquire.
    pub fn within(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Asks the books for a connection. `Err` is the end; `Ok(None)` means that it is queued.
    fn ask(
        &mut self,
        place: Place,
        cx: &Context<'_>,
    ) -> Result<Option<Granted<C::Connection>>, AcquireError<C::Error>> {
        let request = Request {
            location: self.location,
            place,
        };
        let waker = || cx.waker().clone();
        let (asked, actions) = self.inner.lock().acquire(now(), request, waker);
        if let Asked::Queued(key) = asked {
            // Before the actions, which may run into a panic: this future then still leaves the queue.
            self.step = Step::Queued(key);
        }
        self.inner.perform(actions);
        match asked {
            Asked::Ready(granted) => Ok(Some(granted)),
            Asked::Queued(_) => Ok(None),
            Asked::QueueFull { waiting } => Err(AcquireError::QueueFull { waiting }),
            Asked::Closed => Err(AcquireError::Closed),
        }
    }

    /// Looks into the waiter's slot, and only then at the deadline.
    fn poll_queue(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Served<C>> {
        let waker = cx.waker().clone();
        let found = self.inner.lock().poll(key, waker);
        match found {
            Found::Granted(granted) => return self.left_queue(Ok(granted)),
            Found::Failed(cause) => return self.left_queue(Err(AcquireError::Rejected { cause })),
            Found::Closed => return self.left_queue(Err(AcquireError::Closed)),
            Found::Waiting(former) => drop(former),
        }
        ready!(self.poll_deadline(cx));
        let expired = self.inner.lock().expire(key);
        let outcome = match expired {
            Expired::Granted(granted) => Ok(granted),
            Expired::Failed(cause) => Err(AcquireError::Rejected { cause }),
            Expired::Closed => Err(AcquireError::Closed),
            Expired::TimedOut(shortage, waker) => {
                drop(waker);
                Err(self.explain(shortage))
            }
        };
        self.left_queue(outcome)
    }

    fn left_queue<T>(&mut self, outcome: T) -> Poll<T> {
        self.step = Step::Done;
        Poll::Ready(outcome)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_none() {
            let begun = self.begun.expect("bug: waiting before the first poll");
            // A budget beyond the clock's range is no deadline at all.
            let Some(deadline) = begun.checked_add(self.budget) else {
                return Poll::Pending;
            };
            if deadline <= now() {
                return Poll::Ready(());
            }
            // The caller's runtime turns its own timers; the pool's may be one that nobody drives.
            let elsewhere = Handle::try_current().is_err();
            let _runtime = elsewhere.then(|| self.inner.handle.enter());
            self.timer = Some(Box::pin(sleep_until(deadline.into())));
        }
        let timer = self.timer.as_mut().expect("bug: no timer");
        timer.as_mut().poll(cx)
    }

    fn explain(&self, shortage: Shortage<ConnectError<C::Error>>) -> AcquireError<C::Error> {
        let now = now();
        let within = self.elapsed();
        match shortage {
            Shortage::Exhausted {
                out,
                waiting,
                oldest,
            } => AcquireError::Exhausted {
                size: self.inner.config.pool_size,
                overflow: self.inner.config.max_overflow,
                out,
                waiting,
                within,
                oldest: oldest.map(|holder| holder_at(holder, now)),
            },
            Shortage::Opening { out, opening } => AcquireError::ConnectTimeout {
                opening,
                out,
                within,
            },
            Shortage::Down { cause, since } => AcquireError::Down {
                cause,
                since: now.saturating_duration_since(since),
            },
        }
    }

    fn elapsed(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| {
            now().saturating_duration_since(begun)
        })
    }

    /// Makes a lease of a connection, or the ping that it needs first.
    fn check(&mut self, granted: Granted<C::Connection>) -> Option<Lease<C>> {
        let mut lease = Lease::new(Arc::clone(&self.inner), granted);
        let config = &self.inner.config;
        let last_used = lease.granted().conn.last_used;
        let unused = now().saturating_duration_since(last_used);
        // What was opened or came back during this very acquire needs no ping, however small
        // `pre_ping_after` is.
        let just_now = self.begun.is_some_and(|begun| last_used >= begun);
        if !config.pre_ping || just_now || unused < config.pre_ping_after {
            return Some(lease);
        }
        // An expired budget does not shorten the ping to nothing: zero still takes what is idle.
        let left = self.budget.saturating_sub(self.elapsed());
        let patience = if left.is_zero() {
            config.ping_timeout
        } else {
            config.ping_timeout.min(left)
        };
        let inner = Arc::clone(&self.inner);
        // Nothing but the ping can be in flight when this is dropped, so that a reset cleans up.
        lease.set_fate(Fate::Reset);
        self.step = Step::Pinging(Box::pin(async move {
            match timeout(patience, inner.connector.ping(lease.tracked())).await {
                Ok(Ok(())) => {
                    lease.set_fate(Fate::Return);
                    return Ok(lease);
                }
                Ok(Err(error)) => tracing::debug!(%error, "an idle connection failed its ping"),
                Err(_) => tracing::debug!("an idle connection did not answer its ping"),
            }
            lease.set_fate(Fate::Broken);
            Err(lease)
        }));
        None
    }
}

impl<C: Connector> Future for Acquire<C> {
    type Output = Outcome<C>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        this.begun.get_or_insert_with(now);
        let outcome = ready!(this.advance(cx));
        coop.made_progress();
        this.step = Step::Done;
        Poll::Ready(outcome)
    }
}

impl<C: Connector> Acquire<C> {
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<C>> {
        loop {
            let granted = match &mut self.step {
                Step::Ask(place) => {
                    let place = *place;
                    match self.ask(place, cx) {
                        Ok(Some(granted)) => granted,
                        // Falls through to the deadline: with no budget the wait ends here.
                        Ok(None) => continue,
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Step::Queued(key) => {
                    let key = *key;
                    match ready!(self.poll_queue(key, cx)) {
                        Ok(granted) => granted,
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Step::Pinging(ping) => match ready!(ping.as_mut().poll(cx)) {
                    Ok(lease) => return Poll::Ready(Ok(lease)),
                    Err(dead) => {
                        // All connections as old as this one go with it, so that at most one ping
                        // fails per outage (SQLAlchemy's rule 31).
                        drop(dead);
                        self.step = Step::Ask(Place::Head);
                        continue;
                    }
                },
                Step::Done => panic!("bug: an acquire was polled after it ended"),
            };
            if let Some(lease) = self.check(granted) {
                return Poll::Ready(Ok(lease));
            }
        }
    }
}

impl<C: Connector> Drop for Acquire<C> {
    fn drop(&mut self) {
        if let Step::Queued(key) = self.step {
            let actions = self.inner.lock().cancel(key, now());
            self.inner.perform(actions);
        }
    }
}

impl<C: Connector> fmt::Debug for Acquire<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Ask(_) => "not asked yet",
            Step::Queued(_) => "queued",
            Step::Pinging(_) => "pinging",
            Step::Done => "done",
        };
        f.debug_struct("Acquire")
            .field("location", &self.location)
            .field("budget", &self.budget)
            .field("step", &step)
            .finish_non_exhaustive()
    }
}
