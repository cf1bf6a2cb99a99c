//! What becomes of connections with time: too old, idle for too long, too many, too few, out for too
//! long. Nothing here is urgent; the shell calls [`State::sweep`] now and then.

use std::time::{Duration, Instant};

use super::conn::Lent;
use super::slab::Key;
use super::{Actions, Known, Leak, Limits, Mode, Reason, State};

impl Limits {
    /// Returns when a connection whose opening began at `begun` will be too old: up to a tenth before
    /// its time, so that pools that were started together do not act together. `jitter` is the
    /// fraction of that tenth in units of 2^-32.
    pub(super) fn expiry(&self, begun: Instant, jitter: u32) -> Option<Instant> {
        let life = self.recycle?;
        let nanos = (life.as_nanos() / 10 * u128::from(jitter)) >> 32;
        let early = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        begun.checked_add(life.saturating_sub(early))
    }
}

impl<C, W, E: Clone> State<C, W, E> {
    /// Does what is due by now.
    pub(crate) fn sweep(&mut self, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.suspect_leaks(now, &mut actions);
        if self.mode == Mode::Open {
            self.recycle(now, &mut actions);
            self.close_idle(now, &mut actions);
        }
        self.settle(now, &mut actions);
        actions
    }

    /// Returns how many leases were reported and have not come back.
    pub(super) fn suspected(&self) -> usize {
        match self.limits.leak {
            None => 0,
            Some(_) => self.holders.iter().filter(|lent| lent.suspected).count(),
        }
    }

    fn suspect_leaks(&mut self, now: Instant, actions: &mut Actions<C, W>) {
        let Some(threshold) = self.limits.leak else {
            return;
        };
        for lent in self.holders.iter_mut() {
            let held_for = now.saturating_duration_since(lent.held.since);
            if !lent.suspected && held_for >= threshold {
                lent.suspected = true;
                self.totals.suspected += 1;
                actions.leaks.push(Leak::Suspected(lent.held));
            }
        }
    }

    /// Closes what is too old, and marks what must begin to go so that nothing gets too old.
    fn recycle(&mut self, now: Instant, actions: &mut Actions<C, W>) {
        let Some(life) = self.limits.recycle else {
            return;
        };
        let expired = self.idle.take(usize::MAX, |conn| conn.has_expired(now));
        for conn in expired {
            self.refill += usize::from(!conn.marked);
            self.send_to_close(conn, Reason::Recycled, actions);
        }
        for place in self.due(life, now) {
            match place {
                At::Idle(index) => self.idle.mark(index),
                At::Lent(key) => self.holders.get_mut(key).marked = true,
            }
            self.refill += 1;
        }
    }

    /// Returns where the connections are that must begin to go by now, when they go one at a time,
    /// spaced out over a life, and none may get older than it should.
    ///
    /// Connections that were opened together would all be too old together (F16). The last of them
    /// can live to its end, the one before must go a space earlier, and so on.
    fn due(&self, life: Duration, now: Instant) -> Vec<At> {
        let idle = self
            .idle
            .iter()
            .enumerate()
            .filter(|(_, conn)| !conn.marked);
        let idle = idle.filter_map(|(index, conn)| Some((conn.expires?, At::Idle(index))));
        let lent = self.holders.entries().filter(|(_, lent)| !lent.marked);
        let lent = lent.filter_map(|(key, lent)| Some((lent.expires?, At::Lent(key))));
        let mut living: Vec<(Instant, At)> = idle.chain(lent).collect();
        living.sort_unstable_by_key(|(expires, _)| *expires);
        let among = living.len().max(self.limits.pool_size);
        // A whole life would leave no time to make up for ends that are close by chance: everyone would
        // go ever earlier.
        let space = life / 3 * 2 / u32::try_from(among).unwrap_or(u32::MAX);
        let expiries = living.iter().map(|(expires, _)| *expires);
        let due = count_due(expiries, space, now);
        living.into_iter().take(due).map(|(_, at)| at).collect()
    }

    /// Closes what was idle for too long, and what there was too much of for too long.
    fn close_idle(&mut self, now: Instant, actions: &mut Actions<C, W>) {
        if let Some(timeout) = self.limits.idle_timeout {
            let dispensable = self.idle.len().saturating_sub(self.limits.min_idle);
            let unused = |conn: &Known<C>| now.saturating_duration_since(conn.last_used) >= timeout;
            for conn in self.idle.take(dispensable, unused) {
                self.send_to_close(conn, Reason::Idle, actions);
            }
        }
        for conn in self.idle.take_surplus(self.limits.linger, now) {
            self.send_to_close(conn, Reason::Overflow, actions);
        }
    }

