//! The future of an acquire.

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};
use tracing::Span;
use tracing::field::Empty;

use super::lease::Lease;
use super::vet::{Checks, Unfit, Vetting, vet};
use super::{Inner, Snapshot, holder_at, now};
use crate::connector::Connector;
use crate::error::{AcquireError, ConnectError, ErrorKind};
use crate::hooks::HookError;
use crate::state::{
    Asked, Asker, Counts, Expired, Found, Granted, Place, Refusal, Request, Shortage, WaiterKey,
};

/// A hook that rejects this many connections would reject any: SQLAlchemy gives up after as many
/// (rule 32).
const REJECTIONS_MAX: u8 = 2;

/// Waits for a lease. Returned by [`Pool::acquire`](crate::Pool::acquire), which says all about it.
#[must_use = "an acquire does nothing until it is awaited"]
pub struct Acquire<C: Connector> {
    /// None once the lease took it over.
    inner: Option<Arc<Inner<C>>>,
    location: &'static Location<'static>,
    budget: Duration,
    /// When the first poll was; none before.
    begun: Option<Instant>,
    /// Whether the wait was measured: it ends once, also when a ping sends the acquire back.
    measured: bool,
    /// Connections that the hook did not want.
    rejected: u8,
    span: Span,
    step: Step<C>,
    /// Whether the last connection of a pool in use is left to others.
    sparing: bool,
    /// Whether this future ends the wait at its deadline.
    timed: bool,
    /// Whether the pool wakes it then.
    has_alarm: bool,
    /// Only an acquire needs one that must wait on a runtime other than the pool's.
    timer: Option<Pin<Box<Sleep>>>,
}

enum Step<C: Connector> {
    /// To be asked for, from this place in the queue.
    Ask(Place),
    Queued(WaiterKey),
    Vetting(Vetting<C>),
    Done,
}

type Outcome<C> = Result<Lease<C>, AcquireError<<C as Connector>::Error>>;

/// A connection that is not a lease yet, because it may need a ping.
type Served<C> =
    Result<Granted<<C as Connector>::Connection>, AcquireError<<C as Connector>::Error>>;

impl<C: Connector> Acquire<C> {
    pub(super) fn new(inner: Arc<Inner<C>>, location: &'static Location<'static>) -> Self {
        let budget = inner.config.pool_timeout;
        Self {
            inner: Some(inner),
            location,
            budget,
            begun: None,
            measured: false,
            rejected: 0,
            span: Span::none(),
            step: Step::Ask(Place::Tail),
            sparing: false,
            timed: true,
            has_alarm: false,
            timer: None,
        }
    }

