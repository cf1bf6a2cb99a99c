//! The pool's books and rules, without clock, lock, runtime or I/O.
//!
//! Every transition takes the time as an argument, changes the books, and returns the [`Actions`]
//! that the shell performs after it has released the lock. Generic over connection, waker and error,
//! so that tests can search all interleavings.
//!
//! Terms: a *lease* is a connection that is lent out; a *waiter* is an acquire without one; a *grant*
//! is a connection in a waiter's slot that its future has not taken yet, and counts as lent out; the
//! *generation* makes all connections older than it stale.

mod gate;
mod queue;
mod slab;
mod terms;

use std::collections::VecDeque;
use std::panic::Location;
use std::time::{Duration, Instant};

pub(crate) use gate::Backoff;
use gate::Gate;
use queue::{Queue, Slot};
use slab::Slab;
pub(crate) use terms::{
    Actions, Asked, Conn, Counts, Expired, Failure, Found, Granted, HeldSince, HolderKey, Limits,
    Mode, Opened, Place, Request, Severity, Shortage, Totals, WaiterKey,
};

/// The newest connect times that are kept for [`State::take_connect_times`].
const CONNECT_TIMES: usize = 1024;

/// All that the pool knows. See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State<C, W, E> {
    limits: Limits,
    mode: Mode,
    generation: u64,
    /// Oldest use first.
    idle: VecDeque<Conn<C>>,
    queue: Queue<C, W, E>,
    holders: Slab<HeldSince>,
    opening: usize,
    /// Connections that are being reset or closed: their slots are not free yet.
    closing: usize,
    gate: Gate<E>,
    /// The timer that the shell runs for the gate.
    timer: Option<Instant>,
    totals: Totals,
    connect_times: VecDeque<Duration>,
}

