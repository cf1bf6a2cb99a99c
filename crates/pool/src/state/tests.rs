//! The books on their own: an exhaustive search of small worlds, and long random runs against a model.

mod ageing;
mod edges;
mod model;
mod search;

use std::panic::Location;

use super::*;

type Books = State<u8, u8, &'static str>;

/// An arbitrary origin; nothing here measures time.
pub(super) fn origin() -> Instant {
    static ORIGIN: std::sync::LazyLock<Instant> =
        std::sync::LazyLock::new(|| tokio::time::Instant::now().into_std());
    *ORIGIN
}

pub(crate) fn limits(pool_size: usize, overflow: usize) -> Limits {
    Limits {
        pool_size,
        max_open: pool_size + overflow,
        max_connecting: 8,
        waiters_max: usize::MAX,
        backoff: Backoff {
            min: Duration::from_millis(10),
            max: Duration::from_secs(5),
        },
        min_idle: 0,
        order: Order::Fifo,
        idle_timeout: None,
        recycle: None,
        linger: Duration::ZERO,
        patience: None,
        leak: None,
    }
}

#[track_caller]
fn request(place: Place) -> Request {
    let asker = Asker {
        location: Location::caller(),
        task: None,
    };
    Request {
        asker,
        place,
        deadline: None,
    }
}

/// Opens `count` connections for as many callers and returns what they hold.
fn lend(state: &mut Books, count: u8) -> Vec<Granted<u8>> {
    (0..count)
        .map(|id| {
            let (asked, actions) = state.acquire(origin(), request(Place::Tail), || id);
            assert_eq!(actions.connect, 1);
            let Asked::Queued(key) = asked else {
                panic!("{asked:?}")
            };
            let actions = state.opened(opened(id, actions.generation), origin());
            assert_eq!(actions.wake, Some(id));
            let Found::Granted(granted) = state.poll(key, |_| Some(id)) else {
                panic!("no grant")
            };
            granted
        })
        .collect()
}

fn opened(id: u8, generation: u64) -> Opened<u8> {
    Opened {
        value: id,
        generation,
        begun: origin(),
        jitter: 0,
    }
}

