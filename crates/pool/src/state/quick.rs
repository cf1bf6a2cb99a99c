//! The two transitions that happen all the time, where they have no consequences: a connection is lent
//! that is ready, and one comes back that goes to the head waiter or is idle.
//!
//! The shell tries them first. Everything they do, [`State::acquire`] and [`State::put`] would do as well,
//! which the search of all interleavings compares; what they save is to find out that nothing else is to
//! be done.

use std::time::Instant;

use super::queue::Slot;
use super::{Asker, Conn, Gate, Granted, HolderKey, Mode, State};

impl<C, W, E: Clone> State<C, W, E> {
    /// Lends an idle connection, if there is one and nothing but that is to be done.
    #[inline]
    pub(crate) fn take_ready(&mut self, asker: Asker, now: Instant) -> Option<Granted<C>> {
        if self.mode != Mode::Open || self.limits.min_idle > 0 {
            return None;
        }
        let order = self.limits.order;
        let conn = self.idle.pop_if(order, |conn| !conn.has_expired(now))?;
        self.totals.leases_issued += 1;
        let granted = self.lend(conn, asker, now);
        self.check();
        Some(granted)
    }

    /// Takes back a clean connection, if nothing else is to be done; returns the waker of the waiter that
    /// got it.
    ///
    /// # Errors
    /// The connection, when [`State::put`] must see to it.
    #[inline]
    pub(crate) fn put_ready(
        &mut self,
        holder: HolderKey,
        mut conn: Conn<C>,
        now: Instant,
    ) -> Result<Option<W>, Conn<C>> {
        if !self.is_steady() || conn.generation != self.generation || conn.has_expired(now) {
            return Err(conn);
        }
        let lent = self.holders.get(holder.0);
        if lent.marked || lent.suspected || conn.marked {
            return Err(conn);
        }
        let waiter = self.queue.head();
        // Those who go on waiting wait for what is lent, not for what could be opened.
        let serves = waiter.is_some() && self.open() == self.limits.max_open;
        let rests = waiter.is_none() && self.idle.len() < self.limits.pool_size;
        if !serves && !rests {
            return Err(conn);
        }
        self.totals.leases_returned += 1;
        let _ = self.holders.remove(holder.0);
        conn.last_used = now;
        let Some(asker) = waiter else {
            self.idle.push(conn, now);
            self.check();
            return Ok(None);
        };
        let granted = self.lend(conn, asker, now);
        let waker = self.queue.settle_head(Slot::Granted(granted));
        self.check();
        Ok(waker)
    }

    /// Whether the pool is open, the server there, and nothing on order but what waiters need.
    fn is_steady(&self) -> bool {
        self.mode == Mode::Open
            && matches!(self.gate, Gate::Up { .. })
            && self.refill == 0
            && self.limits.min_idle == 0
            && self.idle.marked() == 0
            && self.ceiling == self.limits.max_open
            && self.open() <= self.limits.max_open
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::super::tests::{limits, origin};
    use super::super::{Asked, Found, Limits, Opened, Place, Request};
    use super::*;

    type Books = State<u8, u8, &'static str>;

    const ASKER: Asker = Asker {
        location: Location::caller(),
        task: None,
    };

    fn one_idle(limits: Limits) -> Books {
        let mut state = Books::new(limits);
        drop(state.warm_up(1, origin()));
        let opened = Opened {
            value: 1,
            generation: 0,
            begun: origin(),
            jitter: 0,
        };
        drop(state.opened(opened, origin()));
        state
    }

    /// The comparison with the thorough way in the search says nothing about a quick way that is never
    /// taken.
    #[test]
    fn what_is_ready_is_lent_comes_back_and_is_handed_over_quickly() {
        let mut state = one_idle(limits(1, 0));
        let Granted { conn, holder } = state.take_ready(ASKER, origin()).unwrap();
        assert_eq!(state.put_ready(holder, conn, origin()), Ok(None));
        let Granted { conn, holder } = state.take_ready(ASKER, origin()).unwrap();
        assert_eq!(state.take_ready(ASKER, origin()), None);
        let request = Request {
            asker: ASKER,
            place: Place::Tail,
            deadline: None,
        };
        let (asked, _) = state.acquire(origin(), request, || 7);
        let Asked::Queued(key) = asked else {
            panic!("{asked:?}")
        };
        assert_eq!(state.put_ready(holder, conn, origin()), Ok(Some(7)));
        let Found::Granted(granted) = state.poll(key, |_| None) else {
            panic!("no grant")
        };
        assert_eq!(granted.conn.value, 1);
        state.audit();
    }

    #[test]
    fn what_has_consequences_is_left_to_the_thorough_way() {
        let mut too_old = one_idle(Limits {
            recycle: Some(std::time::Duration::ZERO),
            ..limits(1, 0)
        });
        assert_eq!(too_old.take_ready(ASKER, origin()), None);
        let mut stale = one_idle(limits(1, 0));
        let Granted { conn, holder } = stale.take_ready(ASKER, origin()).unwrap();
        drop(stale.invalidate_all(origin()));
        assert_eq!(stale.put_ready(holder, conn.clone(), origin()), Err(conn));
    }
}
