//! All interleavings of a small world: up to three callers, two connections, failing connects, failed
//! checks, resets, cancellations, deadlines and close. After every transition the whole of the books is
//! audited; and from every state the world is wound up, which must serve every waiter.

use std::collections::{BTreeSet, HashSet};

use super::{Books, limits, origin, request};
use crate::state::{
    Actions, Asked, Conn, Expired, Failure, Found, Granted, Limits, Opened, Place, Severity,
    WaiterKey,
};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Caller {
    Away,
    Waiting(WaiterKey),
    Holding(Granted<u8>),
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Acquire(usize),
    Poll(usize),
    Expire(usize),
    Cancel(usize),
    Put(usize),
    Retire(usize),
    /// A failed ping: the connection goes, its generation is stale, the caller asks again first.
    FailPing(usize),
    Open,
    FailOpen(Severity),
    FinishClose,
    FinishReset,
    FailReset,
    Tick,
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    state: Books,
    callers: Vec<Caller>,
    /// Callers without a grant, in the order in which they must be served.
    order: Vec<usize>,
    /// Generations of the connects in flight.
    connecting: Vec<u64>,
    closing: Vec<Conn<u8>>,
    resetting: Vec<Conn<u8>>,
    timer: Option<Instant>,
    now: Instant,
    next_id: u8,
    /// Bounds the search.
    acquires_left: u8,
    failures_left: u8,
    closed: bool,
}

