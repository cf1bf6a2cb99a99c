//! Which task asks: its number tells nested acquires apart from others (F24).

use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;

/// Returns what tells the current task from others; none outside of tasks.
#[inline]
pub(super) fn current() -> Option<NonZeroU64> {
    let mut key = TaskKey(0);
    tokio::task::try_id()?.hash(&mut key);
    NonZeroU64::new(key.0)
}

/// Takes the number out of a task's id, which shows it to hashers alone.
struct TaskKey(u64);

impl Hasher for TaskKey {
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
