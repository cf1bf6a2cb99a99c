//! The three transitions that happen all the time, where they have no consequences: a connection is lent
//! that is ready, an acquire queues for one that is lent, and one comes back that goes to the head waiter
//! or is idle.
//!
//! The shell tries them first. Everything they do, [`State::acquire`] and [`State::put`] would do as well,
//! which the search of all interleavings compares; what they save is to find out that nothing else is to
//! be done.

use std::time::Instant;

use super::queue::Slot;
use super::{Asker, Gate, Granted, Known, Mode, Ready, State, WaiterKey};

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) key: WaiterKey,
    /// [`State::ring`] is due earlier than it was.
    pub(crate) set_alarm: bool,
}

impl<C, W, E: Clone> State<C, W, E> {
    /// Lends an idle connection, if there is one and nothing but that is to be done.
    #[inline]
    pub(crate) fn take_ready(&mut self, asker: Asker, now: Instant) -> Option<Ready<C>> {
        if !self.steady {
            return None;
        }
        let order = self.limits.order;
        let ages = self.limits.recycle.is_some();
        let fresh = |conn: &Known<C>| !ages || !conn.has_expired(now);
        let conn = self.idle.pop_if(order, fresh)?;
        self.leases_issued += 1;
        let ready = self.enter_lease(conn, asker, now);
        self.check_quickly();
        Some(ready)
    }

    /// Returns whether a newcomer can but queue, and nothing else is to be done: nothing is idle, and nothing
    /// more may be opened.
    #[inline]
    pub(crate) fn must_queue(&self) -> bool {
        self.steady
            && self.idle.is_empty()
            && self.open() == self.limits.max_open
            && self.queue.waiting() < self.limits.waiters_max
    }

    /// Queues behind all others, where one [must](Self::must_queue).
    #[inline]
    pub(crate) fn join_ready(
        &mut self,
        asker: Asker,
        deadline: Option<Instant>,
        waker: W,
    ) -> Queued {
        let set_alarm = deadline.is_some_and(|deadline| self.advance_alarm(deadline));
        let key = self.queue.push_back(waker, asker, deadline);
        self.check_quickly();
        Queued { key, set_alarm }
    }

    /// Takes back a clean connection, if nothing else is to be done; returns the waker of the waiter that
    /// got it.
    ///
    /// # Errors
    /// The lease, when [`State::put`] must see to it.
    #[inline]
    pub(crate) fn put_ready(
        &mut self,
        granted: Granted<C>,
        now: Instant,
    ) -> Result<Option<W>, Granted<C>> {
        let conn = &*granted.conn;
        let lent = self.holders.get(conn.holder.0);
        if !self.steady
            || conn.generation != self.generation
            || conn.has_expired(now)
            || conn.marked
            || lent.marked
            || lent.suspected
        {
            return Err(granted);
        }
        let waiter = self.queue.head();
        // Those who go on waiting wait for what is lent, not for what could be opened.
        let serves = waiter.is_some() && self.open() == self.limits.max_open;
        let rests = waiter.is_none() && self.idle.len() < self.limits.pool_size;
        if !serves && !rests {
            return Err(granted);
        }
        let mut conn = granted.conn;
        self.holders.discard(conn.holder.0);
        conn.end_lease();
        conn.works_at(now);
        let Some(asker) = waiter else {
            self.idle.push(conn, now);
            self.check_quickly();
            return Ok(None);
        };
        let granted = self.lend(conn, asker, now);
        let waker = self.queue.settle_head(Slot::Granted(granted));
        self.check_quickly();
        Ok(waker)
    }

