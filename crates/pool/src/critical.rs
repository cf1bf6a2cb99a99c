//! What somebody should be woken up for.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Holder;

/// Something that somebody should look at. Told to [`Hooks::on_critical`](crate::Hooks::on_critical),
/// and logged as an error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Critical {
    /// COMMIT was written and nobody knows whether it was done: its connection broke, its deadline
    /// passed, or its future was dropped. Once for each such commit.
    CommitUnknown(UnknownCommit),
    /// A lease has been out for longer than `leak_threshold`. Once for each such lease.
    LeakSuspected(Holder),
    /// No connection is open and none can be opened. Once until one was opened again.
    PoolDown {
        /// The last attempt's error.
        cause: Arc<dyn Error + Send + Sync>,
    },
    /// The pool's books do not add up: a bug in this crate. Once for each pool. The pool goes on as well
    /// as it can; build a new one.
    BrokenInvariant,
}

/// A commit of which nobody knows whether it was done.
///
/// The pool itself knows nothing of transactions: what there is to know is the session's, and
/// [`UnknownCommit::in_doubt`] returns it.
#[derive(Debug, Clone)]
pub struct UnknownCommit {
    /// The server process that was to commit.
    pid: i32,
    details: Arc<dyn Details>,
}

/// What the layer above the pool knows of a commit, whatever its type is.
trait Details: Any + fmt::Debug + Send + Sync {}

impl<T: Any + fmt::Debug + Send + Sync> Details for T {}

impl UnknownCommit {
    pub(crate) fn new(pid: i32, details: impl Any + fmt::Debug + Send + Sync) -> Self {
        Self {
            pid,
            details: Arc::new(details),
        }
    }

    /// Returns what it was made with, if that is of this type.
    pub(crate) fn details<T: Any>(&self) -> Option<&T> {
        let details: &dyn Any = &*self.details;
        details.downcast_ref()
    }
}

pub(crate) type CriticalListener = Arc<dyn Fn(&Critical) + Send + Sync>;

/// Which events were told that are told once.
#[derive(Debug, Default)]
pub(crate) struct Told {
    down: AtomicBool,
    broken: AtomicBool,
}

impl Told {
    /// Returns whether that the pool is down is news.
    pub(crate) fn down(&self) -> bool {
        !self.down.swap(true, Ordering::Relaxed)
    }

    /// Makes it news again.
    pub(crate) fn up(&self) {
        if self.down.load(Ordering::Relaxed) {
            self.down.store(false, Ordering::Relaxed);
        }
    }

    /// Returns whether that an invariant is broken is news.
    pub(crate) fn broken(&self) -> bool {
        !self.broken.swap(true, Ordering::Relaxed)
    }
}

/// Logs an event and tells the listener, whose panic changes nothing.
pub(crate) fn tell(listener: Option<&CriticalListener>, event: &Critical) {
    match event {
        Critical::PoolDown { cause } => tracing::error!(cause = &**cause as &dyn Error, "{event}"),
        _ => tracing::error!("{event}"),
    }
    let Some(listener) = listener else { return };
    // A session may be dropped while its thread unwinds, where a panic would end the process.
    if catch_unwind(AssertUnwindSafe(|| listener(event))).is_err() {
        tracing::error!("the listener for critical events panicked");
    }
}

impl fmt::Display for Critical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommitUnknown(UnknownCommit { pid, .. }) => {
                write!(f, "a commit's outcome is unknown (backend {pid})")
            }
            Self::LeakSuspected(holder) => write!(f, "suspected leak: a lease is held by {holder}"),
            Self::PoolDown { .. } => {
                f.write_str("no connection to the database is open and none can be opened")
            }
            Self::BrokenInvariant => f.write_str("bug: the pool's books do not add up"),
        }
    }
}
