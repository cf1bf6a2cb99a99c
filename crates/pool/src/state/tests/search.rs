//! All interleavings of a small world: up to three callers, two connections, failing connects, failed
//! checks, resets, cancellations, deadlines, and what operators and time do: pause, drain, resume,
//! resize, invalidate, sweep, close. After every transition the whole of the books is audited; and from
//! every state the world is wound up, which must serve every waiter and leave all capacity usable.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use super::{Books, limits, origin, request};
use crate::state::{
    Actions, Asked, Conn, Expired, Failure, Found, Granted, Known, Limits, Mode, Opened, Order,
    Place, Reason, Severity, WaiterKey,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Caller {
    Away,
    Waiting(WaiterKey),
    Holding(Granted<u8>),
}

/// What operators and time do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Change {
    Pause,
    Drain,
    Resume,
    /// To this `pool_size`, and this limit.
    Resize(usize, usize),
    Invalidate,
    /// The housekeeper comes by, so much later.
    Sweep(Duration),
    WarmUp(usize),
    Close,
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
    Change(Change),
}

/// Bounds the search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scope {
    acquires: u8,
    failures: u8,
    /// How many changes, and of what kinds.
    changes: u8,
    kinds: &'static [Change],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    state: Books,
    callers: Vec<Caller>,
    /// Callers without a grant, in the order in which they must be served.
    order: Vec<usize>,
    /// Generations and beginnings of the connects in flight.
    connecting: Vec<(u64, Instant)>,
    closing: Vec<Conn<u8>>,
    resetting: Vec<Conn<u8>>,
    timer: Option<Instant>,
    now: Instant,
    left: Scope,
}

