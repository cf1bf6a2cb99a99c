//! Why an acquire failed, who holds leases, and the categories of all errors.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error as ThisError;

/// What kind of error it is, by what the caller would do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Category {
    /// The pool had no connection to give in time, or its queue was full.
    Capacity,
    /// The database cannot be reached, or the pool is closed.
    Unavailable,
    /// An established connection broke.
    Connection,
    /// Serialization failure or deadlock (class 40): running the whole transaction again can help.
    Serialization,
    /// A constraint was violated (class 23).
    Integrity,
    /// Syntax, an undefined object, a wrong type, or a statement that is refused here.
    Programming,
    /// The server lacks something: memory, disk, connections (class 53).
    Resource,
    /// COMMIT was written and its result is unknown.
    Ambiguous,
    /// The transaction was rolled back although its caller wanted to commit.
    RolledBack,
    /// Anything else.
    Other,
}

impl Category {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Unavailable => "unavailable",
            Self::Connection => "connection",
            Self::Serialization => "serialization",
            Self::Integrity => "integrity",
            Self::Programming => "programming",
            Self::Resource => "resource",
            Self::Ambiguous => "ambiguous",
            Self::RolledBack => "rolled-back",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error that knows its category.
pub trait Categorized {
    /// Returns what kind of error it is.
    fn category(&self) -> Category;

    /// Returns the SQLSTATE, where the server sent one.
    fn sqlstate(&self) -> Option<String>;
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
        write!(f, "{} for {:?}", self.location, self.held_for)
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
    #[error("the server did not answer within {after:?}")]
    TimedOut {
        /// The setting `connect_timeout`.
        after: Duration,
    },
    /// The attempt ended early: the connector panicked, or the runtime of the pool shut down.
    #[error("the attempt ended early")]
    Abandoned,
}

impl<E: Error + 'static> Clone for ConnectError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(cause) => Self::Failed(Arc::clone(cause)),
            Self::TimedOut { after } => Self::TimedOut { after: *after },
            Self::Abandoned => Self::Abandoned,
        }
    }
}

/// Why an acquire failed. The variants differ in what to do about them.
#[derive(Debug, Clone, ThisError)]
#[non_exhaustive]
pub enum AcquireError<E: Error + 'static = sqlx::Error> {
    /// All connections that there may be were lent out for the whole `pool_timeout`: hold leases for
    /// less long, or raise the limits.
    #[error(
        "all {out} connections are in use (pool_size {size}, max_overflow {overflow}) and {waiting} \
         wait; none came back within {within:?}{}",
        oldest_holder(oldest.as_ref())
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
    },
    /// Connections were being opened, and the server had not answered by the deadline.
    #[error(
        "no connection was opened within {within:?}; {opening} attempts are under way, {out} are in use"
    )]
    ConnectTimeout {
        /// Connections being opened.
        opening: usize,
        /// Leases.
        out: usize,
        /// How long this acquire waited.
        within: Duration,
    },
    /// The server cannot be reached: the waiting was for nothing.
    #[error("the database has been unreachable for {since:?}")]
    Down {
        /// The last attempt's error.
        #[source]
        cause: ConnectError<E>,
        /// How long ago the first failing attempt ended.
        since: Duration,
    },
    /// The server refuses the connection, and trying again cannot help.
    #[error("the database refuses the connection")]
    Rejected {
        /// Why.
        #[source]
        cause: ConnectError<E>,
    },
    /// As many acquires wait as may.
    #[error("{waiting} acquires wait already, which is the limit")]
    QueueFull {
        /// How many wait.
        waiting: usize,
    },
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

fn oldest_holder(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| {
        format!("; the oldest lease is held by {holder}")
    })
}

impl<E: Error + 'static> AcquireError<E> {
    /// Returns what kind of error it is.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Exhausted { .. } | Self::QueueFull { .. } => Category::Capacity,
            Self::ConnectTimeout { .. }
            | Self::Down { .. }
            | Self::Rejected { .. }
            | Self::Closed => Category::Unavailable,
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
