//! Waiting where the pool's runtime is not: on others, on none, and after its end. No wait is for ever.
//!
//! In real time, because a clock is paused for one runtime only; what must end has seconds for it.

use std::sync::mpsc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::config::ConfigError;

const SHORT: Duration = Duration::from_millis(50);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor that knows nothing of tokio.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Runs what may hang on a thread of its own.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(work()));
    let limit = Duration::from_secs(20);
    told.recv_timeout(limit)
        .expect("it ends, and without a panic")
}

fn with_threads() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A pool of one connection, and the lease of it.
fn lent_out(home: &Runtime) -> (Pool<Fake>, Lease<Fake>) {
    home.block_on(async {
        let (pool, _) = pool(1, 0);
        let held = pool.acquire().await.unwrap();
        (pool, held)
    })
}

fn is_exhausted(outcome: &Result<Lease<Fake>, Refusal>) -> bool {
    matches!(outcome, Err(AcquireError::Exhausted { .. }))
}

#[test]
fn a_wait_ends_on_any_runtime_and_on_none() {
    let home = with_threads();
    let (pool, _held) = lent_out(&home);
    let without_time = Builder::new_current_thread().build().unwrap();
    for there in [single(), with_threads(), without_time] {
        let wait = pool.clone();
        let waited = ends(move || there.block_on(async { wait.acquire().within(SHORT).await }));
        assert!(is_exhausted(&waited), "{waited:?}");
    }
    let waited = ends(move || block_on(pool.acquire().within(SHORT)));
    assert!(is_exhausted(&waited), "{waited:?}");
}

/// A task that was on the pool's runtime for a moment is not there for ever.
#[test]
fn a_wait_ends_elsewhere_although_its_task_waited_on_the_pools_runtime_before() {
    // Driven only while somebody is in its `block_on`.
    let home = Arc::new(single());
    let (pool, _held) = lent_out(&home);
    let on_it = Arc::clone(&home);
    let waits = async move {
        let there = tokio::task::block_in_place(|| on_it.block_on(pool.acquire().within(SHORT)));
        (there, pool.acquire().within(SHORT).await)
    };
    let elsewhere = with_threads();
    let (there, here) = ends(move || elsewhere.block_on(elsewhere.spawn(waits))).unwrap();
    assert!(is_exhausted(&there), "{there:?}");
    assert!(is_exhausted(&here), "{here:?}");
    drop(home);
}

#[test]
fn a_wait_ends_although_the_pools_runtime_has_shut_down() {
    let home = with_threads();
    let (pool, _held) = lent_out(&home);
    let early = pool.clone();
    let early = std::thread::spawn(move || block_on(early.acquire()));
    while pool.snapshot().waiting == 0 {
        std::thread::yield_now();
    }
    home.shutdown_background();
    let told = ends(move || early.join().unwrap());
    assert!(is_exhausted(&told), "woken by the alarm's end: {told:?}");
    let late = pool.clone();
    let late = ends(move || block_on(late.acquire()));
    assert!(is_exhausted(&late), "{late:?}");
    let waits_by_itself =
        ends(move || single().block_on(async { pool.acquire().within(SHORT).await }));
    assert!(is_exhausted(&waits_by_itself), "{waits_by_itself:?}");
}

#[test]
fn a_connection_is_pinged_where_there_is_no_runtime() {
    let home = with_threads();
    let (pool, fake) = home.block_on(async {
        let (pool, fake) = configured(Config {
            pool_size: 1,
            max_overflow: 0,
            pre_ping: true,
            pre_ping_after: Duration::ZERO,
            ..Config::default()
        });
        drop(pool.acquire().await.unwrap());
        (pool, fake)
    });
    drop(ends(move || block_on(pool.acquire())).unwrap());
    assert_eq!(fake.count(Call::Ping), 1);
}

#[test]
fn a_pool_on_a_runtime_without_time_is_refused() {
    let bare = Builder::new_current_thread().build().unwrap();
    let _entered = bare.enter();
    let refused = Pool::new(Fake::default(), Config::default()).map(drop);
    assert_eq!(refused, Err(ConfigError::NoTime));
}
