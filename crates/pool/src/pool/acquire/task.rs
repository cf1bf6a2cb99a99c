//! Which task asks, and on which runtime. A task's number tells nested acquires apart from others (F24).

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;

use tokio::runtime::Handle;

/// Returns what tells the current task from others; none outside of tasks.
#[inline]
pub(super) fn current() -> Option<NonZeroU64> {
    number(&tokio::task::try_id()?)
}

/// The runtime with this number runs the task with that one.
type Seen = (u64, u64);

/// How many tasks a thread remembers.
const MEMORY: usize = 64;

thread_local! {
    /// Tasks that waited on this thread. To ask tokio for the current runtime counts a reference to it up and
    /// down, on a cache line that all threads share; and a task stays on its runtime.
    static SEEN: [Cell<Seen>; MEMORY] = const { [const { Cell::new((0, 0)) }; MEMORY] };
}

/// Returns whether somebody drives the pool's runtime while `task` is polled, so that the pool's alarm will
/// ring: the task is on it, or on none, and then there is no other.
pub(super) fn is_driven(home: &Handle, task: Option<NonZeroU64>) -> bool {
    let Some(task) = task.map(NonZeroU64::get) else {
        return Handle::try_current().map_or(true, |here| here.id() == home.id());
    };
    let home = number(&home.id()).map_or(0, NonZeroU64::get);
    let remembered = usize::try_from(task % MEMORY as u64).unwrap_or(0);
    SEEN.with(|seen| {
        let seen = &seen[remembered];
        let (of, runtime) = seen.get();
        if of == task {
            return runtime == home;
        }
        let here = Handle::try_current().ok();
        let here = here.and_then(|here| number(&here.id()));
        let Some(here) = here.map(NonZeroU64::get) else {
            return true;
        };
        seen.set((task, here));
        here == home
    })
}

/// Takes the number out of an id of tokio's, which shows it to hashers alone.
fn number(id: &impl Hash) -> Option<NonZeroU64> {
    let mut number = Number(0);
    id.hash(&mut number);
    NonZeroU64::new(number.0)
}

struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
