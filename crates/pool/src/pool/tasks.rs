//! What the pool does in tasks of its own: opening, resetting, closing, and the gate's timer.
//!
//! Each task owns a guard that reports its end to the books in `drop`, so that a slot comes back also
//! when the task panics, is aborted, or never runs because the runtime is gone.

mod slots;

use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tracing::field::Empty;
use tracing::{Instrument, debug_span};

use super::{Fate, Inner, Phase, holder_at, now};
use crate::connector::{Connector, Ending};
use crate::error::ConnectError;
use crate::hooks::{self, LeakEvent};
use crate::span::OutcomeSpan;
use crate::state::{Actions, Conn, Leak, Reason, Severity};
use slots::{ClosingSlot, OpeningSlot};

impl<C: Connector> Inner<C> {
    /// Performs what a transition ordered, but for the wakes.
    pub(crate) fn perform(self: &Arc<Self>, actions: Actions<C::Connection, Waker>) {
        let Actions {
            // Woken by the shell.
            wake: _,
            wake_more: _,
            spent: _,
            connect,
            generation,
            close,
            arm_timer,
            set_alarm,
            leaks,
            announce,
        } = actions;
        for conn in close {
            self.spawn_close(conn);
        }
        for _ in 0..connect {
            self.spawn_connect(generation);
        }
        if let Some(at) = arm_timer {
            self.spawn_timer(at);
        }
        if set_alarm {
            self.set_alarm();
        }
        if announce {
            self.phase.send_modify(|_| ());
        }
        for leak in leaks {
            self.report(leak);
        }
    }

    fn report(&self, leak: Leak) {
        let at = |held| holder_at(held, now());
        let event = match leak {
            Leak::Suspected(held) => LeakEvent::Suspected(at(held)),
            Leak::Returned(held) => LeakEvent::Returned(at(held)),
        };
        tracing::warn!(pool = self.config.name, "{event}");
        self.hooks.report(&event);
    }

    /// Looks at what the connections have come to, now and then, if there is anything to look for.
    pub(super) fn spawn_housekeeper(self: &Arc<Self>) {
        let Some(mut pause) = self.config.housekeeping(self.config.pool_size) else {
            return;
        };
        // Weak, so that it does not keep a dropped pool alive.
        let inner = Arc::downgrade(self);
        let phase = self.phase.subscribe();
        self.handle.spawn(async move {
            loop {
                let next = now().checked_add(pause).map(Into::into);
                let Some(next) = next else { return };
                let paused = until(Phase::Closing, phase.clone(), sleep_until(next)).await;
                let Some(inner) = paused.and_then(|()| inner.upgrade()) else {
                    return;
                };
                inner.change(|books| books.sweep(now()));
                let (pool_size, _) = inner.shell.read(|books| books.counts().sizes);
                pause = inner.config.housekeeping(pool_size).unwrap_or(pause);
            }
        });
    }

    fn spawn_connect(self: &Arc<Self>, generation: u64) {
        let span = debug_span!(
            "connect",
            pool = self.config.name,
            pid = Empty,
            outcome = Empty
        );
        let slot = OpeningSlot {
            inner: Some(Arc::clone(self)),
            generation,
            span: span.clone().into(),
        };
        let attempt = async move {
            let inner = slot.inner();
            let begun = now();
            let attempt = timeout(inner.config.connect_timeout, inner.open());
            let Some(attempt) = until(Phase::Closing, inner.phase.subscribe(), attempt).await
            else {
                return;
            };
            match attempt {
                Ok(Ok(value)) => slot.opened(value, begun),
                Ok(Err(error)) => {
                    let severity = match &error {
                        ConnectError::Failed(cause) if inner.connector.is_permanent(cause) => {
                            Severity::Permanent
                        }
                        _ => Severity::Transient,
                    };
                    slot.failed(error, severity);
                }
                Err(_) => {
                    let after = inner.config.connect_timeout;
                    slot.failed(ConnectError::TimedOut { after }, Severity::Transient);
                }
            }
        };
        self.handle.spawn(attempt.instrument(span));
    }

    async fn open(&self) -> Result<C::Connection, ConnectError<C::Error>> {
        let failed = |error| ConnectError::Failed(Arc::new(error));
        let mut connection = self.connector.connect().await.map_err(failed)?;
        if let Some(hook) = &self.hooks.connect {
            let run = hooks::run(hook, &mut connection);
            run.await.map_err(ConnectError::Hook)?;
        }
        Ok(connection)
    }

    fn spawn_close(self: &Arc<Self>, conn: Conn<C::Connection>) {
        let mut slot = ClosingSlot::new(self, conn, None);
        self.handle.spawn(async move {
            let Some(conn) = slot.conn.take() else { return };
            let inner = slot.inner();
            let goodbye = timeout(inner.config.close_timeout, inner.say_goodbye(conn.value));
            match until(Phase::CutShort, inner.phase.subscribe(), goodbye).await {
                Some(Ok(Ok(()))) | None => {}
                Some(Ok(Err(error))) => {
                    tracing::debug!(%error, "a connection did not close cleanly");
                }
                Some(Err(_)) => tracing::debug!("a connection did not close in time"),
            }
        });
    }

    async fn say_goodbye(&self, mut connection: C::Connection) -> Result<(), C::Error> {
        if let Some(hook) = &self.hooks.close
            && let Err(error) = hooks::run(hook, &mut connection).await
        {
            tracing::debug!(
                error = &error as &dyn Error,
                "a connection is closed unannounced"
            );
            return Ok(());
        }
        self.connector.close(connection).await
    }