impl World {
    fn new(callers: usize, limits: Limits, scope: Scope) -> Self {
        let mut world = Self {
            state: Books::new(limits),
            callers: vec![Caller::Away; callers],
            order: Vec::new(),
            connecting: Vec::new(),
            closing: Vec::new(),
            resetting: Vec::new(),
            timer: None,
            now: origin(),
            left: scope,
        };
        let actions = world.state.warm_up(0, world.now);
        world.perform(actions);
        world
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let away = |caller: &Caller| *caller == Caller::Away;
        let first_away = self.callers.iter().position(away).unwrap_or_default();
        let may_fail = self.left.failures > 0;
        for (index, caller) in self.callers.iter().enumerate() {
            match caller {
                // Those who are away are alike: it is enough when the first of them asks.
                Caller::Away if self.left.acquires > 0 && index == first_away => {
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
                    if may_fail {
                        events.push(Event::FailPing(index));
                    }
                }
            }
        }
        if !self.connecting.is_empty() {
            events.push(Event::Open);
            if may_fail {
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
        if self.left.changes > 0 && !self.is_closed() {
            events.extend(self.left.kinds.iter().map(|change| Event::Change(*change)));
        }
        events
    }

    fn is_closed(&self) -> bool {
        self.state.counts().mode == Mode::Closed
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Acquire(index) => {
                self.left.acquires -= 1;
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
                let mut quick = self.state.clone();
                let quickly = quick.put_ready(granted.clone(), self.now);
                let actions = self.state.put(granted, self.now);
                if let Ok(wake) = quickly {
                    assert_eq!(self.state, quick, "the quick way leads elsewhere");
                    assert_eq!(actions, nothing_but(wake, &actions));
                }
                self.perform(actions);
            }
            Event::Retire(index) => {
                let conn = self.retire(index);
                self.resetting.push(conn);
            }
            Event::FailPing(index) => {
                self.left.failures -= 1;
                let conn = self.retire(index);
                let actions = self.state.invalidate(conn.generation, self.now);
                self.perform(actions);
                let actions = self.state.lost(Reason::Broken, self.now);
                self.perform(actions);
                self.acquire(index, Place::Head);
            }
            Event::Change(change) => {
                self.left.changes -= 1;
                self.change(change);
            }
            Event::Open
            | Event::FailOpen(_)
            | Event::FinishClose
            | Event::FinishReset
            | Event::FailReset
            | Event::Tick => self.finish(event),
        }
        self.audit();
        self.state.forget_history();
    }

    fn change(&mut self, change: Change) {
        let now = self.now;
        let actions = match change {
            Change::Pause => self.state.pause(now),
            Change::Drain => self.state.drain(now),
            Change::Resume => self.state.resume(now),
            Change::Resize(size, max) => self.state.resize(size, max, now),
            Change::Invalidate => self.state.invalidate_all(now),
            Change::WarmUp(wanted) => self.state.warm_up(wanted, now),
            Change::Close => self.state.close(now),
            Change::Sweep(later) => {
                self.now += later;
                self.state.sweep(self.now)
            }
        };
        self.perform(actions);
        if matches!(change, Change::Drain | Change::Close) {
            assert_eq!(self.order, [0; 0], "every waiter is told");
        }
    }

    /// Lets a task of the pool end.
    fn finish(&mut self, event: Event) {
        let actions = match event {
            Event::Open => {
                let (generation, begun) = self.connecting.remove(0);
                let opened = Opened {
                    value: self.unused_id(),
                    generation,
                    begun,
                    jitter: 0,
                };
                self.state.opened(opened, self.now)
            }
            Event::FailOpen(severity) => {
                self.left.failures -= 1;
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
                self.state.lost(Reason::Unfit, self.now)
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
        let mut quick = self.state.clone();
        let request = request(place);
        let taken = quick.take_ready(request.asker, self.now);
        let quickly = match place {
            _ if taken.is_some() => taken.map(|ready| Asked::Ready(ready.grant(self.now))),
            Place::Tail if quick.must_queue() => {
                let queued = quick.join_ready(request.asker, request.deadline, waiter);
                Some(Asked::Queued(queued.key))
            }
            _ => None,
        };
        let (asked, actions) = self.state.acquire(self.now, request, || waiter);
        if let Some(quickly) = quickly {
            assert_eq!(asked, quickly);
            assert_eq!(self.state, quick, "the quick way leads elsewhere");
            assert_eq!(actions, nothing_but(None, &actions));
        }
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
            Asked::Refused(_) => return self.callers[index] = Caller::Away,
            Asked::Down { .. } => Caller::Away,
            Asked::QueueFull { waiting } => panic!("no limit, and {waiting} wait"),
        };
        self.perform(actions);
    }

    fn poll(&mut self, index: usize) {
        let Caller::Waiting(key) = self.callers[index] else {
            unreachable!()
        };
        let waits = self.order.contains(&index);
        self.callers[index] = match self.state.poll(key, |_| u8::try_from(index).ok()) {
            Found::Waiting(former) => {
                assert!(waits && former.map(usize::from) == Some(index));
                Caller::Waiting(key)
            }
            Found::Granted(granted) => {
                assert!(!waits);
                Caller::Holding(granted)
            }
            Found::Failed(_) | Found::Refused(_) => {
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
            Expired::Failed(_) | Expired::Refused(_) => assert!(!waited),
        }
    }

    fn retire(&mut self, index: usize) -> Conn<u8> {
        let granted = self.let_go(index);
        let (conn, actions) = self.state.retire(granted, self.now);
        self.perform(actions);
        conn
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
        let begun = (actions.generation, self.now);
        self.connecting
            .extend(std::iter::repeat_n(begun, actions.connect));
        self.closing.extend(actions.close);
        if let Some(at) = actions.arm_timer {
            assert_eq!(self.timer, None, "one timer at a time");
            self.timer = Some(at);
        }
        let counts = self.state.counts();
        let must_say = match counts.mode {
            Mode::Open => false,
            Mode::Paused | Mode::Draining => counts.out == 0,
            Mode::Closed => counts.out + counts.idle + counts.opening + counts.closing == 0,
        };
        assert!(
            actions.announce || !must_say,
            "those who wait for it hear of it"
        );
    }

    /// All connections that there are, wherever they are but in an untaken grant.
    fn connections(&self) -> impl Iterator<Item = &Known<u8>> {
        let held = self.callers.iter().filter_map(|caller| match caller {
            Caller::Holding(granted) => Some(&*granted.conn),
            _ => None,
        });
        let going = self.closing.iter().chain(&self.resetting);
        held.chain(going.map(|conn| &**conn))
            .chain(self.state.idle())
    }

    /// The first id that no connection has: worlds are the same whatever came before.
    fn unused_id(&self) -> u8 {
        let granted = self.state.granted().map(|conn| conn.value);
        let used: BTreeSet<u8> = self
            .connections()
            .map(|conn| conn.value)
            .chain(granted)
            .collect();
        (0..).find(|id| !used.contains(id)).unwrap()
    }

    fn audit(&self) {
        self.state.audit();
        let counts = self.state.counts();
        assert_eq!(counts.opening, self.connecting.len());
        assert_eq!(counts.closing, self.closing.len() + self.resetting.len());
        assert_eq!(counts.waiting, self.order.len());
        let mut seen = BTreeSet::new();
        for conn in self.connections().chain(self.state.granted()) {
            assert!(seen.insert(conn.value), "a connection has two owners");
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
            } else if self.timer.is_some() {
                Event::Tick
            } else if matches!(self.state.counts().mode, Mode::Paused | Mode::Draining) {
                self.left.changes += 1;
                Event::Change(Change::Resume)
            } else {
                assert_eq!(waiting, None, "a waiter is stranded: {self:?}");
                return self.at_rest();
            };
            self.apply(event);
        }
        panic!("the world does not wind up: {self:?}");
    }

    fn at_rest(mut self) {
        let counts = self.state.counts();
        assert_eq!((counts.out, counts.waiting), (0, 0));
        assert_eq!(counts.leases.0, counts.leases.1);
        if self.is_closed() {
            return assert_eq!(counts.idle, 0);
        }
        let (size, overflow) = counts.sizes;
        let (size, max) = (
            size as usize,
            size as usize + overflow.unsigned_abs() as usize,
        );
        assert!(counts.idle <= max && self.state.wanted_unasked() == 0);
        // A limit that was lowered holds by now.
        self.callers = vec![Caller::Away; max + 1];
        self.left.acquires = u8::MAX;
        for index in 0..=max {
            self.apply(Event::Acquire(index));
        }
        for _ in 0..100 {
            let granted = (0..=max).find(|index| {
                matches!(self.callers[*index], Caller::Waiting(_)) && !self.order.contains(index)
            });
            match granted {
                Some(index) => self.apply(Event::Poll(index)),
                None if !self.connecting.is_empty() => self.apply(Event::Open),
                None if self.timer.is_some() => self.apply(Event::Tick),
                None if !self.closing.is_empty() => self.apply(Event::FinishClose),
                None => break,
            }
        }
        let out = self.state.counts().out;
        assert_eq!(
            (out, &self.order[..]),
            (max, &[max][..]),
            "capacity: {size}"
        );
    }
}

/// Orders that consist of waking somebody.
fn nothing_but(wake: Option<u8>, like: &Actions<u8, u8>) -> Actions<u8, u8> {
    Actions {
        wake,
        wake_more: Vec::new(),
        connect: 0,
        generation: like.generation,
        close: Vec::new(),
        arm_timer: None,
        set_alarm: false,
        leaks: Vec::new(),
        announce: false,
        spent: None,
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

/// Searches, and says how large the world was: a search that shrinks by accident proves less.
#[track_caller]
fn explore(callers: usize, limits: Limits, scope: Scope, at_least: usize) {
    let states = search(World::new(callers, limits, scope));
    println!("{states} states");
    assert!(
        states >= at_least,
        "the search is too small: {states} states"
    );
}

const CLOSE: &[Change] = &[Change::Close];

const MODES: &[Change] = &[Change::Pause, Change::Drain, Change::Resume, Change::Close];

const SIZES: &[Change] = &[
    Change::Resize(1, 1),
    Change::Resize(2, 2),
    Change::Pause,
    Change::Resume,
    Change::Close,
];

fn scope(acquires: u8, failures: u8, changes: u8, kinds: &'static [Change]) -> Scope {
    Scope {
        acquires,
        failures,
        changes,
        kinds,
    }
}

#[test]
fn every_interleaving_of_two_callers_on_one_connection_keeps_the_books() {
    explore(2, limits(1, 0), scope(3, 2, 1, CLOSE), 4_000);
}

#[test]
fn every_interleaving_of_two_callers_with_overflow_keeps_the_books() {
    explore(2, limits(1, 1), scope(3, 1, 1, CLOSE), 17_000);
}

/// F12: no wake-up is lost. Whoever has a connection, an error or an expired deadline was woken in the
/// order of arrival; and from every state that can be reached, [`World::wind_up`] strands nobody.
#[test]
fn f12_every_interleaving_of_three_callers_on_two_connections_keeps_the_books() {
    explore(3, limits(2, 0), scope(3, 1, 1, CLOSE), 40_000);
}

#[test]
fn every_interleaving_of_pause_drain_resume_and_close_keeps_the_books() {
    explore(3, limits(2, 0), scope(3, 0, 3, MODES), 30_000);
}

/// F11.
#[test]
fn every_interleaving_of_resize_pause_and_close_keeps_the_books() {
    explore(3, limits(2, 0), scope(3, 0, 3, SIZES), 38_000);
}

/// F15, F12: whoever waits has a connect under way or a pause whose end is awaited, also in an outage.
#[test]
fn every_interleaving_of_outages_with_a_breaker_and_a_minimum_keeps_the_books() {
    let limits = Limits {
        min_idle: 1,
        patience: Some(Duration::ZERO),
        ..limits(1, 1)
    };
    explore(2, limits, scope(3, 2, 1, CLOSE), 110_000);
}

#[test]
fn every_interleaving_of_ageing_and_lingering_connections_keeps_the_books() {
    const SECOND: Duration = Duration::from_secs(1);
    const AGEING: &[Change] = &[
        Change::Sweep(SECOND),
        Change::Sweep(Duration::from_secs(2)),
        Change::Invalidate,
        Change::WarmUp(1),
        Change::Close,
    ];
    let limits = Limits {
        recycle: Some(3 * SECOND),
        idle_timeout: Some(2 * SECOND),
        linger: SECOND,
        leak: Some(SECOND),
        order: Order::Lifo,
        ..limits(1, 1)
    };
    explore(2, limits, scope(2, 0, 3, AGEING), 180_000);
}

/// What is due while nothing is lent: its replacement comes, and there is one too many.
#[test]
fn every_interleaving_of_replacements_with_pauses_and_sizes_keeps_the_books() {
    const CHANGES: &[Change] = &[
        Change::WarmUp(2),
        Change::Sweep(Duration::from_secs(2)),
        Change::Pause,
        Change::Resume,
        Change::Drain,
        Change::Resize(1, 2),
        Change::Resize(2, 2),
        Change::Close,
    ];
    let limits = Limits {
        recycle: Some(Duration::from_secs(3)),
        ..limits(2, 1)
    };
    explore(1, limits, scope(1, 0, 4, CHANGES), 30_000);
}
