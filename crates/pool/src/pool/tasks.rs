//! What the pool does in tasks of its own: opening, resetting, closing, and the gate's timer.
//!
//! Each task owns a guard that reports its end to the books in `drop`, so that a slot comes back also
//! when the task panics, is aborted, or never runs because the runtime is gone.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};

use super::{Inner, Phase, now};
use crate::connector::Connector;
use crate::error::ConnectError;
use crate::state::{Actions, Conn, Failure, Opened, Severity};

impl<C: Connector> Inner<C> {
    /// Performs what a transition ordered. Must be called without the lock.
    pub(crate) fn perform(self: &Arc<Self>, actions: Actions<C::Connection, Waker>) {
        let Actions {
            wake,
            wake_more,
            connect,
            generation,
            close,
            arm_timer,
            drained,
            spent,
        } = actions;
        drop(spent);
        for waker in wake.into_iter().chain(wake_more) {
            waker.wake();
        }
        for conn in close {
            self.spawn_close(conn);
        }
        for _ in 0..connect {
            self.spawn_connect(generation);
        }
        if let Some(at) = arm_timer {
            self.spawn_timer(at);
        }
        if drained {
            self.phase.send_modify(|_| ());
        }
    }

    fn spawn_connect(self: &Arc<Self>, generation: u64) {
        let slot = OpeningSlot {
            inner: Some(Arc::clone(self)),
            generation,
        };
        self.handle.spawn(async move {
            let inner = slot.inner();
            let begun = now();
            let attempt = timeout(inner.config.connect_timeout, inner.connector.connect());
            let Some(attempt) = until(Phase::Closing, inner.phase.subscribe(), attempt).await
            else {
                return;
            };
            match attempt {
                Ok(Ok(value)) => slot.opened(value, now().saturating_duration_since(begun)),
                Ok(Err(error)) => {
                    let severity = if inner.connector.is_permanent(&error) {
                        Severity::Permanent
                    } else {
                        Severity::Transient
                    };
                    slot.failed(ConnectError::Failed(Arc::new(error)), severity);
                }
                Err(_) => {
                    let after = inner.config.connect_timeout;
                    slot.failed(ConnectError::TimedOut { after }, Severity::Transient);
                }
            }
        });
    }

    fn spawn_close(self: &Arc<Self>, conn: Conn<C::Connection>) {
        let mut slot = ClosingSlot::new(self, conn);
        self.handle.spawn(async move {
            let Some(conn) = slot.conn.take() else { return };
            let inner = slot.inner();
            let goodbye = timeout(
                inner.config.close_timeout,
                inner.connector.close(conn.value),
            );
            match until(Phase::CutShort, inner.phase.subscribe(), goodbye).await {
                Some(Ok(Ok(()))) | None => {}
                Some(Ok(Err(error))) => {
                    tracing::debug!(%error, "a connection did not close cleanly");
                }
                Some(Err(_)) => tracing::debug!("a connection did not close in time"),
            }
        });
    }

    /// Resets a connection whose lease has ended, then puts it back or closes it.
    pub(crate) fn spawn_reset(self: &Arc<Self>, conn: Conn<C::Connection>) {
        let mut slot = ClosingSlot::new(self, conn);
        self.handle.spawn(async move {
            let inner = slot.inner();
            let Some(conn) = &mut slot.conn else { return };
            let reset = timeout(
                inner.config.reset_timeout,
                inner.connector.reset(&mut conn.value),
            );
            match until(Phase::CutShort, inner.phase.subscribe(), reset).await {
                Some(Ok(Ok(()))) => slot.restore(),
                Some(Ok(Err(error))) => {
                    tracing::warn!(%error, "a connection could not be reset; closing it");
                }
                Some(Err(_)) => {
                    tracing::warn!("a connection could not be reset in time; closing it");
                }
                None => {}
            }
        });
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
                let actions = inner.lock().tick(now());
                inner.perform(actions);
            }
        });
    }
}

/// Runs `work` to its end, unless closing gets as far as `phase` before.
async fn until<T>(
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

/// A connection being opened.
struct OpeningSlot<C: Connector> {
    /// None once the outcome was reported.
    inner: Option<Arc<Inner<C>>>,
    generation: u64,
}

impl<C: Connector> OpeningSlot<C> {
    fn inner(&self) -> Arc<Inner<C>> {
        Arc::clone(self.inner.as_ref().expect("bug: outcome reported twice"))
    }

    fn opened(mut self, value: C::Connection, took: Duration) {
        let inner = self.inner.take().expect("bug: outcome reported twice");
        let opened = Opened {
            value,
            generation: self.generation,
            took,
        };
        let actions = inner.lock().opened(opened, now());
        inner.perform(actions);
    }

    fn failed(mut self, error: ConnectError<C::Error>, severity: Severity) {
        let inner = self.inner.take().expect("bug: outcome reported twice");
        report_failure(&inner, error, severity);
    }
}

impl<C: Connector> Drop for OpeningSlot<C> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            report_failure(&inner, ConnectError::Abandoned, Severity::Transient);
        }
    }
}

fn report_failure<C: Connector>(
    inner: &Arc<Inner<C>>,
    error: ConnectError<C::Error>,
    severity: Severity,
) {
    tracing::debug!(%error, ?severity, "a connection could not be opened");
    let failure = Failure {
        error,
        severity,
        jitter: jitter(),
    };
    let actions = inner.lock().open_failed(failure, now());
    inner.perform(actions);
}

/// A connection being reset or closed. Its slot stays taken until this is dropped.
struct ClosingSlot<C: Connector> {
    /// None once the connection went back.
    inner: Option<Arc<Inner<C>>>,
    conn: Option<Conn<C::Connection>>,
}

impl<C: Connector> ClosingSlot<C> {
    fn new(inner: &Arc<Inner<C>>, conn: Conn<C::Connection>) -> Self {
        Self {
            inner: Some(Arc::clone(inner)),
            conn: Some(conn),
        }
    }

    fn inner(&self) -> Arc<Inner<C>> {
        Arc::clone(self.inner.as_ref().expect("bug: slot freed twice"))
    }

    fn restore(mut self) {
        let inner = self.inner.take().expect("bug: slot freed twice");
        let conn = self.conn.take().expect("bug: nothing to restore");
        let actions = inner.lock().restore(conn, now());
        inner.perform(actions);
    }
}

impl<C: Connector> Drop for ClosingSlot<C> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            // The socket goes first: a slot is not free while its connection exists.
            drop(self.conn.take());
            let actions = inner.lock().closed(now());
            inner.perform(actions);
        }
    }
}

/// Draws 32 bits to spread out retries. Nothing that a run must reproduce depends on them.
fn jitter() -> u32 {
    let bits = RandomState::new().build_hasher().finish();
    u32::try_from(bits >> 32).unwrap_or(u32::MAX)
}
