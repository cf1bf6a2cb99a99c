//! Three or four tasks with programs of their own, on more than one connection, in orders that schedulers
//! draw: at random, and by probabilistic concurrency testing (PCT), which finds what needs few preemptions at
//! the right points.
//!
//! `POOLPROOF_SCHEDULES` says how many schedules each test runs (half of them by each scheduler) and
//! `POOLPROOF_SEED` which ones (default 1). A failure prints its schedule, with the programs in it;
//! `POOLPROOF_SCHEDULE=…`, that text, and the name of the test run it again.

#[path = "bare.rs"]
mod bare;
#[path = "borrower.rs"]
mod borrower;
#[path = "../../shell.rs"]
mod shell;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bare::{Pool, now};
use borrower::{Acquire, Lease, NotServed, Served, poll_once, poll_with};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::thread;
use sync::block_on;

use crate::state::{Refusal, Severity};

/// shuttle's locks, for the shell, and what else the pool needs of it.
mod sync {
    use std::sync::Mutex as Plain;

    pub(super) use shuttle::future::block_on;
    pub(super) use shuttle::sync::atomic::AtomicBool;
    pub(super) use shuttle::sync::{Mutex, MutexGuard};
    use shuttle::thread::{JoinHandle, spawn};

    /// Runs each of the pool's tasks beside all others.
    #[derive(Default)]
    pub(super) struct Tasks(Plain<Vec<JoinHandle<()>>>);

    impl Tasks {
        pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) {
            let task = spawn(work);
            self.0.lock().unwrap().push(task);
        }

        /// Waits until none is left, nor those that they caused.
        pub(super) fn join(&self) {
            // A statement of its own: the lock must be free while a task is waited for.
            let next = || self.0.lock().unwrap().pop();
            while let Some(task) = next() {
                task.join().unwrap();
            }
        }
    }
}

/// How many each of the four tests runs unless it is told otherwise.
const SCHEDULES: usize = 5_000;

/// The preemptions, and one, that PCT places in a schedule.
const DEPTH: usize = 4;

/// What came of the acquires of all schedules.
#[derive(Debug, Default)]
struct Tally {
    served: AtomicUsize,
    /// Dropped before they were served.
    left: AtomicUsize,
    refused: AtomicUsize,
    late: AtomicUsize,
    failed: AtomicUsize,
}

/// Runs a model in as many schedules as were asked for, and checks that what `must` returns happened in them;
/// or in the one that is to be run again.
fn explore(
    name: &str,
    must: fn(&Tally) -> Vec<&AtomicUsize>,
    model: impl Fn(&Arc<Tally>) + Send + Sync + 'static,
) {
    let tally = Arc::new(Tally::default());
    let counted = Arc::clone(&tally);
    let model = Arc::new(move || model(&counted));
    if let Ok(schedule) = std::env::var("POOLPROOF_SCHEDULE") {
        let mut scheduler = ReplayScheduler::new_from_encoded(&schedule);
        // It goes on once the failure is mended, and what comes then was not recorded.
        scheduler.set_allow_incomplete();
        run(scheduler, &model);
        return;
    }
    let number =
        |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let schedules = number("POOLPROOF_SCHEDULES", SCHEDULES);
    let seed = number("POOLPROOF_SEED", 1) as u64;
    let half = schedules.div_ceil(2);
    let random = run(RandomScheduler::new_from_seed(seed, half), &model);
    let pct = run(PctScheduler::new_from_seed(seed, DEPTH, half), &model);
    assert!(random + pct >= schedules);
    println!("shuttle: {name}: {random} schedules at random, {pct} by PCT: {tally:?}");
    let happened = |count: &AtomicUsize| count.load(Ordering::Relaxed) > 0;
    assert!(must(&tally).into_iter().all(happened), "{tally:?}");
}

fn count(what: &AtomicUsize) {
    what.fetch_add(1, Ordering::Relaxed);
}

fn run(
    scheduler: impl Scheduler + 'static,
    model: &Arc<impl Fn() + Send + Sync + 'static>,
) -> usize {
    let model = Arc::clone(model);
    shuttle::Runner::new(scheduler, shuttle::Config::default()).run(move || model())
}

/// What a task does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Acquires, and releases.
    Lease,
    /// Polls an acquire a few times, and drops it.
    Cancel,
    /// Acquires with a deadline.
    InTime,
    /// Acquires, and has the connection reset.
    Reset,
    /// Acquires, finds the connection dead, and asks again.
    Dead,
    Resize,
    Pause,
    Invalidate,
    Ring,
    Close,
}

/// Acquire, release, cancel, resize; whether the pool is closed is drawn apart.
const FEW: &[Step] = &[Step::Lease, Step::Lease, Step::Cancel, Step::Resize];
/// All but closing.
const ALL: &[Step] = &[
    Step::Lease,
    Step::Cancel,
    Step::InTime,
    Step::Reset,
    Step::Dead,
    Step::Resize,
    Step::Pause,
    Step::Invalidate,
    Step::Ring,
];

fn draw<T: Copy>(from: &[T]) -> T {
    from[thread_rng().gen_range(0..from.len())]
}

