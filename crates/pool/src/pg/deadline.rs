//! The end of an operation, whatever runtime it is awaited on.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use crate::pool::with_timers;

/// A time by which something must have ended, if there is one.
#[derive(Debug)]
pub(super) struct Deadline {
    within: Duration,
    /// None for no deadline, and for one beyond the clock's range. With the runtime that turns the timer
    /// where none is current.
    at: Option<(Instant, Handle)>,
}

/// The deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) within: Duration,
}

impl Deadline {
    pub(super) fn after(within: Option<Duration>, home: &Handle) -> Self {
        let at = within.and_then(|within| Instant::now().checked_add(within));
        Self {
            within: within.unwrap_or(Duration::MAX),
            at: at.map(|at| (at, home.clone())),
        }
    }

    /// Returns whether it has passed.
    pub(super) fn check(&self) -> Result<(), Passed> {
        match &self.at {
            Some((at, _)) if *at <= Instant::now() => Err(self.passed()),
            _ => Ok(()),
        }
    }

    /// Runs `work`, but no longer than to the deadline.
    pub(super) async fn bound<T>(&self, work: impl Future<Output = T>) -> Result<T, Passed> {
        let Some((at, home)) = &self.at else {
            return Ok(work.await);
        };
        let timer = with_timers(home, || sleep_until(*at));
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = timer => Err(self.passed()),
        }
    }

    fn passed(&self) -> Passed {
        Passed {
            within: self.within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_ends_at_the_deadline_has_ended_and_what_goes_on_has_not() {
        let home = Handle::current();
        let second = Duration::from_secs(1);
        let none = Deadline::after(None, &home);
        assert_eq!(none.bound(async { 1 }).await, Ok(1));
        let deadline = Deadline::after(Some(second), &home);
        let in_time = sleep_until(Instant::now() + second);
        assert_eq!(deadline.check(), Ok(()));
        assert_eq!(deadline.bound(in_time).await, Ok(()));
        let passed = Passed { within: second };
        assert_eq!(deadline.check(), Err(passed));
        let never = std::future::pending::<()>();
        assert_eq!(deadline.bound(never).await, Err(passed));
        assert_eq!(deadline.bound(async { 1 }).await, Ok(1));
    }

    /// `block_on` of any other executor has no timers of its own.
    #[test]
    fn the_timer_turns_on_the_runtime_at_home() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let within = Duration::from_millis(1);
        let deadline = Deadline::after(Some(within), runtime.handle());
        let never = std::future::pending::<()>();
        let outcome = block_on(deadline.bound(never));
        assert_eq!(outcome, Err(Passed { within }));
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut work = std::pin::pin!(work);
        loop {
            if let std::task::Poll::Ready(done) = work.as_mut().poll(&mut context) {
                return done;
            }
            std::thread::park();
        }
    }
}
