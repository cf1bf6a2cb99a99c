//! Removes what killed runs left behind: servers, containers, directories, shared memory.
//!
//! A run that is killed cannot clean up; the next one does. What is dead is told by the lock that
//! the owner of a run directory holds while it lives, so that a living neighbour is never touched.

use std::io;
use std::path::PathBuf;

use crate::account::{Account, AccountError, server_uid};
use crate::container;
use crate::home::{Home, HomeError};
use crate::run_dir::RunDir;
use crate::teardown::{Gentleness, StopError, tear_down};

/// What a reaping did.
#[derive(Debug, Default)]
pub struct Reaped {
    /// Run ids of the dead runs that are removed now.
    pub removed: Vec<String>,
    /// Run ids of dead runs of which something is left, and why.
    pub failed: Vec<(String, StopError)>,
}

/// Why dead runs could not even be looked for.
#[derive(Debug, thiserror::Error)]
pub enum ReapError {
    /// There is no directory to look in.
    #[error("look for what killed runs left")]
    Home(#[source] HomeError),
    /// It is not known whose processes to look for.
    #[error("look for what killed runs left")]
    Account(#[source] AccountError),
    /// The directory could not be read.
    #[error("look for what killed runs left in {}", path.display())]
    Files {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Ends and removes the clusters and containers of runs that are dead, in `home` (by default
/// [`crate::default_home`]). Blocks while servers end, about 0.1 s each.
///
/// [`crate::Cluster::start`] and [`crate::Container::start`] do the same by themselves.
///
/// # Errors
/// [`ReapError`] when it cannot be told what is dead. What could not be removed is no error but
/// in [`Reaped::failed`].
pub fn reap(home: Option<PathBuf>) -> Result<Reaped, ReapError> {
    let account = Account::for_servers().map_err(ReapError::Account)?;
    let home = Home::open(home.as_deref(), account.as_ref()).map_err(ReapError::Home)?;
    reap_in(&home, account.as_ref())
}

/// Reaps before a cluster starts. A run that cannot be reaped does not keep another from working.
pub(crate) fn before_start(home: &Home, account: Option<&Account>) {
    match reap_in(home, account) {
        Ok(reaped) => {
            for run in reaped.removed {
                tracing::info!(run, "removed what a killed run left");
            }
            for (run, error) in reaped.failed {
                tracing::warn!(run, %error, "something of a killed run is left");
            }
        }
        Err(error) => tracing::warn!(%error, "killed runs could not be looked for"),
    }
}

fn reap_in(home: &Home, account: Option<&Account>) -> Result<Reaped, ReapError> {
    let dead = RunDir::claim_dead(home).map_err(|source| ReapError::Files {
        path: home.runs(),
        source,
    })?;
    let mut reaped = Reaped::default();
    for mut run in dead {
        let name = run.name();
        let removed = if container::was_of(&run) {
            container::reap_run(run)
        } else {
            tear_down(&mut run, None, server_uid(account), Gentleness::Immediate)
        };
        match removed {
            Ok(()) => reaped.removed.push(name),
            Err(error) => reaped.failed.push((name, error)),
        }
    }
    Ok(reaped)
}