    /// Replaces `pool_timeout` for this acquire.
    pub fn within(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Leaves the last connection of a pool in use to others: fails at once instead.
    pub(crate) fn sparing(mut self) -> Self {
        self.sparing = true;
        self
    }

    /// Leaves the deadline to a caller that watches another clock, and calls [`Acquire::give_up`].
    pub(crate) fn untimed(mut self) -> Self {
        self.timed = false;
        self
    }

    /// Makes the next poll end the wait, whatever the time is.
    pub(crate) fn give_up(&mut self) {
        self.timed = true;
        self.timer = None;
        self.budget = Duration::ZERO;
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    /// Returns where the pool's tasks run.
    pub(crate) fn home(&self) -> &Handle {
        &self.inner().handle
    }

    fn inner(&self) -> &Arc<Inner<C>> {
        self.inner
            .as_ref()
            .expect("bug: an acquire was used after it ended")
    }

    /// Asks the books for a connection. `Err` is the end; `Ok(None)` means that it is queued.
    fn ask(
        &mut self,
        place: Place,
        now: Instant,
        cx: &Context<'_>,
    ) -> Result<Option<Granted<C::Connection>>, AcquireError<C::Error>> {
        let asker = Asker {
            location: self.location,
            task: current_task(),
        };
        let waker = || cx.waker().clone();
        let (asked, actions, refused_at, has_alarm) = {
            let mut books = self.inner().lock();
            if self.sparing {
                let counts = books.counts();
                if !Snapshot::of(&counts).can_spare_one() {
                    drop(books);
                    return Err(self.nothing_to_spare(&counts));
                }
            }
            if let Some(granted) = books.take_ready(asker, now) {
                return Ok(Some(granted));
            }
            let request = Request {
                asker,
                place,
                deadline: self.deadline_of_alarm(),
            };
            let has_alarm = request.deadline.is_some();
            let (asked, actions) = books.acquire(now, request, waker);
            let refused = matches!(asked, Asked::QueueFull { .. } | Asked::Down { .. });
            let refused_at = refused.then(|| books.counts());
            (asked, actions, refused_at, has_alarm)
        };
        if let Asked::Queued(key) = asked {
            // Before the actions, which may run into a panic: this future then still leaves the queue.
            self.step = Step::Queued(key);
            self.has_alarm = has_alarm;
        }
        self.inner().perform(actions);
        match asked {
            Asked::Ready(granted) => Ok(Some(granted)),
            Asked::Queued(_) => Ok(None),
            Asked::QueueFull { waiting } => {
                let counts = refused_at.expect("bug: a refusal without its numbers");
                Err(AcquireError::QueueFull {
                    waiting,
                    state: Box::new(Snapshot::of(&counts)),
                })
            }
            Asked::Down { cause, since } => {
                let counts = refused_at.expect("bug: a refusal without its numbers");
                Err(self.explain(Shortage::Down { cause, since }, &counts))
            }
            Asked::Refused(refusal) => Err(refused(refusal)),
        }
    }

    /// Looks into the waiter's slot, and only then at the deadline.
    fn poll_queue(
        &mut self,
        key: WaiterKey,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Served<C>> {
        let waker = |current: &Waker| {
            let outdated = !current.will_wake(cx.waker());
            outdated.then(|| cx.waker().clone())
        };
        let found = self.inner().lock().poll(key, waker);
        match found {
            Found::Granted(granted) => return self.left_queue(Ok(granted)),
            Found::Failed(cause) => return self.left_queue(Err(AcquireError::Rejected { cause })),
            Found::Refused(refusal) => return self.left_queue(Err(refused(refusal))),
            Found::Waiting(former) => drop(former),
        }
        self.poll_waiting(key, now, cx)
    }

    /// Goes on waiting, or ends the wait at its deadline.
    fn poll_waiting(
        &mut self,
        key: WaiterKey,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Served<C>> {
        ready!(self.poll_deadline(now, cx));
        // This waiter counts among those that wait at that moment.
        let (counts, expired) = {
            let mut books = self.inner().lock();
            (books.counts(), books.expire(key))
        };
        let outcome = match expired {
            Expired::Granted(granted) => Ok(granted),
            Expired::Failed(cause) => Err(AcquireError::Rejected { cause }),
            Expired::Refused(refusal) => Err(refused(refusal)),
            Expired::TimedOut(shortage, waker) => {
                drop(waker);
                Err(self.explain(shortage, &counts))
            }
        };
        self.left_queue(outcome)
    }

    fn left_queue<T>(&mut self, outcome: T) -> Poll<T> {
        self.step = Step::Done;
        Poll::Ready(outcome)
    }

    fn poll_deadline(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline().filter(|_| self.timed) else {
            return Poll::Pending;
        };
        if self.timer.is_none() {
            if deadline <= now {
                return Poll::Ready(());
            }
            if self.has_alarm {
                return Poll::Pending;
            }
            // The caller's runtime turns its own timers; the pool's may be one that nobody drives.
            self.timer = Some(Box::pin(sleep_until(deadline.into())));
        }
        let timer = self.timer.as_mut().expect("bug: no timer");
        timer.as_mut().poll(cx)
    }

    /// Returns when the wait ends; never where the budget is beyond the clock's range.
    fn deadline(&self) -> Option<Instant> {
        self.begun?.checked_add(self.budget)
    }

    /// Returns the deadline where the pool watches it: on its own runtime, which somebody drives if this
    /// is polled, and where there is no other.
    fn deadline_of_alarm(&self) -> Option<Instant> {
        let home = self.home().id();
        let watched = self.timed && Handle::try_current().map_or(true, |here| here.id() == home);
        self.deadline().filter(|_| watched)
    }

    fn explain(
        &self,
        shortage: Shortage<ConnectError<C::Error>>,
        counts: &Counts,
    ) -> AcquireError<C::Error> {
        let now = now();
        let within = self.elapsed();
        let state = Box::new(Snapshot::of(counts));
        match shortage {
            Shortage::Exhausted {
                out,
                waiting,
                oldest,
                own,
            } => AcquireError::Exhausted {
                size: counts.sizes.0,
                overflow: counts.sizes.1,
                out,
                waiting,
                within,
                oldest: oldest.map(|holder| holder_at(holder, now)),
                own: own.into_iter().map(|held| holder_at(held, now)).collect(),
                state,
            },
            Shortage::Opening { out, opening } => AcquireError::ConnectTimeout {
                opening,
                out,
                within,
                state,
            },
            Shortage::Down { cause, since } => AcquireError::Down {
                cause,
                since: now.saturating_duration_since(since),
                state,
            },
            Shortage::Paused => AcquireError::Paused { within, state },
        }
    }

    fn nothing_to_spare(&self, counts: &Counts) -> AcquireError<C::Error> {
        let shortage = Shortage::Exhausted {
            out: counts.out,
            waiting: counts.waiting,
            oldest: counts.oldest,
            own: Vec::new(),
        };
        self.explain(shortage, counts)
    }

    fn elapsed(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| {
            now().saturating_duration_since(begun)
        })
    }

    /// Measures the wait at its first end; returns how long it has been.
    fn measure(&mut self, now: Instant) -> Duration {
        let waited = self
            .begun
            .map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun));
        if !self.measured {
            self.measured = true;
            self.inner().meters.queue_wait(waited);
        }
        waited
    }

    /// Makes a lease of a connection, or begins what it must pass first.
    fn check(&mut self, granted: Granted<C::Connection>, now: Instant) -> Option<Lease<C>> {
        let waited = self.measure(now);
        if !self.span.is_disabled() {
            self.span.record("wait_us", micros(waited));
            let pid = self.inner().connector.pid(&granted.conn.value);
            self.span.record("pid", pid);
        }
        let ping = self.needs_ping(granted.conn.last_used, now);
        let inner = self
            .inner
            .take()
            .expect("bug: an acquire was used after it ended");
        if !ping && inner.hooks.acquire.is_none() {
            return Some(Lease::new(inner, granted, self.location, now));
        }
        self.inner = Some(Arc::clone(&inner));
        let lease = Lease::new(inner, granted, self.location, now);
        let left = self.budget.saturating_sub(waited);
        // An expired budget does not shorten the checks to nothing: zero still takes what is idle.
        let within = if left.is_zero() {
            self.inner().config.ping_timeout
        } else {
            left
        };
        let checks = Checks { ping, within };
        self.step = Step::Vetting(Box::pin(vet(Arc::clone(self.inner()), lease, checks)));
        None
    }

    fn needs_ping(&self, last_used: Instant, now: Instant) -> bool {
        let config = &self.inner().config;
        // What was opened or came back during this very acquire needs no ping, however small
        // `pre_ping_after` is.
        let just_now = self.begun.is_some_and(|begun| last_used >= begun);
        let unused = now.saturating_duration_since(last_used);
        config.pre_ping && !just_now && unused >= config.pre_ping_after
    }
}

impl<C: Connector> Future for Acquire<C> {
    type Output = Outcome<C>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        if this.begun.is_none() {
            this.begun = Some(now());
            this.span = tracing::debug_span!(
                "acquire",
                pool = this.inner().config.name,
                wait_us = Empty,
                pid = Empty,
                outcome = Empty,
            );
        }
        let outcome = ready!(this.advance(cx));
        coop.made_progress();
        this.step = Step::Done;
        if let Err(error) = &outcome
            && !this.sparing
        {
            this.refused(error.kind());
        } else {
            this.span.record("outcome", "ok");
        }
        Poll::Ready(outcome)
    }
}

