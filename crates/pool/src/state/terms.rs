//! What goes into a transition and what comes out of it.

use std::num::NonZeroU64;
use std::panic::Location;
use std::time::{Duration, Instant};

use super::gate::Backoff;
use super::slab::Key;
use super::{Conn, Granted};

/// What the configuration says, in the state's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Limits {
    /// Idle connections that are kept.
    pub(crate) pool_size: usize,
    /// Connections in all; `usize::MAX` for no limit.
    pub(crate) max_open: usize,
    /// Connections being opened at once.
    pub(crate) max_connecting: usize,
    /// Waiters at once; `usize::MAX` for no limit.
    pub(crate) waiters_max: usize,
    pub(crate) backoff: Backoff,
    /// Idle connections that are kept ready.
    pub(crate) min_idle: usize,
    pub(crate) order: Order,
    /// How long connections may be idle.
    pub(crate) idle_timeout: Option<Duration>,
    /// How old connections may be.
    pub(crate) recycle: Option<Duration>,
    /// How long there may be more idle connections than `pool_size`.
    pub(crate) linger: Duration,
    /// How long the server may be out of reach before newcomers are turned away at once.
    pub(crate) patience: Option<Duration>,
    /// How long a lease may be out before it is suspected to be a leak.
    pub(crate) leak: Option<Duration>,
}

impl Limits {
    /// Returns `pool_size` and `max_overflow` as they are configured.
    pub(crate) fn sizes(&self) -> (u32, i32) {
        let size = u32::try_from(self.pool_size).unwrap_or(u32::MAX);
        let overflow = match self.max_open {
            usize::MAX => -1,
            most => i32::try_from(most - self.pool_size).unwrap_or(i32::MAX),
        };
        (size, overflow)
    }
}

/// Which idle connection is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// The one that has been idle for longest.
    Fifo,
    /// The one that came back last.
    Lifo,
}

/// A waiter's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WaiterKey(pub(super) Key);

/// Who asks: where in the code, and which task, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    pub(crate) location: &'static Location<'static>,
    pub(crate) task: Option<NonZeroU64>,
}

/// Who holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HeldSince {
    pub(crate) location: &'static Location<'static>,
    pub(crate) since: Instant,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Transient,
    Permanent,
}

/// Where an acquire queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Behind all others.
    Tail,
    /// Before all others: it was served before, with a connection that turned out dead.
    Head,
}

/// One acquire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) asker: Asker,
    pub(crate) place: Place,
    /// When the alarm must wake it, if it still waits then.
    pub(crate) deadline: Option<Instant>,
}

/// A connection that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Failure<E> {
    pub(crate) error: E,
    pub(crate) severity: Severity,
    /// Random bits that spread out the next attempt.
    pub(crate) jitter: u32,
}

/// Why nobody is served, nor waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    Draining,
    Closed,
}

/// What came of asking for a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked<C, E> {
    Ready(Granted<C>),
    Queued(WaiterKey),
    QueueFull {
        waiting: usize,
    },
    /// The server has been out of reach for so long that waiting is not worth it.
    Down {
        cause: E,
        since: Instant,
    },
    Refused(Refusal),
}

/// What a waiter finds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Found<C, W, E> {
    Granted(Granted<C>),
    Failed(E),
    Refused(Refusal),
    /// Nothing yet; its former waker, where that was replaced, to be dropped without the lock.
    Waiting(Option<W>),
}

/// What a waiter finds at its deadline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Expired<C, W, E> {
    /// It was served in the last moment.
    Granted(Granted<C>),
    Failed(E),
    Refused(Refusal),
    /// It is off the queue; its waker, to be dropped without the lock.
    TimedOut(Shortage<E>, W),
}

/// Why a waiter was not served in time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Shortage<E> {
    /// All connections that there may be were lent out.
    Exhausted {
        out: usize,
        waiting: usize,
        oldest: Option<HeldSince>,
        /// The leases that the task which waited holds itself: nested acquires can wait for each
        /// other.
        own: Vec<HeldSince>,
    },
    /// Connections were being opened, and the server had not answered yet.
    Opening { out: usize, opening: usize },
    /// The server could not be reached.
    Down { cause: E, since: Instant },
    /// No leases were given.
    Paused,
}

