//! Ends a cluster and removes all that it has: processes, shared memory, files.
//!
//! One way for all: `stop`, `Drop` and the reaper of dead runs differ in the first signal only.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::container::RemovalError;
use crate::postmaster_pid::{PostmasterPid, Segment};
use crate::processes::{self, Mark};
use crate::run_dir::RunDir;
use crate::shared_memory::{self, SharedMemoryError};
use crate::wait;

/// How long a fast stop may take; a server with a checkpoint to write needs more than an instant.
const FAST_WITHIN: Duration = Duration::from_secs(8);
/// How long an immediate stop may take. After 5 s the postmaster kills its children itself.
const IMMEDIATE_WITHIN: Duration = Duration::from_secs(7);
/// How long the kernel may take to bury a killed process.
const KILL_WITHIN: Duration = Duration::from_secs(15);

/// Why something of a cluster is left.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Processes outlived SIGKILL.
    #[error("end the server: processes {pids:?} are still there")]
    Survivors {
        /// Their process ids.
        pids: Vec<i32>,
    },
    /// Shared memory is left in the kernel.
    #[error("free the server's shared memory")]
    SharedMemory(#[source] SharedMemoryError),
    /// Files are left on disk.
    #[error("remove {}", path.display())]
    Remove {
        /// The run directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A container is left.
    #[error("remove the server's container")]
    Container(#[from] RemovalError),
    /// The thread that does it panicked.
    #[error("end the server: its thread panicked")]
    Panicked,
}

/// The signal that a stop begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gentleness {
    /// Sessions are ended, everything is written: SIGINT.
    Fast,
    /// Everything ends at once: SIGQUIT.
    Immediate,
}

/// Ends the cluster in `run` and removes all of it. `child` is the postmaster if we started it.
pub(crate) fn tear_down(
    run: &mut RunDir,
    child: Option<&mut Child>,
    uid: Uid,
    gentleness: Gentleness,
) -> Result<(), StopError> {
    let cluster_name = cluster_name(&run.name());
    let run_dir = run.path().to_path_buf();
    let mark = Mark {
        run_dir: &run_dir,
        cluster_name: &cluster_name,
        uid,
    };
    // A server that ends orderly takes these notes along.
    let segment = PostmasterPid::read(&run.data()).and_then(|lock| lock.segment);
    let shared_files = shared_files(run, mark);

    end_processes(run, child, mark, gentleness)?;
    free(segment, &shared_files, uid)?;
    run.remove().map_err(|source| StopError::Remove {
        path: run_dir.clone(),
        source,
    })
}

/// The `cluster_name` of the server in a run directory.
pub(crate) fn cluster_name(run_id: &str) -> String {
    format!("poolproof-{run_id}")
}

fn free(segment: Option<Segment>, files: &[String], uid: Uid) -> Result<(), StopError> {
    if let Some(segment) = segment {
        shared_memory::remove_segment(segment, uid).map_err(StopError::SharedMemory)?;
    }
    shared_memory::remove_files(files, uid).map_err(StopError::SharedMemory)
}

/// Files in /dev/shm that were written down at the start, and those in use now.
fn shared_files(run: &RunDir, mark: Mark<'_>) -> Vec<String> {
    let noted = fs::read_to_string(run.shared_memory()).unwrap_or_default();
    let mut names: Vec<_> = noted.lines().map(str::to_owned).collect();
    for pid in processes::of(mark) {
        names.extend(processes::shared_files_of(pid));
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn end_processes(
    run: &RunDir,
    mut child: Option<&mut Child>,
    mark: Mark<'_>,
    gentleness: Gentleness,
) -> Result<(), StopError> {
    let steps = [
        (Signal::SIGINT, FAST_WITHIN),
        (Signal::SIGQUIT, IMMEDIATE_WITHIN),
    ];
    let skipped = usize::from(gentleness == Gentleness::Immediate);
    for (signal, within) in steps.into_iter().skip(skipped) {
        let living = processes::of(mark);
        let postmaster = PostmasterPid::read(&run.data()).map(|lock| lock.pid);
        // Without a postmaster nobody passes the signal on.
        let Some(postmaster) = postmaster.filter(|pid| living.contains(pid)) else {
            break;
        };
        // A stopped process (a fault may have left one) acts on no signal but SIGKILL.
        processes::signal_all(mark, Signal::SIGCONT);
        processes::signal_one(postmaster, signal);
        if wait::until(within, || all_gone(&mut child, mark)) {
            return Ok(());
        }
        tracing::warn!(%signal, ?within, run = %run.name(), "the server did not stop in time");
    }
    let killed = wait::until(KILL_WITHIN, || {
        // Each time again: the postmaster may have started one more before it died.
        processes::signal_all(mark, Signal::SIGKILL);
        if let Some(child) = child.as_mut()
            && let Err(error) = child.kill()
        {
            tracing::debug!(%error, "the postmaster could not be killed");
        }
        all_gone(&mut child, mark)
    });
    if killed {
        return Ok(());
    }
    Err(StopError::Survivors {
        pids: processes::of(mark),
    })
}

fn all_gone(child: &mut Option<&mut Child>, mark: Mark<'_>) -> bool {
    let child_ended = child
        .as_mut()
        // An error means that there is no such child to wait for.
        .is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
    child_ended && processes::of(mark).is_empty()
}