fn transient(error: &'static str) -> Failure<&'static str> {
    Failure {
        error,
        severity: Severity::Transient,
        jitter: u32::MAX,
    }
}

/// Rule 20: pool_size 3 without a limit, six out, and what is left after each step.
#[test]
fn rule_20_the_walk_of_six_leases_leaves_three_idle() {
    let mut state = Books::new(Limits {
        max_open: usize::MAX,
        ..limits(3, 0)
    });
    let numbers = |state: &Books| {
        let counts = state.counts();
        (counts.out, counts.idle, counts.closing)
    };
    let mut held = lend(&mut state, 6);
    assert_eq!(numbers(&state), (6, 0, 0));
    let mut put_back = |state: &mut Books| {
        let granted = held.pop().unwrap();
        let closing = state.put(granted, origin()).close.len();
        for _ in 0..closing {
            drop(state.closed(origin()));
        }
        closing
    };
    for _ in 0..3 {
        assert_eq!(put_back(&mut state), 0);
    }
    assert_eq!(numbers(&state), (3, 3, 0));
    for _ in 0..3 {
        assert_eq!(
            put_back(&mut state),
            1,
            "rule 19: the returned one is closed"
        );
    }
    assert_eq!(numbers(&state), (0, 3, 0));
    for _ in 0..2 {
        let (asked, actions) = state.acquire(origin(), request(Place::Tail), || 9);
        assert!(matches!(asked, Asked::Ready(_)), "rule 6: idle comes first");
        assert_eq!(actions.connect, 0);
    }
    assert_eq!(numbers(&state), (2, 1, 0));
    state.audit();
}

/// Rule 31: one failed check makes all connections of its generation stale, and none that is younger.
#[test]
fn rule_31_invalidation_replaces_all_older_connections_and_no_younger_one() {
    let mut state = Books::new(limits(3, 0));
    let mut held = lend(&mut state, 3);
    let dead = held.pop().unwrap();
    for granted in held {
        drop(state.put(granted, origin()));
    }
    let (dead, _) = state.retire(dead, origin());
    let actions = state.invalidate(dead.generation, origin());
    assert_eq!(actions.close.len(), 2, "both idle ones are older");
    drop(state.lost(Reason::Broken, origin()));

    let (asked, actions) = state.acquire(origin(), request(Place::Tail), || 7);
    let Asked::Queued(key) = asked else {
        panic!("{asked:?}")
    };
    drop(state.opened(opened(10, actions.generation), origin()));
    let Found::Granted(young) = state.poll(key, |_| Some(7)) else {
        panic!("no grant")
    };
    // The same failure, reported by another holder of an old connection: no new generation.
    drop(state.invalidate(dead.generation, origin()));
    let actions = state.put(young, origin());
    assert_eq!(actions.close, [], "the young one stays");
    state.audit();
}

#[test]
fn a_connection_whose_opening_began_before_an_invalidation_is_stale() {
    let mut state = Books::new(limits(1, 0));
    let (_, actions) = state.acquire(origin(), request(Place::Tail), || 0);
    drop(state.invalidate(actions.generation, origin()));
    let late = state.opened(opened(0, actions.generation), origin());
    assert_eq!(late.close.len(), 1);
    assert_eq!(
        (late.wake, late.connect),
        (None, 0),
        "the slot is not free yet"
    );
    let freed = state.closed(origin());
    assert_eq!((freed.connect, freed.generation), (1, 1));
}

/// F18: what a waiter is told at its deadline depends on what it really waited for.
#[test]
fn f18_shortage_tells_exhausted_from_opening_from_down() {
    let expire = |state: &mut Books| {
        let (asked, actions) = state.acquire(origin(), request(Place::Tail), || 5);
        let Asked::Queued(key) = asked else {
            panic!("{asked:?}")
        };
        let Expired::TimedOut(shortage, 5) = state.expire(key) else {
            panic!("served")
        };
        state.audit();
        (shortage, actions.connect)
    };
    let mut full = Books::new(limits(1, 0));
    let _held = lend(&mut full, 1);
    let (shortage, _) = expire(&mut full);
    assert!(
        matches!(
            shortage,
            Shortage::Exhausted {
                out: 1,
                waiting: 1,
                oldest: Some(_),
                ..
            }
        ),
        "{shortage:?}"
    );

    let mut slow = Books::new(limits(1, 1));
    let (shortage, connects) = expire(&mut slow);
    assert_eq!(connects, 1);
    assert_eq!(shortage, Shortage::Opening { out: 0, opening: 1 });

    let down = &mut slow;
    drop(down.open_failed(transient("refused"), origin()));
    let (shortage, connects) = expire(down);
    assert_eq!(connects, 0, "the pause is not over");
    assert_eq!(
        shortage,
        Shortage::Down {
            cause: "refused",
            since: origin()
        }
    );
}

/// F17: any number of waiters, one attempt at a time, and a slow start.
#[test]
fn f17_an_outage_has_one_prober_and_ends_in_a_ramp() {
    let mut state = Books::new(limits(20, 0));
    let mut connects = 0;
    for caller in 0..12 {
        connects += state
            .acquire(origin(), request(Place::Tail), || caller)
            .1
            .connect;
    }
    assert_eq!(connects, 8, "max_connecting");
    let mut timers = Vec::new();
    for _ in 0..8 {
        let actions = state.open_failed(transient("refused"), origin());
        assert_eq!((actions.connect, actions.wake), (0, None));
        timers.extend(actions.arm_timer);
    }
    let [pause] = timers[..] else {
        panic!("{timers:?}")
    };
    assert_eq!(state.tick(pause).connect, 1, "the prober");
    let again = state.open_failed(transient("refused"), pause);
    let longer = again.arm_timer.unwrap() - pause;
    assert!(longer > pause - origin(), "the pause grows");
    assert_eq!(state.tick(pause + longer).connect, 1);
    let mut started = Vec::new();
    for id in 0..3 {
        started.push(state.opened(opened(id, 0), pause + longer).connect);
    }
    assert_eq!(started, [2, 2, 2], "2, then 4 in flight");
    state.audit();
}

#[test]
fn a_full_queue_refuses_newcomers_but_not_a_waiter_that_had_its_turn() {
    let mut state = Books::new(Limits {
        waiters_max: 1,
        ..limits(1, 0)
    });
    let (first, _) = state.acquire(origin(), request(Place::Tail), || 0);
    assert!(matches!(first, Asked::Queued(_)));
    let (second, _) = state.acquire(origin(), request(Place::Tail), || 1);
    assert_eq!(second, Asked::QueueFull { waiting: 1 });
    let (again, _) = state.acquire(origin(), request(Place::Head), || 2);
    assert!(matches!(again, Asked::Queued(_)));
    let actions = state.opened(opened(0, 0), origin());
    assert_eq!(actions.wake, Some(2), "before all others");
}

fn ageing(pool_size: usize, overflow: usize) -> Books {
    Books::new(Limits {
        recycle: Some(Duration::from_secs(90)),
        ..limits(pool_size, overflow)
    })
}

/// Rule 27: at checkout, whether or not the housekeeper has come by.
#[test]
fn rule_27_a_connection_is_too_old_from_its_expiry_on_and_not_before() {
    let end = origin() + Duration::from_secs(90);
    for (now, lent) in [(end - Duration::from_nanos(1), true), (end, false)] {
        let mut state = ageing(1, 0);
        let granted = lend(&mut state, 1).remove(0);
        drop(state.put(granted, origin()));
        let (asked, actions) = state.acquire(now, request(Place::Tail), || 1);
        assert_eq!(matches!(asked, Asked::Ready(_)), lent);
        assert_eq!(actions.close.len(), usize::from(!lent));
        state.audit();
    }
}

/// F16: in a pool that is never idle connections go when they are due all the same, and not all together
/// at their end.
#[test]
fn f16_a_connection_that_is_due_goes_when_it_comes_back_also_while_others_wait() {
    let mut state = ageing(2, 0);
    let mut held = lend(&mut state, 2);
    let due = origin() + Duration::from_secs(61);
    assert_eq!(state.sweep(due).connect, 0, "the limit has no room");
    let (asked, _) = state.acquire(due, request(Place::Tail), || 7);
    assert!(matches!(asked, Asked::Queued(_)));
    let returned: Vec<_> = held
        .drain(..)
        .map(|granted| state.put(granted, due))
        .map(|actions| (actions.close.len(), actions.wake))
        .collect();
    let one_goes = [(1, None), (0, Some(7))];
    let mut reversed = one_goes;
    reversed.reverse();
    assert!(returned == one_goes || returned == reversed, "{returned:?}");
    assert_eq!(state.closed(due).connect, 1, "its replacement");
    state.audit();
}

/// What the order in memory is for: see `State`.
#[test]
fn a_waiter_and_a_lease_take_one_cache_line_each() {
    assert_eq!(size_of::<Lent>(), 64);
    assert_eq!(queue::waiter_size(), 64);
}
