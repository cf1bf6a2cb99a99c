//! Long random runs against a model that is too simple to be wrong: plain lists and SQLAlchemy's rules.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{Books, limits, origin, request};
use crate::state::{
    Actions, Asked, Conn, Expired, Failure, Found, Granted, Opened, Place, Severity, WaiterKey,
};

/// The rules: idle first; open up to the limit; the returned one is closed when enough are idle;
/// waiters are served in order.
#[derive(Debug, Default)]
struct Model {
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
        if self.idle.is_empty() {
            self.queue.push(caller);
        } else {
            self.out.insert(caller, self.idle.remove(0));
        }
        self.connect();
    }

    fn free(&mut self, id: u8) {
        if !self.queue.is_empty() {
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

    fn connect(&mut self) {
        let open = self.idle.len() + self.out.len() + self.opening + self.closing;
        let more = (self.max - open).min(self.queue.len().saturating_sub(self.opening));
        self.opening += more;
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
    FinishClosing {
        back: bool,
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
    closing: Vec<Conn<u8>>,
    next_id: u8,
}

impl Bench {
    fn perform(&mut self, actions: Actions<u8, u8>) {
        self.closing.extend(actions.close);
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
                    took: Duration::ZERO,
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
            Step::FinishClosing { back } if !self.closing.is_empty() => {
                let conn = self.closing.remove(0);
                self.model.closing -= 1;
                let actions = if back {
                    self.model.free(conn.value);
                    self.state.restore(conn, origin())
                } else {
                    self.model.connect();
                    self.state.closed(origin())
                };
                self.perform(actions);
            }
            Step::Open | Step::RefuseOpen | Step::FinishClosing { .. } => {}
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
            Caller::Waiting(key) => match self.state.poll(key, 0) {
                Found::Waiting(_) => Caller::Waiting(key),
                Found::Granted(granted) => Caller::Holding(granted),
                _ => Caller::Away,
            },
            Caller::Holding(Granted { conn, holder }) if choice == 0 => {
                self.model.out.remove(&index);
                self.model.closing += 1;
                self.state.retire(holder);
                self.closing.push(conn);
                Caller::Away
            }
            Caller::Holding(Granted { conn, holder }) => {
                self.model.leave(index);
                let actions = self.state.put(holder, conn, origin());
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

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..CALLERS, 0_u8..6).prop_map(|(index, choice)| Step::Caller { index, choice }),
        3 => Just(Step::Open),
        1 => Just(Step::RefuseOpen),
        2 => any::<bool>().prop_map(|back| Step::FinishClosing { back }),
    ];
    proptest::collection::vec(step, 0..400)
}

proptest! {
    #[test]
    fn random_runs_agree_with_the_model(size in 1_usize..4, overflow in 0_usize..3, steps in steps()) {
        let mut bench = Bench {
            state: Books::new(limits(size, overflow)),
            model: Model { size, max: size + overflow, ..Model::default() },
            callers: (0..CALLERS).map(|_| Caller::Away).collect(),
            closing: Vec::new(),
            next_id: 0,
        };
        for step in steps {
            bench.step(step);
            bench.check();
        }
    }
}
