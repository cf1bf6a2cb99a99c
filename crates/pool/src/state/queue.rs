//! Waiters in arrival order: a doubly linked list through a slab, so that leaving costs O(1).

use std::time::Instant;

use super::slab::Slab;
use super::{Asker, Granted, Refusal, WaiterKey};

/// What a waiter's slot holds. A grant stays here until its future takes it, so that a connection
/// has exactly one owner at any instant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Slot<C, W, E> {
    /// In the list.
    Waiting(W),
    /// Off the list: a connection was handed over.
    Granted(Granted<C>),
    /// Off the list: opening a connection failed for good.
    Failed(E),
    /// Off the list: the pool was closed or is being drained.
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Waiter<C, W, E> {
    slot: Slot<C, W, E>,
    asker: Asker,
    deadline: Option<Instant>,
    previous: Option<usize>,
    next: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Queue<C, W, E> {
    waiters: Slab<Waiter<C, W, E>>,
    head: Option<usize>,
    tail: Option<usize>,
    waiting: usize,
}

impl<C, W, E> Queue<C, W, E> {
    pub(crate) fn new() -> Self {
        Self {
            waiters: Slab::new(),
            head: None,
            tail: None,
            waiting: 0,
        }
    }

    /// Returns how many wait without a grant.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn push_back(
        &mut self,
        waker: W,
        asker: Asker,
        deadline: Option<Instant>,
    ) -> WaiterKey {
        let key = self.waiters.insert(Waiter {
            slot: Slot::Waiting(waker),
            asker,
            deadline,
            previous: self.tail,
            next: None,
        });
        match self.tail.replace(key) {
            Some(tail) => self.waiters.get_mut(tail).next = Some(key),
            None => self.head = Some(key),
        }
        self.waiting += 1;
        WaiterKey(key)
    }

    /// Puts a waiter before all others: it had its turn and got a connection that was dead.
    pub(crate) fn push_front(
        &mut self,
        waker: W,
        asker: Asker,
        deadline: Option<Instant>,
    ) -> WaiterKey {
        let key = self.waiters.insert(Waiter {
            slot: Slot::Waiting(waker),
            asker,
            deadline,
            previous: None,
            next: self.head,
        });
        match self.head.replace(key) {
            Some(head) => self.waiters.get_mut(head).previous = Some(key),
            None => self.tail = Some(key),
        }
        self.waiting += 1;
        WaiterKey(key)
    }

    /// Returns who is next.
    pub(crate) fn head(&self) -> Option<Asker> {
        self.head.map(|key| self.waiters.get(key).asker)
    }

    /// Returns who waits in this slot, or did.
    pub(crate) fn asker(&self, key: WaiterKey) -> Asker {
        self.waiters.get(key.0).asker
    }

    /// Takes the head off the list, leaves `slot` for its future, and returns its waker.
    pub(crate) fn settle_head(&mut self, slot: Slot<C, W, E>) -> Option<W> {
        let key = self.head?;
        self.unlink(key);
        let old = std::mem::replace(&mut self.waiters.get_mut(key).slot, slot);
        match old {
            Slot::Waiting(waker) => Some(waker),
            _ => panic!("bug: a settled waiter was in the list"),
        }
    }

    /// Returns the deadlines of those who wait, with their wakers.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Instant, &W)> {
        self.waiters.iter().filter_map(|waiter| match &waiter.slot {
            Slot::Waiting(waker) => Some((waiter.deadline?, waker)),
            Slot::Granted(_) | Slot::Failed(_) | Slot::Refused(_) => None,
        })
    }

    pub(crate) fn slot(&mut self, key: WaiterKey) -> &mut Slot<C, W, E> {
        &mut self.waiters.get_mut(key.0).slot
    }

    /// Frees the slot; a waiter that still waits leaves the list.
    pub(crate) fn remove(&mut self, key: WaiterKey) -> Slot<C, W, E> {
        if matches!(self.waiters.get(key.0).slot, Slot::Waiting(_)) {
            self.unlink(key.0);
        }
        self.waiters.remove(key.0).slot
    }

    /// Takes back the grants that no future has taken: their waiters find the pool closed.
    pub(crate) fn revoke_grants(&mut self) -> Vec<Granted<C>> {
        let granted: Vec<usize> = self
            .waiters
            .keys()
            .filter(|key| matches!(self.waiters.get(*key).slot, Slot::Granted(_)))
            .collect();
        granted
            .into_iter()
            .map(|key| {
                let closed = Slot::Refused(Refusal::Closed);
                let slot = std::mem::replace(&mut self.waiters.get_mut(key).slot, closed);
                match slot {
                    Slot::Granted(granted) => granted,
                    _ => panic!("bug: a grant vanished under the lock"),
                }
            })
            .collect()
    }

    /// Returns the grants that no future has taken yet.
    #[cfg(test)]
    pub(crate) fn grants(&self) -> impl Iterator<Item = &Granted<C>> {
        self.waiters.iter().filter_map(|waiter| match &waiter.slot {
            Slot::Granted(granted) => Some(granted),
            _ => None,
        })
    }

    fn unlink(&mut self, key: usize) {
        let (previous, next) = {
            let waiter = self.waiters.get_mut(key);
            (waiter.previous.take(), waiter.next.take())
        };
        match previous {
            Some(previous) => self.waiters.get_mut(previous).next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => self.waiters.get_mut(next).previous = previous,
            None => self.tail = previous,
        }
        self.waiting -= 1;
    }

    /// Walks the whole list and checks that it is one.
    #[cfg(test)]
    pub(crate) fn audit(&self) {
        let mut seen = 0;
        let mut previous = None;
        let mut at = self.head;
        while let Some(key) = at {
            let waiter = self.waiters.get(key);
            assert_eq!(waiter.previous, previous, "bug: broken back link");
            assert!(
                matches!(waiter.slot, Slot::Waiting(_)),
                "bug: a settled waiter is linked"
            );
            previous = at;
            at = waiter.next;
            seen += 1;
            assert!(seen <= self.waiting, "bug: the list has a cycle");
        }
        assert_eq!(self.tail, previous, "bug: the tail is not the last");
        assert_eq!(seen, self.waiting, "bug: the count is wrong");
        let linked = self
            .waiters
            .iter()
            .filter(|waiter| matches!(waiter.slot, Slot::Waiting(_)))
            .count();
        assert_eq!(linked, self.waiting, "bug: a waiting slot is not linked");
    }
}
