//! What a pool's user has to say about connections: hooks that run when they are opened, lent,
//! returned, given up and closed, and listeners for suspected leaks and other critical events.
//!
//! A hook may reject a connection, which closes it. It never runs under the pool's lock, is bounded in
//! time, and its panic costs the connection it was called with and nothing else (F23).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error as ThisError;

use crate::brief::brief;
use crate::critical::{self, Critical, CriticalListener};
use crate::error::Holder;

/// What a hook returns.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send + 'a>>;

type Hook<T> = Box<dyn for<'a> Fn(&'a mut T) -> HookFuture<'a> + Send + Sync>;

type LeakListener = Box<dyn Fn(&LeakEvent) + Send + Sync>;

/// The hooks of a pool over connections `T`. Without any, a pool does not spend a thing on them.
///
/// # Examples
/// ```
/// use poolproof_pool::{Hooks, PgConn};
///
/// let hooks = Hooks::<PgConn>::new()
///     .on_connect(|conn| Box::pin(async move {
///         sqlx::query("set jit = off").execute(conn.connection()).await?;
///         Ok(())
///     }))
///     .on_leak(|event| eprintln!("{event}"));
/// # drop(hooks);
/// ```
pub struct Hooks<T> {
    pub(crate) connect: Option<Hook<T>>,
    pub(crate) acquire: Option<Hook<T>>,
    pub(crate) release: Option<Hook<T>>,
    pub(crate) invalidate: Option<Hook<T>>,
    pub(crate) close: Option<Hook<T>>,
    leak: Option<LeakListener>,
    pub(crate) critical: Option<CriticalListener>,
}

impl<T> Hooks<T> {
    /// Returns no hooks at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `hook` on each connection that was opened, before anyone gets it, within
    /// `connect_timeout`. A rejection, and a panic, count as a failure to connect.
    ///
    /// Runs again after each reset, within `reset_timeout`, because a reset removes whatever a session
    /// may have made: so what the hook sets up lasts as long as the connection. Then a rejection, and a
    /// panic, close the connection. Write it so that it may run twice.
    #[must_use]
    pub fn on_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut T) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.connect = Some(Box::new(hook));
        self
    }

    /// Runs `hook` on each connection that is about to be lent, after its ping, within what is left of
    /// the acquire's budget. A connection that it rejects, or panics on, is closed and another one
    /// tried, once; then the acquire fails with [`AcquireError::Hook`](crate::AcquireError::Hook).
    ///
    /// It runs in the future of the acquire. When that is dropped meanwhile, the connection is closed.
    #[must_use]
    pub fn on_acquire<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut T) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.acquire = Some(Box::new(hook));
        self
    }

    /// Runs `hook` on each connection that came back, after its reset if it needs one, within
    /// `reset_timeout`. A connection that it rejects, or panics on, is closed.
    ///
    /// With this hook no return is free: each takes a task of the pool's, and the slot stays taken
    /// until it has ended.
    #[must_use]
    pub fn on_release<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut T) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.release = Some(Box::new(hook));
        self
    }

    /// Runs `hook` on each connection that broke in use or in a ping, or was given up with
    /// [`Lease::discard`](crate::Lease::discard), before it is dropped, within `close_timeout`. What it
    /// returns makes no difference. Connections that were left with a statement in flight are dropped
    /// without it.
    #[must_use]
    pub fn on_invalidate<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut T) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.invalidate = Some(Box::new(hook));
        self
    }

    /// Runs `hook` on each sound connection that is closed, before the goodbye, both within
    /// `close_timeout`. After a rejection or a panic there is no goodbye.
    #[must_use]
    pub fn on_close<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut T) -> HookFuture<'a> + Send + Sync + 'static,
    {
        self.close = Some(Box::new(hook));
        self
    }

    /// Calls `listener` when a lease has been out for longer than `leak_threshold`, and when such a
    /// lease comes back after all: exactly once each. It is called by the pool's housekeeper, and
    /// where the lease is dropped; it must not block. Its panic is reported and changes nothing.
    #[must_use]
    pub fn on_leak(mut self, listener: impl Fn(&LeakEvent) + Send + Sync + 'static) -> Self {
        self.leak = Some(Box::new(listener));
        self
    }

    /// Calls `listener` for what somebody should be woken up for; see [`Critical`]. It is called from
    /// wherever the event is noticed, never under the pool's lock, and must not block. Its panic is
    /// reported and changes nothing.
    ///
    /// # Examples
    /// ```
    /// use poolproof_pool::{Critical, Hooks, PgConn};
    ///
    /// let hooks = Hooks::<PgConn>::new().on_critical(|event| match event {
    ///     Critical::CommitUnknown(commit) => eprintln!("look after {:?}", commit.in_doubt()),
    ///     other => eprintln!("{other}"),
    /// });
    /// # drop(hooks);
    /// ```
    #[must_use]
    pub fn on_critical(mut self, listener: impl Fn(&Critical) + Send + Sync + 'static) -> Self {
        self.critical = Some(Arc::new(listener));
        self
    }

    pub(crate) fn tell(&self, event: &Critical) {
        critical::tell(self.critical.as_ref(), event);
    }

    pub(crate) fn report(&self, event: &LeakEvent) {
        if let LeakEvent::Suspected(holder) = event {
            self.tell(&Critical::LeakSuspected(*holder));
        }
        let Some(listener) = &self.leak else { return };
        // A lease may be dropped while its thread unwinds, where a panic would end the process.
        if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
            tracing::error!("the listener for leaks panicked");
        }
    }
}

