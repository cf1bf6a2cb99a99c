//! Leases that stay out, and tasks that wait for themselves.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::hooks::LeakEvent;

const THRESHOLD: Duration = Duration::from_secs(10);

type Events = Arc<Mutex<Vec<LeakEvent>>>;

fn watched() -> (Pool<Fake>, Events) {
    let events = Events::default();
    let heard = Arc::clone(&events);
    let hooks = Hooks::new().on_leak(move |event| heard.lock().unwrap().push(*event));
    let config = Config {
        leak_threshold: Some(THRESHOLD),
        ..Config::default()
    };
    let pool = Pool::with_hooks(Fake::default(), config, hooks).unwrap();
    (pool, events)
}

async fn pass(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
    settle().await;
}

/// F26: what comes back in time is no leak.
#[tokio::test(start_paused = true)]
async fn f26_a_lease_that_comes_back_in_time_is_not_reported() {
    let (pool, events) = watched();
    for _ in 0..20 {
        let lease = pool.acquire().await.unwrap();
        pass(THRESHOLD - Duration::from_millis(1)).await;
        drop(lease);
    }
    assert_eq!(*events.lock().unwrap(), []);
    assert_eq!(pool.snapshot().suspected_total, 0);
}

/// F26: exactly one "suspected" and one "returned", and the gauge falls back.
#[tokio::test(start_paused = true)]
async fn f26_a_lease_that_stays_out_is_reported_once_and_once_more_when_it_returns() {
    let (pool, events) = watched();
    let line = line!() + 1;
    let lease = pool.acquire().await.unwrap();
    pass(THRESHOLD * 6).await;
    let suspected = pool.snapshot().suspected;
    let LeakEvent::Suspected(holder) = events.lock().unwrap()[0] else {
        panic!("{events:?}")
    };
    assert_eq!((suspected, events.lock().unwrap().len()), (1, 1));
    assert_eq!(
        (holder.location.file(), holder.location.line()),
        (file!(), line)
    );
    assert!(
        holder.held_for >= THRESHOLD && holder.held_for <= THRESHOLD * 3 / 2,
        "{holder}"
    );
    drop(lease);
    pass(THRESHOLD * 6).await;
    let events = events.lock().unwrap();
    let [_, LeakEvent::Returned(returned)] = events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(returned.held_for, THRESHOLD * 6);
    assert_eq!(returned.location, holder.location);
    let snapshot = pool.snapshot();
    assert_eq!((snapshot.suspected, snapshot.suspected_total), (0, 1));
}

/// F26: also when it does not come back the clean way.
#[tokio::test(start_paused = true)]
async fn f26_a_suspected_lease_that_is_reset_or_discarded_was_returned() {
    let (pool, events) = watched();
    let mut reset = pool.acquire().await.unwrap();
    let discarded = pool.acquire().await.unwrap();
    pass(THRESHOLD * 2).await;
    reset.get_mut();
    drop(reset);
    discarded.discard();
    settle().await;
    let events = events.lock().unwrap();
    let returned = |event: &&LeakEvent| matches!(event, LeakEvent::Returned(_));
    assert_eq!(
        (events.len(), events.iter().filter(returned).count()),
        (4, 2)
    );
    assert_eq!(pool.snapshot().suspected, 0);
}

/// F23: a listener may panic, also where a lease is dropped by a thread that unwinds.
#[tokio::test(start_paused = true)]
async fn f23_a_listener_that_panics_changes_nothing() {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let hooks = Hooks::new().on_leak(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new("planned"));
    });
    let config = Config {
        leak_threshold: Some(THRESHOLD),
        ..Config::default()
    };
    let pool = Pool::with_hooks(Fake::default(), config, hooks).unwrap();
    let lease = pool.acquire().await.unwrap();
    pass(THRESHOLD * 2).await;
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _lease = lease;
        std::panic::resume_unwind(Box::new("planned as well"));
    }));
    assert!(unwound.is_err(), "the planned panic");
    assert_eq!(heard.load(Ordering::SeqCst), 2);
    assert_eq!(numbers(&pool), (0, 1, 0, 0, 0));
    let again = pool.acquire().await.unwrap();
    pass(THRESHOLD * 2).await;
    assert_eq!(heard.load(Ordering::SeqCst), 3, "the housekeeper lives on");
    drop(again);
}

/// F24: of two tasks, each with one of two connections and in want of another, the first whose wait ends
/// is told so. The other may be served then.
#[tokio::test(start_paused = true)]
async fn f24_nested_acquires_that_wait_for_each_other_are_reported_as_such() {
    let (pool, _) = pool(2, 0);
    let both_hold = Arc::new(tokio::sync::Barrier::new(2));
    let outer_line = line!() + 4;
    let nested = |pool: Pool<Fake>| {
        let both_hold = Arc::clone(&both_hold);
        async move {
            let outer = pool.acquire().await.unwrap();
            both_hold.wait().await;
            let inner = pool.acquire().await.map(drop);
            drop(outer);
            inner
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(nested(pool.clone()));
    tasks.spawn(nested(pool.clone()));
    let outcomes = tasks.join_all().await;
    let errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(!errors.is_empty(), "nobody waited");
    for error in errors {
        let text = error.to_string();
        let AcquireError::Exhausted { own, .. } = error else {
            panic!("{text}")
        };
        assert_eq!((own.len(), own[0].location.line()), (1, outer_line));
        assert!(
            text.contains("the task that waits asked for 1 of them itself, the first at "),
            "{text}"
        );
        assert!(text.contains("leaks.rs"), "{text}");
    }
}

/// F24: a task that asked for nothing before is not told that it did.
#[tokio::test(start_paused = true)]
async fn f24_an_acquire_that_is_not_nested_is_not_reported_as_such() {
    let (pool, _) = pool(1, 0);
    let lease = pool.acquire().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    let other = pool.clone();
    tasks.spawn(async move { other.acquire().await.map(drop).unwrap_err() });
    let errors = tasks.join_all().await;
    let AcquireError::Exhausted { own, .. } = &errors[0] else {
        panic!("{errors:?}")
    };
    assert_eq!(own[..], []);
    assert!(!errors[0].to_string().contains("itself"));
    drop(lease);
}
