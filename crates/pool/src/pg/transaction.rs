//! The scope within [`Session::transaction`], and nested ones.

use sqlx::postgres::{PgQueryResult, PgRow};
use sqlx::{Execute, Postgres};

use super::ABORTED;
use super::error::{QueryError, SavepointError, sqlstate};
use super::session::{Scope, Session, no_row};
use super::track::Errand;

/// A transaction, lent to the work that runs in it. It ends when the work does.
///
/// It gives no access to sqlx's connection, whose own `begin` and `commit` would end this transaction.
#[derive(Debug)]
pub struct Transaction<'s> {
    session: &'s mut Session,
    /// Savepoints that enclose this scope.
    depth: u32,
}

impl<'s> Transaction<'s> {
    pub(super) fn new(session: &'s mut Session) -> Self {
        Self { session, depth: 0 }
    }

    /// Runs `work` under a savepoint: `Ok` keeps what it did, `Err` rolls it back, a panic rolls the
    /// whole transaction back and goes on.
    ///
    /// # Errors
    /// [`SavepointError`]; whatever it says, the enclosing scope goes on as if `work` had never run,
    /// unless the connection broke.
    ///
    /// # Cancel safety
    /// Dropping the future rolls back to the savepoint, when no statement was in flight. Otherwise the
    /// whole transaction can only roll back.
    pub async fn savepoint<T, E, F>(&mut self, work: F) -> Result<T, SavepointError<E>>
    where
        F: AsyncFnOnce(&mut Transaction<'_>) -> Result<T, E>,
    {
        let depth = self.depth + 1;
        self.enter(depth).await.map_err(SavepointError::Control)?;
        let worked = work(&mut Transaction {
            session: &mut *self.session,
            depth,
        })
        .await;
        match worked {
            Ok(value) => match self.release(depth).await {
                Ok(true) => Ok(value),
                Ok(false) => Err(SavepointError::RolledBack),
                Err(cause) => Err(SavepointError::Control(cause)),
            },
            Err(error) => match self.session.leave_savepoints_above(self.depth).await {
                Ok(()) => Err(SavepointError::Work(error)),
                // The transaction will not commit, whatever is done: the work's error says more than
                // that.
                Err(
                    QueryError::RollbackOnly
                    | QueryError::Reaped(_)
                    | QueryError::SerializationFailed { .. },
                ) => Err(SavepointError::Work(error)),
                Err(cause) => Err(SavepointError::Control(cause)),
            },
        }
    }

    /// Executes a statement and returns how many rows it touched.
    ///
    /// # Errors
    /// [`QueryError`]. A failed statement dooms everything up to the enclosing savepoint.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the statement, and the transaction can only roll back.
    pub async fn execute<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<PgQueryResult, QueryError> {
        self.session.leave_savepoints_above(self.depth).await?;
        self.session.run_execute(statement).await
    }

    /// Executes a statement and returns its rows.
    ///
    /// # Errors
    /// As for [`Transaction::execute`].
    ///
    /// # Cancel safety
    /// As for [`Transaction::execute`].
    pub async fn fetch_all<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Vec<PgRow>, QueryError> {
        self.session.leave_savepoints_above(self.depth).await?;
        self.session.run_fetch_all(statement).await
    }

    /// Executes a statement and returns its first row.
    ///
    /// # Errors
    /// As for [`Transaction::execute`]; no row at all is [`sqlx::Error::RowNotFound`], which dooms
    /// nothing.
    ///
    /// # Cancel safety
    /// As for [`Transaction::execute`].
    pub async fn fetch_one<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<PgRow, QueryError> {
        self.fetch_optional(statement).await?.ok_or_else(no_row)
    }

    /// Executes a statement and returns its first row, if any.
    ///
    /// # Errors
    /// As for [`Transaction::execute`].
    ///
    /// # Cancel safety
    /// As for [`Transaction::execute`].
    pub async fn fetch_optional<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Option<PgRow>, QueryError> {
        self.session.leave_savepoints_above(self.depth).await?;
        self.session.run_fetch_optional(statement).await
    }

    async fn enter(&mut self, depth: u32) -> Result<(), QueryError> {
        self.session.leave_savepoints_above(self.depth).await?;
        self.session
            .control(Errand::Control, savepoint::set(depth))
            .await?;
        self.session.set_scope(Scope::Inside(depth));
        Ok(())
    }

    /// Keeps what was done under the savepoint; returns whether that was possible.
    async fn release(&mut self, depth: u32) -> Result<bool, QueryError> {
        self.session.leave_savepoints_above(depth).await?;
        match self
            .session
            .control(Errand::Control, savepoint::release(depth))
            .await
        {
            Ok(()) => {
                self.session.set_scope(Scope::Inside(self.depth));
                Ok(true)
            }
            Err(QueryError::Statement(cause)) if sqlstate(&cause).as_deref() == Some(ABORTED) => {
                self.session.leave_savepoints_above(self.depth).await?;
                Ok(false)
            }
            Err(cause) => Err(cause),
        }
    }
}

/// The texts of savepoint control. Names carry the depth, so that each scope ends its own.
pub(super) mod savepoint {
    use sqlx::{AssertSqlSafe, RawSql, raw_sql};

    pub(in crate::pg) fn set(depth: u32) -> RawSql {
        raw_sql(AssertSqlSafe(format!("SAVEPOINT poolproof_{depth}")))
    }

    pub(in crate::pg) fn release(depth: u32) -> RawSql {
        raw_sql(AssertSqlSafe(format!(
            "RELEASE SAVEPOINT poolproof_{depth}"
        )))
    }

    pub(in crate::pg) fn rollback_to(depth: u32) -> RawSql {
        raw_sql(AssertSqlSafe(format!(
            "ROLLBACK TO SAVEPOINT poolproof_{depth}; RELEASE SAVEPOINT poolproof_{depth}"
        )))
    }
}
