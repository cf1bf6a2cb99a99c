//! Why an acquire failed, who holds leases, and what all errors can tell about themselves.

mod kind;

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error as ThisError;

pub use kind::{Category, ErrorKind};

use crate::brief::{brief, counted};
use crate::hooks::HookError;
use crate::pool::Snapshot;

/// An error that knows its kind.
pub trait Categorized {
    /// Returns what kind of error it is.
    fn kind(&self) -> ErrorKind;

    /// Returns the SQLSTATE, where the server sent one.
    fn sqlstate(&self) -> Option<String>;

    /// Returns the group that the kind belongs to.
    fn category(&self) -> Category {
        self.kind().category()
    }

    /// Returns what to tell an end user: what they can do, and nothing of how the system works.
    fn user_message(&self) -> &'static str {
        self.kind().user_message()
    }

    /// Returns whether running the whole transaction again, on a clean session, can help and applies
    /// nothing twice.
    fn is_retryable(&self) -> bool {
        self.kind().is_retryable()
    }

    /// Returns the pool's numbers at that moment, where the pool is what failed.
    fn pool_state(&self) -> Option<&Snapshot> {
        None
    }
}

/// Who holds a lease, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Where the lease was asked for.
    pub location: &'static Location<'static>,
    /// How long it has been out.
    pub held_for: Duration,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.location, brief(self.held_for))
    }
}

/// Why a connection could not be opened.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ConnectError<E: Error + 'static> {
    /// The connector says why.
    #[error("the connection could not be opened")]
    Failed(#[source] Arc<E>),
    /// It took longer than `connect_timeout`.
    #[error("the server did not answer within {}", brief(*after))]
    TimedOut {
        /// The setting `connect_timeout`.
        after: Duration,
    },
    /// The connect hook did not want it.
    #[error("the connect hook failed")]
    Hook(#[source] HookError),
    /// The attempt ended early: the connector panicked, or the runtime of the pool shut down.
    #[error("the attempt ended early")]
    Abandoned,
}

impl<E: Error + 'static> Clone for ConnectError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(cause) => Self::Failed(Arc::clone(cause)),
            Self::TimedOut { after } => Self::TimedOut { after: *after },
            Self::Hook(error) => Self::Hook(error.clone()),
            Self::Abandoned => Self::Abandoned,
        }
    }
}

/// Why an acquire failed. The variants differ in what to do about them.
#[derive(Debug, Clone, ThisError)]
#[non_exhaustive]
pub enum AcquireError<E: Error + 'static> {
    /// All connections that there may be were lent out for the whole `pool_timeout`: hold leases for
    /// less long, or raise the limits.
    #[error(
        "{} in use (pool_size {size}, max_overflow {overflow}) and {}; none came back within {}{}{}",
        all_connections(*out),
        counted(*waiting, "acquire waits", "acquires wait"),
        brief(*within),
        oldest_holder(oldest.as_ref()),
        own_leases(own)
    )]
    Exhausted {
        /// The setting `pool_size`.
        size: u32,
        /// The setting `max_overflow`.
        overflow: i32,
        /// Leases.
        out: usize,
        /// Acquires that waited at that moment, this one included.
        waiting: usize,
        /// How long this one waited.
        within: Duration,
        /// The oldest lease.
        oldest: Option<Holder>,
        /// The leases that the same task asked for before, where tokio tells tasks apart; it may have
        /// sent them to another one since. Tasks that hold one and wait for another can wait for each
        /// other: a deadlock that only this timeout ends. Ask for all that a task needs at once, or
        /// share one.
        own: Vec<Holder>,
        /// The pool's numbers at that moment.
        state: Box<Snapshot>,
    },
    /// Connections were being opened, and the server had not answered by the deadline: the address is
    /// wrong, something between swallows what is sent, or the server is overloaded.
    #[error(
        "no connection was opened within {}; {} under way, {} in use: check that the address is right \
         and that the server is not overloaded",
        brief(*within),
        counted(*opening, "attempt is", "attempts are"),
        counted(*out, "connection is", "connections are")
    )]
    ConnectTimeout {
        /// Connections being opened.
        opening: usize,
        /// Leases.
        out: usize,
        /// How long this acquire waited.
        within: Duration,
        /// The pool's numbers at that moment.
        state: Box<Snapshot>,
    },
    /// The server cannot be reached: the waiting was for nothing.
    #[error("the database has been unreachable for {}", brief(*since))]
    Down {
        /// The last attempt's error.
        #[source]
        cause: ConnectError<E>,
        /// How long ago the first failing attempt ended.
        since: Duration,
        /// The pool's numbers at that moment.
        state: Box<Snapshot>,
    },
    /// The server refuses the connection, and trying again cannot help.
    #[error("the database refuses the connection")]
    Rejected {
        /// Why.
        #[source]
        cause: ConnectError<E>,
    },
    /// As many acquires wait as `waiters_max` allows: try again later, hold leases for less long, or
    /// raise it.
    #[error(
        "{} already, as many as waiters_max allows: try again later, hold leases for less long, or raise \
         waiters_max",
        counted(*waiting, "acquire waits", "acquires wait")
    )]
    QueueFull {
        /// How many wait.
        waiting: usize,
        /// The pool's numbers at that moment.
        state: Box<Snapshot>,
    },
    /// The pool was paused for the whole `pool_timeout`.
    #[error("the pool is paused and was not resumed within {}", brief(*within))]
    Paused {
        /// How long this acquire waited.
        within: Duration,
        /// The pool's numbers at that moment.
        state: Box<Snapshot>,
    },
    /// The acquire hook would not let any connection be lent: the one that was taken, nor the one
    /// after it.
    #[error("the acquire hook lets no connection be lent")]
    Hook {
        /// What the hook did.
        #[source]
        cause: HookError,
    },
    /// The pool is being drained: it lends again after [`Pool::resume`](crate::Pool::resume).
    #[error("the pool is being drained")]
    Draining,
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