    /// [`State::check`] after what was done quickly, whose conditions imply what it finds out: not in a release.
    #[inline]
    fn check_quickly(&self) {
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    /// Whether the pool is open, the server there, and nothing on order but what waiters need. Lending,
    /// queueing and taking back change none of this.
    pub(super) fn is_steady(&self) -> bool {
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
    use std::time::Duration;

    use super::super::tests::{limits, origin};
    use super::super::{Found, Limits, Opened};
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
        let granted = state.take_ready(ASKER, origin()).unwrap().grant(origin());
        assert_eq!(state.put_ready(granted, origin()), Ok(None));
        let granted = state.take_ready(ASKER, origin()).unwrap().grant(origin());
        assert_eq!(state.take_ready(ASKER, origin()), None);
        let Queued { key, set_alarm } = state.join_ready(ASKER, Some(origin()), 7);
        assert!(set_alarm, "it is the first");
        assert_eq!(state.put_ready(granted, origin()), Ok(Some(7)));
        let Found::Granted(granted) = state.poll(key, |_| None) else {
            panic!("no grant")
        };
        assert_eq!(granted.conn.value, 1);
        state.audit();
    }

    #[test]
    fn nobody_queues_quickly_for_what_is_idle_could_be_opened_or_is_too_much() {
        let idle = one_idle(limits(1, 0));
        assert!(!idle.must_queue());
        let mut room = one_idle(limits(2, 0));
        room.take_ready(ASKER, origin()).unwrap();
        assert!(!room.must_queue());
        let mut full = one_idle(Limits {
            waiters_max: 1,
            ..limits(1, 0)
        });
        full.take_ready(ASKER, origin()).unwrap().grant(origin());
        assert!(full.must_queue());
        full.join_ready(ASKER, None, 1);
        assert!(!full.must_queue());
    }

    #[test]
    fn what_has_consequences_is_left_to_the_thorough_way() {
        let mut too_old = one_idle(Limits {
            recycle: Some(Duration::from_secs(10)),
            ..limits(1, 0)
        });
        let expiry = origin() + Duration::from_secs(10);
        assert_eq!(too_old.take_ready(ASKER, expiry), None);
        assert_eq!(too_old.idle.len(), 1, "it is there");
        let mut paused = one_idle(limits(1, 0));
        drop(paused.pause(origin()));
        assert_eq!(paused.take_ready(ASKER, origin()), None);
        let mut ready = one_idle(Limits {
            min_idle: 1,
            ..limits(1, 0)
        });
        assert_eq!(ready.take_ready(ASKER, origin()), None);
    }

    /// A connection whose lease began quickly and does not end so, after `change`.
    fn stays(limits: Limits, now: Instant, change: impl FnOnce(&mut Books)) {
        let mut state = one_idle(limits);
        let granted = state.take_ready(ASKER, origin()).unwrap().grant(origin());
        change(&mut state);
        assert_eq!(state.put_ready(granted.clone(), now), Err(granted));
    }

    #[test]
    fn what_comes_back_with_consequences_is_left_to_the_thorough_way() {
        let now = origin() + Duration::from_secs(10);
        let until = |secs| Some(Duration::from_secs(secs));
        stays(limits(1, 0), now, |state| {
            drop(state.invalidate_all(origin()));
        });
        let ageing = Limits {
            recycle: until(10),
            ..limits(1, 0)
        };
        stays(ageing, now, |_| {});
        let watched = Limits {
            leak: until(10),
            ..limits(1, 0)
        };
        stays(watched, now, |state| drop(state.sweep(now)));
        // Room for one more is there, and a waiter waits for it.
        stays(limits(1, 1), now, |state| {
            let deadline = None;
            state.queue.push_back(7, ASKER, deadline);
        });
        // There are as many idle ones as are kept.
        stays(limits(1, 1), now, |state| {
            let conn = one_idle(limits(1, 0)).take_ready(ASKER, now).unwrap();
            state.idle.push(conn.grant(now).conn, now);
        });
    }

    /// F16: its replacement is there already.
    #[test]
    fn f16_what_was_replaced_while_it_was_out_does_not_become_idle_again() {
        let mut state = Books::new(Limits {
            recycle: Some(Duration::from_secs(90)),
            ..limits(2, 1)
        });
        let open = |state: &mut Books, value, jitter| {
            let opened = Opened {
                value,
                generation: 0,
                begun: origin(),
                jitter,
            };
            drop(state.opened(opened, origin()));
        };
        assert_eq!(state.warm_up(2, origin()).connect, 2);
        open(&mut state, 1, u32::MAX);
        open(&mut state, 2, 0);
        let lent = [1, 2].map(|_| state.take_ready(ASKER, origin()).unwrap());
        let due = origin() + Duration::from_secs(60);
        assert_eq!(state.sweep(due).connect, 1, "for the first");
        open(&mut state, 3, 0);
        assert!(state.steady && state.idle.len() == 1);
        let [first, _second] = lent.map(|ready| ready.grant(origin()));
        assert_eq!(state.put_ready(first.clone(), due), Err(first));
    }
}
