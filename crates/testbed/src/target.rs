//! What a run aims at: a cluster of its own, or a server that exists.

use std::fmt;

use sqlx::postgres::PgConnectOptions;

use crate::Cluster;

/// What a run aims at.
#[derive(Debug)]
pub enum Target {
    /// A private cluster, started for this run.
    Local(Cluster),
    /// A server that exists. Whether a run may aim at it is its caller's to decide.
    Existing(Existing),
}

impl Target {
    /// Returns the options of a direct connection.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        match self {
            Self::Local(cluster) => cluster.options(),
            Self::Existing(existing) => existing.options(),
        }
    }
}

/// A server that exists; nothing of it is started or stopped.
#[derive(Clone)]
pub struct Existing {
    options: PgConnectOptions,
}

impl Existing {
    /// Wraps the options of a direct connection.
    #[must_use]
    pub fn new(options: PgConnectOptions) -> Self {
        Self { options }
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
        f.debug_struct("Existing")
            .field("host", &self.options.get_host())
            .field("port", &self.options.get_port())
            .field("database", &self.options.get_database())
            .finish_non_exhaustive()
    }
}
