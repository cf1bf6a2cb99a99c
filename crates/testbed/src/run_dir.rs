//! The directory of one running cluster, and who owns it.
//!
//! The owner holds a lock on `owner.json` for as long as it lives; the kernel takes the lock back
//! when it dies, however it dies. Directories are made and claimed under one more lock (the
//! *registry*), so that a directory without a held lock is surely dead and never just being made.
//!
//! ```text
//! <home>/runs/.lock           the registry's lock
//! <home>/runs/<run>/          owned by us
//!     owner.json              who started it; locked while it lives
//!     server.log              what the server prints
//!     container               the token of its container, where it has one
//!     shared-memory           names in /dev/shm, where the server was told to use that
//!     data/                   the data directory, owned by the server's user
//! ```

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::lock::{self, Mode};
use crate::processes;

/// Holders of the registry's lock make a directory or try some locks: microseconds of work.
const REGISTRY_WITHIN: Duration = Duration::from_secs(30);
const OWNER_FILE: &str = "owner.json";

/// Who started a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Process id of the run.
    pub(crate) pid: u32,
    /// When that process started, in the system's own words; tells it from a later one with the
    /// same id.
    pub(crate) process_start: Option<String>,
    /// When the cluster was started, in seconds since 1970.
    pub(crate) started_at: u64,
}

/// The directory of one cluster, owned by this process.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    registry: PathBuf,
    /// Holds the lock; none once the directory is gone.
    owner: Option<File>,
}

impl RunDir {
    /// Creates the directory for `run_id`; fails with `AlreadyExists` when there is one.
    pub(crate) fn create(home: &Home, run_id: &str) -> io::Result<Self> {
        let runs = home.runs();
        let registry = runs.join(".lock");
        let _held = hold(&registry)?;
        let path = runs.join(run_id);
        // The server's user passes through; a neighbour of ours need not look in.
        let mode = if Uid::effective().is_root() {
            0o711
        } else {
            0o700
        };
        fs::DirBuilder::new().mode(mode).create(&path)?;
        let made = Self::own(&path);
        if made.is_err() {
            fs::remove_dir_all(&path)?;
        }
        Ok(Self {
            path,
            registry,
            owner: Some(made?),
        })
    }

    fn own(path: &Path) -> io::Result<File> {
        let mut file = lock::open(&path.join(OWNER_FILE))?;
        if !lock::try_take(&file, Mode::Exclusive)? {
            return Err(io::Error::other("another process holds the new owner file"));
        }
        let pid = std::process::id();
        let owner = Owner {
            pid,
            process_start: processes::start_of(pid),
            started_at: SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| since.as_secs()),
        };
        file.write_all(&serde_json::to_vec(&owner)?)?;
        file.rewind()?;
        Ok(file)
    }

    /// Claims the directories of runs that are dead, so that nobody else does.
    pub(crate) fn claim_dead(home: &Home) -> io::Result<Vec<Self>> {
        let runs = home.runs();
        let registry = runs.join(".lock");
        let _held = hold(&registry)?;
        let mut dead = Vec::new();
        for entry in fs::read_dir(&runs)? {
            let entry = entry?;
            let path = entry.path();
            // What belongs to another user is that user's to reap.
            let meta = entry.metadata()?;
            if !meta.is_dir() || meta.uid() != Uid::effective().as_raw() {
                continue;
            }
            let owner = lock::open(&path.join(OWNER_FILE))?;
            if lock::try_take(&owner, Mode::Exclusive)? {
                dead.push(Self {
                    path,
                    registry: registry.clone(),
                    owner: Some(owner),
                });
            }
        }
        Ok(dead)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("server.log")
    }

    pub(crate) fn container(&self) -> PathBuf {
        self.path.join("container")
    }

    pub(crate) fn shared_memory(&self) -> PathBuf {
        self.path.join("shared-memory")
    }

    /// Removes the directory with all that is in it.
    ///
    /// The owner file goes last and under the registry's lock: a directory without it would look
    /// dead to a reaper.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        if self.owner.is_none() {
            return Ok(());
        }
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() == OWNER_FILE {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        let _held = hold(&self.registry)?;
        fs::remove_dir_all(&self.path)?;
        self.owner = None;
        Ok(())
    }
}

fn hold(registry: &Path) -> io::Result<File> {
    let file = lock::open(registry)?;
    lock::take(&file, Mode::Exclusive, REGISTRY_WITHIN)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(dir: &Path) -> Home {
        Home::open(Some(dir), None).unwrap()
    }

    #[test]
    fn a_directory_whose_owner_lives_is_not_claimed() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let live = RunDir::create(&home, "live").unwrap();
        assert!(RunDir::claim_dead(&home).unwrap().is_empty());

        let taken = RunDir::create(&home, "live").unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);

        // The lock goes with its holder, the directory stays.
        drop(live);
        let dead = RunDir::claim_dead(&home).unwrap();
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].name(), "live");
        assert!(
            RunDir::claim_dead(&home).unwrap().is_empty(),
            "claimed twice"
        );
    }

    #[test]
    fn a_directory_without_an_owner_file_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        fs::create_dir(home.runs().join("half-made")).unwrap();
        let mut dead = RunDir::claim_dead(&home).unwrap();
        assert_eq!(dead.len(), 1);
        dead[0].remove().unwrap();
        assert!(!home.runs().join("half-made").exists());
    }

    #[test]
    fn what_belongs_to_another_user_is_not_claimed() {
        if !Uid::effective().is_root() {
            println!("not tested: only root can give a directory to another user");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let foreign = home.runs().join("foreign");
        fs::create_dir(&foreign).unwrap();
        std::os::unix::fs::chown(&foreign, Some(61_234), None).unwrap();
        assert!(RunDir::claim_dead(&home).unwrap().is_empty());
        assert_eq!(fs::read_dir(&foreign).unwrap().count(), 0);
    }

    #[test]
    fn removal_takes_everything() {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let mut run = RunDir::create(&home, "run").unwrap();
        fs::create_dir_all(run.data().join("base/1")).unwrap();
        fs::write(run.data().join("base/1/1259"), "x").unwrap();
        fs::write(run.log(), "x").unwrap();
        run.remove().unwrap();
        assert!(!run.path().exists());
        run.remove().unwrap();
    }

    #[test]
    fn the_owner_file_tells_this_process() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(&home(dir.path()), "run").unwrap();
        let text = fs::read(run.path().join(OWNER_FILE)).unwrap();
        let owner: Owner = serde_json::from_slice(&text).unwrap();
        assert_eq!(owner.pid, std::process::id());
        assert_eq!(owner.process_start, processes::start_of(owner.pid));
        assert_ne!(owner.process_start, None);
    }
}
