//! Single decisions that neither the search nor the model tells apart: both only see whether the books
//! stay in order, and not what was counted, or what was done without need.

use std::num::NonZeroU64;

use super::*;

fn permanent(error: &'static str) -> Failure<&'static str> {
    Failure {
        severity: Severity::Permanent,
        ..transient(error)
    }
}

fn ask(state: &mut Books, waker: u8) -> (WaiterKey, Actions<u8, u8>) {
    let (asked, actions) = state.acquire(origin(), request(Place::Tail), || waker);
    let Asked::Queued(key) = asked else {
        panic!("{asked:?}")
    };
    (key, actions)
}

fn at(secs: u64) -> Instant {
    origin() + Duration::from_secs(secs)
}

#[test]
fn totals_count_what_happened() {
    let mut state = Books::new(Limits {
        waiters_max: 1,
        patience: Some(Duration::ZERO),
        leak: Some(Duration::from_secs(1)),
        ..limits(2, 0)
    });
    let held = lend(&mut state, 2);
    for _ in 0..2 {
        let (key, _) = ask(&mut state, 9);
        let (asked, _) = state.acquire(origin(), request(Place::Tail), || 8);
        assert_eq!(asked, Asked::QueueFull { waiting: 1 });
        assert!(matches!(state.expire(key), Expired::TimedOut(..)));
    }
    drop(state.sweep(at(1)));
    let expected = Totals {
        opened: 2,
        timed_out: 2,
        queue_full: 2,
        suspected: 2,
        ..Totals::default()
    };
    assert_eq!(state.counts().totals, expected);
    assert_eq!(state.counts().leases, (2, 0));

    for lease in held {
        drop(state.retire(lease, at(1)));
        drop(state.lost(Reason::Broken, at(1)));
    }
    let (key, _) = ask(&mut state, 9);
    drop(state.open_failed(transient("refused"), at(1)));
    drop(state.cancel(key, at(1)));
    for _ in 0..2 {
        let (asked, _) = state.acquire(at(1), request(Place::Tail), || 8);
        assert!(matches!(asked, Asked::Down { .. }), "{asked:?}");
    }
    drop(state.tick(at(9)));
    drop(state.open_failed(transient("refused"), at(9)));
    let mut closed_by = [0; Reason::COUNT];
    closed_by[Reason::Broken as usize] = 2;
    let expected = Totals {
        closed: 2,
        closed_by,
        open_failed: 2,
        turned_away: 2,
        ..expected
    };
    assert_eq!(state.counts().totals, expected);
    assert_eq!(state.counts().leases, (2, 2));
    assert_eq!(state.outage(), Some((at(1), "refused")));
    assert_eq!(state.counts().down_since, Some(at(1)));
}

#[test]
fn connect_times_are_kept_until_they_are_taken_and_no_more_than_so_many() {
    let mut state = Books::new(limits(1, 0));
    let mut connect = |times: usize| {
        for _ in 0..times {
            let lease = lend(&mut state, 1).remove(0);
            drop(state.retire(lease, origin()));
            drop(state.lost(Reason::Broken, origin()));
        }
        state.take_connect_times().len()
    };
    assert_eq!((connect(3), connect(0)), (3, 0));
    assert_eq!(connect(CONNECT_TIMES + 2), CONNECT_TIMES);
}

/// A server that refuses what nobody waits for would be asked again without a pause.
#[test]
fn a_refusal_that_nobody_waits_for_makes_a_pause_and_is_nobodys_error() {
    let mut state = Books::new(Limits {
        min_idle: 1,
        ..limits(1, 0)
    });
    assert_eq!(state.warm_up(0, origin()).connect, 1);
    let actions = state.open_failed(permanent("no such database"), origin());
    assert_eq!(actions.connect, 0);
    assert!(actions.arm_timer.is_some());

    let mut state = Books::new(limits(1, 0));
    let (_, actions) = ask(&mut state, 1);
    assert_eq!(actions.connect, 1);
    let actions = state.open_failed(permanent("no such database"), origin());
    assert_eq!((actions.wake, actions.arm_timer), (Some(1), None));
    assert_eq!(state.outage(), None, "the server answered");

    // The waiter has left, and nothing else is wanted: there is nothing to try again.
    let (key, _) = ask(&mut state, 2);
    drop(state.cancel(key, origin()));
    drop(state.open_failed(permanent("no such database"), origin()));
    assert_eq!(state.outage(), None);
}

#[test]
fn nothing_is_tried_again_when_nothing_is_missing_any_more() {
    let mut state = Books::new(limits(1, 0));
    let (key, _) = ask(&mut state, 1);
    drop(state.cancel(key, origin()));
    let actions = state.open_failed(transient("refused"), origin());
    assert_eq!(actions.arm_timer, None);
    let (_, actions) = ask(&mut state, 2);
    assert!(actions.arm_timer.is_some());
}

/// Where newcomers may be turned away, nobody would ever find out.
#[test]
fn with_a_breaker_somebody_finds_out_when_the_server_is_back() {
    let mut state = Books::new(Limits {
        patience: Some(Duration::ZERO),
        ..limits(1, 0)
    });
    assert_eq!(state.warm_up(0, origin()).connect, 0, "it is not down");
    let (key, _) = ask(&mut state, 1);
    drop(state.cancel(key, origin()));
    let actions = state.open_failed(transient("refused"), origin());
    let pause = actions.arm_timer.unwrap();
    assert_eq!(state.tick(pause).connect, 1, "the prober");
    let (asked, _) = state.acquire(pause, request(Place::Tail), || 2);
    assert!(
        matches!(asked, Asked::Down { .. }),
        "the prober's slot is not what is missing: {asked:?}"
    );
    drop(state.opened(opened(0, 0), pause));
    assert_eq!(state.outage(), None);
}

#[test]
fn what_is_lent_is_replaced_where_a_minimum_is_kept_ready() {
    let mut state = Books::new(Limits {
        min_idle: 1,
        ..limits(2, 0)
    });
    assert_eq!(state.warm_up(0, origin()).connect, 1);
    drop(state.opened(opened(0, 0), origin()));
    let (asked, actions) = state.acquire(origin(), request(Place::Tail), || 1);
    assert!(matches!(asked, Asked::Ready(_)));
    assert_eq!(actions.connect, 1);
}

#[test]
fn a_warm_up_counts_what_is_on_its_way_in_and_not_what_is_on_its_way_out() {
    let mut state = Books::new(limits(3, 1));
    assert_eq!(state.warm_up(1, origin()).connect, 1);
    assert_eq!(state.warm_up(3, origin()).connect, 2);

    let mut state = Books::new(limits(3, 1));
    let lease = lend(&mut state, 1).remove(0);
    drop(state.retire(lease, origin()));
    assert_eq!(state.warm_up(2, origin()).connect, 2);

    let mut paused = Books::new(limits(1, 0));
    drop(paused.pause(origin()));
    drop(paused.warm_up(1, origin()));
    assert_eq!(paused.resume(origin()).connect, 0, "it was not ordered");
}

/// F18: the cause of an outage is not to blame when the limit is what stands in the way.
#[test]
fn f18_a_full_pool_is_exhausted_also_during_an_outage() {
    let mut state = Books::new(Limits {
        patience: Some(Duration::ZERO),
        ..limits(2, 0)
    });
    let mut held = lend(&mut state, 1);
    let (key, _) = ask(&mut state, 5);
    drop(state.cancel(key, origin()));
    drop(state.open_failed(transient("refused"), origin()));
    drop(state.resize(1, 1, origin()));
    let (key, _) = ask(&mut state, 6);
    let expired = state.expire(key);
    assert!(
        matches!(expired, Expired::TimedOut(Shortage::Exhausted { .. }, 6)),
        "{expired:?}"
    );
    drop(state.put(held.remove(0), origin()));
    drop(state.pause(origin()));
    let (key, _) = ask(&mut state, 7);
    let expired = state.expire(key);
    assert!(
        matches!(expired, Expired::TimedOut(Shortage::Paused, 7)),
        "{expired:?}"
    );
}

/// F24: only leases of the task that asks are its own, and a task that is not known has none.
#[test]
fn f24_a_shortage_names_the_leases_of_the_task_that_waits() {
    let own = |holder: Option<u64>, waiter: Option<u64>| {
        let of = |task: Option<u64>| {
            let mut request = request(Place::Tail);
            request.asker.task = task.and_then(NonZeroU64::new);
            request
        };
        let mut state = Books::new(limits(1, 0));
        let (asked, _) = state.acquire(origin(), of(holder), || 1);
        assert!(matches!(asked, Asked::Queued(_)));
        drop(state.opened(opened(0, 0), origin()));
        let (asked, _) = state.acquire(origin(), of(waiter), || 2);
        let Asked::Queued(key) = asked else {
            panic!("{asked:?}")
        };
        let Expired::TimedOut(Shortage::Exhausted { own, oldest, .. }, 2) = state.expire(key)
        else {
            panic!("not exhausted")
        };
        assert_eq!(state.holders(), [oldest.unwrap()]);
        own.len()
    };
    assert_eq!(own(Some(1), Some(1)), 1);
    assert_eq!(own(Some(1), Some(2)), 0);
    assert_eq!(own(None, None), 0);
}

#[test]
fn who_waits_for_a_pause_hears_of_the_last_lease_and_of_no_other() {
    let mut state = Books::new(limits(2, 0));
    let held = lend(&mut state, 2);
    drop(state.pause(origin()));
    let heard: Vec<bool> = held
        .into_iter()
        .map(|granted| state.put(granted, origin()).announce)
        .collect();
    assert_eq!(heard, [false, true]);
}

#[test]
#[should_panic(expected = "bug: 2 connections are open")]
fn books_that_are_out_of_order_are_noticed_at_the_next_transition() {
    let mut state = Books::new(limits(1, 0));
    state.closing = 2;
    drop(state.tick(origin()));
}

#[test]
fn a_pool_is_drained_when_it_is_closed_and_nothing_is_left() {
    let mut state = Books::new(limits(1, 0));
    assert!(!state.is_drained(), "it is open");
    let lease = lend(&mut state, 1).remove(0);
    drop(state.close(origin()));
    assert!(!state.is_drained(), "a lease is out");
    drop(state.put(lease, origin()));
    assert!(!state.is_drained(), "a connection is being closed");
    drop(state.closed(origin()));
    assert!(state.is_drained());
}

#[test]
fn sizes_are_told_as_they_are_configured() {
    assert_eq!(limits(3, 2).sizes(), (3, 2));
    assert_eq!(limits(1, 0).sizes(), (1, 0));
    let unlimited = Limits {
        max_open: usize::MAX,
        ..limits(4, 0)
    };
    assert_eq!(unlimited.sizes(), (4, -1));
}