fn all_connections(out: usize) -> String {
    match out {
        1 => "the only connection is".to_owned(),
        _ => format!("all {out} connections are"),
    }
}

fn oldest_holder(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| {
        format!("; the oldest lease is held by {holder}")
    })
}

fn own_leases(own: &[Holder]) -> String {
    let Some(first) = own.first() else {
        return String::new();
    };
    let count = own.len();
    format!(
        "; the task that waits asked for {count} of them itself, the first at {} and out for {}: tasks \
         that hold one and wait for another can wait for each other",
        first.location,
        brief(first.held_for)
    )
}

impl<E: Error + 'static> AcquireError<E> {
    /// Returns what kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exhausted { .. } => ErrorKind::Exhausted,
            Self::QueueFull { .. } => ErrorKind::QueueFull,
            Self::ConnectTimeout { .. } => ErrorKind::ConnectTimeout,
            Self::Down { .. } => ErrorKind::Down,
            Self::Rejected { .. } => ErrorKind::Rejected,
            Self::Paused { .. } => ErrorKind::Paused,
            Self::Hook { .. } => ErrorKind::Other,
            Self::Draining | Self::Closed => ErrorKind::Closed,
        }
    }

    /// Returns the group that the kind belongs to.
    #[must_use]
    pub fn category(&self) -> Category {
        self.kind().category()
    }

    /// Returns the pool's numbers at that moment; none when it is closed, or when the server refuses
    /// connections whatever the pool does.
    #[must_use]
    pub fn pool_state(&self) -> Option<&Snapshot> {
        match self {
            Self::Exhausted { state, .. }
            | Self::QueueFull { state, .. }
            | Self::ConnectTimeout { state, .. }
            | Self::Down { state, .. }
            | Self::Paused { state, .. } => Some(state),
            Self::Rejected { .. } | Self::Hook { .. } | Self::Draining | Self::Closed => None,
        }
    }
}

impl<E: Error + Categorized + 'static> Categorized for AcquireError<E> {
    fn kind(&self) -> ErrorKind {
        Self::kind(self)
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Down { cause, .. } | Self::Rejected { cause } => cause.sqlstate(),
            _ => None,
        }
    }

    fn pool_state(&self) -> Option<&Snapshot> {
        Self::pool_state(self)
    }
}

impl<E: Error + Categorized + 'static> Categorized for ConnectError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Failed(cause) => cause.kind(),
            Self::TimedOut { .. } => ErrorKind::ConnectTimeout,
            Self::Hook(_) | Self::Abandoned => ErrorKind::Other,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Failed(cause) => cause.sqlstate(),
            Self::TimedOut { .. } | Self::Hook(_) | Self::Abandoned => None,
        }
    }
}

/// What came of closing a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReport {
    /// Leases that had not come back by the deadline. They are closed when they do.
    pub holders: Vec<Holder>,
    /// Connections whose opening, reset or goodbye was cut short at the deadline.
    pub cut_short: usize,
    /// How long closing took.
    pub took: Duration,
}
