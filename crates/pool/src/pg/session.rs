//! A lease with a transaction scope.
//!
//! The lease's fate is set to the worst before every await and to what is known afterwards, so that a
//! future that is dropped at any point, or a panic, leaves the connection to the right end.

use std::borrow::Cow;

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement};
use sqlx::{Execute, Executor, PgConnection, Postgres, Row, SqlStr};

use super::control::{self, Effect};
use super::error::{QueryError, TransactionError, is_connection_error, leaves_connection_known};
use super::transaction::{Transaction, savepoint};
use super::{Backend, PgConnector};
use crate::pool::{Fate, Lease};

/// COMMIT that tells the truth: in an aborted transaction the SAVEPOINT fails with 25P02, outside any
/// with 25P01, and the server then skips the COMMIT, which by itself would answer with a mere tag.
const COMMIT: &str = "SAVEPOINT poolproof_commit; COMMIT";

/// SQLSTATE of any statement in a transaction of which one has failed.
pub(super) const ABORTED: &str = "25P02";

/// What is known of a commit whose outcome is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InDoubt {
    /// The server process that was to commit.
    pub backend: Backend,
    /// The transaction's id, where it was asked for.
    pub xid: Option<u64>,
}

/// A connection with a transaction scope. Made from a lease, and ends like one.
///
/// A session whose transactions were seen to end goes back without I/O. Otherwise:
/// - one that was dropped with a transaction open, or that left settings, locks, cursors or temporary
///   tables behind, is reset in a task of the pool first;
/// - one with a statement in flight is closed instead, because waiting for its answer could take for
///   ever;
/// - one that broke is closed, and every connection as old as it is replaced before it is used.
///
/// Statements can be anything that sqlx executes: `sqlx::query` (prepared), a `&'static str` or
/// `sqlx::raw_sql` (the simple protocol).
#[derive(Debug)]
pub struct Session {
    lease: Lease<PgConnector>,
    scope: Scope,
    /// The lease's fate when no transaction is open and no statement in flight.
    base: Fate,
    in_doubt: Option<InDoubt>,
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
        Self {
            base: lease.fate(),
            lease,
            scope: Scope::Outside,
            in_doubt: None,
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
        self.begin().await.map_err(TransactionError::Begin)?;
        let worked = work(&mut Transaction::new(self)).await;
        match worked {
            Ok(value) => match self.commit().await {
                Ok(()) => Ok(value),
                Err(error) => Err(error.into()),
            },
            // A connection that is beyond use is closed with the lease, which rolls back as well.
            Err(work) if !self.is_usable() => Err(TransactionError::Work(work)),
            Err(work) => match self.rollback().await {
                Ok(()) => Err(TransactionError::Work(work)),
                Err(rollback) => Err(TransactionError::Rollback { work, rollback }),
            },
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
    /// Do not leave a transaction open on it: this session does not know of it.
    pub fn raw(&mut self) -> &mut PgConnection {
        self.base = Fate::Reset;
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

    pub(super) fn set_scope(&mut self, scope: Scope) {
        self.scope = scope;
    }

    pub(super) fn is_usable(&self) -> bool {
        self.lease.fate() < Fate::Drop
    }

    fn require(&self, scope: Scope) -> Result<(), QueryError> {
        if self.scope == scope && self.is_usable() {
            Ok(())
        } else {
            Err(QueryError::Poisoned)
        }
    }

    async fn begin(&mut self) -> Result<(), QueryError> {
        self.require(Scope::Outside)?;
        self.control(sqlx::raw_sql("BEGIN")).await?;
        self.scope = Scope::Inside(0);
        self.lease.condemn(Fate::Reset);
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), QueryError> {
        self.control(sqlx::raw_sql("ROLLBACK")).await?;
        self.ended();
        Ok(())
    }

    /// Records that the server was seen to leave the transaction.
    fn ended(&mut self) {
        self.scope = Scope::Outside;
        self.lease.set_fate(self.base);
    }

    async fn commit(&mut self) -> Result<(), CommitError> {
        self.leave_savepoints_above(0)
            .await
            .map_err(|_| CommitError::RollbackOnly)?;
        let in_doubt = InDoubt {
            backend: self.backend(),
            xid: None,
        };
        self.in_doubt = Some(in_doubt);
        let refused = match self.control(sqlx::raw_sql(COMMIT)).await {
            Ok(()) => None,
            Err(QueryError::Statement(cause)) if self.is_usable() => Some(cause),
            Err(QueryError::Statement(cause) | QueryError::Connection(cause)) => {
                return Err(CommitError::Unknown { in_doubt, cause });
            }
            Err(_) => panic!("bug: COMMIT failed without an error of sqlx's"),
        };
        self.in_doubt = None;
        match refused {
            None => {
                self.ended();
                Ok(())
            }
            Some(cause) => Err(self.leave_refused_commit(cause).await),
        }
    }

    /// Finds out where the server is after it refused to commit, and leaves the transaction.
    ///
    /// A failure in here closes the connection, which rolls back as well, and changes nothing about
    /// the commit: it did not happen.
    async fn leave_refused_commit(&mut self, cause: sqlx::Error) -> CommitError {
        let code = sqlstate(&cause);
        if code.as_deref() == Some("25P01") {
            self.ended();
            return CommitError::Lost(cause);
        }
        let aborted = code.as_deref() == Some(ABORTED);
        // A COMMIT that failed has ended the transaction; a SAVEPOINT that failed otherwise has not.
        // ROLLBACK would be right for both, but the server warns when there is nothing to roll back.
        let inside = aborted
            || matches!(
                self.control(sqlx::raw_sql("SELECT 1")).await,
                Err(QueryError::Statement(probe)) if sqlstate(&probe).as_deref() == Some(ABORTED)
            );
        let left = !inside || self.control(sqlx::raw_sql("ROLLBACK")).await.is_ok();
        if left && self.is_usable() {
            self.ended();
        }
        if aborted {
            CommitError::RolledBack
        } else {
            CommitError::Refused(cause)
        }
    }

    /// Rolls back the savepoints above `depth`: the futures that had set them were dropped.
    pub(super) async fn leave_savepoints_above(&mut self, depth: u32) -> Result<(), QueryError> {
        if !self.is_usable() {
            return Err(QueryError::RollbackOnly);
        }
        if self.scope > Scope::Inside(depth) {
            self.control(savepoint::rollback_to(depth + 1)).await?;
            self.scope = Scope::Inside(depth);
        }
        Ok(())
    }

    /// Executes a statement that begins or ends a transaction or savepoint.
    pub(super) async fn control(&mut self, sql: sqlx::RawSql) -> Result<(), QueryError> {
        let before = self.depart();
        let result = self.lease.tracked().connection().execute(sql).await;
        self.arrive(before, result.map(drop))
    }

    pub(super) async fn run_execute<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<PgQueryResult, QueryError> {
        let statement = self.admit(statement)?;
        let before = self.depart();
        let result = self.lease.tracked().connection().execute(statement).await;
        self.arrive(before, result)
    }

    pub(super) async fn run_fetch_all<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Vec<PgRow>, QueryError> {
        let statement = self.admit(statement)?;
        let before = self.depart();
        let result = self.lease.tracked().connection().fetch_all(statement).await;
        self.arrive(before, result)
    }

    pub(super) async fn run_fetch_optional<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Option<PgRow>, QueryError> {
        let statement = self.admit(statement)?;
        let before = self.depart();
        let connection = self.lease.tracked().connection();
        let result = connection.fetch_optional(statement).await;
        self.arrive(before, result)
    }

    /// Looks at a statement's text before it goes out.
    fn admit<'q>(
        &mut self,
        mut statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Admitted, QueryError> {
        let persistent = statement.persistent();
        let arguments = statement
            .take_arguments()
            .map_err(|cause| QueryError::Statement(sqlx::Error::Encode(cause)))?;
        let sql = statement.sql();
        match control::effect(sql.as_str()) {
            Effect::Control(keyword) => return Err(QueryError::TransactionControl { keyword }),
            Effect::Residue => {
                self.base = Fate::Reset;
                self.lease.condemn(Fate::Reset);
            }
            Effect::None => {}
        }
        Ok(Admitted {
            sql,
            arguments,
            persistent,
        })
    }

    /// Assumes the worst for as long as a statement is in flight; returns the fate to go back to.
    fn depart(&mut self) -> Fate {
        let before = self.lease.fate();
        self.lease.condemn(Fate::Drop);
        before
    }

    /// Replaces the worst by what the statement came to.
    fn arrive<T>(&mut self, before: Fate, result: sqlx::Result<T>) -> Result<T, QueryError> {
        match result {
            Ok(value) => {
                self.lease.set_fate(before);
                Ok(value)
            }
            Err(cause) if leaves_connection_known(&cause) => {
                self.lease.set_fate(before);
                Err(QueryError::Statement(cause))
            }
            Err(cause) if is_connection_error(&cause) => {
                self.lease.condemn(Fate::Broken);
                Err(QueryError::Connection(cause))
            }
            // An error in the middle of the answer: the rest of it may still come.
            Err(cause) => Err(QueryError::Statement(cause)),
        }
    }
}

/// A statement whose text was looked at.
struct Admitted {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    persistent: bool,
}

impl Execute<'_, Postgres> for Admitted {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

/// Why a commit did not happen, or may not have.
enum CommitError {
    RolledBack,
    Lost(sqlx::Error),
    RollbackOnly,
    Refused(sqlx::Error),
    Unknown {
        in_doubt: InDoubt,
        cause: sqlx::Error,
    },
}

impl<E> From<CommitError> for TransactionError<E> {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::RolledBack => Self::CommitRolledBack,
            CommitError::Lost(cause) => Self::Lost(cause),
            CommitError::RollbackOnly => Self::RollbackOnly,
            CommitError::Refused(cause) => Self::CommitRefused(cause),
            CommitError::Unknown { in_doubt, cause } => Self::CommitUnknown { in_doubt, cause },
        }
    }
}

pub(super) fn sqlstate(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

pub(super) fn no_row() -> QueryError {
    QueryError::Statement(sqlx::Error::RowNotFound)
}
