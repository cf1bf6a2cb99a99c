//! The pool's books and rules, without clock, lock, runtime or I/O.
//!
//! Every transition takes the time as an argument, changes the books, and returns the [`Actions`]
//! that the shell performs after it has released the lock. Generic over connection, waker and error,
//! so that tests can search all interleavings.
//!
//! Terms: a *lease* is a connection that is lent out; a *waiter* is an acquire without one; a *grant*
//! is a connection in a waiter's slot that its future has not taken yet, and counts as lent out; the
//! *generation* makes all connections older than it stale; a *refill* is a connection that is opened
//! although nobody waits for it; a *marked* connection is one whose refill was ordered.

#[cfg(test)]
mod audit;
mod conn;
mod deadline;
mod gate;
mod idle;
mod lifetime;
mod modes;
mod queue;
mod quick;
mod slab;
mod terms;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use conn::Lent;
pub(crate) use conn::{Conn, Granted, HolderKey, Known, Opened, Ready};
pub(crate) use gate::Backoff;
use gate::Gate;
use idle::Idle;
use queue::{Queue, Slot};
pub(crate) use quick::Queued;
use slab::Slab;
pub use terms::Mode;
pub(crate) use terms::{
    Actions, Asked, Asker, Counts, Expired, Failure, Found, HeldSince, Leak, Limits, Order, Place,
    Reason, Refusal, Request, Severity, Shortage, Totals, WaiterKey,
};

/// The newest connect times that are kept for [`State::take_connect_times`].
const CONNECT_TIMES: usize = 1024;

/// All that the pool knows. See the module's documentation.
///
/// In this order in memory: what changes with every lease shares one cache line with the lock, because
/// threads that lend and return at the same time pull each line back and forth that they write to. What
/// changes only where acquires wait has a line of its own, far from what is only read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[repr(C)]
pub(crate) struct State<C, W, E> {
    leases_issued: u64,
    /// All of this generation.
    idle: Idle<C>,
    holders: Slab<Lent>,
    /// Whether lending what is idle, queueing for what is lent, and taking back what is clean are all that
    /// there is to do, as far as the last thorough transition saw: see [`quick`].
    steady: bool,
    mode: Mode,
    generation: u64,
    opening: usize,
    /// Connections that are being reset or closed: their slots are not free yet.
    closing: usize,
    /// How many connections there may still be until those have gone that are too many since the
    /// limits were lowered; `max_open` otherwise.
    ceiling: usize,
    refill: usize,
    /// The earliest deadline of those who wait, or earlier.
    alarm: Option<Instant>,
    /// The timer that the shell runs for the gate.
    timer: Option<Instant>,
    limits: Limits,
    gate: Gate<E>,
    totals: Totals,
    connect_times: VecDeque<Duration>,
    queue: Queue<C, W, E>,
}

