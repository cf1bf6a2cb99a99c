//! What time does to connections, decision by decision.

use super::*;

fn at(secs: u64) -> Instant {
    origin() + Duration::from_secs(secs)
}

/// Opens `count` connections and puts them back.
fn idle(state: &mut Books, count: u8) {
    for granted in lend(state, count) {
        drop(state.put(granted, origin()));
    }
}

fn ask(state: &mut Books) -> Granted<u8> {
    let (asked, _) = state.acquire(at(61), request(Place::Tail), || 9);
    let Asked::Ready(granted) = asked else {
        panic!("{asked:?}")
    };
    granted
}

/// F16: what is about to go takes nobody's place among the idle ones.
#[test]
fn f16_a_replacement_is_kept_and_the_one_it_replaces_goes() {
    let mut state = ageing(2, 1);
    idle(&mut state, 2);
    assert_eq!(state.sweep(at(59)).connect, 0, "a third of a life apart");
    let actions = state.sweep(at(60));
    assert_eq!((actions.connect, actions.close.len()), (1, 0));
    let actions = state.opened(opened(7, 0), at(60));
    assert_eq!(actions.close.len(), 1);
    assert!(actions.close[0].marked);
    let left: Vec<u8> = state.idle().map(|conn| conn.value).collect();
    assert!(left.len() == 2 && left.contains(&7), "{left:?}");
    state.audit();
}

#[test]
fn f16_where_there_is_no_room_for_a_replacement_the_old_connection_goes_first() {
    let mut state = ageing(2, 0);
    idle(&mut state, 2);
    let actions = state.sweep(at(60));
    assert_eq!((actions.connect, actions.close.len()), (0, 1));
    assert_eq!(state.closed(at(60)).connect, 1);
    state.audit();
}

#[test]
fn f16_a_slot_that_is_about_to_be_free_is_waited_for() {
    let mut state = ageing(2, 1);
    let mut held = lend(&mut state, 3);
    let last = held.pop().unwrap();
    for granted in held {
        drop(state.put(granted, origin()));
    }
    drop(state.retire(last, origin()));
    let actions = state.sweep(at(60));
    assert_eq!((actions.connect, actions.close.len()), (0, 0));
    assert_eq!(state.lost(Reason::Unfit, at(60)).connect, 1);
    state.audit();
}

#[test]
fn f16_connections_that_are_out_are_replaced_beside_those_that_are_idle() {
    let mut state = ageing(3, 2);
    let mut held = Vec::new();
    for (id, jitter) in [(0, u32::MAX), (1, 1 << 31), (2, 0)] {
        let (asked, _) = state.acquire(origin(), request(Place::Tail), || id);
        let Asked::Queued(key) = asked else {
            panic!("{asked:?}")
        };
        let opened = Opened {
            jitter,
            ..opened(id, 0)
        };
        drop(state.opened(opened, origin()));
        let Found::Granted(granted) = state.poll(key, |_| None) else {
            panic!("no grant")
        };
        held.push(granted);
    }
    drop(state.put(held.remove(0), origin()));
    // Spaced by 20 s, the second must begin to go at 70 s.
    let actions = state.sweep(at(70));
    assert_eq!((actions.connect, actions.close.len()), (2, 0));
    state.audit();
}

#[test]
fn what_is_too_old_when_the_housekeeper_comes_is_replaced() {
    let mut state = ageing(1, 0);
    idle(&mut state, 1);
    let actions = state.sweep(at(90));
    assert_eq!((actions.connect, actions.close.len()), (0, 1));
    assert_eq!(state.closed(at(90)).connect, 1);
    state.audit();
}

#[test]
fn a_marked_connection_does_not_count_as_kept_ready() {
    let mut state = Books::new(Limits {
        recycle: Some(Duration::from_secs(90)),
        min_idle: 2,
        order: Order::Lifo,
        ..limits(2, 1)
    });
    assert_eq!(state.warm_up(0, origin()).connect, 2);
    for id in 0..2 {
        drop(state.opened(opened(id, 0), origin()));
    }
    assert_eq!(state.sweep(at(60)).connect, 1, "for the first, marked one");
    let lease = ask(&mut state);
    assert!(!lease.conn.marked);
    drop(state.retire(lease, at(61)));
    assert_eq!(state.lost(Reason::Broken, at(61)).connect, 1);
    state.audit();
}

#[test]
fn what_was_idle_for_too_long_goes_down_to_the_minimum() {
    let mut state = Books::new(Limits {
        idle_timeout: Some(Duration::from_secs(10)),
        min_idle: 1,
        ..limits(3, 0)
    });
    assert_eq!(state.warm_up(3, origin()).connect, 3);
    for id in 0..3 {
        drop(state.opened(opened(id, 0), origin()));
    }
    assert_eq!(state.sweep(at(9)).close, []);
    assert_eq!(state.sweep(at(10)).close.len(), 2);
    state.audit();
}

#[test]
fn idle_time_counts_from_the_return() {
    let mut state = Books::new(Limits {
        idle_timeout: Some(Duration::from_secs(10)),
        ..limits(2, 0)
    });
    let mut held = lend(&mut state, 2);
    drop(state.put(held.remove(0), at(5)));
    let (conn, _) = state.retire(held.remove(0), at(5));
    drop(state.restore(conn, at(6)));
    let closed = [14, 15, 16].map(|secs| state.sweep(at(secs)).close.len());
    assert_eq!(closed, [0, 1, 1]);
    state.audit();
}

#[test]
fn what_lingered_for_too_long_goes() {
    let mut state = Books::new(Limits {
        linger: Duration::from_secs(10),
        ..limits(1, 1)
    });
    idle(&mut state, 2);
    assert_eq!(state.sweep(at(9)).close, []);
    assert_eq!(state.sweep(at(10)).close.len(), 1);
    state.audit();
}

#[test]
fn f26_a_lease_is_suspected_from_the_threshold_on_and_once() {
    let mut state = Books::new(Limits {
        leak: Some(Duration::from_secs(10)),
        ..limits(2, 0)
    });
    let _held = lend(&mut state, 2);
    assert_eq!(state.sweep(at(9)).leaks, []);
    assert_eq!(state.sweep(at(10)).leaks.len(), 2);
    assert_eq!(state.sweep(at(11)).leaks, []);
    assert_eq!(state.counts().suspected, 2);
}

/// A warm-up that the limits have overtaken is not made up for later.
#[test]
fn refills_that_are_not_needed_any_more_are_forgotten() {
    let mut state = Books::new(limits(2, 0));
    assert_eq!(state.warm_up(2, origin()).connect, 2);
    drop(state.resize(1, 2, origin()));
    drop(state.opened(opened(0, 0), origin()));
    drop(state.open_failed(transient("refused"), origin()));
    drop(state.tick(at(9)));
    let lease = ask(&mut state);
    assert_eq!(state.retire(lease, at(61)).1.connect, 0);
    assert_eq!(state.lost(Reason::Broken, at(61)).connect, 0);
    state.audit();
}
