//! The future of an acquire.

mod check;
mod refusal;
mod task;
mod turn;

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::coop;
use tokio::time::{Sleep, sleep_until};

use super::lease::Lease;
use super::shell::{Answer, Ask, Quick, Wait};
use super::vet::Vetting;
use super::{Share, Snapshot, now};
use crate::connector::Connector;
use crate::error::AcquireError;
use crate::span::OutcomeSpan;
use crate::state::{Asked, Asker, Expired, Found, Granted, Place, Shortage, WaiterKey};

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
    /// What checks the connection that it got.
    vetting: Option<Vetting<C>>,
    /// Ends the wait where the pool's alarm does not: on a runtime other than the pool's.
    timer: Option<Pin<Box<Sleep>>>,
    /// Connections that the hook did not want.
    rejected: u8,
    span: OutcomeSpan,
}

impl<C: Connector> Rare<C> {
    fn new() -> Box<Self> {
        Box::new(Self {
            sparing: false,
            untimed: false,
            vetting: None,
            timer: None,
            rejected: 0,
            span: OutcomeSpan::none(),
        })
    }
}

type Outcome<C> = Result<Lease<C>, AcquireError<<C as Connector>::Error>>;

/// None means that the connection was not fit.
type Vetted<C> = Result<Option<Lease<C>>, AcquireError<<C as Connector>::Error>>;

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

    /// Replaces `pool_timeout` for this acquire. Changes nothing any more once the future was polled.
    pub fn within(mut self, budget: Duration) -> Self {
        if self.begun.is_none() {
            self.budget = budget;
        }
        self
    }

    /// Leaves the last connection of a pool in use to others: fails at once instead, and passes on what it
    /// waited for where others came to need it meanwhile. For probes, which must stand in nobody's way.
    pub fn sparing(mut self) -> Self {
        self.rare().sparing = true;
        self
    }

    /// Leaves the deadline to a caller that watches another clock, and calls [`Acquire::give_up`]. For
    /// threads that wait for a pool whose runtime may have nobody to turn its timers.
    pub fn untimed(mut self) -> Self {
        self.rare().untimed = true;
        self
    }

    /// Makes the next poll end the wait, whatever the time is. A connection that is just being checked is
    /// still waited for.
    pub fn give_up(&mut self) {
        let rare = self.rare();
        rare.untimed = false;
        rare.timer = None;
        self.budget = Duration::ZERO;
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

    #[cold]
    fn poll_charged(&mut self, cx: &mut Context<'_>) -> Poll<Outcome<C>> {
        let charge = ready!(coop::poll_proceed(cx));
        let outcome = ready!(self.advance(cx));
        charge.made_progress();
        Poll::Ready(outcome)
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
        let likes = refusal::can_spare_one as fn(&_) -> _;
        let ask = Ask {
            asker: Asker {
                location: self.location,
                task: task::current(),
            },
            place,
            now,
            waker: cx.waker(),
            only_if: self.is(|rare| rare.sparing).then_some(likes),
        };
        // Only those who wait need to know it.
        let deadline = || self.deadline_of_alarm();
        let mut wait = self.wait;
        let asked = self.inner().shell.ask_quickly(&mut wait, ask, deadline);
        self.wait = wait;
        match asked {
            Quick::Ready(granted) => Poll::Ready(Ok(granted)),
            Quick::Queued {
                key,
                has_alarm,
                set_alarm,
            } => {
                if set_alarm {
                    self.inner().set_alarm();
                }
                if !has_alarm {
                    self.set_timer();
                }
                // With no budget the wait ends here.
                self.poll_waiting(key, now, cx)
            }
            Quick::No => self.ask_thoroughly(ask, cx),
        }
    }

    #[cold]
    fn ask_thoroughly(&mut self, ask: Ask<'_>, cx: &mut Context<'_>) -> Poll<Served<C>> {
        let deadline = self.deadline_of_alarm();
        let mut wait = self.wait;
        let answer = self.inner().shell.ask(&mut wait, ask, deadline);
        self.wait = wait;
        let Answer {
            asked,
            refused_at,
            actions,
        } = match answer {
            Ok(answer) => answer,
            Err(counts) => return Poll::Ready(Err(self.nothing_to_spare(&counts))),
        };
        self.inner().perform(actions);
        let counts = || refused_at.expect("bug: a refusal without its numbers");
        match asked {
            Asked::Ready(granted) => Poll::Ready(Ok(granted)),
            Asked::Queued(key) => {
                if deadline.is_none() {
                    self.set_timer();
                }
                self.poll_waiting(key, ask.now, cx)
            }
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
            Some(Found::Granted(granted)) => self.keep_or_pass_on(granted),
            Some(Found::Failed(cause)) => Err(AcquireError::Rejected { cause }),
            Some(Found::Refused(refusal)) => Err(refusal::refused(refusal)),
            Some(Found::Waiting(_)) => panic!("bug: a look told nothing"),
        })
    }

    /// Returns when the wait ends; never where the budget is beyond the clock's range.
    fn deadline(&self) -> Option<Instant> {
        self.begun?.checked_add(self.budget)
    }

    /// Returns the deadline where the pool's alarm rings at it.
    fn deadline_of_alarm(&self) -> Option<Instant> {
        let watched = !self.is(|rare| rare.untimed) && self.inner().alarm_rings();
        self.deadline().filter(|_| watched)
    }

    /// Sees to the deadline itself: the caller's runtime turns its own timers, and the pool's may be one
    /// that nobody drives, or that has shut down. Where the caller has none either, nothing can end the wait
    /// but its end now.
    #[cold]
    fn set_timer(&mut self) {
        let Some(deadline) = self.deadline() else {
            return;
        };
        if self.is(|rare| rare.untimed) {
            return;
        }
        if Handle::try_current().is_err() {
            self.budget = Duration::ZERO;
            return;
        }
        self.rare().timer = Some(Box::pin(sleep_until(deadline.into())));
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
            Expired::Granted(granted) => self.keep_or_pass_on(granted),
            Expired::Failed(cause) => Err(AcquireError::Rejected { cause }),
            Expired::Refused(refusal) => Err(refusal::refused(refusal)),
            Expired::TimedOut(shortage, waker) => {
                drop(waker);
                Err(self.explain(shortage, &counts))
            }
        })
    }

    fn poll_deadline(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner().alarm_is_lost() && !self.is(|rare| rare.timer.is_some()) {
            self.set_timer();
        }
        let over = self.deadline().is_some_and(|deadline| deadline <= now);
        match self.rare.as_deref_mut() {
            Some(Rare { untimed: true, .. }) => Poll::Pending,
            _ if over => Poll::Ready(()),
            Some(Rare {
                timer: Some(timer), ..
            }) => timer.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

impl<C: Connector> Future for Acquire<C> {
    type Output = Outcome<C>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if turn::is_charged() {
            return this.poll_charged(cx);
        }
        this.advance(cx)
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
