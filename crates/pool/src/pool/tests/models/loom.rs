//! Every order of events of two or three threads on one connection.
//!
//! loom runs a model once for each order in which its threads can take their locks, and fails where a thread
//! panics or all that are left are blocked: a lost wake-up, or a lock that is taken twice. It makes wake-ups
//! up as well, so that waiters are also polled when there is nothing to see.
//!
//! To look at a failure: with `LOOM_CHECKPOINT_FILE=loom.json LOOM_CHECKPOINT_INTERVAL=1` and the name of one
//! test the last order is kept in that file, and the next run begins with it; `LOOM_LOCATION=1` says where
//! blocked threads stand.

#[path = "bare.rs"]
mod bare;
#[path = "borrower.rs"]
mod borrower;
#[path = "../../shell.rs"]
mod shell;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bare::Pool;
use borrower::{NotServed, Served, poll_once, poll_with};
use loom::thread;
use sync::block_on;

use crate::state::{Refusal, Severity};

/// loom's locks, for the shell, and what else the pool needs of it.
mod sync {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    use loom::sync::Notify;
    pub(super) use loom::sync::atomic::AtomicBool;
    pub(super) use loom::sync::{Mutex, MutexGuard};

    /// Wakes a thread. Counted by the standard library's `Arc`: with loom's, every clone of a waker would be
    /// one more point where threads are switched, and nothing that is tested depends on it.
    #[derive(Default)]
    struct Bell(Notify);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.notify();
        }
    }

    pub(super) fn block_on<F: Future>(future: F) -> F::Output {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => bell.0.wait(),
            }
        }
    }

    type Work = Box<dyn FnOnce() + Send>;

    /// Runs the pool's tasks at once, or keeps them for a thread of the model.
    #[derive(Default)]
    pub(super) struct Tasks(std::sync::Mutex<Option<Vec<Work>>>);

    impl Tasks {
        pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) {
            if let Some(kept) = &mut *self.0.lock().unwrap() {
                kept.push(Box::new(work));
                return;
            }
            work();
        }

        pub(super) fn keep(&self) {
            *self.0.lock().unwrap() = Some(Vec::new());
        }

        /// Returns what was kept; from now on tasks are run at once again.
        pub(super) fn take(&self) -> Vec<Work> {
            self.0.lock().unwrap().take().unwrap_or_default()
        }

        #[expect(clippy::unused_self, reason = "shuttle's has something to join")]
        pub(super) fn join(&self) {}
    }
}

/// Runs a model in every order, and says how many there are.
fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    loom::model::Builder::new().check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let orders = orders.load(Ordering::Relaxed);
    println!("loom: {name}: {orders} executions");
}

fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().unwrap()
}

fn is_closed(served: &Served) -> bool {
    matches!(served, Err(NotServed::Refused(Refusal::Closed)))
}

#[test]
fn three_threads_take_turns_with_one_connection() {
    explore("turns", || {
        let pool = Pool::new(1, 0);
        let threads = [(); 2].map(|()| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || drop(block_on(pool.acquire()).unwrap()))
        });
        drop(block_on(pool.acquire()).unwrap());
        threads.into_iter().for_each(join);
        pool.wind_up();
    });
}

#[test]
fn an_acquire_may_be_dropped_at_any_point() {
    explore("dropped", || {
        let pool = Pool::new(1, 0);
        let (other, fickle) = (Arc::clone(&pool), Arc::clone(&pool));
        let other = thread::spawn(move || drop(block_on(other.acquire()).unwrap()));
        let fickle = thread::spawn(move || drop(poll_once(&mut fickle.acquire())));
        drop(block_on(pool.acquire()).unwrap());
        join(other);
        join(fickle);
        pool.wind_up();
    });
}

#[test]
fn a_grant_that_nobody_took_passes_on() {
    explore("untaken", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let (mut first, mut second) = (pool.acquire(), pool.acquire());
        assert!(poll_once(&mut first).is_pending());
        assert!(poll_once(&mut second).is_pending());
        let leaves = thread::spawn(move || drop(first));
        // It was polled with another waker before.
        let waits = thread::spawn(move || drop(block_on(second).unwrap()));
        drop(held);
        join(leaves);
        join(waits);
        pool.wind_up();
    });
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    explore("order", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let turn = Arc::new(AtomicUsize::new(0));
        let mut waiters = [pool.acquire(), pool.acquire()];
        for waiter in &mut waiters {
            assert!(poll_once(waiter).is_pending());
        }
        let mut place = 0;
        let threads = waiters.map(|waiter| {
            let (turn, mine) = (Arc::clone(&turn), place);
            place += 1;
            thread::spawn(move || {
                let lease = block_on(waiter).unwrap();
                assert_eq!(turn.fetch_add(1, Ordering::Relaxed), mine);
                drop(lease);
            })
        });
        drop(held);
        threads.into_iter().for_each(join);
        pool.wind_up();
    });
}

