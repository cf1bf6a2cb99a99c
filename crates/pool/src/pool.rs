//! The pool: its books behind a lock, and the tasks that open, reset and close.

mod acquire;
mod alarm;
mod control;
mod lease;
mod runtime;
mod shell;
mod snapshot;
mod tasks;
mod vet;

mod sync;

use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime, RuntimeFlavor};
use tokio::sync::watch;

pub use acquire::Acquire;
use alarm::Alarm;
pub use control::{Outage, WarmUp};
pub(crate) use lease::Fate;
pub use lease::Lease;
pub(crate) use runtime::with_timers;
use runtime::{Home, OwnedRuntime};
use shell::Shell;
pub use snapshot::{ClosedBy, Snapshot};
pub(crate) use tasks::jitter;

use crate::config::{Config, ConfigError};
use crate::connector::Connector;
use crate::critical::{self, Critical, Told};
use crate::error::{ConnectError, ErrorKind, Holder};
use crate::hooks::Hooks;
use crate::meters::{Durations, Meters};
use crate::state::{Actions, HeldSince, State};

/// A pool of connections. Cloning gives another handle to the same pool, at the cost of an allocation: give
/// each long-lived task one of its own, and its acquires do not slow down those of others.
///
/// When the last handle and the last lease are gone, idle connections are dropped without a goodbye;
/// [`Pool::close`] is the polite way.
pub struct Pool<C: Connector> {
    inner: Arc<Share<C>>,
}

/// What one handle and its leases have of the pool. They are counted here, so that tasks with handles of
/// their own do not all count on the same cache line; nor may two shares lie on one.
#[repr(align(64))]
pub(crate) struct Share<C: Connector>(Arc<Inner<C>>);

impl<C: Connector> Deref for Share<C> {
    type Target = Arc<Inner<C>>;

    fn deref(&self) -> &Arc<Inner<C>> {
        &self.0
    }
}

pub(crate) type Books<C> =
    State<<C as Connector>::Connection, Waker, ConnectError<<C as Connector>::Error>>;

pub(crate) struct Inner<C: Connector> {
    connector: C,
    config: Config,
    hooks: Hooks<C::Connection>,
    pub(crate) shell: Shell<C::Connection, ConnectError<C::Error>>,
    /// Where the pool's tasks run, whoever causes them.
    handle: Handle,
    phase: watch::Sender<Phase>,
    /// Whether that runtime has threads of its own, which turn its timers whoever waits for them.
    drives_itself: bool,
    /// The keeper of deadlines, which the first acquire starts that must wait.
    alarm: OnceLock<Arc<Alarm>>,
    pub(crate) meters: Meters,
    told: Arc<Told>,
    /// The runtime behind `handle`, where it is the pool's own. Last, because it ends the tasks.
    _runtime: Option<OwnedRuntime>,
}

/// How far closing has got. Every task of the pool watches it, so that none outlives `close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// Connects end now; resets and goodbyes may finish.
    Closing,
    /// Everything ends now.
    CutShort,
}

impl<C: Connector> Pool<C> {
    /// Builds a pool. Opens nothing but `min_idle` connections, in the background: the others are opened
    /// when they are needed. Whether the database is there makes no difference; [`Pool::warm_up`] and
    /// [`Pool::outage`] tell.
    ///
    /// The pool's tasks run on the current runtime, which needs tokio's time and whatever `connector`
    /// needs. Leases may be used, dropped and waited for on any other that has time, and on none; where the
    /// pool's runtime is one of a single thread, it must be driven meanwhile.
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid, or there is no current tokio runtime, or it has no time
    /// (tokio says so on standard error as well, because it panics when it is asked).
    pub fn new(connector: C, config: Config) -> Result<Self, ConfigError> {
        Self::with_hooks(connector, config, Hooks::new())
    }

    /// Builds a pool with hooks. See [`Pool::new`].
    ///
    /// # Errors
    /// Those of [`Pool::new`].
    pub fn with_hooks(
        connector: C,
        config: Config,
        hooks: Hooks<C::Connection>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let handle = Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
        if !runtime::has_timers() {
            return Err(ConfigError::NoTime);
        }
        Ok(Self::build(connector, config, hooks, Home::Current(handle)))
    }

    /// Builds a pool that brings a runtime of its own, for threads that have none. The runtime ends with
    /// the last handle, lease and task of the pool. See [`Pool::new`].
    ///
    /// # Errors
    /// [`ConfigError`] when `config` is not valid, or the runtime has no time.
    pub fn on_runtime(
        runtime: Runtime,
        connector: C,
        config: Config,
        hooks: Hooks<C::Connection>,
    ) -> Result<Self, ConfigError> {
        let runtime = OwnedRuntime::from(runtime);
        config.validate()?;
        if !runtime.has_timers() {
            return Err(ConfigError::NoTime);
        }
        Ok(Self::build(connector, config, hooks, Home::Own(runtime)))
    }

