//! The future of an acquire.

mod refusal;
mod task;

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};
use tracing::Span;
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;

use super::lease::Lease;
use super::shell::{Answer, Quick, Wait};
use super::vet::{Checks, Unfit, Vetting, vet};
use super::{Share, Snapshot, now};
use crate::connector::Connector;
use crate::error::AcquireError;
use crate::hooks::HookError;
use crate::state::{Asked, Asker, Expired, Found, Granted, Place, Request, Shortage, WaiterKey};

/// A hook that rejects this many connections would reject any: SQLAlchemy gives up after as many
/// (rule 32).
const REJECTIONS_MAX: u8 = 2;

/// Waits for a lease. Returned by [`Pool::acquire`](crate::Pool::acquire), which says all about it.
#[must_use = "an acquire does nothing until it is awaited"]
pub struct Acquire<C: Connector> {
    /// None once the lease took it over.
    inner: Option<Arc<Share<C>>>,
    location: &'static Location<'static>,
    budget: Duration,
    /// When the first poll was; none before.
    begun: Option<Instant>,
    wait: Wait,
    /// What few acquires need: apart, so that the others are small.
    rare: Option<Box<Rare<C>>>,
}

/// See [`Acquire::rare`].
struct Rare<C: Connector> {
    /// Whether the last connection of a pool in use is left to others.
    sparing: bool,
    /// Whether somebody else watches the deadline.
    untimed: bool,
    /// Whether the wait was measured: it ends once, also when a ping sends the acquire back.
    measured: bool,
    /// What checks the connection that it got.
    vetting: Option<Vetting<C>>,
    /// Ends the wait where the pool's alarm does not: on a runtime other than the pool's.
    timer: Option<Pin<Box<Sleep>>>,
    /// Connections that the hook did not want.
    rejected: u8,
    span: Span,
}

impl<C: Connector> Rare<C> {
    fn new() -> Box<Self> {
        Box::new(Self {
            sparing: false,
            untimed: false,
            measured: false,
            vetting: None,
            timer: None,
            rejected: 0,
            span: Span::none(),
        })
    }
}

type Outcome<C> = Result<Lease<C>, AcquireError<<C as Connector>::Error>>;

/// A connection that is not a lease yet, because it may need a ping.
type Served<C> =
    Result<Granted<<C as Connector>::Connection>, AcquireError<<C as Connector>::Error>>;

impl<C: Connector> Acquire<C> {
    #[inline]
    pub(super) fn new(inner: Arc<Share<C>>, location: &'static Location<'static>) -> Self {
        let budget = inner.config.pool_timeout;
        Self {
            inner: Some(inner),
            location,
            budget,
            begun: None,
            wait: Wait::Ask,
            rare: None,
        }
    }