#[test]
fn closing_ends_every_wait() {
    explore("closing", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let (waiter, closer) = (Arc::clone(&pool), Arc::clone(&pool));
        let waits = thread::spawn(move || match block_on(waiter.acquire()) {
            Ok(lease) => drop(lease),
            refused => assert!(is_closed(&refused), "{refused:?}"),
        });
        let closes = thread::spawn(move || closer.close());
        drop(held);
        join(waits);
        join(closes);
        pool.wind_up();
    });
}

/// The lease comes back only after they were refused.
#[test]
fn closing_ends_the_wait_for_a_lease_that_stays_out() {
    explore("closing, lease out", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let waiters = [(); 2].map(|()| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || assert!(is_closed(&block_on(pool.acquire()))))
        });
        pool.close();
        waiters.into_iter().for_each(join);
        drop(held);
        pool.wind_up();
    });
}

#[test]
fn a_deadline_and_a_hand_over_have_one_winner() {
    explore("deadline", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let (waiter, clock) = (Arc::clone(&pool), Arc::clone(&pool));
        let waits = thread::spawn(move || match block_on(waiter.acquire_in_time()) {
            Ok(lease) => drop(lease),
            late => assert!(matches!(late, Err(NotServed::TimedOut)), "{late:?}"),
        });
        let rings = thread::spawn(move || clock.ring());
        drop(held);
        join(waits);
        join(rings);
        pool.wind_up();
    });
}

/// The lease comes back only after the wait has ended.
#[test]
fn a_wait_ends_at_its_deadline() {
    explore("deadline, lease out", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let waiter = Arc::clone(&pool);
        let waits = thread::spawn(move || {
            let late = block_on(waiter.acquire_in_time());
            assert!(matches!(late, Err(NotServed::TimedOut)), "{late:?}");
        });
        pool.ring();
        join(waits);
        drop(held);
        pool.wind_up();
    });
}

#[test]
fn what_is_opened_for_a_waiter_that_leaves_goes_to_another() {
    for failing in [0, 1] {
        let name = format!("opening, {failing} failing");
        explore(&name, move || {
            let pool = Pool::failing(1, 0, failing, Severity::Transient);
            pool.tasks.keep();
            let mut leaves = pool.acquire();
            assert!(poll_once(&mut leaves).is_pending());
            let ordered = pool.tasks.take();
            assert_eq!(ordered.len(), 1);
            let opens = thread::spawn(move || ordered.into_iter().for_each(|open| open()));
            let other = Arc::clone(&pool);
            let waits = thread::spawn(move || drop(block_on(other.acquire()).unwrap()));
            drop(leaves);
            join(opens);
            join(waits);
            pool.wind_up();
        });
    }
}

/// The one lease stays out until then.
#[test]
fn room_that_a_resize_makes_serves_who_waits() {
    explore("resize", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let (waiter, operator) = (Arc::clone(&pool), Arc::clone(&pool));
        let waits = thread::spawn(move || drop(block_on(waiter.acquire()).unwrap()));
        let resizes =
            thread::spawn(move || operator.change(|books| books.resize(2, 2, bare::now())));
        join(waits);
        join(resizes);
        drop(held);
        pool.wind_up();
    });
}

#[test]
fn what_takes_the_place_of_a_lost_connection_serves_who_waits() {
    explore("loss", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let mut first = pool.acquire();
        assert!(poll_once(&mut first).is_pending());
        let leaves = thread::spawn(move || drop(first));
        let waiter = Arc::clone(&pool);
        let waits = thread::spawn(move || drop(block_on(waiter.acquire()).unwrap()));
        held.reset(false);
        join(leaves);
        join(waits);
        pool.wind_up();
    });
}

#[test]
fn what_was_dead_is_asked_for_again_before_all_others() {
    explore("dead", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let waiter = Arc::clone(&pool);
        let waits = thread::spawn(move || drop(block_on(waiter.acquire()).unwrap()));
        drop(block_on(held.ask_again()).unwrap());
        join(waits);
        pool.wind_up();
    });
}

/// A lock that is taken again by the thread that holds it blocks that thread for ever.
#[test]
fn nothing_is_woken_or_dropped_under_the_lock() {
    explore("nosy", || {
        let pool = Pool::new(1, 0);
        let held = block_on(pool.acquire()).unwrap();
        let mut acquires = [pool.acquire(), pool.acquire_in_time(), pool.acquire()];
        for acquire in &mut acquires {
            assert!(poll_with(acquire, &pool.nosy_waker()).is_pending());
            // The former waker is dropped.
            assert!(poll_with(acquire, &pool.nosy_waker()).is_pending());
        }
        let [leaves, mut expires, closed] = acquires;
        let other = Arc::clone(&pool);
        let thread = thread::spawn(move || {
            other.ring();
            drop(poll_once(&mut expires));
        });
        drop(leaves);
        drop(held);
        pool.close();
        drop(closed);
        join(thread);
        pool.wind_up();
    });
}