    /// Builds a pool of valid settings.
    fn build(connector: C, config: Config, hooks: Hooks<C::Connection>, home: Home) -> Self {
        let (handle, runtime) = home.split();
        let (phase, _) = watch::channel(Phase::Running);
        let told: Arc<Told> = Arc::default();
        let on_broken = {
            let (told, handle, listener) = (told.clone(), handle.clone(), hooks.critical.clone());
            // From a task: a lock is held here.
            move || {
                if told.broken() {
                    let listener = listener.clone();
                    handle.spawn(async move {
                        critical::tell(listener.as_ref(), &Critical::BrokenInvariant);
                    });
                }
            }
        };
        let inner = Arc::new(Inner {
            connector,
            shell: Shell::new(State::new(config.limits()), on_broken),
            meters: Meters::new(config.metrics),
            told,
            config,
            hooks,
            drives_itself: handle.runtime_flavor() == RuntimeFlavor::MultiThread,
            handle,
            phase,
            alarm: OnceLock::new(),
            _runtime: runtime,
        });
        inner.spawn_housekeeper();
        // What is to be kept ready.
        inner.change(|books| books.warm_up(0, now()));
        Self {
            inner: Arc::new(Share(inner)),
        }
    }

    /// Acquires a connection, waiting in arrival order until one is free.
    ///
    /// Takes an idle connection when there is one; else opens one when there are fewer than
    /// `pool_size + max_overflow`; else waits for one to come back. The place in the queue and the
    /// `pool_timeout` count from the first poll. An opening in progress does not end with the future
    /// that caused it: its connection goes to the next waiter or becomes idle.
    ///
    /// # Errors
    /// The future resolves to [`AcquireError`](crate::AcquireError).
    ///
    /// # Cancel safety
    /// Safe. A dropped waiter leaves the queue; a connection that it was granted passes to the next.
    /// A connection that was just being pinged is reset before it is lent again.
    #[track_caller]
    pub fn acquire(&self) -> Acquire<C> {
        self.acquire_at(Location::caller())
    }

    /// Returns the pool's numbers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let counts = self.inner.shell.read(Books::<C>::counts);
        Snapshot::of(&counts)
    }

    /// Returns who holds leases, the oldest first. Costs O(n log n) for n leases.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        self.inner.holders()
    }

    /// Acquires on behalf of a caller at `location`.
    pub(crate) fn acquire_at(&self, location: &'static Location<'static>) -> Acquire<C> {
        Acquire::new(Arc::clone(&self.inner), location)
    }

    /// Returns what opens the connections.
    #[must_use]
    pub fn connector(&self) -> &C {
        &self.inner.connector
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Returns the runtime on which the pool's tasks run. Its timers serve whoever waits for the pool on a
    /// thread without a runtime.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.inner.handle
    }

    /// Returns the durations recorded since the pool was built. Empty when [`Config::metrics`] is off.
    #[must_use]
    pub fn durations(&self) -> Durations {
        self.inner.meters.durations()
    }

    /// Returns how many errors of a kind there were since the pool was built: of acquires, statements and
    /// commits. Errors that the driver's own calls on a raw connection return are not seen.
    #[must_use]
    pub fn errors(&self, kind: ErrorKind) -> u64 {
        self.inner.meters.errors(kind)
    }

    /// Returns how long each connection took to open, of those opened since the last call; the newest
    /// 1024 at most.
    #[must_use]
    pub fn take_connect_times(&self) -> Vec<Duration> {
        let take = |books: &mut Books<C>| (books.take_connect_times(), Actions::none());
        self.inner.change_and_tell(take)
    }
}

impl<C: Connector> Inner<C> {
    /// Makes a transition, and performs what it orders.
    pub(crate) fn change(
        self: &Arc<Self>,
        transition: impl FnOnce(&mut Books<C>) -> Actions<C::Connection, Waker>,
    ) {
        self.perform(self.shell.change(transition));
    }

    /// Makes a transition that tells something, and performs what it orders.
    pub(crate) fn change_and_tell<T>(
        self: &Arc<Self>,
        transition: impl FnOnce(&mut Books<C>) -> (T, Actions<C::Connection, Waker>),
    ) -> T {
        let (told, actions) = self.shell.change_and_tell(transition);
        self.perform(actions);
        told
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let further = *phase < to;
            *phase = to.max(*phase);
            further
        });
    }

    fn holders(&self) -> Vec<Holder> {
        let holders = self.shell.read(Books::<C>::holders);
        let now = now();
        let mut holders: Vec<Holder> = holders
            .into_iter()
            .map(|holder| holder_at(holder, now))
            .collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.held_for));
        holders
    }
}

impl<C: Connector> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::new(Share(Arc::clone(&self.inner.0))),
        }
    }
}

impl<C: Connector> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.inner.config)
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}

/// Returns the time by tokio's clock, which tests can pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn holder_at(holder: HeldSince, now: Instant) -> Holder {
    Holder {
        location: holder.location,
        held_for: now.saturating_duration_since(holder.since),
    }
}

#[cfg(test)]
mod tests;