impl<C: Connector> Acquire<C> {
    fn refused(&mut self, kind: ErrorKind) {
        let waited = self.measure(now());
        self.inner().meters.error(kind);
        self.span.record("wait_us", micros(waited));
        self.span.record("outcome", kind.as_str());
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<C>> {
        loop {
            let (granted, now) = match &mut self.step {
                Step::Ask(place) => {
                    let place = *place;
                    // The first time is that of the first poll.
                    let now = match place {
                        Place::Tail => self.begun.expect("bug: asked before the first poll"),
                        Place::Head => now(),
                    };
                    match self.ask(place, now, cx) {
                        Ok(Some(granted)) => (granted, now),
                        Ok(None) => {
                            let Step::Queued(key) = self.step else {
                                panic!("bug: queued without a place in the queue")
                            };
                            // With no budget the wait ends here.
                            match ready!(self.poll_waiting(key, now, cx)) {
                                Ok(granted) => (granted, now),
                                Err(error) => return Poll::Ready(Err(error)),
                            }
                        }
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Step::Queued(key) => {
                    let (key, now) = (*key, now());
                    match ready!(self.poll_queue(key, now, cx)) {
                        Ok(granted) => (granted, now),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Step::Vetting(vetting) => {
                    match ready!(vetting.as_mut().poll(cx)) {
                        Ok(lease) => return Poll::Ready(Ok(lease)),
                        Err(Unfit::Dead) => {}
                        Err(Unfit::Hook(cause)) => {
                            self.rejected += 1;
                            let out_of_time = matches!(cause, HookError::TimedOut { .. });
                            if out_of_time || self.rejected == REJECTIONS_MAX {
                                return Poll::Ready(Err(AcquireError::Hook { cause }));
                            }
                        }
                    }
                    self.step = Step::Ask(Place::Head);
                    continue;
                }
                Step::Done => panic!("bug: an acquire was polled after it ended"),
            };
            if let Some(lease) = self.check(granted, now) {
                return Poll::Ready(Ok(lease));
            }
        }
    }
}

fn refused<E: std::error::Error>(refusal: Refusal) -> AcquireError<E> {
    match refusal {
        Refusal::Draining => AcquireError::Draining,
        Refusal::Closed => AcquireError::Closed,
    }
}

/// Returns what tells the current task from others; none outside of tasks.
fn current_task() -> Option<u64> {
    let mut key = TaskKey(0);
    tokio::task::try_id()?.hash(&mut key);
    Some(key.0)
}

/// Takes the number out of a task's id, which shows it to hashers alone.
struct TaskKey(u64);

impl Hasher for TaskKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Microseconds, as logs have them.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl<C: Connector> Drop for Acquire<C> {
    fn drop(&mut self) {
        if let Step::Queued(key) = self.step {
            let actions = self.inner().lock().cancel(key, now());
            self.inner().perform(actions);
        }
    }
}

impl<C: Connector> fmt::Debug for Acquire<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Ask(_) => "not asked yet",
            Step::Queued(_) => "queued",
            Step::Vetting(_) => "being checked",
            Step::Done => "done",
        };
        f.debug_struct("Acquire")
            .field("location", &self.location)
            .field("budget", &self.budget)
            .field("step", &step)
            .finish_non_exhaustive()
    }
}
