//! The lock around [`State`], and the wakers. Free of runtime and clock, so that loom and shuttle can run
//! it with locks of their own.
//!
//! Contract: the lock is held for one transition and never across an await, a wake, or the drop of a
//! connection or waker, any of which may come back here.

use std::task::Waker;
use std::time::Instant;

use super::sync::{Mutex, MutexGuard};
use crate::state::{
    Actions, Asked, Asker, Counts, Expired, Found, Granted, Place, Queued, Request, State,
    WaiterKey,
};

/// The books, which one thread at a time changes. Aligned so that what others read lies on other cache
/// lines than what changes all the time, also where lines are fetched in pairs.
#[repr(C, align(128))]
pub(crate) struct Shell<C, E> {
    books: Mutex<State<C, Waker, E>>,
    /// Called when a transition has panicked.
    on_broken: Box<dyn Fn() + Send + Sync>,
}

/// Where an acquire stands with the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)] // Without bytes of no meaning, around which an acquire would have to be copied piecemeal.
pub(super) enum Wait {
    /// To be asked for.
    Ask,
    /// To be asked for again, before all others: what it was served with turned out dead.
    AskAgain,
    Queued(WaiterKey),
    /// It has what it waited for, or will not get it.
    Over,
}

/// What an acquire asks for, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Ask<'w> {
    pub(super) asker: Asker,
    pub(super) place: Place,
    pub(super) now: Instant,
    pub(super) waker: &'w Waker,
    /// Asks only where the numbers are like that.
    pub(super) only_if: Option<fn(&Counts) -> bool>,
}

/// What asking came to, at once.
pub(super) enum Quick<C> {
    Ready(Granted<C>),
    Queued {
        key: WaiterKey,
        /// Whether it had a deadline.
        has_alarm: bool,
        /// Whether the alarm is due earlier than it was.
        set_alarm: bool,
    },
    /// Must be asked thoroughly.
    No,
}

/// What asking came to.
pub(super) struct Answer<C, E> {
    pub(super) asked: Asked<C, E>,
    /// The numbers that explain a refusal.
    pub(super) refused_at: Option<Counts>,
    pub(super) actions: Actions<C, Waker>,
}

