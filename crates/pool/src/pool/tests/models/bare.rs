//! A pool without a runtime: what the pool's tasks and operators do with the shell, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::borrower::{Acquire, NotServed, poll_once};
use super::shell::Shell;
use super::sync::{AtomicBool, Tasks, block_on};
use crate::state::tests::limits;
use crate::state::{Actions, Failure, Mode, Opened, Refusal, Severity, State};

pub(super) type Books = State<Connection, Waker, &'static str>;

/// Time stands still here, until all deadlines have passed at once.
pub(super) fn now() -> Instant {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(crate::pool::now);
    *ORIGIN
}

fn deadline() -> Instant {
    now() + Duration::from_secs(30)
}

/// Nobody can copy it, so that nobody can be served with one that somebody else holds.
#[derive(Debug)]
pub(super) struct Connection(Weak<Pool>);

impl Drop for Connection {
    /// Looks into the books, which hangs where their lock is held.
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade()
            && !std::thread::panicking()
        {
            pool.alive.fetch_sub(1, Ordering::Relaxed);
            pool.shell.read(Books::audit);
        }
    }
}

pub(super) struct Pool {
    pub(super) shell: Shell<Connection, &'static str>,
    pub(super) tasks: Tasks,
    /// Whether all deadlines have passed.
    late: AtomicBool,
    // What is counted here the tested code does not know of: by atomics of the standard library, at which
    // no thread is preempted.
    alive: AtomicUsize,
    leases: AtomicUsize,
    /// How many attempts to connect will fail, and how.
    failing: AtomicUsize,
    severity: Severity,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool with its `pool_size` connections open.
    pub(super) fn new(pool_size: usize, overflow: usize) -> Arc<Self> {
        let pool = Self::failing(pool_size, overflow, 0, Severity::Transient);
        pool.change(|books| books.warm_up(pool_size, now()));
        pool.tasks.join();
        pool
    }

    /// A pool without connections, whose first so many attempts to connect fail.
    pub(super) fn failing(
        pool_size: usize,
        overflow: usize,
        failing: usize,
        severity: Severity,
    ) -> Arc<Self> {
        let limits = limits(pool_size, overflow);
        Arc::new(Self {
            // A panic under the lock fails the test anyway.
            shell: Shell::new(State::new(limits), || ()),
            tasks: Tasks::default(),
            late: AtomicBool::new(false),
            alive: AtomicUsize::new(0),
            leases: AtomicUsize::new(0),
            failing: AtomicUsize::new(failing),
            severity,
        })
    }

    pub(super) fn change(
        self: &Arc<Self>,
        transition: impl FnOnce(&mut Books) -> Actions<Connection, Waker>,
    ) {
        let actions = self.shell.change(transition);
        self.perform(actions);
    }

    /// Performs what a transition ordered, but for the wakes.
    pub(super) fn perform(self: &Arc<Self>, actions: Actions<Connection, Waker>) {
        let woken = actions.wake.is_none() && actions.wake_more.is_empty();
        assert!(woken && actions.spent.is_none(), "the shell's to do");
        for conn in actions.close {
            drop(conn);
            self.change(|books| books.closed(now()));
        }
        let generation = actions.generation;
        for _ in 0..actions.connect {
            let pool = Arc::clone(self);
            self.tasks.run(move || pool.connect(generation));
        }
        if let Some(at) = actions.arm_timer {
            let pool = Arc::clone(self);
            let tick = move || pool.change(|books| books.tick(at));
            self.tasks.run(tick);
        }
    }

    fn connect(self: &Arc<Self>, generation: u64) {
        let fewer = |left: usize| left.checked_sub(1);
        let failing = self
            .failing
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        if failing.is_ok() {
            let failure = Failure {
                error: "refused",
                severity: self.severity,
                jitter: 0,
            };
            return self.change(|books| books.open_failed(failure, now()));
        }
        self.alive.fetch_add(1, Ordering::Relaxed);
        let opened = Opened {
            value: Connection(Arc::downgrade(self)),
            generation,
            begun: now(),
            jitter: 0,
        };
        self.change(|books| books.opened(opened, now()));
    }

    /// Lets all deadlines pass.
    pub(super) fn ring(self: &Arc<Self>) {
        self.late.store(true, Ordering::SeqCst);
        self.change(|books| books.ring(deadline()));
    }

    pub(super) fn close(self: &Arc<Self>) {
        self.change(|books| books.close(now()));
    }

    /// An acquire without a deadline.
    pub(super) fn acquire(self: &Arc<Self>) -> Acquire {
        Acquire::new(Arc::clone(self), None)
    }

    /// An acquire that gives up when all deadlines have passed.
    pub(super) fn acquire_in_time(self: &Arc<Self>) -> Acquire {
        Acquire::new(Arc::clone(self), Some(deadline()))
    }

    pub(super) fn is_late(&self) -> bool {
        self.late.load(Ordering::SeqCst)
    }

    pub(super) fn count_lease(&self) {
        self.leases.fetch_add(1, Ordering::Relaxed);
    }

    /// A waker that looks into the books whenever it is woken or dropped, which hangs where their lock is
    /// held.
    pub(super) fn nosy_waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(Nosy(Arc::downgrade(self))))
    }

    /// Checks, once all is over, that nothing is lost: nobody waits, every connection that is alive is
    /// idle, each lease was issued once and came back once, and the pool still lends as many as it may,
    /// and not one more.
    pub(super) fn wind_up(self: &Arc<Self>) {
        self.tasks.join();
        self.audit_at_rest();
        self.failing.store(0, Ordering::Relaxed);
        let counts = self.shell.read(Books::counts);
        if counts.mode == Mode::Closed {
            assert!(self.shell.read(Books::is_drained));
            let refused = block_on(self.acquire()).map(drop);
            assert_eq!(refused, Err(NotServed::Refused(Refusal::Closed)));
            return;
        }
        let (size, overflow) = counts.sizes;
        let limit = i64::from(size) + i64::from(overflow);
        let leases: Vec<_> = (0..limit).map(|_| block_on(self.acquire())).collect();
        assert!(leases.iter().all(Result::is_ok), "{leases:?}");
        let mut one_more = self.acquire();
        assert!(poll_once(&mut one_more).is_pending(), "beyond the limit");
        drop(leases);
        drop(one_more);
        self.tasks.join();
        self.audit_at_rest();
    }

    fn audit_at_rest(&self) {
        let counts = self.shell.read(|books| {
            books.audit();
            books.counts()
        });
        let busy = (counts.waiting, counts.out, counts.opening, counts.closing);
        assert_eq!(busy, (0, 0, 0, 0));
        assert_eq!(counts.idle, self.alive.load(Ordering::Relaxed));
        let leases = self.leases.load(Ordering::Relaxed) as u64;
        assert_eq!(counts.leases, (leases, leases));
    }
}

struct Nosy(Weak<Pool>);

impl Nosy {
    fn look(&self) {
        if let Some(pool) = self.0.upgrade()
            && !std::thread::panicking()
        {
            pool.shell.read(Books::audit);
        }
    }
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.look();
    }
}