    /// Returns how many connections should be being opened beside those for waiters: replacements, a
    /// warm-up, and what is to be kept ready. Never more than make `pool_size` in all.
    pub(super) fn wanted_unasked(&self) -> usize {
        if self.refill == 0 && self.limits.min_idle == 0 {
            return 0;
        }
        let ready = self.idle.len() - self.idle.marked();
        let unready = self.limits.min_idle.saturating_sub(ready);
        let room = self.short_of_size().saturating_sub(self.queue.waiting());
        self.refill.max(unready).min(room)
    }

    /// Forgets refills that are not needed any more, and closes marked connections that nothing will
    /// replace, or one in whose slot its replacement must be opened.
    pub(super) fn fit_refill(&mut self, actions: &mut Actions<C, W>) {
        if self.refill > 0 {
            self.refill = self.refill.min(self.short_of_size());
        }
        let mut superfluous = self.idle.marked().saturating_sub(self.refill);
        let full = self.open() - self.closing >= self.limits.max_open;
        if superfluous == 0 && full && self.opening == 0 {
            superfluous = self.idle.marked().min(1);
        }
        if superfluous > 0 {
            for conn in self.idle.take(superfluous, |conn| conn.marked) {
                self.send_to_close(conn, Reason::Recycled, actions);
            }
        }
    }

    /// Returns how many connections `pool_size` is above those that are here to stay.
    fn short_of_size(&self) -> usize {
        let leaving = match self.limits.recycle {
            None => 0,
            Some(_) => {
                let lent = self.holders.iter().filter(|lent: &&Lent| lent.marked);
                lent.count() + self.idle.marked()
            }
        };
        let staying = self.holders.len() + self.idle.len() - leaving;
        self.limits.pool_size.saturating_sub(staying)
    }
}

/// Where a connection is.
#[derive(Debug, Clone, Copy)]
enum At {
    Idle(usize),
    Lent(Key),
}

/// Returns how many of the connections with these expiries, the soonest first, must begin to go by
/// now so that all can go in time with `space` between them.
fn count_due(
    expiries: impl DoubleEndedIterator<Item = Instant> + ExactSizeIterator,
    space: Duration,
    now: Instant,
) -> usize {
    let mut next: Option<Instant> = None;
    for (index, expires) in expiries.enumerate().rev() {
        let must_go = match next {
            None => expires,
            // Without a time that far back it is due in any case.
            Some(next) => next.checked_sub(space).map_or(now, |at| at.min(expires)),
        };
        if must_go <= now {
            return index + 1;
        }
        next = Some(must_go);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::super::tests::origin;
    use super::*;

    fn at(secs: u64) -> Instant {
        origin() + Duration::from_secs(secs)
    }

    /// Goal: no connection gets too old, and no two go in the same space. Method: let them go as they
    /// are due, each second, and look at when they went.
    #[track_caller]
    fn check_goes(expiries: &[u64], space: u64, expected: &[u64]) {
        let mut left: Vec<Instant> = expiries.iter().map(|secs| at(*secs)).collect();
        let mut gone = Vec::new();
        for second in 0..1000 {
            let space = Duration::from_secs(space);
            let due = count_due(left.iter().copied(), space, at(second));
            for expiry in left.drain(..due) {
                assert!(expiry >= at(second), "too old");
                gone.push(second);
            }
        }
        assert_eq!(gone, expected);
    }

    #[test]
    fn f16_those_that_would_end_together_go_one_after_the_other() {
        check_goes(&[100, 100, 100, 100], 25, &[25, 50, 75, 100]);
    }

    #[test]
    fn those_that_end_apart_live_to_their_ends() {
        check_goes(&[100, 125, 180, 999], 25, &[100, 125, 180, 999]);
        check_goes(&[100], 25, &[100]);
    }

    #[test]
    fn a_crowd_moves_only_those_that_are_in_its_way() {
        check_goes(&[40, 100, 110, 300], 25, &[40, 85, 110, 300]);
    }

    #[test]
    fn an_expiry_lies_in_the_last_tenth_of_a_life() {
        let limits = Limits {
            recycle: Some(Duration::from_secs(1000)),
            ..super::super::tests::limits(1, 0)
        };
        let early = limits.expiry(at(0), u32::MAX).unwrap();
        assert!(early > at(900) && early < at(901), "{early:?}");
        assert_eq!(limits.expiry(at(0), 0), Some(at(1000)));
        assert_eq!(limits.expiry(at(7), 1 << 31), Some(at(957)));
    }
}
