//! What somebody is woken up for, and how often.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use super::fake::{Call, Gate};
use super::*;
use crate::critical::Critical;
use crate::hooks::Hooks;

#[derive(Clone, Default)]
struct Events {
    seen: Arc<Mutex<Vec<Critical>>>,
}

impl Events {
    fn words(&self) -> Vec<&'static str> {
        let seen = self.seen.lock().unwrap();
        let word = |event: &Critical| match event {
            Critical::CommitUnknown(_) => "commit unknown",
            Critical::LeakSuspected(_) => "leak",
            Critical::PoolDown { .. } => "down",
            Critical::BrokenInvariant => "broken",
        };
        seen.iter().map(word).collect()
    }
}

fn watched(config: Config) -> (Pool<Fake>, Fake, Events) {
    let (fake, events) = (Fake::default(), Events::default());
    let listener = events.clone();
    let hooks = Hooks::new().on_critical(move |event| {
        listener.seen.lock().unwrap().push(event.clone());
    });
    let pool = Pool::with_hooks(fake.clone(), config, hooks).unwrap();
    (pool, fake, events)
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_any_connection_is_told_down_once_per_outage_with_the_cause() {
    let (pool, fake, events) = watched(Config {
        pool_size: 2,
        max_overflow: 0,
        ..Config::default()
    });
    let held = pool.acquire().await.unwrap();
    fake.always(Call::Connect, Gate::Error);
    // Longer than the longest pause between two attempts.
    let within = Duration::from_secs(6);
    pool.acquire().within(within).await.map(drop).unwrap_err();
    assert_eq!(events.words(), [""; 0], "one connection is still open");

    held.discard();
    for _ in 0..2 {
        pool.acquire().within(within).await.map(drop).unwrap_err();
        assert_eq!(events.words(), ["down"], "once, however many attempts fail");
    }
    {
        let seen = events.seen.lock().unwrap();
        let Critical::PoolDown { cause } = &seen[0] else {
            panic!("{seen:?}")
        };
        let source = cause.source().unwrap().to_string();
        assert_eq!(source, "Connect fails as planned");
    }
    fake.always(Call::Connect, Gate::Ok);
    pool.acquire().await.unwrap().discard();
    fake.always(Call::Connect, Gate::Permanent);
    pool.acquire().await.map(drop).unwrap_err();
    assert_eq!(
        events.words(),
        ["down", "down"],
        "the next outage, of any kind"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_closed_is_not_told_down() {
    let (pool, fake, events) = watched(Config::default());
    fake.always(Call::Connect, Gate::Never);
    let mut waiter = pool.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    settle().await;
    pool.close(Duration::ZERO).await;
    settle().await;
    assert_eq!(events.words(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn f26_a_suspected_leak_is_told_once() {
    let (pool, _, events) = watched(Config {
        leak_threshold: Some(Duration::from_secs(4)),
        ..Config::default()
    });
    let lease = pool.acquire().await.unwrap();
    tokio::time::sleep_until(Instant::now() + Duration::from_secs(60)).await;
    assert_eq!(events.words(), ["leak"]);
    drop(lease);
    settle().await;
    assert_eq!(events.words(), ["leak"], "that it came back is no alarm");
}

/// F23: a listener that panics takes nothing with it, and one that asks the pool does not lock up.
#[tokio::test(start_paused = true)]
async fn f23_a_listener_may_panic_and_may_ask_the_pool() {
    let fake = Fake::default();
    let asked: Arc<Mutex<Option<Pool<Fake>>>> = Arc::default();
    let (listener, calls) = (Arc::clone(&asked), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&calls);
    let hooks = Hooks::new().on_critical(move |_| {
        let pool = listener.lock().unwrap().clone().unwrap();
        *counted.lock().unwrap() += 1;
        assert_eq!(pool.snapshot().out, 0);
        std::panic::resume_unwind(Box::new("planned"))
    });
    let pool = Pool::with_hooks(fake.clone(), Config::default(), hooks).unwrap();
    *asked.lock().unwrap() = Some(pool.clone());
    fake.next(Call::Connect, [Gate::Error]);
    drop(pool.acquire().await.unwrap());
    assert_eq!(*calls.lock().unwrap(), 1);
    *asked.lock().unwrap() = None;
}

/// A planted bug in the books: the lock is poisoned by the panic that reports it.
#[tokio::test(start_paused = true)]
async fn a_broken_invariant_is_told_once_and_the_pool_goes_on() {
    let (pool, _, events) = watched(Config::default());
    let inner = Arc::clone(&pool.inner);
    let broken = std::panic::catch_unwind(AssertUnwindSafe(|| {
        inner
            .shell
            .read(|_| std::panic::resume_unwind(Box::new("bug: planted")))
    }));
    let broken: Result<(), _> = broken;
    assert!(broken.is_err(), "planted");
    drop(pool.acquire().await.unwrap());
    drop(pool.acquire().await.unwrap());
    settle().await;
    assert_eq!(events.words(), ["broken"]);
}
