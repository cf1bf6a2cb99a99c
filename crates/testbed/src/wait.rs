//! Waiting for a condition, with a deadline, on threads that may block.
//!
//! The only place of this crate that sleeps and reads the clock of the operating system: what it
//! waits for are processes and file locks, which do not follow the paused clock of a test.

use std::time::{Duration, Instant};

/// How often a condition is looked at. Processes start and end in some milliseconds.
const EVERY: Duration = Duration::from_millis(5);

/// A point in time on the clock of the operating system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The moment that comes `after` from now.
    #[expect(
        clippy::disallowed_methods,
        reason = "processes and file locks do not follow a paused clock"
    )]
    pub(crate) fn after(after: Duration) -> Self {
        Self(Instant::now() + after)
    }

    /// Whether it has passed.
    #[expect(
        clippy::disallowed_methods,
        reason = "processes and file locks do not follow a paused clock"
    )]
    pub(crate) fn passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Blocks until `done` says true, `within` at most. Returns whether it did.
pub(crate) fn until(within: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after(within);
    loop {
        if done() {
            return true;
        }
        if deadline.passed() {
            return false;
        }
        nap();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pause between two looks at a condition; callers have a deadline"
)]
fn nap() {
    std::thread::sleep(EVERY);
}
