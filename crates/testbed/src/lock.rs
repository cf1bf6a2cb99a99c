//! File locks (`flock`), which the kernel takes back when their holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::wait;

/// Whether others may hold the lock as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// Opens `path` as a lock file, creating it where needed. Children do not inherit it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Takes the lock if nobody holds it in a way that forbids it. Returns whether it was taken.
pub(crate) fn try_take(file: &File, mode: Mode) -> io::Result<bool> {
    let taken = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match taken {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Takes the lock, waiting for it `within` at most.
pub(crate) fn take(file: &File, mode: Mode, within: Duration) -> io::Result<()> {
    let mut end = Ok(false);
    wait::until(within, || {
        end = try_take(file, mode);
        !matches!(end, Ok(false))
    });
    if end? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("another process held the lock for {within:?}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_lock_keeps_others_out_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = open(&path).unwrap();
        let second = open(&path).unwrap();
        assert!(try_take(&first, Mode::Exclusive).unwrap());
        assert!(!try_take(&second, Mode::Shared).unwrap());
        let late = take(&second, Mode::Shared, Duration::from_millis(20));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(first);
        take(&second, Mode::Shared, Duration::from_secs(10)).unwrap();
    }
}
