//! A lease with a transaction scope.

use std::num::NonZeroU64;

use sqlx::postgres::{PgQueryResult, PgRow};
use sqlx::{Execute, PgConnection, Postgres, Row};
use tokio::runtime::Handle;
use tracing::field::Empty;
use tracing::{Instrument, debug_span};

use super::PgConnector;
use super::conn::Backend;
use super::deadline::{Deadline, Passed};
use super::error::{QueryError, TransactionError};
use super::listing::Reaped;
use super::options::TransactionOptions;
use super::resolve::InDoubt;
use super::transaction::Transaction;
use crate::error::ErrorKind;
use crate::pool::{Fate, Lease};
use crate::span::OutcomeSpan;

/// A connection with a transaction scope. Made from a lease, and ends like one.
///
/// A session whose transactions were seen to end goes back without I/O. Otherwise:
/// - one that was dropped with a transaction open, or that left settings, locks, cursors or temporary
///   tables behind, is reset in a task of the pool first;
/// - one with a statement in flight is closed instead, because waiting for its answer could take for
///   ever, and its backend is ended (see [`Abandoned`](super::Abandoned));
/// - one that broke is closed, and every connection as old as it is replaced before it is used.
///
/// Statements can be anything that sqlx executes: `sqlx::query` (prepared), a `&'static str` or
/// `sqlx::raw_sql` (the simple protocol). Refused are those that control transactions, LISTEN, and COPY from
/// STDIN or to STDOUT.
#[derive(Debug)]
pub struct Session {
    pub(super) lease: Lease<PgConnector>,
    pub(super) scope: Scope,
    /// The lease's fate when no transaction is open and no statement in flight.
    pub(super) base: Fate,
    pub(super) in_doubt: Option<InDoubt>,
    /// Whether somebody was told that a commit is in doubt.
    pub(super) doubt_told: bool,
    /// The transaction's id, where it was asked for.
    pub(super) xid: Option<NonZeroU64>,
    /// The SQLSTATE of class 40 after which the transaction can only roll back.
    pub(super) doomed: Option<String>,
    /// Why it was ended from outside, once that was noticed.
    pub(super) reaped: Option<Reaped>,
    /// Whether a transaction may have been left open on the raw connection.
    pub(super) raw_used: bool,
    /// Whether what sqlx remembers of prepared statements is out of date once the statement in flight is
    /// answered.
    pub(super) outdated: bool,
    /// Whether something was left behind that no reset removes.
    pub(super) is_spent: bool,
}

/// How deep in transactions the server is, as far as this session has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Outside,
    /// In a transaction, with this many savepoints.
    Inside(u32),
}

impl From<Lease<PgConnector>> for Session {
    fn from(lease: Lease<PgConnector>) -> Self {
        let base = lease.fate();
        let track = lease.get().track();
        track.open(lease.location(), lease.since().into());
        Self {
            base,
            lease,
            scope: Scope::Outside,
            in_doubt: None,
            doubt_told: false,
            xid: None,
            doomed: None,
            reaped: None,
            raw_used: base >= Fate::Reset,
            outdated: false,
            is_spent: false,
        }
    }
}

