//! How a transaction begins: its options, and the one simple query that sets them all.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::settings::ServerTimeouts;

/// Begins a transaction as the server has it by default.
pub(super) const PLAIN_BEGIN: &str = "BEGIN";

/// Asks for the transaction's id, which gives it one.
pub(super) const XID: &str = "SELECT pg_current_xact_id()::text";

/// How a transaction runs: plain fields, defaults in [`TransactionOptions::default`].
///
/// Whatever is set goes into the one simple query that begins the transaction: no option costs a round
/// trip.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use poolproof_pool::{Isolation, TransactionOptions};
///
/// let report = TransactionOptions {
///     isolation: Some(Isolation::Serializable),
///     read_only: true,
///     deferrable: true,
///     deadline: Some(Duration::from_secs(60)),
///     ..TransactionOptions::default()
/// };
/// # let _ = report;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TransactionOptions {
    /// The isolation level. Default: none, which leaves the server's `default_transaction_isolation`.
    pub isolation: Option<Isolation>,
    /// Whether the server refuses to write. Default: no, which leaves the server's
    /// `default_transaction_read_only`.
    pub read_only: bool,
    /// Whether a serializable read-only transaction waits at its first statement until it can neither
    /// fail nor make others fail with a serialization failure; without effect on others. Default: no.
    pub deferrable: bool,
    /// Timeouts that the server enforces until the transaction ends (`SET LOCAL`). Default: none, which
    /// leaves those of the connection.
    pub timeouts: ServerTimeouts,
    /// How long the whole transaction may take, BEGIN and COMMIT included. After that the future ends
    /// at once with [`TransactionError::DeadlinePassed`](super::TransactionError::DeadlinePassed), or
    /// with `CommitUnknown` when COMMIT was written already. Default: none.
    pub deadline: Option<Duration>,
    /// Whether to learn the transaction's id at its beginning, without which
    /// [`InDoubt::resolve`](super::InDoubt::resolve) cannot tell how a commit ended. The transaction
    /// then takes an id even if it writes nothing, and from `RepeatableRead` on its snapshot is taken
    /// at BEGIN. Default: no.
    pub with_xid: bool,
}

/// What a transaction may see of others that run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// All statements see what was committed before the first one began. Can fail with SQLSTATE 40001,
    /// as the next one can.
    RepeatableRead,
    /// As if the transactions ran one after the other.
    Serializable,
}

impl TransactionOptions {
    /// Returns the simple query that begins the transaction, and asks `question` in it.
    pub(super) fn begin(&self, question: Option<&str>) -> SqlStr {
        let without_deadline = Self {
            deadline: None,
            ..*self
        };
        if without_deadline == Self::default() && question.is_none() {
            return PLAIN_BEGIN.into_sql_str();
        }
        let Self {
            isolation,
            read_only,
            deferrable,
            timeouts,
            deadline: _,
            with_xid,
        } = self;
        let mut sql = String::from(PLAIN_BEGIN);
        if let Some(isolation) = isolation {
            sql.push_str(match isolation {
                Isolation::ReadCommitted => " ISOLATION LEVEL READ COMMITTED",
                Isolation::RepeatableRead => " ISOLATION LEVEL REPEATABLE READ",
                Isolation::Serializable => " ISOLATION LEVEL SERIALIZABLE",
            });
        }
        if *read_only {
            sql.push_str(" READ ONLY");
        }
        if *deferrable {
            sql.push_str(" DEFERRABLE");
        }
        for (name, millis) in timeouts.in_millis() {
            write!(sql, "; SET LOCAL {name} = {millis}").expect("bug: writing to a String failed");
        }
        if let Some(question) = question {
            sql.push_str("; ");
            sql.push_str(question);
        }
        if *with_xid {
            sql.push_str("; ");
            sql.push_str(XID);
        }
        AssertSqlSafe(sql).into_sql_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_into_the_one_query_that_begins_the_transaction() {
        assert_eq!(TransactionOptions::default().begin(None).as_str(), "BEGIN");
        let all = TransactionOptions {
            isolation: Some(Isolation::Serializable),
            read_only: true,
            deferrable: true,
            timeouts: ServerTimeouts {
                statement: Some(Duration::from_millis(1500)),
                lock: Some(Duration::from_secs(1)),
                idle_in_transaction: Some(Duration::from_secs(10)),
                client_check: Some(Duration::from_millis(250)),
            },
            deadline: Some(Duration::from_secs(1)),
            with_xid: true,
        };
        assert_eq!(
            all.begin(Some("SELECT 1")).as_str(),
            "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; \
             SET LOCAL statement_timeout = 1500; SET LOCAL lock_timeout = 1000; \
             SET LOCAL idle_in_transaction_session_timeout = 10000; \
             SET LOCAL client_connection_check_interval = 250; SELECT 1; SELECT pg_current_xact_id()::text"
        );
    }
}