impl<C, E: Clone> Shell<C, E> {
    pub(super) fn new(
        state: State<C, Waker, E>,
        on_broken: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            books: Mutex::new(state),
            on_broken: Box::new(on_broken),
        }
    }

    /// Locks the books. A poisoned lock is taken all the same: the broken invariant was reported by the
    /// panic that poisoned it, and a lease that is dropped while unwinding must not panic again.
    fn lock(&self) -> MutexGuard<'_, State<C, Waker, E>> {
        self.books.lock().unwrap_or_else(|broken| {
            (self.on_broken)();
            broken.into_inner()
        })
    }

    /// Looks at the books.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State<C, Waker, E>) -> T) -> T {
        look(&self.lock())
    }

    /// Makes a transition and wakes whom it serves. Returns what else it ordered.
    pub(crate) fn change(
        &self,
        transition: impl FnOnce(&mut State<C, Waker, E>) -> Actions<C, Waker>,
    ) -> Actions<C, Waker> {
        self.change_and_tell(|books| ((), transition(books))).1
    }

    /// Makes a transition that tells something, and wakes whom it serves.
    pub(crate) fn change_and_tell<T>(
        &self,
        transition: impl FnOnce(&mut State<C, Waker, E>) -> (T, Actions<C, Waker>),
    ) -> (T, Actions<C, Waker>) {
        let (told, mut actions) = transition(&mut self.lock());
        wake_all(&mut actions);
        (told, actions)
    }

    /// Takes what is ready, or queues for what is lent, where nothing else is to be done.
    #[inline]
    pub(super) fn ask_quickly(
        &self,
        wait: &mut Wait,
        ask: Ask<'_>,
        deadline: impl FnOnce() -> Option<Instant>,
    ) -> Quick<C> {
        if ask.only_if.is_some() {
            return Quick::No;
        }
        let mut books = self.lock();
        if let Some(ready) = books.take_ready(ask.asker, ask.now) {
            drop(books);
            *wait = Wait::Over;
            return Quick::Ready(ready.grant(ask.now));
        }
        if ask.place == Place::Head || !books.must_queue() {
            return Quick::No;
        }
        let deadline = deadline();
        let Queued { key, set_alarm } = books.join_ready(ask.asker, deadline, ask.waker.clone());
        *wait = Wait::Queued(key);
        Quick::Queued {
            key,
            has_alarm: deadline.is_some(),
            set_alarm,
        }
    }

    /// Takes an idle connection, or queues and sees to it that one will come, or is refused.
    ///
    /// # Errors
    /// The numbers, where `only_if` does not like them; then nothing was asked.
    pub(super) fn ask(
        &self,
        wait: &mut Wait,
        ask: Ask<'_>,
        deadline: Option<Instant>,
    ) -> Result<Answer<C, E>, Box<Counts>> {
        let mut books = self.lock();
        if let Some(likes) = ask.only_if {
            let counts = books.counts();
            if !likes(&counts) {
                *wait = Wait::Over;
                return Err(Box::new(counts));
            }
        }
        let request = Request {
            asker: ask.asker,
            place: ask.place,
            deadline,
        };
        let (asked, mut actions) = books.acquire(ask.now, request, || ask.waker.clone());
        let refused_at = match asked {
            Asked::QueueFull { .. } | Asked::Down { .. } => Some(books.counts()),
            Asked::Ready(_) | Asked::Queued(_) | Asked::Refused(_) => None,
        };
        drop(books);
        *wait = match asked {
            Asked::Queued(key) => Wait::Queued(key),
            _ => Wait::Over,
        };
        wake_all(&mut actions);
        Ok(Answer {
            asked,
            refused_at,
            actions,
        })
    }

    /// Looks into a waiter's slot. None means that it waits on, and that `waker` will be woken.
    #[inline]
    pub(super) fn look(
        &self,
        wait: &mut Wait,
        key: WaiterKey,
        waker: &Waker,
    ) -> Option<Found<C, Waker, E>> {
        let outdated = |current: &Waker| !current.will_wake(waker);
        let found = self
            .lock()
            .poll(key, |current| outdated(current).then(|| waker.clone()));
        match found {
            // Dropped here, without the lock.
            Found::Waiting(_former) => None,
            found => {
                *wait = Wait::Over;
                Some(found)
            }
        }
    }

    /// Ends a wait at its deadline, and tells the numbers of that moment: it counts among those who wait.
    pub(super) fn expire(&self, wait: &mut Wait, key: WaiterKey) -> (Expired<C, Waker, E>, Counts) {
        let mut books = self.lock();
        let counts = books.counts();
        *wait = Wait::Over;
        (books.expire(key), counts)
    }

    /// Gives a wait up, whatever has come of it; for a future that is dropped.
    pub(super) fn leave(&self, wait: &mut Wait, now: Instant) -> Option<Actions<C, Waker>> {
        match std::mem::replace(wait, Wait::Over) {
            Wait::Queued(key) => Some(self.change(|books| books.cancel(key, now))),
            Wait::Ask | Wait::AskAgain | Wait::Over => None,
        }
    }

    /// Takes back a clean connection, and wakes whom it serves. Returns what else is to be done.
    #[inline]
    pub(super) fn put(&self, granted: Granted<C>, now: Instant) -> Option<Actions<C, Waker>> {
        let mut books = self.lock();
        match books.put_ready(granted, now) {
            Ok(waker) => {
                drop(books);
                if let Some(waker) = waker {
                    waker.wake();
                }
                None
            }
            Err(granted) => Some(put_thoroughly(books, granted, now)),
        }
    }
}

#[cold]
fn put_thoroughly<C, E: Clone>(
    mut books: MutexGuard<'_, State<C, Waker, E>>,
    granted: Granted<C>,
    now: Instant,
) -> Actions<C, Waker> {
    let mut actions = books.put(granted, now);
    drop(books);
    wake_all(&mut actions);
    actions
}

/// Wakes and drops all wakers. Must be called without the lock.
fn wake_all<C>(actions: &mut Actions<C, Waker>) {
    drop(actions.spent.take());
    let more = actions.wake_more.drain(..);
    for waker in actions.wake.take().into_iter().chain(more) {
        waker.wake();
    }
}