    /// Resets a connection whose lease has ended with this fate, if it needs that, and puts it back or
    /// closes it.
    pub(crate) fn spawn_reset(self: &Arc<Self>, conn: Conn<C::Connection>, fate: Fate) {
        let mut slot = ClosingSlot::new(self, conn, Some(Reason::Unfit));
        let pid = slot
            .conn
            .as_ref()
            .and_then(|conn| self.connector.pid(&conn.value));
        let span = debug_span!("reset", pool = self.config.name, pid, outcome = Empty);
        let mut told = OutcomeSpan::from(span.clone());
        let attempt = async move {
            let inner = slot.inner();
            let Some(conn) = &mut slot.conn else { return };
            let reset = inner.clean_up(&mut conn.value, fate);
            let reset = timeout(inner.config.reset_timeout, reset);
            match until(Phase::CutShort, inner.phase.subscribe(), reset).await {
                Some(Ok(Ok(()))) => {
                    told.end("ok");
                    slot.restore();
                }
                Some(Ok(Err(Unfit))) => {
                    told.end("failed");
                }
                Some(Err(_)) => {
                    told.end("timed out");
                    tracing::warn!("a connection could not be reset in time; closing it");
                    // The server may still be busy with what the reset waited for.
                    let conn = slot.conn.take().expect("bug: the connection is gone");
                    if let Some(ending) = inner.connector.abandon(conn.value) {
                        inner.bound_ending(inner.config.close_timeout, ending).await;
                    }
                }
                None => {}
            }
        };
        self.handle.spawn(attempt.instrument(span));
    }

    async fn clean_up(&self, connection: &mut C::Connection, fate: Fate) -> Result<(), Unfit> {
        if fate == Fate::Reset
            && let Err(error) = self.connector.reset(connection).await
        {
            tracing::warn!(%error, "a connection could not be reset; closing it");
            return Err(Unfit);
        }
        // The reset has removed what set-up made.
        if fate == Fate::Reset
            && let Some(hook) = &self.hooks.connect
            && let Err(error) = hooks::run(hook, connection).await
        {
            tracing::warn!(
                error = &error as &dyn Error,
                "a connection could not be set up again; closing it"
            );
            return Err(Unfit);
        }
        if let Some(hook) = &self.hooks.release
            && let Err(error) = hooks::run(hook, connection).await
        {
            tracing::warn!(
                error = &error as &dyn Error,
                "a connection does not go back"
            );
            return Err(Unfit);
        }
        Ok(())
    }

    /// Gives up a connection whose lease has ended with a statement in flight.
    pub(crate) fn abandon(self: &Arc<Self>, connection: C::Connection) {
        let slot = ClosingSlot {
            inner: Some(Arc::clone(self)),
            conn: None,
            reason: Some(Reason::Abandoned),
        };
        // What is dropped here, or in a task that never runs, closes the socket also without a runtime.
        if let Some(ending) = self.connector.abandon(connection) {
            self.handle.spawn(async move {
                let inner = slot.inner();
                inner.bound_ending(inner.config.reset_timeout, ending).await;
            });
        }
    }

    /// Drops a connection whose lease has ended, and frees its slot: at once, unless a hook wants to
    /// have a look.
    pub(crate) fn give_up(self: &Arc<Self>, conn: Conn<C::Connection>, reason: Reason) {
        let mut slot = ClosingSlot::new(self, conn, Some(reason));
        if self.hooks.invalidate.is_none() || reason == Reason::Unfit {
            return drop(slot);
        }
        self.handle.spawn(async move {
            let inner = slot.inner();
            let (Some(hook), Some(conn)) = (&inner.hooks.invalidate, &mut slot.conn) else {
                return;
            };
            let look = timeout(
                inner.config.close_timeout,
                hooks::run(hook, &mut conn.value),
            );
            match until(Phase::CutShort, inner.phase.subscribe(), look).await {
                Some(Ok(Ok(()))) | None => {}
                Some(Ok(Err(error))) => {
                    tracing::debug!(error = &error as &dyn Error, "the invalidate hook failed");
                }
                Some(Err(_)) => tracing::debug!("the invalidate hook did not end in time"),
            }
        });
    }

    async fn bound_ending(&self, within: Duration, ending: Ending) {
        let bounded = timeout(within, ending);
        if let Some(Err(_)) = until(Phase::CutShort, self.phase.subscribe(), bounded).await {
            tracing::warn!("the server did not end an abandoned statement in time");
        }
    }

    fn spawn_timer(self: &Arc<Self>, at: Instant) {
        // Weak, so that a pause of seconds does not keep a dropped pool alive.
        let inner = Arc::downgrade(self);
        let phase = self.phase.subscribe();
        self.handle.spawn(async move {
            let pause = sleep_until(at.into());
            if until(Phase::Closing, phase, pause).await.is_some()
                && let Some(inner) = inner.upgrade()
            {
                inner.change(|books| books.tick(now()));
            }
        });
    }
}

/// A connection that does not go back; why was logged.
struct Unfit;

/// Runs `work` to its end, unless closing gets as far as `phase` before.
pub(super) async fn until<T>(
    phase: Phase,
    mut current: watch::Receiver<Phase>,
    work: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        reached = current.wait_for(|current| *current >= phase) => {
            // An error means that the pool itself is gone, which ends the work as well.
            drop(reached);
            None
        }
        done = work => Some(done),
    }
}

/// Draws 32 bits to spread out retries. Nothing that a run must reproduce depends on them.
pub(crate) fn jitter() -> u32 {
    let bits = RandomState::new().build_hasher().finish();
    u32::try_from(bits >> 32).unwrap_or(u32::MAX)
}