impl World {
    fn new(callers: usize, limits: Limits, acquires: u8, failures: u8) -> Self {
        Self {
            state: Books::new(limits),
            callers: vec![Caller::Away; callers],
            order: Vec::new(),
            connecting: Vec::new(),
            closing: Vec::new(),
            resetting: Vec::new(),
            timer: None,
            now: origin(),
            next_id: 0,
            acquires_left: acquires,
            failures_left: failures,
            closed: false,
        }
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let away = |caller: &Caller| *caller == Caller::Away;
        let first_away = self.callers.iter().position(away).unwrap_or_default();
        for (index, caller) in self.callers.iter().enumerate() {
            match caller {
                // Those who are away are alike: it is enough when the first of them asks.
                Caller::Away if self.acquires_left > 0 && index == first_away => {
                    events.push(Event::Acquire(index));
                }
                Caller::Away => {}
                Caller::Waiting(_) => {
                    events.extend([
                        Event::Poll(index),
                        Event::Expire(index),
                        Event::Cancel(index),
                    ]);
                }
                Caller::Holding(_) => {
                    events.extend([Event::Put(index), Event::Retire(index)]);
                    if self.failures_left > 0 {
                        events.push(Event::FailPing(index));
                    }
                }
            }
        }
        if !self.connecting.is_empty() {
            events.push(Event::Open);
            if self.failures_left > 0 {
                events.push(Event::FailOpen(Severity::Transient));
                events.push(Event::FailOpen(Severity::Permanent));
            }
        }
        if !self.closing.is_empty() {
            events.push(Event::FinishClose);
        }
        if !self.resetting.is_empty() {
            events.extend([Event::FinishReset, Event::FailReset]);
        }
        if self.timer.is_some() {
            events.push(Event::Tick);
        }
        if !self.closed {
            events.push(Event::Close);
        }
        events
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Acquire(index) => {
                self.acquires_left -= 1;
                self.acquire(index, Place::Tail);
            }
            Event::Poll(index) => self.poll(index),
            Event::Expire(index) => self.expire(index),
            Event::Cancel(index) => {
                let Caller::Waiting(key) = self.leave(index) else {
                    unreachable!()
                };
                self.order.retain(|caller| *caller != index);
                let actions = self.state.cancel(key, self.now);
                self.perform(actions);
            }
            Event::Put(index) => {
                let granted = self.let_go(index);
                let actions = self.state.put(granted.holder, granted.conn, self.now);
                self.perform(actions);
            }
            Event::Retire(index) => {
                let granted = self.let_go(index);
                self.state.retire(granted.holder);
                self.resetting.push(granted.conn);
            }
            Event::FailPing(index) => {
                self.failures_left -= 1;
                let granted = self.let_go(index);
                self.state.retire(granted.holder);
                self.state.invalidate(granted.conn.generation);
                let actions = self.state.closed(self.now);
                self.perform(actions);
                self.acquire(index, Place::Head);
            }
            Event::Close => {
                self.closed = true;
                let actions = self.state.close(self.now);
                self.perform(actions);
                assert_eq!(self.order, [0; 0], "every waiter is told");
            }
            Event::Open
            | Event::FailOpen(_)
            | Event::FinishClose
            | Event::FinishReset
            | Event::FailReset
            | Event::Tick => self.finish(event),
        }
        self.audit();
    }

    /// Lets a task of the pool end.
    fn finish(&mut self, event: Event) {
        let actions = match event {
            Event::Open => {
                let opened = Opened {
                    value: self.next_id,
                    generation: self.connecting.remove(0),
                    took: Duration::ZERO,
                };
                self.next_id += 1;
                self.state.opened(opened, self.now)
            }
            Event::FailOpen(severity) => {
                self.failures_left -= 1;
                self.connecting.remove(0);
                let failure = Failure {
                    error: "failed",
                    severity,
                    jitter: u32::MAX,
                };
                self.state.open_failed(failure, self.now)
            }
            Event::FinishClose => {
                self.closing.remove(0);
                self.state.closed(self.now)
            }
            Event::FinishReset => {
                let conn = self.resetting.remove(0);
                self.state.restore(conn, self.now)
            }
            Event::FailReset => {
                self.resetting.remove(0);
                self.state.closed(self.now)
            }
            Event::Tick => {
                self.now = self.now.max(self.timer.take().unwrap());
                self.state.tick(self.now)
            }
            other => unreachable!("{other:?}"),
        };
        self.perform(actions);
    }

    fn acquire(&mut self, index: usize, place: Place) {
        let waiter = u8::try_from(index).unwrap();
        let (asked, actions) = self.state.acquire(self.now, request(place), || waiter);
        self.callers[index] = match asked {
            Asked::Ready(granted) => {
                assert_eq!(self.order, [0; 0], "nobody is overtaken");
                Caller::Holding(granted)
            }
            Asked::Queued(key) => {
                let at = if place == Place::Head {
                    0
                } else {
                    self.order.len()
                };
                self.order.insert(at, index);
                Caller::Waiting(key)
            }
            // Changes nothing, so that there is nothing to perform.
            Asked::Closed => return self.callers[index] = Caller::Away,
            Asked::QueueFull { waiting } => panic!("no limit, and {waiting} wait"),
        };
        self.perform(actions);
    }

    fn poll(&mut self, index: usize) {
        let Caller::Waiting(key) = self.callers[index] else {
            unreachable!()
        };
        let waits = self.order.contains(&index);
        self.callers[index] = match self.state.poll(key, u8::try_from(index).unwrap()) {
            Found::Waiting(former) => {
                assert!(waits && usize::from(former) == index);
                Caller::Waiting(key)
            }
            Found::Granted(granted) => {
                assert!(!waits);
                Caller::Holding(granted)
            }
            Found::Failed(_) | Found::Closed => {
                assert!(!waits);
                Caller::Away
            }
        };
    }

    fn expire(&mut self, index: usize) {
        let Caller::Waiting(key) = self.leave(index) else {
            unreachable!()
        };
        let waited = self.order.contains(&index);
        self.order.retain(|caller| *caller != index);
        match self.state.expire(key) {
            Expired::Granted(granted) => {
                assert!(!waited);
                self.callers[index] = Caller::Holding(granted);
            }
            Expired::TimedOut(..) => assert!(waited),
            Expired::Failed(_) | Expired::Closed => assert!(!waited),
        }
    }

    fn leave(&mut self, index: usize) -> Caller {
        std::mem::replace(&mut self.callers[index], Caller::Away)
    }

    fn let_go(&mut self, index: usize) -> Granted<u8> {
        match self.leave(index) {
            Caller::Holding(granted) => granted,
            other => unreachable!("{other:?}"),
        }
    }

    fn perform(&mut self, actions: Actions<u8, u8>) {
        for woken in actions.wake.into_iter().chain(actions.wake_more) {
            assert_eq!(
                self.order.first(),
                Some(&usize::from(woken)),
                "waiters are served in order"
            );
            self.order.remove(0);
        }
        self.connecting
            .extend(std::iter::repeat_n(actions.generation, actions.connect));
        self.closing.extend(actions.close);
        if let Some(at) = actions.arm_timer {
            assert_eq!(self.timer, None, "one timer at a time");
            self.timer = Some(at);
        }
        assert_eq!(
            actions.drained,
            self.closed && self.connections_outside() == 0,
            "drained is said when it is so"
        );
    }

    fn connections_outside(&self) -> usize {
        let held = self
            .callers
            .iter()
            .filter(|caller| matches!(caller, Caller::Holding(_)))
            .count();
        held + self.connecting.len() + self.closing.len() + self.resetting.len()
    }

    fn audit(&self) {
        self.state.audit();
        let counts = self.state.counts();
        assert_eq!(counts.opening, self.connecting.len());
        assert_eq!(counts.closing, self.closing.len() + self.resetting.len());
        assert_eq!(counts.waiting, self.order.len());
        let mut seen = BTreeSet::new();
        let held = self.callers.iter().filter_map(|caller| match caller {
            Caller::Holding(granted) => Some(&granted.conn),
            _ => None,
        });
        for conn in held.chain(&self.closing).chain(&self.resetting) {
            assert!(seen.insert(conn.value), "a connection has two owners");
        }
        for conn in self.state.idle() {
            assert!(seen.insert(conn.value), "a lent connection is idle");
        }
    }

    /// Lets everything end well; then nobody may wait any more, and nothing may be lost.
    fn wind_up(mut self) {
        for _ in 0..200 {
            let find = |wanted: fn(&Caller) -> bool, but_not: &[usize]| {
                (0..self.callers.len())
                    .find(|index| wanted(&self.callers[*index]) && !but_not.contains(index))
            };
            let waits = |caller: &Caller| matches!(caller, Caller::Waiting(_));
            let settled = find(waits, &self.order);
            let waiting = find(waits, &[]);
            let holding = find(|caller| matches!(caller, Caller::Holding(_)), &[]);
            let event = if let Some(index) = settled {
                Event::Poll(index)
            } else if let Some(index) = holding {
                Event::Put(index)
            } else if !self.connecting.is_empty() {
                Event::Open
            } else if !self.closing.is_empty() {
                Event::FinishClose
            } else if !self.resetting.is_empty() {
                Event::FinishReset
            } else if waiting.is_some() {
                assert!(self.timer.is_some(), "a waiter is stranded: {self:?}");
                Event::Tick
            } else {
                let counts = self.state.counts();
                assert_eq!((counts.out, counts.waiting), (0, 0));
                assert_eq!(counts.totals.leases_issued, counts.totals.leases_returned);
                return;
            };
            self.apply(event);
        }
        panic!("the world does not wind up: {self:?}");
    }
}

/// Visits every reachable state once and returns how many there are.
fn search(world: World) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![world];
    while let Some(world) = open.pop() {
        for event in world.events() {
            let mut next = world.clone();
            next.apply(event);
            if !seen.contains(&next) {
                seen.insert(next.clone());
                next.clone().wind_up();
                open.push(next);
            }
        }
    }
    seen.len()
}

#[test]
fn every_interleaving_of_two_callers_on_one_connection_keeps_the_books() {
    let states = search(World::new(2, limits(1, 0), 3, 2));
    assert!(states > 9_000, "the search is too small: {states} states");
}

#[test]
fn every_interleaving_of_two_callers_with_overflow_keeps_the_books() {
    let states = search(World::new(2, limits(1, 1), 3, 1));
    assert!(states > 40_000, "the search is too small: {states} states");
}

#[test]
fn every_interleaving_of_three_callers_on_two_connections_keeps_the_books() {
    let states = search(World::new(3, limits(2, 0), 3, 1));
    assert!(states > 90_000, "the search is too small: {states} states");
}
