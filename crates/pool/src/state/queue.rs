//! Waiters in arrival order: a doubly linked list through a slab, so that leaving costs O(1).

use std::time::Instant;

use super::slab::{Key, NO_KEY, Slab};
use super::{Asker, Granted, Refusal, WaiterKey};

/// What a waiter's slot holds. A grant stays here until its future takes it, so that a connection
/// has exactly one owner at any instant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Slot<C, W, E> {
    /// In the list.
    Waiting(W),
    /// Off the list: a connection was handed over.
    Granted(Granted<C>),
    /// Off the list: opening a connection failed for good. On the heap, because it is rare, and a waiter
    /// just fits a cache line.
    Failed(Box<E>),
    /// Off the list: the pool was closed or is being drained.
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[repr(align(64))] // A cache line: see `State`.
struct Waiter<C, W, E> {
    slot: Slot<C, W, E>,
    asker: Asker,
    deadline: Option<Instant>,
    previous: Key,
    next: Key,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[repr(C, align(64))]
pub(crate) struct Queue<C, W, E> {
    head: Key,
    tail: Key,
    waiting: u32,
    /// Connections that were handed over and that no future has taken yet.
    grants: u32,
    waiters: Slab<Waiter<C, W, E>>,
}

impl<C, W, E> Queue<C, W, E> {
    pub(crate) fn new() -> Self {
        Self {
            head: NO_KEY,
            tail: NO_KEY,
            waiting: 0,
            grants: 0,
            waiters: Slab::new(),
        }
    }

    /// Returns how many wait without a grant.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting as usize
    }

    /// Returns how many connections were handed over that no future has taken yet.
    pub(crate) fn grants(&self) -> usize {
        self.grants as usize
    }

    #[inline]
    pub(crate) fn push_back(
        &mut self,
        waker: W,
        asker: Asker,
        deadline: Option<Instant>,
    ) -> WaiterKey {
        let key = self.waiters.insert(|| Waiter {
            slot: Slot::Waiting(waker),
            asker,
            deadline,
            previous: self.tail,
            next: NO_KEY,
        });
        match std::mem::replace(&mut self.tail, key) {
            NO_KEY => self.head = key,
            tail => self.waiters.get_mut(tail).next = key,
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
        let key = self.waiters.insert(|| Waiter {
            slot: Slot::Waiting(waker),
            asker,
            deadline,
            previous: NO_KEY,
            next: self.head,
        });
        match std::mem::replace(&mut self.head, key) {
            NO_KEY => self.tail = key,
            head => self.waiters.get_mut(head).previous = key,
        }
        self.waiting += 1;
        WaiterKey(key)
    }

    /// Returns who is next.
    #[inline]
    pub(crate) fn head(&self) -> Option<Asker> {
        match self.head {
            NO_KEY => None,
            head => Some(self.waiters.get(head).asker),
        }
    }

    /// Returns who waits in this slot, or did.
    pub(crate) fn asker(&self, key: WaiterKey) -> Asker {
        self.waiters.get(key.0).asker
    }

    /// Takes the head off the list, leaves `slot` for its future, and returns its waker.
    #[inline]
    pub(crate) fn settle_head(&mut self, slot: Slot<C, W, E>) -> Option<W> {
        let key = self.head;
        if key == NO_KEY {
            return None;
        }
        self.unlink(key);
        self.grants += u32::from(matches!(slot, Slot::Granted(_)));
        let old = std::mem::replace(&mut self.waiters.get_mut(key).slot, slot);
        match old {
            Slot::Waiting(waker) => Some(waker),
            _ => panic!("bug: a settled waiter was in the list"),
        }
    }

    /// Returns the deadlines of those who wait, with their wakers.
    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Instant, &W)> {
        let waiter = |key| (key != NO_KEY).then(|| self.waiters.get(key));
        let waiting = std::iter::successors(waiter(self.head), move |last| waiter(last.next));
        waiting.filter_map(|waiter| match &waiter.slot {
            Slot::Waiting(waker) => Some((waiter.deadline?, waker)),
            Slot::Granted(_) | Slot::Failed(_) | Slot::Refused(_) => None,
        })
    }

    #[inline]
    pub(crate) fn slot(&mut self, key: WaiterKey) -> &mut Slot<C, W, E> {
        &mut self.waiters.get_mut(key.0).slot
    }

    /// Frees the slot; a waiter that still waits leaves the list.
    #[inline]
    pub(crate) fn remove(&mut self, key: WaiterKey) -> Slot<C, W, E> {
        match self.waiters.get(key.0).slot {
            Slot::Waiting(_) => self.unlink(key.0),
            Slot::Granted(_) => self.grants -= 1,
            Slot::Failed(_) | Slot::Refused(_) => {}
        }
        self.waiters.remove(key.0).slot
    }

    /// Takes back the grants that no future has taken: their waiters find the pool closed.
    pub(crate) fn revoke_grants(&mut self) -> Vec<Granted<C>> {
        let granted: Vec<Key> = self
            .waiters
            .entries()
            .filter(|(_, waiter)| matches!(waiter.slot, Slot::Granted(_)))
            .map(|(key, _)| key)
            .collect();
        self.grants = 0;
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
    pub(crate) fn untaken(&self) -> impl Iterator<Item = &Granted<C>> {
        self.waiters.iter().filter_map(|waiter| match &waiter.slot {
            Slot::Granted(granted) => Some(granted),
            _ => None,
        })
    }

    #[inline]
    fn unlink(&mut self, key: Key) {
        let (previous, next) = {
            let waiter = self.waiters.get_mut(key);
            let links = (waiter.previous, waiter.next);
            (waiter.previous, waiter.next) = (NO_KEY, NO_KEY);
            links
        };
        match previous {
            NO_KEY => self.head = next,
            previous => self.waiters.get_mut(previous).next = next,
        }
        match next {
            NO_KEY => self.tail = previous,
            next => self.waiters.get_mut(next).previous = previous,
        }
        self.waiting -= 1;
    }

    /// Walks the whole list and checks that it is one.
    #[cfg(test)]
    pub(crate) fn audit(&self) {
        let mut seen = 0;
        let mut previous = NO_KEY;
        let mut key = self.head;
        while key != NO_KEY {
            let waiter = self.waiters.get(key);
            assert_eq!(waiter.previous, previous, "bug: broken back link");
            assert!(
                matches!(waiter.slot, Slot::Waiting(_)),
                "bug: a settled waiter is linked"
            );
            previous = key;
            key = waiter.next;
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
        assert_eq!(linked, self.waiting(), "bug: a waiting slot is not linked");
        assert_eq!(
            self.untaken().count(),
            self.grants(),
            "bug: the count of the grants is wrong"
        );
    }
}

/// Returns what a waiter takes in a pool.
#[cfg(test)]
pub(super) fn waiter_size() -> usize {
    size_of::<super::slab::Slot<Waiter<u64, std::task::Waker, [u64; 8]>>>()
}
