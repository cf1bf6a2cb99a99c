//! How a session sends anything: what is refused before, and what is known after.
//!
//! The lease's fate is set to the worst before every await and to what is known afterwards, so that a
//! future that is dropped at any point, or a panic, leaves the connection to the right end.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement};
use sqlx::{Execute, Executor, Postgres, RawSql, SqlStr};

use super::ABORTED;
use super::control::{self, Effect};
use super::error::{QueryError, is_connection_error, leaves_connection_known, sqlstate};
use super::session::{Scope, Session};
use super::settings::ResetMode;
use super::track::Errand;
use crate::error::Categorized;
use crate::pool::Fate;

impl Session {
    pub(super) async fn run_execute<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<PgQueryResult, QueryError> {
        let (statement, before) = self.depart_with(statement)?;
        let connection = self.lease.tracked().tracked();
        let result = connection.execute(statement).await;
        self.arrive(before, result)
    }

    pub(super) async fn run_fetch_all<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Vec<PgRow>, QueryError> {
        let (statement, before) = self.depart_with(statement)?;
        let connection = self.lease.tracked().tracked();
        let result = connection.fetch_all(statement).await;
        self.arrive(before, result)
    }

    pub(super) async fn run_fetch_optional<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Option<PgRow>, QueryError> {
        let (statement, before) = self.depart_with(statement)?;
        let connection = self.lease.tracked().tracked();
        let result = connection.fetch_optional(statement).await;
        self.arrive(before, result)
    }

    /// Executes a statement that begins or ends a transaction or savepoint.
    pub(super) async fn control(
        &mut self,
        errand: Errand<'_>,
        sql: RawSql,
    ) -> Result<(), QueryError> {
        let before = self.depart(errand)?;
        let connection = self.lease.tracked().tracked();
        let result = connection.execute(sql).await;
        self.arrive(before, result.map(drop))
    }

    /// Looks at a statement's text, and then lets it go.
    fn depart_with<'q>(
        &mut self,
        mut statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<(Admitted, Fate), QueryError> {
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
        let before = self.depart(Errand::Statement(sql.as_str()))?;
        let admitted = Admitted {
            sql,
            arguments,
            persistent,
        };
        Ok((admitted, before))
    }

    /// Assumes the worst for as long as a statement is in flight; returns the fate to go back to.
    pub(super) fn depart(&mut self, errand: Errand<'_>) -> Result<Fate, QueryError> {
        if let Err(reaped) = self.lease.get().track().depart(errand) {
            self.reaped = Some(reaped);
            self.lease.condemn(Fate::Abandon);
            return Err(QueryError::Reaped(reaped));
        }
        if self.lease.get().config().reset == ResetMode::Clean {
            self.base = self.base.max(Fate::Reset);
            self.lease.condemn(Fate::Reset);
        }
        let before = self.lease.fate();
        self.lease.condemn(Fate::Abandon);
        Ok(before)
    }

    /// Replaces the worst by what the statement came to.
    pub(super) fn arrive<T>(
        &mut self,
        before: Fate,
        result: sqlx::Result<T>,
    ) -> Result<T, QueryError> {
        self.reaped = self.lease.get().track().arrive();
        if let Err(cause) = &result
            && !is_consequence(cause)
        {
            self.lease.meters().error(cause.kind());
        }
        let known = match &result {
            Ok(_) => true,
            Err(cause) => leaves_connection_known(cause),
        };
        match (result, self.reaped) {
            // It is being ended from outside, whatever the answer was: no other connection is suspect.
            (Ok(value), Some(_)) => Ok(value),
            (Err(cause), Some(reaped)) if is_connection_error(&cause) => {
                Err(QueryError::Reaped(reaped))
            }
            (Err(cause), Some(_)) => Err(QueryError::Statement(cause)),
            (Ok(value), None) => {
                self.lease.set_fate(before);
                Ok(value)
            }
            (Err(cause), None) if known => {
                self.lease.set_fate(before);
                self.note_doom(&cause);
                Err(QueryError::Statement(cause))
            }
            (Err(cause), None) if is_connection_error(&cause) => {
                self.lease.condemn(Fate::Broken);
                Err(QueryError::Connection(cause))
            }
            // An error in the middle of the answer: the rest of it may still come.
            (Err(cause), None) => Err(QueryError::Statement(cause)),
        }
    }

    /// After a serialization failure or deadlock, no savepoint can save the transaction: what it has read
    /// is not valid any more.
    fn note_doom(&mut self, cause: &sqlx::Error) {
        if self.scope > Scope::Outside
            && let Some(code) = sqlstate(cause).filter(|code| code.starts_with("40"))
        {
            self.doomed = Some(code.into_owned());
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

/// Returns whether the server only says again that the transaction has failed or ended before.
fn is_consequence(error: &sqlx::Error) -> bool {
    matches!(sqlstate(error).as_deref(), Some(ABORTED | "25P01"))
}