/// A lease that is, or was, out for longer than it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Leak {
    Suspected(HeldSince),
    Returned(HeldSince),
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// It was too old.
    Recycled,
    /// It was idle for too long.
    Idle,
    /// There were enough without it.
    Overflow,
    /// The limits were lowered.
    Resized,
    /// Its generation was made stale.
    Stale,
    /// It broke.
    Broken,
    /// It could not be reset, or a hook did not want it.
    Unfit,
    /// It was given up, or a statement on it was.
    Abandoned,
    /// The pool was closed.
    Shutdown,
}

impl Reason {
    /// How many there are.
    pub(crate) const COUNT: usize = 9;
}

/// What the shell does after it has released the lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use]
pub(crate) struct Actions<C, W> {
    /// Wakes one waiter; apart from `wake_more`, so that a hand-over allocates nothing.
    pub(crate) wake: Option<W>,
    /// Wakes these too.
    pub(crate) wake_more: Vec<W>,
    /// Opens this many connections, of this generation.
    pub(crate) connect: usize,
    pub(crate) generation: u64,
    /// Closes these and reports each with [`State::closed`].
    pub(crate) close: Vec<Conn<C>>,
    /// Calls [`State::tick`] at this time.
    pub(crate) arm_timer: Option<Instant>,
    /// [`State::ring`] is due earlier than it was.
    pub(crate) set_alarm: bool,
    /// Reports these.
    pub(crate) leaks: Vec<Leak>,
    /// Tells those who wait for the pool as a whole to look again: a connection was opened or could
    /// not be, or a pool that gives no leases has nothing out any more.
    pub(crate) announce: bool,
    /// A waker to be dropped without the lock.
    pub(crate) spent: Option<W>,
}

impl<C, W> Actions<C, W> {
    pub(crate) fn none() -> Self {
        Self {
            wake: None,
            wake_more: Vec::new(),
            connect: 0,
            generation: 0,
            close: Vec::new(),
            arm_timer: None,
            set_alarm: false,
            leaks: Vec::new(),
            announce: false,
            spent: None,
        }
    }

    pub(super) fn wake(&mut self, waker: W) {
        match self.wake {
            None => self.wake = Some(waker),
            Some(_) => self.wake_more.push(waker),
        }
    }
}

/// Whether a pool gives leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It does.
    Open,
    /// Acquires wait.
    Paused,
    /// Acquires are refused.
    Draining,
    /// Acquires are refused, and connections are closed.
    Closed,
}

/// Counts since the pool was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Totals {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    /// Attempts to open a connection that failed.
    pub(crate) open_failed: u64,
    /// Waits that ended at their deadline.
    pub(crate) timed_out: u64,
    /// Acquires that found the queue full.
    pub(crate) queue_full: u64,
    /// Acquires that were turned away because of an outage.
    pub(crate) turned_away: u64,
    /// Leases that were reported.
    pub(crate) suspected: u64,
    /// Connections by why they were, or are being, closed: by [`Reason`].
    pub(crate) closed_by: [u64; Reason::COUNT],
}

/// The state at one instant, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// `pool_size` and `max_overflow`.
    pub(crate) sizes: (u32, i32),
    pub(crate) mode: Mode,
    pub(crate) generation: u64,
    /// Since when the server cannot be reached.
    pub(crate) down_since: Option<Instant>,
    /// Leases that were reported and have not come back.
    pub(crate) suspected: usize,
    pub(crate) out: usize,
    pub(crate) idle: usize,
    pub(crate) opening: usize,
    pub(crate) closing: usize,
    pub(crate) waiting: usize,
    pub(crate) totals: Totals,
    /// Leases since the pool was built, and those of them that have come back.
    pub(crate) leases: (u64, u64),
    pub(crate) oldest: Option<HeldSince>,
}