impl Session {
    /// Runs `work` in a transaction: `Ok` commits, `Err` rolls back, a panic rolls back and goes on, and
    /// so does dropping the future.
    ///
    /// # Errors
    /// [`TransactionError`]; `Ok` means that the server confirmed the commit.
    ///
    /// # Cancel safety
    /// Dropping the future rolls back, unless COMMIT was already written: then
    /// [`Session::in_doubt`] tells so. Either way the session is poisoned and refuses further use.
    pub async fn transaction<T, E, F>(&mut self, work: F) -> Result<T, TransactionError<E>>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        self.transaction_with(&TransactionOptions::default(), work)
            .await
    }

    /// Runs `work` in a transaction that begins with these options. See [`Session::transaction`].
    ///
    /// # Errors
    /// As for [`Session::transaction`]. When the deadline passes, the transaction is rolled back and the
    /// session refuses further use; `work` is dropped where it was.
    ///
    /// # Cancel safety
    /// As for [`Session::transaction`].
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # use poolproof_pool::*;
    /// # async fn example(session: &mut Session) -> Result<(), Box<dyn std::error::Error>> {
    /// let options = TransactionOptions {
    ///     isolation: Some(Isolation::Serializable),
    ///     timeouts: ServerTimeouts {
    ///         lock: Some(Duration::from_secs(1)),
    ///         ..ServerTimeouts::default()
    ///     },
    ///     deadline: Some(Duration::from_secs(5)),
    ///     ..TransactionOptions::default()
    /// };
    /// session
    ///     .transaction_with(&options, async |tx: &mut Transaction<'_>| {
    ///         tx.execute("update stock set amount = amount - 1 where item = 7").await
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn transaction_with<T, E, F>(
        &mut self,
        options: &TransactionOptions,
        work: F,
    ) -> Result<T, TransactionError<E>>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        let span = debug_span!("transaction", pid = self.backend().pid, outcome = Empty);
        let mut span = OutcomeSpan::from(span);
        let ended = self.run_transaction(options, work);
        let ended = ended.instrument(span.span().clone()).await;
        span.end(outcome(&ended));
        ended
    }

    async fn run_transaction<T, E, F>(
        &mut self,
        options: &TransactionOptions,
        work: F,
    ) -> Result<T, TransactionError<E>>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        let deadline = Deadline::after(options.deadline, self.lease.home());
        match deadline.bound(self.begin(options)).await {
            Ok(begun) => begun.map_err(TransactionError::Begin)?,
            Err(passed) => return Err(self.give_up(passed)),
        }
        let worked = deadline.bound(work(&mut Transaction::new(self))).await;
        match worked.map_err(|passed| self.give_up(passed))? {
            Ok(value) => {
                self.commit_by(&deadline).await?;
                Ok(value)
            }
            // A connection that is beyond use is closed with the lease, which rolls back as well.
            Err(work) if !self.is_usable() => Err(TransactionError::Work(work)),
            Err(work) => match deadline.bound(self.rollback()).await {
                Ok(Ok(())) | Err(_) => Err(TransactionError::Work(work)),
                Ok(Err(rollback)) => Err(TransactionError::Rollback { work, rollback }),
            },
        }
    }

    /// Ends at the deadline. The lease brings the connection to its end, without anybody waiting.
    pub(super) fn give_up<E>(&self, passed: Passed) -> TransactionError<E> {
        self.lease.meters().error(ErrorKind::Canceled);
        TransactionError::DeadlinePassed {
            within: passed.within,
        }
    }

    /// Executes a statement outside any transaction and returns how many rows it touched.
    ///
    /// # Errors
    /// [`QueryError`].
    ///
    /// # Cancel safety
    /// Dropping the future abandons the statement, which may or may not be executed. The session
    /// refuses further use.
    pub async fn execute<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<PgQueryResult, QueryError> {
        self.require(Scope::Outside)?;
        self.run_execute(statement).await
    }

    /// Executes a statement outside any transaction and returns its rows.
    ///
    /// # Errors
    /// [`QueryError`].
    ///
    /// # Cancel safety
    /// As for [`Session::execute`].
    pub async fn fetch_all<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Vec<PgRow>, QueryError> {
        self.require(Scope::Outside)?;
        self.run_fetch_all(statement).await
    }

    /// Executes a statement outside any transaction and returns its first row.
    ///
    /// # Errors
    /// [`QueryError`]; no row at all is [`sqlx::Error::RowNotFound`].
    ///
    /// # Cancel safety
    /// As for [`Session::execute`].
    pub async fn fetch_one<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<PgRow, QueryError> {
        self.fetch_optional(statement).await?.ok_or_else(no_row)
    }

    /// Executes a statement outside any transaction and returns its first row, if any.
    ///
    /// # Errors
    /// [`QueryError`].
    ///
    /// # Cancel safety
    /// As for [`Session::execute`].
    pub async fn fetch_optional<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Option<PgRow>, QueryError> {
        self.require(Scope::Outside)?;
        self.run_fetch_optional(statement).await
    }

    /// Executes `sql` as one simple query outside any transaction, and returns the first column of its
    /// first row as text.
    ///
    /// # Errors
    /// [`QueryError`].
    ///
    /// # Cancel safety
    /// As for [`Session::execute`].
    pub async fn fetch_simple_text(
        &mut self,
        sql: &'static str,
    ) -> Result<Option<String>, QueryError> {
        let Some(row) = self.fetch_optional(sql).await? else {
            return Ok(None);
        };
        row.try_get_unchecked(0).map_err(QueryError::Statement)
    }

    /// Returns sqlx's connection, for what the session does not offer, such as COPY. The connection
    /// will be reset before anyone else gets it.
    ///
    /// A transaction that is left open on it is noticed by [`Session::transaction`], which costs one
    /// round trip and refuses with [`QueryError::OpenTransaction`]; statements of this session run within
    /// it.
    ///
    /// # Examples
    /// ```no_run
    /// # use poolproof_pool::*;
    /// # async fn example(session: &mut Session) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut copy = session.raw().copy_in_raw("copy item (name) from stdin").await?;
    /// copy.send(&b"lamp\nchair\n"[..]).await?;
    /// let copied = copy.finish().await?;
    /// # let _ = copied;
    /// # Ok(())
    /// # }
    /// ```
    pub fn raw(&mut self) -> &mut PgConnection {
        self.base = Fate::Reset;
        self.raw_used = true;
        self.lease.raw()
    }

    /// Returns which server process serves this session.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.lease.backend()
    }

    /// Returns what is known of a commit that was written and whose answer was never seen; also after
    /// the future that committed was dropped.
    #[must_use]
    pub fn in_doubt(&self) -> Option<InDoubt> {
        self.in_doubt
    }

    /// Returns the runtime on which the tasks of its pool run; see [`Pool::runtime`](crate::Pool::runtime).
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        self.lease.home()
    }

    pub(super) fn set_scope(&mut self, scope: Scope) {
        self.scope = scope;
    }

    pub(super) fn is_usable(&self) -> bool {
        self.lease.fate() < Fate::Drop
    }

    pub(super) fn require(&self, scope: Scope) -> Result<(), QueryError> {
        match self.reaped {
            Some(reaped) => Err(QueryError::Reaped(reaped)),
            None if self.scope == scope && self.is_usable() => Ok(()),
            None => Err(QueryError::Poisoned),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The future that committed was dropped before the answer came.
        if let Some(in_doubt) = self.in_doubt {
            self.tell_doubt(in_doubt);
        }
        if self.is_spent {
            self.lease.condemn(Fate::Drop);
        }
        // One that is being ended from outside must not be lent again.
        if self.lease.get().track().close().is_some() {
            self.lease.tracked().set_reaped();
            self.lease.condemn(Fate::Abandon);
        }
    }
}

/// Returns what a transaction came to, for logs.
fn outcome<T, E>(ended: &Result<T, TransactionError<E>>) -> &'static str {
    match ended {
        Ok(_) => "committed",
        Err(TransactionError::Begin(_)) => "not begun",
        Err(TransactionError::CommitUnknown { .. }) => "unknown",
        Err(_) => "rolled back",
    }
}

pub(super) fn no_row() -> QueryError {
    QueryError::Statement(sqlx::Error::RowNotFound)
}
