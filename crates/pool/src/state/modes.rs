//! What an operator does to a pool: pause, drain, resume, resize, invalidate, close.

use std::time::Instant;

use super::queue::Slot;
use super::{Actions, Mode, Reason, Refusal, State};

impl<C, W, E: Clone> State<C, W, E> {
    /// Stops lending: acquires wait, and leases come back.
    pub(crate) fn pause(&mut self, now: Instant) -> Actions<C, W> {
        self.enter(Mode::Paused, now)
    }

    /// Stops lending: acquires are refused, those that wait as well, and leases come back.
    pub(crate) fn drain(&mut self, now: Instant) -> Actions<C, W> {
        self.enter(Mode::Draining, now)
    }

    /// Lends again, first to those that wait.
    pub(crate) fn resume(&mut self, now: Instant) -> Actions<C, W> {
        self.enter(Mode::Open, now)
    }

    /// Ends it: no more leases; waiters fail, untaken grants and idle connections are closed.
    pub(crate) fn close(&mut self, now: Instant) -> Actions<C, W> {
        self.enter(Mode::Closed, now)
    }

    /// Changes the limits. What is too much goes at once where it is idle, else when it comes back.
    pub(crate) fn resize(
        &mut self,
        pool_size: usize,
        max_open: usize,
        now: Instant,
    ) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.ceiling = self.ceiling.max(max_open);
        self.limits.pool_size = pool_size;
        self.limits.max_open = max_open;
        self.idle.set_keep(pool_size, now);
        let staying = self.open() - self.closing;
        let beyond_keep = if self.limits.linger.is_zero() {
            self.idle.surplus()
        } else {
            0
        };
        let too_many = staying.saturating_sub(max_open).max(beyond_keep);
        for conn in self.idle.take(too_many, |_| true) {
            self.send_to_close(conn, Reason::Resized, &mut actions);
        }
        self.settle(now, &mut actions);
        actions
    }

    /// Makes all connections up to `generation` stale, once per generation: idle ones are closed now,
    /// lent ones when they come back.
    pub(crate) fn invalidate(&mut self, generation: u64, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        if generation == self.generation {
            self.generation += 1;
            for conn in self.idle.take(usize::MAX, |_| true) {
                self.send_to_close(conn, Reason::Stale, &mut actions);
            }
        }
        self.settle(now, &mut actions);
        actions
    }

    /// Makes all connections that there are stale.
    pub(crate) fn invalidate_all(&mut self, now: Instant) -> Actions<C, W> {
        self.invalidate(self.generation, now)
    }

    /// Returns whether the pool is closed and its last connection is gone.
    pub(crate) fn is_drained(&self) -> bool {
        self.mode == Mode::Closed && self.open() == 0
    }

    fn enter(&mut self, mode: Mode, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        if self.mode != Mode::Closed {
            self.mode = mode;
        }
        // Whoever waits for the former mode.
        actions.announce = true;
        match self.mode {
            Mode::Open => self.serve(now, &mut actions),
            Mode::Paused => {}
            Mode::Draining => self.refuse(Refusal::Draining, &mut actions),
            Mode::Closed => {
                self.refuse(Refusal::Closed, &mut actions);
                self.shut(&mut actions);
            }
        }
        self.settle(now, &mut actions);
        actions
    }

    /// Gives waiters what became idle while nothing was lent.
    fn serve(&mut self, now: Instant, actions: &mut Actions<C, W>) {
        while let Some(asker) = self.queue.head()
            && let Some(granted) = self.take_idle(asker, now, actions)
        {
            self.grant(granted, actions);
        }
    }

    fn refuse(&mut self, refusal: Refusal, actions: &mut Actions<C, W>) {
        while let Some(waker) = self.queue.settle_head(Slot::Refused(refusal)) {
            actions.wake(waker);
        }
    }

    fn shut(&mut self, actions: &mut Actions<C, W>) {
        self.refill = 0;
        for granted in self.queue.revoke_grants() {
            let conn = self.end_lease(granted, actions);
            self.send_to_close(conn, Reason::Shutdown, actions);
        }
        for conn in self.idle.take(usize::MAX, |_| true) {
            self.send_to_close(conn, Reason::Shutdown, actions);
        }
    }
}
