//! What goes into a transition and what comes out of it.

use std::panic::Location;
use std::time::{Duration, Instant};

use super::gate::Backoff;

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
}

/// A waiter's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WaiterKey(pub(super) usize);

/// A lease's place in the table of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HolderKey(pub(super) usize);

/// Who holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HeldSince {
    pub(crate) location: &'static Location<'static>,
    pub(crate) since: Instant,
}

/// A connection with what the pool knows about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Conn<C> {
    pub(crate) value: C,
    pub(crate) generation: u64,
    /// When it was last known to work.
    pub(crate) last_used: Instant,
}

/// A connection on its way to a borrower.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Granted<C> {
    pub(crate) conn: Conn<C>,
    pub(crate) holder: HolderKey,
}

/// A connection that was just opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Opened<C> {
    pub(crate) value: C,
    /// The generation when the attempt began.
    pub(crate) generation: u64,
    /// How long it took.
    pub(crate) took: Duration,
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
    pub(crate) location: &'static Location<'static>,
    pub(crate) place: Place,
}

/// A connection that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Failure<E> {
    pub(crate) error: E,
    pub(crate) severity: Severity,
    /// Random bits that spread out the next attempt.
    pub(crate) jitter: u32,
}

/// What came of asking for a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Asked<C> {
    Ready(Granted<C>),
    Queued(WaiterKey),
    QueueFull { waiting: usize },
    Closed,
}

/// What a waiter finds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Found<C, W, E> {
    Granted(Granted<C>),
    Failed(E),
    Closed,
    /// Nothing yet; its former waker, to be dropped without the lock.
    Waiting(W),
}

/// What a waiter finds at its deadline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Expired<C, W, E> {
    /// It was served in the last moment.
    Granted(Granted<C>),
    Failed(E),
    Closed,
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
    },
    /// Connections were being opened, and the server had not answered yet.
    Opening { out: usize, opening: usize },
    /// The server could not be reached.
    Down { cause: E, since: Instant },
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
    /// The pool is closed and the last connection is gone.
    pub(crate) drained: bool,
    /// A waker to be dropped without the lock.
    pub(crate) spent: Option<W>,
}

impl<C, W> Actions<C, W> {
    pub(super) fn none() -> Self {
        Self {
            wake: None,
            wake_more: Vec::new(),
            connect: 0,
            generation: 0,
            close: Vec::new(),
            arm_timer: None,
            drained: false,
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

/// Whether leases are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Open,
    Closed,
}

/// Counts since the pool was built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Totals {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) leases_issued: u64,
    pub(crate) leases_returned: u64,
}

/// The state at one instant, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) out: usize,
    pub(crate) idle: usize,
    pub(crate) opening: usize,
    pub(crate) closing: usize,
    pub(crate) waiting: usize,
    pub(crate) totals: Totals,
    pub(crate) oldest: Option<HeldSince>,
}
