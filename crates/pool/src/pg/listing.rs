//! What is told of open sessions.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::conn::Backend;
use crate::brief::brief;

/// An open session, as [`Pool::sessions`](crate::Pool::sessions) lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// The server process that serves it.
    pub backend: Backend,
    /// Where it was asked for.
    pub location: &'static Location<'static>,
    /// How long it has been open.
    pub open_for: Duration,
    /// Statements that it has sent, without those that control transactions.
    pub statements: u64,
    /// What it is doing.
    pub activity: Activity,
    /// For how long it has been doing that.
    pub activity_for: Duration,
    /// The transaction that it is in, if any.
    pub transaction: Option<OpenTransaction>,
    /// The first words of its last statement, with `?` for every value in it; none before the first.
    pub last_statement: Option<String>,
    /// Why it was ended, when it was and its holder has not let go of it yet.
    pub reaped: Option<Reaped>,
}

/// A transaction of an open session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// How long ago it began.
    pub open_for: Duration,
    /// Statements that it has sent.
    pub statements: u64,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    /// Nothing: it waits for its holder.
    Idle,
    /// It waits for the server to answer a statement.
    Running,
    /// It waits for the server to commit.
    Committing,
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Committing => "committing",
        })
    }
}

/// Why a session was ended although its holder had not let go of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reaped {
    /// What was too long.
    pub stale: Stale,
    /// How long it was.
    pub after: Duration,
    /// How long it may be.
    pub limit: Duration,
}

/// What made a session stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stale {
    /// It was open for too long.
    Session,
    /// Its transaction was open for too long without a statement running.
    IdleInTransaction,
}

impl fmt::Display for Reaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stale,
            after,
            limit,
        } = self;
        match stale {
            Stale::Session => write!(f, "open for {}, more than session_age_max", brief(*after)),
            Stale::IdleInTransaction => write!(
                f,
                "idle in a transaction for {}, more than idle_in_transaction_max",
                brief(*after)
            ),
        }?;
        write!(f, " ({})", brief(*limit))
    }
}
