//! A connection that is lent out, and what becomes of it when it comes back.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;

use super::{Inner, Share, now};
use crate::connector::Connector;
use crate::hooks::Hooks;
use crate::meters::Meters;
use crate::state::{Granted, Reason};

/// What becomes of a connection when its lease ends. Later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)] // So that a lease has no bytes of no meaning, around which it would be copied piecemeal.
pub(crate) enum Fate {
    /// Straight back, without I/O.
    Return,
    /// Reset first.
    Reset,
    /// Dropped.
    Drop,
    /// Dropped: a hook did not want it.
    Unfit,
    /// Given up by [`Connector::abandon`]: a statement was abandoned, so nobody knows what the server
    /// is doing.
    Abandon,
    /// Dropped, and all connections as old as it are stale: it broke.
    Broken,
}

/// A connection that is lent out. Dropping it gives the connection back.
///
/// A lease that was only looked at goes back without I/O, unless there is
/// [`Hooks::on_release`](crate::Hooks::on_release). After [`Lease::get_mut`] the connection is
/// reset in a task of the pool first, within `reset_timeout`; its slot stays taken meanwhile.
pub struct Lease<C: Connector> {
    inner: Arc<Share<C>>,
    /// None once it was given back.
    held: Option<Granted<C::Connection>>,
    fate: Fate,
    location: &'static Location<'static>,
}

impl<C: Connector> Lease<C> {
    pub(super) fn new(
        inner: Arc<Share<C>>,
        granted: Granted<C::Connection>,
        location: &'static Location<'static>,
    ) -> Self {
        Self {
            inner,
            held: Some(granted),
            fate: Fate::Return,
            location,
        }
    }

    /// Returns the connection, to look at.
    #[must_use]
    pub fn get(&self) -> &C::Connection {
        &self.granted().conn.value
    }

    /// Returns the connection, to do anything with. It will be reset before anyone else gets it.
    pub fn get_mut(&mut self) -> &mut C::Connection {
        self.condemn(Fate::Reset);
        self.tracked()
    }

    /// Gives the connection up: it is dropped instead of going back, and its slot is free at once, or
    /// after [`Hooks::on_invalidate`](crate::Hooks::on_invalidate) where there is one.
    pub fn discard(mut self) {
        self.condemn(Fate::Drop);
    }

    pub(super) fn pool(&self) -> Arc<Inner<C>> {
        Arc::clone(&self.inner.0)
    }

    /// Returns the connection to code that keeps track of what it does by itself.
    pub(crate) fn tracked(&mut self) -> &mut C::Connection {
        &mut self
            .held
            .as_mut()
            .expect("bug: a lease was used after it came back")
            .conn
            .value
    }

    /// Returns where it was asked for.
    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// Returns since when it has been out.
    pub(crate) fn since(&self) -> Instant {
        self.granted().since()
    }

    /// Returns the server process behind it, where the connector knows it.
    pub(super) fn pid(&self) -> Option<i32> {
        self.inner.connector.pid(self.get())
    }

    /// Returns where the pool's tasks run.
    pub(crate) fn home(&self) -> &Handle {
        &self.inner.handle
    }

    pub(crate) fn hooks(&self) -> &Hooks<C::Connection> {
        &self.inner.hooks
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }

    pub(crate) fn set_fate(&mut self, fate: Fate) {
        self.fate = fate;
    }

    /// Makes the fate at least this bad.
    pub(crate) fn condemn(&mut self, fate: Fate) {
        self.fate = self.fate.max(fate);
    }

    pub(super) fn granted(&self) -> &Granted<C::Connection> {
        self.held
            .as_ref()
            .expect("bug: a lease was used after it came back")
    }
}

impl<C: Connector> Drop for Lease<C> {
    fn drop(&mut self) {
        let Some(granted) = self.held.take() else {
            return;
        };
        let now = now();
        let held_for = now.saturating_duration_since(granted.since());
        self.inner.meters.hold(held_for);
        if self.fate == Fate::Return && self.inner.hooks.release.is_none() {
            if let Some(actions) = self.inner.shell.put(granted, now) {
                self.inner.perform(actions);
            }
        } else {
            self.retire(granted, now);
        }
    }
}

impl<C: Connector> Lease<C> {
    /// Lets a connection go that cannot go straight back.
    #[cold]
    fn retire(&self, granted: Granted<C::Connection>, now: Instant) {
        let inner = &self.inner;
        let conn = inner.change_and_tell(|books| books.retire(granted, now));
        match self.fate {
            Fate::Return | Fate::Reset => inner.spawn_reset(conn, self.fate),
            Fate::Abandon => inner.abandon(conn.value),
            Fate::Drop => inner.give_up(conn, Reason::Abandoned),
            Fate::Unfit => inner.give_up(conn, Reason::Unfit),
            Fate::Broken => {
                inner.change(|books| books.invalidate(conn.generation, now));
                inner.give_up(conn, Reason::Broken);
            }
        }
    }
}

impl<C: Connector> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("fate", &self.fate)
            .finish_non_exhaustive()
    }
}
