//! What a run aims at, wherever it is: a cluster of its own, a container, a server that exists.

use std::fmt;
use std::path::PathBuf;

use sqlx::postgres::PgConnectOptions;

use crate::teardown::StopError;
use crate::{Cluster, Container};

/// A server that a run aims at.
#[derive(Debug)]
pub enum Server {
    /// A private cluster on this machine, started for this run.
    Local(Cluster),
    /// A private server in a container, started for this run.
    Container(Container),
    /// A server that exists. Whether a run may aim at it is its caller's to decide.
    Existing(Existing),
}

/// What a run may count on with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// It goes with the run, so nothing in it has to be removed.
    pub disposable: bool,
    /// It took the scenario's settings.
    pub settings: bool,
}

impl Server {
    /// Returns the options of a direct connection.
    ///
    /// Their `Debug` shows the password: do not print them.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        match self {
            Self::Local(cluster) => cluster.options(),
            Self::Container(container) => container.options(),
            Self::Existing(existing) => existing.options(),
        }
    }

    /// Says in some words where it comes from; never a password.
    #[must_use]
    pub fn source(&self) -> String {
        match self {
            Self::Local(_) => "private local cluster".to_owned(),
            Self::Container(container) => format!("private container of {}", container.image()),
            Self::Existing(existing) => format!("existing server {}", existing.target),
        }
    }

    /// Returns what a run may count on.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let private = !matches!(self, Self::Existing(_));
        Capabilities {
            disposable: private,
            settings: private,
        }
    }

    /// Tells whether it is not known to have ended. Of a server that exists that is never known,
    /// and it says nothing about answers.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match self {
            Self::Local(cluster) => cluster.is_running(),
            Self::Container(container) => container.is_running(),
            Self::Existing(_) => true,
        }
    }

    /// Tells how it ended, where that can be known; none while it runs.
    #[must_use]
    pub fn cause_of_death(&self) -> Option<String> {
        match self {
            Self::Local(cluster) => cluster.exit_status().map(|status| status.to_string()),
            Self::Container(container) => container.cause_of_death(),
            Self::Existing(_) => None,
        }
    }

    /// Returns the file that its log goes to, and that is removed with it; none for a server that
    /// exists.
    #[must_use]
    pub fn log_file(&self) -> Option<PathBuf> {
        match self {
            Self::Local(cluster) => Some(cluster.log_file()),
            Self::Container(container) => Some(container.log_file()),
            Self::Existing(_) => None,
        }
    }

    /// Ends it and removes everything that it had, unless it was there before the run.
    ///
    /// # Errors
    /// [`StopError`] when something is left; the next run tries again.
    /// # Cancel safety
    /// Safe. What was begun goes on by itself; [`crate::settled`] waits for it.
    pub async fn stop(self) -> Result<(), StopError> {
        match self {
            Self::Local(cluster) => cluster.stop().await,
            Self::Container(container) => container.stop().await,
            Self::Existing(_) => Ok(()),
        }
    }
}

/// A server that exists; nothing of it is started or stopped.
#[derive(Clone)]
pub struct Existing {
    options: PgConnectOptions,
    target: String,
}

impl Existing {
    /// Wraps the options of a direct connection, and the words for where that leads.
    #[must_use]
    pub fn new(options: PgConnectOptions, target: String) -> Self {
        Self { options, target }
    }

    /// Returns the options of a direct connection.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }
}

impl fmt::Debug for Existing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options' own `Debug` shows the password.
        f.debug_tuple("Existing").field(&self.target).finish()
    }
}
