//! A connection that is lent out, and what becomes of it when it comes back.

use std::fmt;
use std::sync::Arc;

use super::{Inner, now};
use crate::connector::Connector;
use crate::state::{Conn, Granted, HolderKey};

/// What becomes of a connection when its lease ends. Later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// Straight back, without I/O.
    Return,
    /// Reset first.
    Reset,
    /// Dropped: a statement was abandoned, so nobody knows what the server is doing.
    Drop,
    /// Dropped, and all connections as old as it are stale: it broke.
    Broken,
}

/// A connection that is lent out. Dropping it gives the connection back.
///
/// A lease that was only looked at goes back without I/O. After [`Lease::get_mut`] the connection is
/// reset in a task of the pool first, within `reset_timeout`; its slot stays taken meanwhile.
pub struct Lease<C: Connector> {
    inner: Arc<Inner<C>>,
    /// None once it was given back.
    held: Option<Granted<C::Connection>>,
    fate: Fate,
}

impl<C: Connector> Lease<C> {
    pub(super) fn new(inner: Arc<Inner<C>>, granted: Granted<C::Connection>) -> Self {
        Self {
            inner,
            held: Some(granted),
            fate: Fate::Return,
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

    /// Gives the connection up: it is dropped instead of going back, and its slot is free at once.
    pub fn discard(mut self) {
        self.condemn(Fate::Drop);
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
        let Some(Granted { conn, holder }) = self.held.take() else {
            return;
        };
        match self.fate {
            Fate::Return => {
                let actions = self.inner.lock().put(holder, conn, now());
                self.inner.perform(actions);
            }
            Fate::Reset => {
                self.inner.lock().retire(holder);
                self.inner.spawn_reset(conn);
            }
            Fate::Drop | Fate::Broken => self.drop_connection(conn, holder),
        }
    }
}

impl<C: Connector> Lease<C> {
    fn drop_connection(&self, conn: Conn<C::Connection>, holder: HolderKey) {
        {
            let mut state = self.inner.lock();
            state.retire(holder);
            if self.fate == Fate::Broken {
                state.invalidate(conn.generation);
            }
        }
        // The socket goes before its slot is free, and without the lock.
        drop(conn);
        let actions = self.inner.lock().closed(now());
        self.inner.perform(actions);
    }
}

impl<C: Connector> fmt::Debug for Lease<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("fate", &self.fate)
            .finish_non_exhaustive()
    }
}
