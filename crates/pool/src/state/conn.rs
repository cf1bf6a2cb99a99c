//! A connection from its opening through its leases, and what is kept of each.

use std::num::NonZeroU64;
use std::time::Instant;

use super::HeldSince;
use super::slab::{Key, NO_KEY};

/// A lease's place in the table of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HolderKey(pub(super) Key);

impl HolderKey {
    /// It is not lent.
    pub(super) const NONE: Self = Self(NO_KEY);
}

/// A lease in the table of leases. Aligned so that each is on a cache line of its own: threads that lend
/// and return at the same time touch different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(align(64))]
pub(super) struct Lent {
    pub(super) held: HeldSince,
    pub(super) task: Option<NonZeroU64>,
    /// What the connection knows as well: it cannot be asked while it is out.
    pub(super) expires: Option<Instant>,
    pub(super) marked: bool,
    /// It was out for so long that it was reported.
    pub(super) suspected: bool,
}

/// A connection with what the pool knows about it. On the heap, so that it costs next to nothing to pass it
/// on, which is most of what a pool does.
pub(crate) type Conn<C> = Box<Known<C>>;

/// What the pool knows about a connection. Aligned so that no two that are lent share a cache line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[repr(align(64))]
pub(crate) struct Known<C> {
    pub(crate) value: C,
    /// Its lease's place in the table of leases, while it is lent.
    pub(super) holder: HolderKey,
    /// Since when it has been lent, while it is.
    pub(super) lent_since: Instant,
    pub(crate) generation: u64,
    /// When it was last known to work.
    pub(crate) last_used: Instant,
    /// When it will be too old.
    pub(crate) expires: Option<Instant>,
    /// Its replacement was ordered: it goes when that is there, or when it comes back.
    pub(crate) marked: bool,
}

impl<C> Known<C> {
    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Forgets the lease. What is idle looks the same whoever had it, so that a search ends.
    #[inline]
    pub(super) fn end_lease(&mut self) {
        self.holder = HolderKey::NONE;
        self.lent_since = self.last_used;
    }

    #[inline]
    pub(super) fn works_at(&mut self, now: Instant) {
        self.last_used = now;
        self.lent_since = now;
    }
}

/// A connection that is lent, or on its way to a borrower.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Granted<C> {
    pub(crate) conn: Conn<C>,
}

/// An idle connection that was lent, and does not know it yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Ready<C> {
    pub(super) conn: Conn<C>,
    pub(super) holder: HolderKey,
}

impl<C> Ready<C> {
    /// Tells the connection. Without the lock: another thread may have used it last, and then its cache
    /// line takes a while to come.
    #[inline]
    pub(crate) fn grant(self, since: Instant) -> Granted<C> {
        let mut conn = self.conn;
        conn.holder = self.holder;
        conn.lent_since = since;
        Granted { conn }
    }
}

impl<C> Granted<C> {
    /// Returns since when: nobody else can have it from then on.
    pub(crate) fn since(&self) -> Instant {
        self.conn.lent_since
    }
}

/// A connection that was just opened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Opened<C> {
    pub(crate) value: C,
    /// The generation when the attempt began.
    pub(crate) generation: u64,
    /// When the attempt began: a connection's age counts from there.
    pub(crate) begun: Instant,
    /// Random bits that spread out the ends of lives.
    pub(crate) jitter: u32,
}