    /// Replaces `pool_timeout` for this acquire.
    pub fn within(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Leaves the last connection of a pool in use to others: fails at once instead.
    pub(crate) fn sparing(mut self) -> Self {
        self.rare().sparing = true;
        self
    }

    /// Leaves the deadline to a caller that watches another clock, and calls [`Acquire::give_up`].
    pub(crate) fn untimed(mut self) -> Self {
        self.rare().untimed = true;
        self
    }

    /// Makes the next poll end the wait, whatever the time is.
    pub(crate) fn give_up(&mut self) {
        let rare = self.rare();
        rare.untimed = false;
        rare.timer = None;
        self.budget = Duration::ZERO;
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    /// Returns where the pool's tasks run.
    pub(crate) fn home(&self) -> &Handle {
        &self.inner().handle
    }

    fn inner(&self) -> &Arc<Share<C>> {
        let inner = self.inner.as_ref();
        inner.expect("bug: an acquire was used after it ended")
    }

    fn rare(&mut self) -> &mut Rare<C> {
        self.rare.get_or_insert_with(Rare::new)
    }

    fn is(&self, what: impl FnOnce(&Rare<C>) -> bool) -> bool {
        self.rare.as_deref().is_some_and(what)
    }

    #[inline]
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<C>> {
        loop {
            let served = match self.wait {
                Wait::Ask => self.ask(Place::Tail, cx),
                Wait::AskAgain => self.ask(Place::Head, cx),
                Wait::Queued(key) => self.poll_queue(key, cx),
                Wait::Over => match ready!(self.poll_vetting(cx)) {
                    Ok(Some(lease)) => return Poll::Ready(Ok(lease)),
                    // On to the next connection.
                    Ok(None) => continue,
                    Err(error) => Poll::Ready(Err(error)),
                },
            };
            match ready!(served) {
                Ok(granted) => {
                    if let Some(lease) = self.check(granted) {
                        return Poll::Ready(Ok(lease));
                    }
                }
                Err(error) => {
                    self.note_refusal(&error);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Asks the books for a connection, and waits where there is none.
    #[inline]
    fn ask(&mut self, place: Place, cx: &mut Context<'_>) -> Poll<Served<C>> {
        let now = now();
        if self.begun.is_none() {
            self.begun = Some(now);
            self.open_span();
        }
        let asker = Asker {
            location: self.location,
            task: task::current(),
        };
        if self.is(|rare| rare.sparing) {
            return self.ask_thoroughly(asker, place, now, cx);
        }
        let inner = self.inner.as_ref();
        let inner = inner.expect("bug: an acquire was used after it ended");
        // Only those who wait need to know it.
        let deadline = || {
            let untimed = self.rare.as_deref().is_some_and(|rare| rare.untimed);
            let deadline = self.begun?.checked_add(self.budget);
            deadline.filter(|_| !untimed && is_driven(&inner.handle))
        };
        let asked =
            inner
                .shell
                .ask_quickly(&mut self.wait, asker, place, now, deadline, cx.waker());
        match asked {
            Quick::Ready(granted) => Poll::Ready(Ok(granted)),
            Quick::Queued {
                key,
                has_alarm,
                set_alarm,
            } => {
                if set_alarm {
                    inner.set_alarm();
                }
                self.begin_waiting(key, has_alarm, now, cx)
            }
            Quick::No => self.ask_thoroughly(asker, place, now, cx),
        }
    }

    #[cold]
    fn ask_thoroughly(
        &mut self,
        asker: Asker,
        place: Place,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Served<C>> {
        let inner = self.inner.as_ref();
        let inner = inner.expect("bug: an acquire was used after it ended");
        let deadline = self.begun.and_then(|begun| begun.checked_add(self.budget));
        let untimed = self.is(|rare| rare.untimed);
        let deadline = deadline.filter(|_| !untimed && is_driven(&inner.handle));
        let request = Request {
            asker,
            place,
            deadline,
        };
        let sparing = self.is(|rare| rare.sparing);
        let spares = sparing.then_some(refusal::can_spare_one as fn(&_) -> _);
        let answer = inner
            .shell
            .ask(&mut self.wait, request, now, cx.waker(), spares);
        let Answer {
            asked,
            refused_at,
            actions,
        } = match answer {
            Ok(answer) => answer,
            Err(counts) => return Poll::Ready(Err(self.nothing_to_spare(&counts))),
        };
        inner.perform(actions);
        let counts = || refused_at.expect("bug: a refusal without its numbers");
        match asked {
            Asked::Ready(granted) => Poll::Ready(Ok(granted)),
            Asked::Queued(key) => self.begin_waiting(key, deadline.is_some(), now, cx),
            Asked::Refused(refusal) => Poll::Ready(Err(refusal::refused(refusal))),
            Asked::QueueFull { waiting } => Poll::Ready(Err(AcquireError::QueueFull {
                waiting,
                state: Box::new(Snapshot::of(&counts())),
            })),
            Asked::Down { cause, since } => {
                let shortage = Shortage::Down { cause, since };
                Poll::Ready(Err(self.explain(shortage, &counts())))
            }
        }
    }

    /// Looks into the waiter's slot, and only then at the deadline.
    #[inline]
    fn poll_queue(&mut self, key: WaiterKey, cx: &mut Context<'_>) -> Poll<Served<C>> {
        let inner = self.inner.as_ref();
        let inner = inner.expect("bug: an acquire was used after it ended");
        Poll::Ready(match inner.shell.look(&mut self.wait, key, cx.waker()) {
            None => return self.poll_waiting(key, now(), cx),
            Some(Found::Granted(granted)) => Ok(granted),
            Some(Found::Failed(cause)) => Err(AcquireError::Rejected { cause }),
            Some(Found::Refused(refusal)) => Err(refusal::refused(refusal)),
            Some(Found::Waiting(_)) => panic!("bug: a look told nothing"),
        })
    }

    #[inline]
    fn begin_waiting(
        &mut self,
        key: WaiterKey,
        has_alarm: bool,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Served<C>> {
        let untimed = self.is(|rare| rare.untimed);
        if !has_alarm
            && !untimed
            && let Some(deadline) = self.begun.and_then(|begun| begun.checked_add(self.budget))
        {
            // The caller's runtime turns its own timers; the pool's may be one that nobody drives.
            self.rare().timer = Some(Box::pin(sleep_until(deadline.into())));
        }
        // With no budget the wait ends here.
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
        let inner = self.inner.as_ref();
        let inner = inner.expect("bug: an acquire was used after it ended");
        let (expired, counts) = inner.shell.expire(&mut self.wait, key);
        Poll::Ready(match expired {
            Expired::Granted(granted) => Ok(granted),
            Expired::Failed(cause) => Err(AcquireError::Rejected { cause }),
            Expired::Refused(refusal) => Err(refusal::refused(refusal)),
            Expired::TimedOut(shortage, waker) => {
                drop(waker);
                Err(self.explain(shortage, &counts))
            }
        })
    }

    fn poll_deadline(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let begun = self.begun.expect("bug: waits before its first poll");
        let deadline = begun.checked_add(self.budget);
        let over = deadline.is_some_and(|deadline| deadline <= now);
        match self.rare.as_deref_mut() {
            Some(Rare { untimed: true, .. }) => Poll::Pending,
            _ if over => Poll::Ready(()),
            Some(Rare {
                timer: Some(timer), ..
            }) => timer.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }

    /// Makes a lease of a connection, or begins what it must pass first.
    #[inline]
    fn check(&mut self, granted: Granted<C::Connection>) -> Option<Lease<C>> {
        let waited = self.measure(granted.since());
        if self.rare.is_some() {
            self.note_grant(waited, &granted.conn.value);
        }
        let ping = self.needs_ping(granted.conn.last_used, granted.since());
        let inner = self.inner.take();
        let inner = inner.expect("bug: an acquire was used after it ended");
        if !ping && inner.hooks.acquire.is_none() {
            if let Some(rare) = &self.rare {
                rare.span.record("outcome", "ok");
            }
            return Some(Lease::new(inner, granted, self.location));
        }
        self.inner = Some(Arc::clone(&inner));
        self.begin_vetting(Lease::new(inner, granted, self.location), ping);
        None
    }

    #[cold]
    fn begin_vetting(&mut self, lease: Lease<C>, ping: bool) {
        let left = self.budget.saturating_sub(self.elapsed());
        // An expired budget does not shorten the checks to nothing: zero still takes what is idle.
        let within = if left.is_zero() {
            self.inner().config.ping_timeout
        } else {
            left
        };
        let checks = Checks { ping, within };
        let vetting = Box::pin(vet(Arc::clone(self.inner()), lease, checks));
        let rare = self.rare();
        rare.measured = true;
        rare.vetting = Some(vetting);
    }

    /// Goes on checking. None means that the connection was not fit.
    #[cold]
    fn poll_vetting(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Lease<C>>, AcquireError<C::Error>>> {
        let rare = self.rare.as_mut();
        let rare = rare.expect("bug: an acquire was polled after it ended");
        let vetting = rare.vetting.as_mut();
        let vetting = vetting.expect("bug: an acquire was polled after it ended");
        let vetted = ready!(vetting.as_mut().poll(cx));
        rare.vetting = None;
        let unfit = match vetted {
            Ok(lease) => {
                rare.span.record("outcome", "ok");
                return Poll::Ready(Ok(Some(lease)));
            }
            Err(unfit) => unfit,
        };
        if let Unfit::Hook(cause) = unfit {
            rare.rejected += 1;
            let out_of_time = matches!(cause, HookError::TimedOut { .. });
            if out_of_time || rare.rejected == REJECTIONS_MAX {
                return Poll::Ready(Err(AcquireError::Hook { cause }));
            }
        }
        self.wait = Wait::AskAgain;
        Poll::Ready(Ok(None))
    }

    #[inline]
    fn needs_ping(&self, last_used: Instant, now: Instant) -> bool {
        let config = &self.inner().config;
        if !config.pre_ping {
            return false;
        }
        // What was opened or came back during this very acquire needs no ping, however small
        // `pre_ping_after` is.
        let just_now = self.begun.is_some_and(|begun| last_used >= begun);
        let unused = now.saturating_duration_since(last_used);
        !just_now && unused >= config.pre_ping_after
    }

    fn elapsed(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| {
            now().saturating_duration_since(begun)
        })
    }

    /// Measures the wait at its first end, the hand-over of a connection: what the task takes to notice is
    /// time in which it holds the connection. Returns how long the wait has been.
    #[inline]
    fn measure(&mut self, now: Instant) -> Duration {
        let begun = self.begun.expect("bug: ends before its first poll");
        let waited = now.saturating_duration_since(begun);
        if !self.is(|rare| rare.measured) {
            self.inner().meters.queue_wait(waited);
        }
        waited
    }

    #[inline]
    fn open_span(&mut self) {
        // Where nobody listens at all the macro costs more than the rest of an acquire's books.
        if LevelFilter::current() >= LevelFilter::DEBUG {
            self.open_span_for_listeners();
        }
    }

    #[cold]
    fn open_span_for_listeners(&mut self) {
        let span = tracing::debug_span!(
            "acquire",
            pool = self.inner().config.name,
            wait_us = Empty,
            pid = Empty,
            outcome = Empty,
        );
        if !span.is_disabled() {
            self.rare().span = span;
        }
    }

    #[cold]
    fn note_grant(&self, waited: Duration, connection: &C::Connection) {
        let Some(rare) = &self.rare else { return };
        rare.span.record("wait_us", micros(waited));
        let pid = self.inner().connector.pid(connection);
        rare.span.record("pid", pid);
    }

    #[cold]
    fn note_refusal(&mut self, error: &AcquireError<C::Error>) {
        if self.is(|rare| rare.sparing) {
            return;
        }
        let kind = error.kind();
        let waited = self.measure(now());
        self.inner().meters.error(kind);
        if let Some(rare) = &self.rare {
            rare.span.record("wait_us", micros(waited));
            rare.span.record("outcome", kind.as_str());
        }
    }
}

/// Returns whether somebody drives the pool's runtime while the caller is polled, so that the pool's
/// alarm will ring: the caller is on it, or on none, and then there is no other.
fn is_driven(home: &Handle) -> bool {
    Handle::try_current().map_or(true, |here| here.id() == home.id())
}

/// Microseconds, as logs have them.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl<C: Connector> Future for Acquire<C> {
    type Output = Outcome<C>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let outcome = ready!(this.advance(cx));
        coop.made_progress();
        Poll::Ready(outcome)
    }
}

impl<C: Connector> Drop for Acquire<C> {
    #[inline]
    fn drop(&mut self) {
        if let Wait::Queued(_) = self.wait {
            let inner = self.inner.as_ref();
            let inner = inner.expect("bug: waits after it ended");
            if let Some(actions) = inner.shell.leave(&mut self.wait, now()) {
                inner.perform(actions);
            }
        }
    }
}

impl<C: Connector> fmt::Debug for Acquire<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vetting = self.is(|rare| rare.vetting.is_some());
        let step = match self.wait {
            Wait::Ask | Wait::AskAgain => "not asked yet",
            Wait::Queued(_) => "queued",
            Wait::Over if vetting => "being checked",
            Wait::Over => "done",
        };
        f.debug_struct("Acquire")
            .field("location", &self.location)
            .field("budget", &self.budget)
            .field("step", &step)
            .finish_non_exhaustive()
    }
}
