//! The idle connections, and since when there have been more of them than the pool keeps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Conn, Known, Order};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Idle<C> {
    /// Oldest use first, but for connections that were granted and not taken.
    conns: VecDeque<Conn<C>>,
    /// What rarely changes: elsewhere, so that the rest fits where `State` wants it.
    terms: Box<Terms>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Terms {
    /// How many of them are marked.
    marked: usize,
    /// How many are kept: `pool_size`.
    keep: usize,
    /// Since when there have been more than `keep`, more than `keep + 1`, … of them. What was never
    /// needed for a while goes, whichever connection it was that took turns at being unneeded.
    surplus: VecDeque<Instant>,
}

impl<C> Idle<C> {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            conns: VecDeque::new(),
            terms: Box::new(Terms {
                marked: 0,
                keep,
                surplus: VecDeque::new(),
            }),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Returns how many there are beyond what is kept.
    #[inline]
    pub(crate) fn surplus(&self) -> usize {
        self.conns.len().saturating_sub(self.terms.keep)
    }

    /// Returns how many of them are marked.
    #[inline]
    pub(crate) fn marked(&self) -> usize {
        self.terms.marked
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Known<C>> {
        self.conns.iter().map(|conn| &**conn)
    }

    pub(crate) fn set_keep(&mut self, keep: usize, now: Instant) {
        self.terms.keep = keep;
        self.fit(now);
    }

    /// Takes in one that is not marked.
    #[inline]
    pub(crate) fn push(&mut self, conn: Conn<C>, now: Instant) {
        self.conns.push_back(conn);
        self.fit(now);
    }

    /// Takes the one that is next to be lent, if it is as wanted.
    #[inline]
    pub(crate) fn pop_if(
        &mut self,
        order: Order,
        wanted: impl FnOnce(&Known<C>) -> bool,
    ) -> Option<Conn<C>> {
        let next = match order {
            Order::Fifo => self.conns.front(),
            Order::Lifo => self.conns.back(),
        };
        if wanted(next?) { self.pop(order) } else { None }
    }

    /// Takes the one that is next to be lent.
    #[inline]
    pub(crate) fn pop(&mut self, order: Order) -> Option<Conn<C>> {
        let conn = match order {
            Order::Fifo => self.conns.pop_front(),
            Order::Lifo => self.conns.pop_back(),
        }?;
        if self.terms.marked > 0 {
            self.terms.marked -= usize::from(conn.marked);
        }
        if !self.terms.surplus.is_empty() {
            self.terms.surplus.truncate(self.surplus());
        }
        Some(conn)
    }

    /// Takes up to `count` of those that `unwanted` picks, the oldest use first.
    pub(crate) fn take(
        &mut self,
        count: usize,
        unwanted: impl Fn(&Known<C>) -> bool,
    ) -> Vec<Conn<C>> {
        let mut taken = Vec::new();
        let mut at = 0;
        while taken.len() < count && at < self.conns.len() {
            if unwanted(&self.conns[at]) {
                taken.extend(self.conns.remove(at));
            } else {
                at += 1;
            }
        }
        self.terms.marked -= taken.iter().filter(|conn| conn.marked).count();
        self.terms.surplus.truncate(self.surplus());
        taken
    }

    /// Takes as many as there were too many for the whole of `linger`.
    pub(crate) fn take_surplus(&mut self, linger: Duration, now: Instant) -> Vec<Conn<C>> {
        let unneeded = |since: &&Instant| now.saturating_duration_since(**since) >= linger;
        let count = self.terms.surplus.iter().take_while(unneeded).count();
        // What remains is too many for as long as it was before.
        self.terms.surplus.drain(..count);
        let taken: Vec<_> = self.conns.drain(..count).collect();
        self.terms.marked -= taken.iter().filter(|conn| conn.marked).count();
        taken
    }

    /// Marks the one at `index`, counted from the oldest use.
    pub(crate) fn mark(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        assert!(!conn.marked, "bug: a connection is marked twice");
        conn.marked = true;
        self.terms.marked += 1;
    }

    fn fit(&mut self, now: Instant) {
        let surplus = self.surplus();
        if surplus == self.terms.surplus.len() {
            return;
        }
        self.terms.surplus.truncate(surplus);
        while self.terms.surplus.len() < surplus {
            self.terms.surplus.push_back(now);
        }
    }

    #[cfg(test)]
    pub(crate) fn audit(&self) {
        let marked = self.conns.iter().filter(|conn| conn.marked).count();
        assert_eq!(
            self.terms.marked, marked,
            "bug: the count of the marked is wrong"
        );
        assert_eq!(
            self.terms.surplus.len(),
            self.surplus(),
            "bug: surplus lost"
        );
        assert!(
            self.terms.surplus.iter().is_sorted(),
            "bug: surplus out of order"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::HolderKey;
    use super::super::tests::origin;
    use super::*;

    fn conn(value: u8) -> Conn<u8> {
        Box::new(Known {
            value,
            holder: HolderKey::NONE,
            lent_since: origin(),
            generation: 0,
            last_used: origin(),
            expires: None,
            marked: false,
        })
    }

    fn at(secs: u64) -> Instant {
        origin() + Duration::from_secs(secs)
    }

    fn values(conns: &[Conn<u8>]) -> Vec<u8> {
        conns.iter().map(|conn| conn.value).collect()
    }

    #[test]
    fn only_what_was_never_needed_for_the_whole_time_is_surplus() {
        const LINGER: Duration = Duration::from_secs(10);
        let mut idle = Idle::new(1);
        for value in 0..4 {
            idle.push(conn(value), at(0));
        }
        // Two are in use all the time, and each in its turn.
        for second in 1..10 {
            let used: Vec<_> = (0..2).filter_map(|_| idle.pop(Order::Fifo)).collect();
            for conn in used {
                idle.push(conn, at(second));
            }
            assert_eq!(idle.take_surplus(LINGER, at(second)), []);
            idle.audit();
        }
        let taken = idle.take_surplus(LINGER, at(10));
        assert_eq!(taken.len(), 1, "two were needed, and one is kept");
        assert_eq!(idle.take_surplus(LINGER, at(18)), []);
        assert_eq!(idle.take_surplus(LINGER, at(19)).len(), 2);
        assert_eq!(idle.take_surplus(LINGER, at(99)), [], "one is kept");
        idle.audit();
    }

    #[test]
    fn the_order_is_that_of_the_last_use_from_either_end() {
        let mut idle = Idle::new(9);
        assert!(idle.is_empty());
        for value in 0..4 {
            idle.push(conn(value), at(0));
        }
        assert!(!idle.is_empty());
        assert_eq!(idle.pop(Order::Fifo).unwrap().value, 0);
        assert_eq!(idle.pop(Order::Lifo).unwrap().value, 3);
        let taken = idle.take(1, |_| true);
        assert_eq!(values(&taken), [1], "the oldest goes first");
    }

    #[test]
    fn marks_are_counted_wherever_they_leave() {
        let mut idle = Idle::new(1);
        for value in 0..5 {
            idle.push(conn(value), at(0));
        }
        for index in [0, 2, 3, 4, 1] {
            idle.mark(index);
        }
        assert!(idle.pop(Order::Lifo).is_some_and(|conn| conn.marked));
        assert_eq!(values(&idle.take(1, |conn| conn.value == 2)), [2]);
        assert_eq!(idle.marked(), 3);
        idle.audit();
        assert_eq!(idle.take_surplus(Duration::ZERO, at(0)).len(), 2);
        assert_eq!(idle.marked(), 1);
        idle.audit();
    }
}