impl<C, W, E: Clone> State<C, W, E> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            mode: Mode::Open,
            generation: 0,
            idle: VecDeque::new(),
            queue: Queue::new(),
            holders: Slab::new(),
            opening: 0,
            closing: 0,
            gate: Gate::Up {
                window: limits.max_connecting,
            },
            timer: None,
            totals: Totals::default(),
            connect_times: VecDeque::new(),
        }
    }

    /// Takes an idle connection, or queues and sees to it that one will come.
    pub(crate) fn acquire(
        &mut self,
        now: Instant,
        Request { location, place }: Request,
        waker: impl FnOnce() -> W,
    ) -> (Asked<C>, Actions<C, W>) {
        let mut actions = Actions::none();
        if self.mode == Mode::Closed {
            return (Asked::Closed, actions);
        }
        // With waiters there is nothing idle, so that a newcomer cannot overtake them.
        while let Some(conn) = self.idle.pop_front() {
            if conn.generation == self.generation {
                let holder = self.lend(location, now);
                self.totals.leases_issued += 1;
                self.check();
                return (Asked::Ready(Granted { conn, holder }), actions);
            }
            self.send_to_close(conn, &mut actions);
        }
        let asked = match place {
            Place::Tail if self.queue.waiting() >= self.limits.waiters_max => Asked::QueueFull {
                waiting: self.queue.waiting(),
            },
            Place::Tail => Asked::Queued(self.queue.push_back(waker(), location)),
            Place::Head => Asked::Queued(self.queue.push_front(waker(), location)),
        };
        self.settle(now, &mut actions);
        (asked, actions)
    }

    /// Looks into a waiter's slot; a slot that is not waiting any more is freed.
    pub(crate) fn poll(&mut self, key: WaiterKey, waker: W) -> Found<C, W, E> {
        if let Slot::Waiting(current) = self.queue.slot(key) {
            return Found::Waiting(std::mem::replace(current, waker));
        }
        match self.queue.remove(key) {
            Slot::Granted(granted) => {
                self.totals.leases_issued += 1;
                Found::Granted(granted)
            }
            Slot::Failed(error) => Found::Failed(error),
            Slot::Closed => Found::Closed,
            Slot::Waiting(_) => panic!("bug: a waiting slot changed under the lock"),
        }
    }

    /// Ends a wait at its deadline: either it was served, or it leaves the queue.
    pub(crate) fn expire(&mut self, key: WaiterKey) -> Expired<C, W, E> {
        let shortage = self.shortage();
        let expired = match self.queue.remove(key) {
            Slot::Waiting(waker) => Expired::TimedOut(shortage, waker),
            Slot::Granted(granted) => {
                self.totals.leases_issued += 1;
                Expired::Granted(granted)
            }
            Slot::Failed(error) => Expired::Failed(error),
            Slot::Closed => Expired::Closed,
        };
        self.check();
        expired
    }

    /// Gives up a wait. A connection that was granted and not taken passes on.
    pub(crate) fn cancel(&mut self, key: WaiterKey, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        match self.queue.remove(key) {
            Slot::Waiting(waker) => actions.spent = Some(waker),
            Slot::Granted(Granted { conn, holder }) => {
                let _ = self.holders.remove(holder.0);
                self.place(conn, now, &mut actions);
            }
            Slot::Failed(_) | Slot::Closed => {}
        }
        self.settle(now, &mut actions);
        actions
    }

    /// Takes back a clean connection.
    pub(crate) fn put(&mut self, holder: HolderKey, conn: Conn<C>, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.take_back(holder);
        self.place(
            Conn {
                last_used: now,
                ..conn
            },
            now,
            &mut actions,
        );
        self.settle(now, &mut actions);
        actions
    }

    /// Ends a lease whose connection must be reset before anyone else may have it. The slot stays
    /// taken until [`State::restore`] or [`State::closed`].
    pub(crate) fn retire(&mut self, holder: HolderKey) {
        self.take_back(holder);
        self.closing += 1;
        self.check();
    }

    /// Takes back a connection that was reset.
    pub(crate) fn restore(&mut self, conn: Conn<C>, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.closing = self
            .closing
            .checked_sub(1)
            .expect("bug: nothing was closing");
        self.place(
            Conn {
                last_used: now,
                ..conn
            },
            now,
            &mut actions,
        );
        self.settle(now, &mut actions);
        actions
    }

    /// Frees the slot of a connection that is gone.
    pub(crate) fn closed(&mut self, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.closing = self
            .closing
            .checked_sub(1)
            .expect("bug: nothing was closing");
        self.totals.closed += 1;
        self.settle(now, &mut actions);
        actions
    }

    /// Takes in a connection that was opened: for the head waiter, else idle.
    pub(crate) fn opened(&mut self, opened: Opened<C>, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.opening = self
            .opening
            .checked_sub(1)
            .expect("bug: nothing was opening");
        self.totals.opened += 1;
        self.gate.succeeded(self.limits.max_connecting);
        if self.connect_times.len() == CONNECT_TIMES {
            self.connect_times.pop_front();
        }
        self.connect_times.push_back(opened.took);
        let conn = Conn {
            value: opened.value,
            generation: opened.generation,
            last_used: now,
        };
        self.place(conn, now, &mut actions);
        self.settle(now, &mut actions);
        actions
    }

    /// Records that a connection could not be opened. A permanent error ends the head's wait; with a
    /// transient one waiters stay until their deadlines.
    pub(crate) fn open_failed(&mut self, failure: Failure<E>, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.opening = self
            .opening
            .checked_sub(1)
            .expect("bug: nothing was opening");
        let Failure {
            error,
            severity,
            jitter,
        } = failure;
        match severity {
            Severity::Transient => {
                let backoff = self.limits.backoff;
                let pause = |failures| backoff.pause(failures, jitter);
                self.gate.failed(error, now, pause);
            }
            Severity::Permanent => {
                // The server answered, so it is not down.
                self.gate.succeeded(self.limits.max_connecting);
                if let Some(waker) = self.queue.settle_head(Slot::Failed(error)) {
                    actions.wake(waker);
                }
            }
        }
        self.settle(now, &mut actions);
        actions
    }

    /// Ends a pause between attempts.
    pub(crate) fn tick(&mut self, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.timer = None;
        self.gate.tick(now);
        self.settle(now, &mut actions);
        actions
    }

    /// Makes all connections up to `generation` stale, once per generation. Idle ones are replaced
    /// when their turn comes, without a ping.
    pub(crate) fn invalidate(&mut self, generation: u64) {
        if generation == self.generation {
            self.generation += 1;
        }
    }

    /// Ends it: no more leases; waiters fail, untaken grants and idle connections are closed.
    pub(crate) fn close(&mut self, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.mode = Mode::Closed;
        while let Some(waker) = self.queue.settle_head(Slot::Closed) {
            actions.wake(waker);
        }
        for granted in self.queue.revoke_grants() {
            let _ = self.holders.remove(granted.holder.0);
            self.send_to_close(granted.conn, &mut actions);
        }
        while let Some(conn) = self.idle.pop_front() {
            self.send_to_close(conn, &mut actions);
        }
        self.settle(now, &mut actions);
        actions
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.mode == Mode::Closed
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            out: self.holders.len(),
            idle: self.idle.len(),
            opening: self.opening,
            closing: self.closing,
            waiting: self.queue.waiting(),
            totals: self.totals,
            oldest: self.oldest(),
        }
    }

    pub(crate) fn holders(&self) -> Vec<HeldSince> {
        self.holders.iter().copied().collect()
    }

    /// Returns how long the connections took to open that were opened since the last call.
    pub(crate) fn take_connect_times(&mut self) -> Vec<Duration> {
        self.connect_times.drain(..).collect()
    }

    fn open(&self) -> usize {
        self.holders.len() + self.idle.len() + self.opening + self.closing
    }

    fn oldest(&self) -> Option<HeldSince> {
        self.holders
            .iter()
            .min_by_key(|holder| holder.since)
            .copied()
    }

    fn lend(&mut self, location: &'static Location<'static>, now: Instant) -> HolderKey {
        HolderKey(self.holders.insert(HeldSince {
            location,
            since: now,
        }))
    }

    fn take_back(&mut self, holder: HolderKey) {
        let _ = self.holders.remove(holder.0);
        self.totals.leases_returned += 1;
    }

    /// Finds the place of a connection that nobody holds: the head waiter, the idle ones, or out.
    fn place(&mut self, conn: Conn<C>, now: Instant, actions: &mut Actions<C, W>) {
        if self.mode == Mode::Closed || conn.generation != self.generation {
            self.send_to_close(conn, actions);
        } else if let Some(location) = self.queue.head_location() {
            let holder = self.lend(location, now);
            let waker = self
                .queue
                .settle_head(Slot::Granted(Granted { conn, holder }))
                .expect("bug: the head waiter vanished under the lock");
            actions.wake(waker);
        } else if self.idle.len() < self.limits.pool_size {
            self.idle.push_back(conn);
        } else {
            self.send_to_close(conn, actions);
        }
    }

    fn send_to_close(&mut self, conn: Conn<C>, actions: &mut Actions<C, W>) {
        self.closing += 1;
        actions.close.push(conn);
    }

    /// Ends every transition: orders the connections that waiters need, and checks the books.
    fn settle(&mut self, now: Instant, actions: &mut Actions<C, W>) {
        if self.mode == Mode::Open {
            self.gate.tick(now);
            let room = self.limits.max_open.saturating_sub(self.open());
            let wanted = self
                .queue
                .waiting()
                .min(self.opening.saturating_add(room))
                .min(self.gate.window())
                .min(self.limits.max_connecting);
            let more = wanted.saturating_sub(self.opening);
            self.opening += more;
            actions.connect += more;
            actions.generation = self.generation;
            if self.queue.waiting() > 0
                && self.timer.is_none()
                && let Some(at) = self.gate.pause_until()
            {
                self.timer = Some(at);
                actions.arm_timer = Some(at);
            }
        } else {
            actions.drained = self.open() == 0;
        }
        self.check();
    }

    fn shortage(&self) -> Shortage<E> {
        let out = self.holders.len();
        match &self.gate {
            Gate::Down { cause, since, .. }
                if self.opening > 0 || self.open() < self.limits.max_open =>
            {
                Shortage::Down {
                    cause: cause.clone(),
                    since: *since,
                }
            }
            _ if self.opening > 0 => Shortage::Opening {
                out,
                opening: self.opening,
            },
            _ => Shortage::Exhausted {
                out,
                waiting: self.queue.waiting(),
                oldest: self.oldest(),
            },
        }
    }

    /// Checks what must hold after every transition, as far as that costs O(1).
    fn check(&self) {
        let (open, waiting) = (self.open(), self.queue.waiting());
        assert!(
            open <= self.limits.max_open,
            "bug: {open} connections are open"
        );
        assert!(
            self.idle.len() <= self.limits.pool_size,
            "bug: {} connections are idle",
            self.idle.len()
        );
        assert!(
            self.idle.is_empty() || waiting == 0,
            "bug: a connection is idle while {waiting} wait"
        );
        match self.mode {
            Mode::Open => assert!(
                waiting == 0
                    || open == self.limits.max_open
                    || self.opening > 0
                    || self.timer.is_some(),
                "bug: {waiting} wait and nothing is being done about it"
            ),
            Mode::Closed => assert!(
                waiting == 0 && self.idle.is_empty(),
                "bug: a closed pool keeps waiters or idle connections"
            ),
        }
    }

    #[cfg(test)]
    pub(crate) fn idle(&self) -> impl Iterator<Item = &Conn<C>> {
        self.idle.iter()
    }

    /// Checks what must hold after every transition, whatever it costs.
    #[cfg(test)]
    pub(crate) fn audit(&self) {
        self.check();
        self.queue.audit();
        assert_eq!(
            self.totals.opened - self.totals.closed,
            (self.holders.len() + self.idle.len() + self.closing) as u64,
            "bug: connections appear or vanish"
        );
        assert_eq!(
            self.totals.leases_issued - self.totals.leases_returned,
            (self.holders.len() - self.queue.untaken()) as u64,
            "bug: leases appear or vanish"
        );
    }
}

#[cfg(test)]
mod tests;
