//! What is seen of a server, and what can be done to it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// `version()`, one line of text.
    pub version_text: String,
    /// `server_version_num`: 150018 is version 15.18.
    pub version_num: u32,
    /// `max_connections`.
    pub max_connections: u32,
    /// Connections kept back for superusers and, from version 16, for a role.
    pub reserved: u32,
    /// Client connections at this moment, this one included.
    pub in_use: u32,
    /// When the server started.
    pub started_at: SystemTime,
    /// Whether this role's commits are on disk before they are acknowledged: `fsync` is on, and
    /// `synchronous_commit` is not off.
    pub durable: bool,
}

impl ServerInfo {
    /// Connections that an ordinary user could still open: limit − reserved − in use.
    #[must_use]
    pub fn usable(&self) -> u32 {
        self.max_connections
            .saturating_sub(self.reserved)
            .saturating_sub(self.in_use)
    }
}

/// One backend as the server shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Process id.
    pub pid: i32,
    /// `state` of `pg_stat_activity`; empty when the server tells none.
    pub state: String,
    /// Whether a transaction is open, be it the implicit one of a running statement.
    pub in_transaction: bool,
    /// Rows of `pg_locks` held or awaited, without its own virtual transaction id.
    pub locks: u64,
}

/// A change to the server that a client cannot cause by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ServerFault {
    /// The server ends one backend, as `pg_terminate_backend` does.
    TerminateBackend {
        /// Which one.
        target: BackendTarget,
    },
}

/// Which backend of the subject a fault is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendTarget {
    /// One that holds an explicit transaction, or has written in an implicit one.
    InTransaction,
    /// One that waits for its client, outside any transaction.
    Idle,
    /// Whichever comes first.
    Any,
}

impl BackendTarget {
    /// Returns the word for it that scenarios use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InTransaction => "in-transaction",
            Self::Idle => "idle",
            Self::Any => "any",
        }
    }
}

/// What was seen of a [`ServerFault`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFaultEffect {
    /// The backends that it ended, as they were at that moment.
    pub backends: Vec<Backend>,
}

impl ServerFaultEffect {
    /// Returns the process ids of the backends that it ended.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.backends.iter().map(|backend| backend.pid).collect()
    }
}