impl<T> Default for Hooks<T> {
    fn default() -> Self {
        Self {
            connect: None,
            acquire: None,
            release: None,
            invalidate: None,
            close: None,
            leak: None,
            critical: None,
        }
    }
}

impl<T> fmt::Debug for Hooks<T> {
    /// Says which hooks there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("connect", &self.connect.is_some())
            .field("acquire", &self.acquire.is_some())
            .field("release", &self.release.is_some())
            .field("invalidate", &self.invalidate.is_some())
            .field("close", &self.close.is_some())
            .field("leak", &self.leak.is_some())
            .field("critical", &self.critical.is_some())
            .finish()
    }
}

/// Runs a hook; its panic is an error like others.
pub(crate) async fn run<T>(hook: &Hook<T>, connection: &mut T) -> Result<(), HookError> {
    let called = async { hook(connection).await };
    match (Caught {
        work: Box::pin(called),
    })
    .await
    {
        Some(Ok(())) => Ok(()),
        Some(Err(Rejection { reason })) => Err(HookError::Rejected { reason }),
        None => Err(HookError::Panicked),
    }
}

/// Resolves to none when `work` panics.
struct Caught<F> {
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Caught<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let work = self.work.as_mut();
        // The connection, which is all that may be left in disorder, is closed.
        match catch_unwind(AssertUnwindSafe(|| work.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
            Err(_) => Poll::Ready(None),
        }
    }
}

/// Why a hook does not want a connection. Made from any error, so that `?` works in a hook.
#[derive(Debug, Clone)]
pub struct Rejection {
    reason: Arc<dyn Error + Send + Sync>,
}

impl<E: Error + Send + Sync + 'static> From<E> for Rejection {
    fn from(reason: E) -> Self {
        Self {
            reason: Arc::new(reason),
        }
    }
}

/// What a hook did to a connection.
#[derive(Debug, Clone, ThisError)]
#[non_exhaustive]
pub enum HookError {
    /// It rejected it.
    #[error("the hook rejected the connection")]
    Rejected {
        /// Why.
        #[source]
        reason: Arc<dyn Error + Send + Sync>,
    },
    /// It did not end in time.
    #[error("the hook did not end within {}", brief(*after))]
    TimedOut {
        /// How long it had.
        after: Duration,
    },
    /// It panicked.
    #[error("the hook panicked")]
    Panicked,
}

/// A lease that is, or was, out for longer than `leak_threshold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeakEvent {
    /// It is still out.
    Suspected(Holder),
    /// It has come back, after this long.
    Returned(Holder),
}

impl fmt::Display for LeakEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspected(holder) => write!(f, "suspected leak: a lease is held by {holder}"),
            Self::Returned(Holder { location, held_for }) => {
                write!(
                    f,
                    "no leak: the lease of {location} was returned after {}",
                    brief(*held_for)
                )
            }
        }
    }
}
