//! What an acquire takes of its task's turn.

use std::cell::Cell;

/// So many acquires take one unit of the budget that a task has before tokio makes it yield. A unit is meant
/// for work like reading from a socket, of which an acquire that is served at once is a small part: if each
/// took one, yielding would be a quarter of what they cost.
const SERVED_PER_UNIT: u32 = 8;

thread_local! {
    /// Acquires that ended on this thread.
    static SERVED: Cell<u32> = const { Cell::new(0) };
}

/// Returns whether this poll takes a unit, should it end the acquire. A task that does not yield by itself comes
/// to one that does, so that no loop of acquires keeps its thread from others.
#[inline]
pub(super) fn is_charged() -> bool {
    SERVED.get().wrapping_add(1).is_multiple_of(SERVED_PER_UNIT)
}

/// Counts an acquire that has ended. Polls that end nothing must not count: where they come in turns with
/// others, they would be the ones to be charged, and tokio gives a unit back that came to nothing.
#[inline]
pub(super) fn count() {
    SERVED.set(SERVED.get().wrapping_add(1));
}