impl<C, W, E: Clone> State<C, W, E> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            mode: Mode::Open,
            generation: 0,
            steady: false,
            leases_issued: 0,
            idle: Idle::new(limits.pool_size),
            queue: Queue::new(),
            holders: Slab::new(),
            opening: 0,
            closing: 0,
            ceiling: limits.max_open,
            refill: 0,
            gate: Gate::Up {
                window: limits.max_connecting,
            },
            timer: None,
            alarm: None,
            totals: Totals::default(),
            connect_times: VecDeque::new(),
        }
    }

    /// Takes an idle connection, or queues and sees to it that one will come.
    pub(crate) fn acquire(
        &mut self,
        now: Instant,
        request: Request,
        waker: impl FnOnce() -> W,
    ) -> (Asked<C, E>, Actions<C, W>) {
        let mut actions = Actions::none();
        let Request {
            asker,
            place,
            deadline,
        } = request;
        match self.mode {
            // With waiters there is nothing idle, so that a newcomer cannot overtake them.
            Mode::Open => {
                if let Some(granted) = self.take_idle(asker, now, &mut actions) {
                    self.leases_issued += 1;
                    self.settle(now, &mut actions);
                    return (Asked::Ready(granted), actions);
                }
            }
            Mode::Paused => {}
            Mode::Draining => return (Asked::Refused(Refusal::Draining), actions),
            Mode::Closed => return (Asked::Refused(Refusal::Closed), actions),
        }
        let waiting = self.queue.waiting();
        let asked = if let Some((cause, since)) = self.turn_away(now) {
            self.totals.turned_away += 1;
            Asked::Down { cause, since }
        } else {
            match place {
                Place::Tail if waiting >= self.limits.waiters_max => {
                    self.totals.queue_full += 1;
                    Asked::QueueFull { waiting }
                }
                Place::Tail => Asked::Queued(self.queue.push_back(waker(), asker, deadline)),
                Place::Head => Asked::Queued(self.queue.push_front(waker(), asker, deadline)),
            }
        };
        if let Some(deadline) = deadline
            && let Asked::Queued(_) = asked
        {
            self.note_deadline(deadline, &mut actions);
        }
        self.settle(now, &mut actions);
        (asked, actions)
    }

    /// Looks into a waiter's slot; a slot that is not waiting any more is freed. `replace` returns what
    /// is to take the place of a waker that is no use any more.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        key: WaiterKey,
        replace: impl FnOnce(&W) -> Option<W>,
    ) -> Found<C, W, E> {
        if let Slot::Waiting(current) = self.queue.slot(key) {
            let waker = replace(current);
            return Found::Waiting(waker.map(|waker| std::mem::replace(current, waker)));
        }
        match self.queue.remove(key) {
            Slot::Granted(granted) => {
                self.leases_issued += 1;
                Found::Granted(granted)
            }
            Slot::Failed(error) => Found::Failed(*error),
            Slot::Refused(refusal) => Found::Refused(refusal),
            Slot::Waiting(_) => panic!("bug: a waiting slot changed under the lock"),
        }
    }

    /// Ends a wait at its deadline: either it was served, or it leaves the queue.
    pub(crate) fn expire(&mut self, key: WaiterKey) -> Expired<C, W, E> {
        let shortage = self.shortage(self.queue.asker(key));
        let expired = match self.queue.remove(key) {
            Slot::Waiting(waker) => {
                self.totals.timed_out += 1;
                Expired::TimedOut(shortage, waker)
            }
            Slot::Granted(granted) => {
                self.leases_issued += 1;
                Expired::Granted(granted)
            }
            Slot::Failed(error) => Expired::Failed(*error),
            Slot::Refused(refusal) => Expired::Refused(refusal),
        };
        self.check();
        expired
    }

    /// Gives up a wait. A connection that was granted and not taken passes on.
    pub(crate) fn cancel(&mut self, key: WaiterKey, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        match self.queue.remove(key) {
            Slot::Waiting(waker) => actions.spent = Some(waker),
            Slot::Granted(granted) => {
                let conn = self.end_lease(granted, &mut actions);
                self.place(conn, now, &mut actions);
            }
            Slot::Failed(_) | Slot::Refused(_) => {}
        }
        self.settle(now, &mut actions);
        actions
    }

    /// Takes back a clean connection.
    pub(crate) fn put(&mut self, granted: Granted<C>, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        let mut conn = self.end_lease(granted, &mut actions);
        conn.works_at(now);
        self.gate.prove(now);
        self.place(conn, now, &mut actions);
        self.settle(now, &mut actions);
        actions
    }

    /// Ends a lease whose connection must be reset before anyone else may have it, or be closed. The
    /// slot stays taken until [`State::restore`], [`State::lost`] or [`State::closed`].
    pub(crate) fn retire(&mut self, granted: Granted<C>, now: Instant) -> (Conn<C>, Actions<C, W>) {
        let mut actions = Actions::none();
        let conn = self.end_lease(granted, &mut actions);
        self.closing += 1;
        self.settle(now, &mut actions);
        (conn, actions)
    }

    /// Takes back a connection that was reset.
    pub(crate) fn restore(&mut self, mut conn: Conn<C>, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.end_closing();
        conn.works_at(now);
        self.gate.prove(now);
        self.place(conn, now, &mut actions);
        self.settle(now, &mut actions);
        actions
    }

    /// Frees the slot of a connection that was to be closed, by an action, and is gone.
    pub(crate) fn closed(&mut self, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.end_closing();
        self.totals.closed += 1;
        self.settle(now, &mut actions);
        actions
    }

    /// Frees the slot of a connection that was retired, and is gone for this reason.
    pub(crate) fn lost(&mut self, reason: Reason, now: Instant) -> Actions<C, W> {
        self.totals.closed_by[reason as usize] += 1;
        self.closed(now)
    }

    /// Takes in a connection that was opened: for the head waiter, else idle.
    pub(crate) fn opened(&mut self, opened: Opened<C>, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.end_opening(&mut actions);
        self.totals.opened += 1;
        self.refill = self.refill.saturating_sub(1);
        self.gate.succeeded(self.limits.max_connecting);
        if self.connect_times.len() == CONNECT_TIMES {
            self.connect_times.pop_front();
        }
        let took = now.saturating_duration_since(opened.begun);
        self.connect_times.push_back(took);
        let conn = Box::new(Known {
            expires: self.limits.expiry(opened.begun, opened.jitter),
            value: opened.value,
            holder: HolderKey::NONE,
            lent_since: now,
            generation: opened.generation,
            last_used: now,
            marked: false,
        });
        self.place(conn, now, &mut actions);
        self.settle(now, &mut actions);
        actions
    }

    /// Records that a connection could not be opened. A permanent error ends the head's wait; with a
    /// transient one waiters stay until their deadlines.
    pub(crate) fn open_failed(&mut self, failure: Failure<E>, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        self.end_opening(&mut actions);
        self.totals.open_failed += 1;
        let Failure {
            error,
            severity,
            jitter,
        } = failure;
        // What nobody waits for must not be tried again at once, whatever the error.
        let unobserved = self.queue.waiting() == 0 && self.wanted_unasked() > 0;
        match severity {
            Severity::Permanent if !unobserved => {
                // The server answered, so it is not down.
                self.gate.succeeded(self.limits.max_connecting);
                if let Some(waker) = self.queue.settle_head(Slot::Failed(Box::new(error))) {
                    actions.wake(waker);
                }
            }
            Severity::Permanent | Severity::Transient => {
                let backoff = self.limits.backoff;
                let pause = |failures| backoff.pause(failures, jitter);
                self.gate.failed(error, now, pause);
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

    /// Orders connections that nobody waits for, until there are `wanted`, but no more than
    /// `pool_size`; and those that are to be kept ready.
    pub(crate) fn warm_up(&mut self, wanted: usize, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        if self.mode == Mode::Open {
            let missing = wanted.saturating_sub(self.open() - self.opening - self.closing);
            self.refill = self.refill.max(missing);
        }
        self.settle(now, &mut actions);
        actions
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            sizes: self.limits.sizes(),
            mode: self.mode,
            generation: self.generation,
            down_since: self.gate.down_since(),
            suspected: self.suspected(),
            out: self.holders.len(),
            idle: self.idle.len(),
            opening: self.opening,
            closing: self.closing,
            waiting: self.queue.waiting(),
            totals: self.totals,
            leases: (self.leases_issued, self.leases_issued - self.taken()),
            oldest: self.oldest(),
        }
    }

    /// Returns since when and why the server cannot be reached.
    pub(crate) fn outage(&self) -> Option<(Instant, E)> {
        Some((self.gate.down_since()?, self.gate.cause()?.clone()))
    }

    pub(crate) fn holders(&self) -> Vec<HeldSince> {
        self.holders.iter().map(|lent| lent.held).collect()
    }

    /// Returns how long the connections took to open that were opened since the last call.
    pub(crate) fn take_connect_times(&mut self) -> Vec<Duration> {
        self.connect_times.drain(..).collect()
    }

    /// Returns how many leases are out; a grant is none until its future has taken it.
    fn taken(&self) -> u64 {
        (self.holders.len() - self.queue.grants()) as u64
    }

    fn open(&self) -> usize {
        self.holders.len() + self.idle.len() + self.opening + self.closing
    }

    fn oldest(&self) -> Option<HeldSince> {
        let held = self.holders.iter().map(|lent| lent.held);
        held.min_by_key(|held| held.since)
    }

    /// Lends the idle connection whose turn it is, if there is one that may still be lent.
    fn take_idle(
        &mut self,
        asker: Asker,
        now: Instant,
        actions: &mut Actions<C, W>,
    ) -> Option<Granted<C>> {
        while let Some(conn) = self.idle.pop(self.limits.order) {
            if !conn.has_expired(now) {
                return Some(self.lend(conn, asker, now));
            }
            self.send_to_close(conn, Reason::Recycled, actions);
        }
        None
    }

    #[inline]
    fn lend(&mut self, conn: Conn<C>, asker: Asker, now: Instant) -> Granted<C> {
        self.enter_lease(conn, asker, now).grant(now)
    }

    #[inline]
    fn enter_lease(&mut self, conn: Conn<C>, asker: Asker, now: Instant) -> Ready<C> {
        // Where nothing grows too old the connection need not be looked at: see `Ready`.
        let (expires, marked) = match self.limits.recycle {
            None => (None, false),
            Some(_) => (conn.expires, conn.marked),
        };
        let holder = self.holders.insert(|| Lent {
            held: HeldSince {
                location: asker.location,
                since: now,
            },
            task: asker.task,
            expires,
            marked,
            suspected: false,
        });
        Ready {
            conn,
            holder: HolderKey(holder),
        }
    }

    fn end_lease(&mut self, granted: Granted<C>, actions: &mut Actions<C, W>) -> Conn<C> {
        let mut conn = granted.conn;
        let lent = self.holders.remove(conn.holder.0);
        conn.end_lease();
        conn.marked |= lent.marked;
        if lent.suspected {
            actions.leaks.push(Leak::Returned(lent.held));
        }
        conn
    }

    fn end_opening(&mut self, actions: &mut Actions<C, W>) {
        let left = self.opening.checked_sub(1);
        self.opening = left.expect("bug: nothing was opening");
        actions.announce = true;
    }

    fn end_closing(&mut self) {
        let left = self.closing.checked_sub(1);
        self.closing = left.expect("bug: nothing was closing");
    }

    /// Finds the place of a connection that nobody holds: the head waiter, the idle ones, or out.
    fn place(&mut self, conn: Conn<C>, now: Instant, actions: &mut Actions<C, W>) {
        let waiter = match self.mode {
            Mode::Open => self.queue.head(),
            Mode::Paused | Mode::Draining | Mode::Closed => None,
        };
        if self.mode == Mode::Closed {
            self.send_to_close(conn, Reason::Shutdown, actions);
        } else if conn.generation != self.generation {
            self.send_to_close(conn, Reason::Stale, actions);
        } else if conn.marked || conn.has_expired(now) {
            self.send_to_close(conn, Reason::Recycled, actions);
        } else if self.open() >= self.limits.max_open {
            self.send_to_close(conn, Reason::Resized, actions);
        } else if let Some(asker) = waiter {
            let granted = self.lend(conn, asker, now);
            self.grant(granted, actions);
        } else if self.idle.len() - self.idle.marked() < self.limits.pool_size
            || !self.limits.linger.is_zero()
        {
            self.idle.push(conn, now);
        } else {
            self.send_to_close(conn, Reason::Overflow, actions);
        }
    }

    /// Hands a connection to the head waiter, of which there must be one.
    fn grant(&mut self, granted: Granted<C>, actions: &mut Actions<C, W>) {
        let waker = self.queue.settle_head(Slot::Granted(granted));
        actions.wake(waker.expect("bug: the head waiter vanished under the lock"));
    }

    fn send_to_close(&mut self, conn: Conn<C>, reason: Reason, actions: &mut Actions<C, W>) {
        self.closing += 1;
        self.totals.closed_by[reason as usize] += 1;
        actions.close.push(conn);
    }

    /// Ends every transition: orders the connections that are needed, and checks the books.
    fn settle(&mut self, now: Instant, actions: &mut Actions<C, W>) {
        match self.mode {
            Mode::Open => {
                self.gate.tick(now);
                self.fit_refill(actions);
                self.connect(actions);
            }
            Mode::Paused | Mode::Draining => {
                self.fit_refill(actions);
                actions.announce |= self.holders.len() == 0;
            }
            Mode::Closed => actions.announce |= self.open() == 0,
        }
        self.ceiling = self.ceiling.min(self.open()).max(self.limits.max_open);
        self.steady = self.is_steady();
        self.check();
    }

    /// Orders what is missing, as far as limits and gate allow, or a timer for when it allows more.
    fn connect(&mut self, actions: &mut Actions<C, W>) {
        let missing = self.missing();
        let room = self.limits.max_open.saturating_sub(self.open());
        let allowed = missing
            .min(self.opening.saturating_add(room))
            .min(self.gate.window())
            .min(self.limits.max_connecting);
        let more = allowed.saturating_sub(self.opening);
        self.opening += more;
        actions.connect += more;
        actions.generation = self.generation;
        if missing > 0
            && self.timer.is_none()
            && let Some(at) = self.gate.pause_until()
        {
            self.timer = Some(at);
            actions.arm_timer = Some(at);
        }
    }

    /// Returns how many connections should be being opened: one for each waiter, what is wanted
    /// without anyone waiting, and, where newcomers may be turned away, one that finds out when the
    /// server is back.
    fn missing(&self) -> usize {
        let wanted = self.queue.waiting() + self.wanted_unasked();
        let prober = self.limits.patience.is_some() && self.gate.is_down();
        wanted.max(usize::from(prober))
    }

    fn shortage(&self, asker: Asker) -> Shortage<E> {
        let out = self.holders.len();
        if self.mode == Mode::Paused {
            return Shortage::Paused;
        }
        match &self.gate {
            Gate::Down { cause, since, .. } if self.could_open() => Shortage::Down {
                cause: cause.clone(),
                since: *since,
            },
            _ if self.opening > 0 => Shortage::Opening {
                out,
                opening: self.opening,
            },
            _ => Shortage::Exhausted {
                out,
                waiting: self.queue.waiting(),
                oldest: self.oldest(),
                own: self.held_by(asker),
            },
        }
    }

    /// Returns why and since when waiting is not worth it, if so.
    fn turn_away(&self, now: Instant) -> Option<(E, Instant)> {
        let patience = self.limits.patience?;
        if self.mode != Mode::Open || !self.could_open() {
            return None;
        }
        let (cause, since) = self.gate.turns_away(patience, now)?;
        Some((cause.clone(), since))
    }

    /// Returns whether it is the server, and not the limit, that stands in the way of one more.
    fn could_open(&self) -> bool {
        self.opening > 0 || self.open() < self.limits.max_open
    }

    /// Returns the leases that the asking task holds itself.
    fn held_by(&self, asker: Asker) -> Vec<HeldSince> {
        let own = |lent: &&Lent| asker.task.is_some() && lent.task == asker.task;
        self.holders
            .iter()
            .filter(own)
            .map(|lent| lent.held)
            .collect()
    }

    /// Checks what must hold after every transition, as far as that costs O(1).
    fn check(&self) {
        let (open, waiting) = (self.open(), self.queue.waiting());
        assert!(open <= self.ceiling, "bug: {open} connections are open");
        assert!(
            self.idle.surplus() == 0 || !self.limits.linger.is_zero(),
            "bug: {} connections are idle",
            self.idle.len()
        );
        match self.mode {
            Mode::Open => {
                assert!(
                    self.idle.is_empty() || waiting == 0,
                    "bug: a connection is idle while {waiting} wait"
                );
                assert!(
                    waiting == 0
                        || open >= self.limits.max_open
                        || self.opening > 0
                        || self.timer.is_some(),
                    "bug: {waiting} wait and nothing is being done about it"
                );
            }
            Mode::Paused => {}
            Mode::Draining => assert!(waiting == 0, "bug: {waiting} wait for what will not come"),
            Mode::Closed => assert!(
                waiting == 0 && self.idle.is_empty(),
                "bug: a closed pool keeps waiters or idle connections"
            ),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
