//! Copies a data directory and counts what it holds.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::account::Account;

/// How much a directory tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// Copies `from` to `to`, which must not exist, and gives everything in it to `account`.
///
/// `to` itself stays ours and private, so that nobody meddles with the copy before it is handed
/// over with one `chown`.
pub(crate) fn copy_tree(from: &Path, to: &Path, account: Option<&Account>) -> io::Result<Tally> {
    let mut tally = Tally::default();
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            tally.add(copy_tree(&entry.path(), &target, account)?);
        } else if kind.is_file() {
            tally.add(Tally {
                files: 1,
                // In the kernel, and without copying at all on file systems that can share.
                bytes: fs::copy(entry.path(), &target)?,
            });
        } else {
            return Err(unexpected(&entry.path()));
        }
        if let Some(account) = account {
            let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
            chown(&target, Some(uid), Some(gid))?;
        }
    }
    Ok(tally)
}

/// Gives a whole tree to `uid` and counts what it holds.
pub(super) fn give_to(dir: &Path, uid: Uid) -> io::Result<Tally> {
    let mut tally = Tally::default();
    chown(dir, Some(uid.as_raw()), None)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            tally.add(give_to(&entry.path(), uid)?);
        } else if kind.is_file() {
            chown(entry.path(), Some(uid.as_raw()), None)?;
            tally.add(Tally {
                files: 1,
                bytes: entry.metadata()?.len(),
            });
        } else {
            return Err(unexpected(&entry.path()));
        }
    }
    Ok(tally)
}

fn unexpected(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} is neither a file nor a directory", path.display()),
    )
}
