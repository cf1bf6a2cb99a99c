//! The lock of [`super::shell`], which tests replace by one that a model checker controls.

use std::hint::spin_loop;
pub(super) use std::sync::MutexGuard;
use std::sync::{LockResult, PoisonError, TryLockError};

/// How often a lock is tried before its thread sleeps: the pause before each doubles.
const TRIES: u32 = 5;

/// A lock that is held for less than it takes to go to sleep and wake up, so that it is worth a little
/// patience. The pauses matter as much as the tries: each try takes the cache line away from the thread that
/// is at work on it.
#[derive(Debug)]
pub(super) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    #[inline]
    pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(broken)) => Err(broken),
            Err(TryLockError::WouldBlock) => self.lock_patiently(),
        }
    }

    #[cold]
    fn lock_patiently(&self) -> LockResult<MutexGuard<'_, T>> {
        for doubling in 0..TRIES {
            for _ in 0..64 << doubling {
                spin_loop();
            }
            match self.0.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(broken)) => {
                    return Err(PoisonError::new(broken.into_inner()));
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.0.lock()
    }
}
