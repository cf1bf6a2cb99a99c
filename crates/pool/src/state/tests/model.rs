//! Long random runs against a model that is too simple to be wrong: plain lists and SQLAlchemy's rules.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::{Books, limits, origin, request};
use crate::state::{
    Actions, Asked, Conn, Expired, Failure, Found, Granted, Limits, Mode, Opened, Order, Place,
    Reason, Severity, WaiterKey,
};

/// The rules: idle first; open up to the limit; the returned one is closed when enough are idle, or
/// too many open; waiters are served in order; nothing is lent nor opened but in an open pool.
#[derive(Debug)]
struct Model {
    mode: Mode,
    lifo: bool,
    size: usize,
    max: usize,
    idle: Vec<u8>,
    out: BTreeMap<usize, u8>,
    queue: Vec<usize>,
    opening: usize,
    closing: usize,
}

impl Model {
    fn acquire(&mut self, caller: usize) {
        if matches!(self.mode, Mode::Open | Mode::Paused) {
            self.queue.push(caller);
            self.serve();
        }
    }

    fn serve(&mut self) {
        while self.mode == Mode::Open && !self.idle.is_empty() && !self.queue.is_empty() {
            let next = if self.lifo { self.idle.len() - 1 } else { 0 };
            self.out
                .insert(self.queue.remove(0), self.idle.remove(next));
        }
        self.connect();
    }

    fn free(&mut self, id: u8) {
        if self.mode == Mode::Closed || self.open() >= self.max {
            self.closing += 1;
        } else if self.mode == Mode::Open && !self.queue.is_empty() {
            self.out.insert(self.queue.remove(0), id);
        } else if self.idle.len() < self.size {
            self.idle.push(id);
        } else {
            self.closing += 1;
        }
        self.connect();
    }

    fn leave(&mut self, caller: usize) {
        self.queue.retain(|waiter| *waiter != caller);
        if let Some(id) = self.out.remove(&caller) {
            self.free(id);
        }
    }

    fn enter(&mut self, mode: Mode) {
        if self.mode != Mode::Closed {
            self.mode = mode;
        }
        if matches!(self.mode, Mode::Draining | Mode::Closed) {
            self.queue.clear();
        }
        self.serve();
    }

    fn resize(&mut self, size: usize, max: usize) {
        (self.size, self.max) = (size, max);
        while !self.idle.is_empty() && (self.idle.len() > size || self.open() - self.closing > max)
        {
            self.idle.remove(0);
            self.closing += 1;
        }
        self.connect();
    }

    /// Closes all that nobody has: what is idle, and what was handed over and not taken.
    fn shut(&mut self, untaken: &[usize]) {
        self.closing += self.idle.drain(..).count();
        self.closing += untaken
            .iter()
            .filter_map(|caller| self.out.remove(caller))
            .count();
    }

    fn open(&self) -> usize {
        self.idle.len() + self.out.len() + self.opening + self.closing
    }

    fn connect(&mut self) {
        if self.mode == Mode::Open {
            let room = self.max.saturating_sub(self.open());
            self.opening += room.min(self.queue.len().saturating_sub(self.opening));
        }
    }

    fn numbers(&self) -> (usize, usize, usize, usize, usize) {
        (
            self.out.len(),
            self.idle.len(),
            self.opening,
            self.closing,
            self.queue.len(),
        )
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A caller without business asks; one that waits looks or gives up; one that holds gives back.
    Caller {
        index: usize,
        choice: u8,
    },
    Open,
    RefuseOpen,
    FinishReset {
        back: bool,
    },
    FinishClose,
    Enter(Mode),
    Resize {
        size: usize,
        overflow: usize,
    },
}

#[derive(Debug)]
enum Caller {
    Away,
    Waiting(WaiterKey),
    Holding(Granted<u8>),
}

/// The state under test with the callers and tasks that the shell would have.
struct Bench {
    state: Books,
    model: Model,
    callers: Vec<Caller>,
    closing: usize,
    resetting: Vec<Conn<u8>>,
    next_id: u8,
}

impl Bench {
    fn perform(&mut self, actions: Actions<u8, u8>) {
        self.closing += actions.close.len();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Caller { index, choice } => self.caller(index, choice),
            Step::Open if self.model.opening > 0 => {
                self.next_id = self.next_id.wrapping_add(1);
                self.model.opening -= 1;
                self.model.free(self.next_id);
                let opened = Opened {
                    value: self.next_id,
                    generation: 0,
                    begun: origin(),
                    jitter: 0,
                };
                let actions = self.state.opened(opened, origin());
                self.perform(actions);
            }
            Step::RefuseOpen if self.model.opening > 0 => {
                self.model.opening -= 1;
                if !self.model.queue.is_empty() {
                    self.model.queue.remove(0);
                }
                self.model.connect();
                let failure = Failure {
                    error: "no such database",
                    severity: Severity::Permanent,
                    jitter: 0,
                };
                let actions = self.state.open_failed(failure, origin());
                self.perform(actions);
            }
            Step::FinishReset { back } if !self.resetting.is_empty() => {
                let conn = self.resetting.remove(0);
                self.model.closing -= 1;
                let actions = if back {
                    self.model.free(conn.value);
                    self.state.restore(conn, origin())
                } else {
                    self.model.connect();
                    self.state.lost(Reason::Unfit, origin())
                };
                self.perform(actions);
            }
            Step::FinishClose if self.closing > 0 => {
                self.closing -= 1;
                self.model.closing -= 1;
                self.model.connect();
                let actions = self.state.closed(origin());
                self.perform(actions);
            }
            Step::Enter(mode) => {
                self.model.enter(mode);
                let actions = match mode {
                    Mode::Open => self.state.resume(origin()),
                    Mode::Paused => self.state.pause(origin()),
                    Mode::Draining => self.state.drain(origin()),
                    Mode::Closed => {
                        let waits = |at: &usize| matches!(self.callers[*at], Caller::Waiting(_));
                        let waiting: Vec<usize> = (0..CALLERS).filter(waits).collect();
                        self.model.shut(&waiting);
                        self.state.close(origin())
                    }
                };
                self.perform(actions);
            }
            Step::Resize { size, overflow } => {
                self.model.resize(size, size + overflow);
                let actions = self.state.resize(size, size + overflow, origin());
                self.perform(actions);
            }
            Step::Open | Step::RefuseOpen | Step::FinishReset { .. } | Step::FinishClose => {}
        }
    }

