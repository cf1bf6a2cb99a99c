//! What an acquire takes of its task's turn.

use std::cell::Cell;

/// So many polls take one unit of the budget that a task has before tokio makes it yield. A unit is meant for
/// work like reading from a socket, of which an acquire that is served at once is a small part: if each
/// took one, yielding would be a quarter of what they cost.
const POLLS_PER_UNIT: u32 = 8;

thread_local! {
    static POLLS: Cell<u32> = const { Cell::new(0) };
}

/// Returns whether this poll takes a unit. A task that does not yield by itself comes to one that does, so
/// that no loop of acquires keeps its thread from others.
#[inline]
pub(super) fn is_charged() -> bool {
    let polls = POLLS.get().wrapping_add(1);
    POLLS.set(polls);
    polls.is_multiple_of(POLLS_PER_UNIT)
}