fn chance(one_in: u32) -> bool {
    thread_rng().gen_range(0..one_in) == 0
}

/// Uses a lease, unless the wait ended in another way that may happen.
fn hold(served: Served, tally: &Tally, end: impl FnOnce(Lease)) {
    match served {
        Ok(lease) => {
            count(&tally.served);
            thread::yield_now();
            end(lease);
        }
        Err(NotServed::Refused(Refusal::Closed)) => count(&tally.refused),
        Err(NotServed::TimedOut) => count(&tally.late),
        Err(NotServed::Failed) => count(&tally.failed),
        Err(NotServed::Refused(Refusal::Draining)) => panic!("nobody drains"),
    }
}

fn cancel(pool: &Arc<Pool>, mut acquire: Acquire, tally: &Tally) {
    for _ in 0..thread_rng().gen_range(1..4) {
        // A task may be polled with another waker each time.
        if let Poll::Ready(served) = poll_with(&mut acquire, &pool.nosy_waker()) {
            return hold(served, tally, drop);
        }
        thread::yield_now();
    }
    count(&tally.left);
}

fn take(step: Step, pool: &Arc<Pool>, tally: &Tally) {
    let acquire = || block_on(pool.acquire());
    match step {
        Step::Lease => hold(acquire(), tally, drop),
        Step::Cancel if chance(2) => cancel(pool, pool.acquire(), tally),
        Step::Cancel => cancel(pool, pool.acquire_in_time(), tally),
        Step::InTime => hold(block_on(pool.acquire_in_time()), tally, drop),
        Step::Reset => hold(acquire(), tally, |lease| lease.reset(chance(2))),
        Step::Dead => hold(acquire(), tally, |lease| {
            hold(block_on(lease.ask_again()), tally, drop);
        }),
        Step::Resize => {
            let (size, overflow) = (draw(&[1, 2]), draw(&[0, 1]));
            pool.change(|books| books.resize(size, size + overflow, now()));
        }
        Step::Pause => {
            pool.change(|books| books.pause(now()));
            thread::yield_now();
            pool.change(|books| books.resume(now()));
        }
        Step::Invalidate => pool.change(|books| books.invalidate_all(now())),
        Step::Ring => pool.ring(),
        Step::Close => pool.close(),
    }
}

/// Three or four tasks, of one to three steps each; in one of three schedules one of them closes the pool at its
/// end.
fn programs(pool: &Arc<Pool>, tally: &Arc<Tally>, steps: &'static [Step]) {
    let closes = chance(3);
    let tasks: Vec<_> = (0..thread_rng().gen_range(3..5))
        .map(|task| {
            let (pool, tally) = (Arc::clone(pool), Arc::clone(tally));
            thread::spawn(move || {
                for _ in 0..thread_rng().gen_range(1..4) {
                    take(draw(steps), &pool, &tally);
                }
                if closes && task == 0 {
                    take(Step::Close, &pool, &tally);
                }
            })
        })
        .collect();
    for task in tasks {
        task.join().unwrap();
    }
    pool.wind_up();
}

#[test]
fn tasks_that_acquire_cancel_release_resize_and_close_lose_nothing() {
    explore(
        "acquire, cancel, release, resize, close",
        |tally| vec![&tally.served, &tally.left, &tally.refused],
        |tally| {
            programs(&Pool::new(1, 0), tally, FEW);
        },
    );
}

#[test]
fn tasks_that_do_whatever_can_be_done_lose_nothing() {
    explore(
        "everything",
        |tally| vec![&tally.served, &tally.left, &tally.refused, &tally.late],
        |tally| {
            programs(&Pool::new(1, 1), tally, ALL);
        },
    );
}

#[test]
fn tasks_that_meet_failing_connects_lose_nothing() {
    explore(
        "failing connects",
        |tally| vec![&tally.served, &tally.left, &tally.refused, &tally.failed],
        |tally| {
            let severity = draw(&[Severity::Transient, Severity::Permanent]);
            programs(&Pool::failing(2, 0, 2, severity), tally, ALL);
        },
    );
}

/// All wait for the same lease, so that the order in which they get it is theirs; any may leave.
#[test]
fn waiters_are_served_in_order_of_arrival() {
    explore(
        "order",
        |tally| vec![&tally.served, &tally.left],
        |tally| {
            let pool = Pool::new(1, 0);
            let held = block_on(pool.acquire()).unwrap();
            let last = Arc::new(AtomicUsize::new(0));
            let tasks: Vec<_> = (1..=4)
                .map(|place| {
                    let mut waiter = pool.acquire();
                    assert!(poll_once(&mut waiter).is_pending());
                    let (last, tally) = (Arc::clone(&last), Arc::clone(tally));
                    thread::spawn(move || {
                        if chance(4) {
                            count(&tally.left);
                            return drop(waiter);
                        }
                        let lease = block_on(waiter).unwrap();
                        count(&tally.served);
                        let before = last.swap(place, Ordering::Relaxed);
                        assert!(before < place, "{place} after {before}");
                        drop(lease);
                    })
                })
                .collect();
            drop(held);
            for task in tasks {
                task.join().unwrap();
            }
            pool.wind_up();
        },
    );
}