    fn caller(&mut self, index: usize, choice: u8) {
        let caller = std::mem::replace(&mut self.callers[index], Caller::Away);
        self.callers[index] = match caller {
            Caller::Away => {
                self.model.acquire(index);
                let (asked, actions) = self.state.acquire(origin(), request(Place::Tail), || 0);
                self.perform(actions);
                match asked {
                    Asked::Ready(granted) => Caller::Holding(granted),
                    Asked::Queued(key) => Caller::Waiting(key),
                    Asked::Refused(_) => Caller::Away,
                    other => panic!("{other:?}"),
                }
            }
            Caller::Waiting(key) if choice == 0 => {
                self.model.leave(index);
                let actions = self.state.cancel(key, origin());
                self.perform(actions);
                Caller::Away
            }
            Caller::Waiting(key) if choice == 1 => match self.state.expire(key) {
                Expired::Granted(granted) => Caller::Holding(granted),
                _ => {
                    self.model.queue.retain(|waiter| *waiter != index);
                    Caller::Away
                }
            },
            Caller::Waiting(key) => match self.state.poll(key, |_| Some(0)) {
                Found::Waiting(_) => Caller::Waiting(key),
                Found::Granted(granted) => Caller::Holding(granted),
                _ => Caller::Away,
            },
            Caller::Holding(granted) if choice == 0 => {
                self.model.out.remove(&index);
                self.model.closing += 1;
                let (conn, actions) = self.state.retire(granted, origin());
                self.perform(actions);
                self.resetting.push(conn);
                Caller::Away
            }
            Caller::Holding(granted) => {
                self.model.leave(index);
                let actions = self.state.put(granted, origin());
                self.perform(actions);
                Caller::Away
            }
        };
    }

    fn check(&self) {
        self.state.audit();
        let counts = self.state.counts();
        assert_eq!(
            (
                counts.out,
                counts.idle,
                counts.opening,
                counts.closing,
                counts.waiting
            ),
            self.model.numbers(),
            "(out, idle, opening, closing, waiting), the model's last"
        );
        for (index, caller) in self.callers.iter().enumerate() {
            if let Caller::Holding(granted) = caller {
                assert_eq!(Some(&granted.conn.value), self.model.out.get(&index));
            }
        }
    }
}

const CALLERS: usize = 7;

/// Mostly back to an open pool, and seldom to a closed one, of which there is no way back.
fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        60 => Just(Mode::Open),
        20 => Just(Mode::Paused),
        19 => Just(Mode::Draining),
        1 => Just(Mode::Closed),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..CALLERS, 0_u8..6).prop_map(|(index, choice)| Step::Caller { index, choice }),
        3 => Just(Step::Open),
        1 => Just(Step::RefuseOpen),
        2 => any::<bool>().prop_map(|back| Step::FinishReset { back }),
        2 => Just(Step::FinishClose),
        1 => mode().prop_map(Step::Enter),
        1 => (1_usize..4, 0_usize..3).prop_map(|(size, overflow)| Step::Resize { size, overflow }),
    ];
    proptest::collection::vec(step, 0..400)
}

proptest! {
    #[test]
    fn random_runs_agree_with_the_model(
        size in 1_usize..4,
        overflow in 0_usize..3,
        lifo in any::<bool>(),
        steps in steps(),
    ) {
        let order = if lifo { Order::Lifo } else { Order::Fifo };
        let mut bench = Bench {
            state: Books::new(Limits { order, ..limits(size, overflow) }),
            model: Model {
                mode: Mode::Open,
                lifo,
                size,
                max: size + overflow,
                idle: Vec::new(),
                out: BTreeMap::new(),
                queue: Vec::new(),
                opening: 0,
                closing: 0,
            },
            callers: (0..CALLERS).map(|_| Caller::Away).collect(),
            closing: 0,
            resetting: Vec::new(),
            next_id: 0,
        };
        for step in steps {
            bench.step(step);
            bench.check();
        }
    }
}
