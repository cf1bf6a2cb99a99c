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
        let effect = control::effect(sql.as_str());
        let is_pooled = self.lease.get().is_pooled();
        if is_pooled {
            self.require_shared(effect, arguments.is_some())?;
        }
        match effect {
            Effect::Control(keyword) => return Err(QueryError::TransactionControl { keyword }),
            Effect::Residue(_) => {
                self.base = Fate::Reset;
                self.lease.condemn(Fate::Reset);
            }
            Effect::Indelible(_) => self.is_spent = true,
            Effect::None => {}
        }
        let before = self.depart(Errand::Statement(sql.as_str()))?;
        let admitted = Admitted {
            sql,
            arguments,
            // A statement with a name would stay on a process that serves others next.
            persistent: persistent && !is_pooled,
        };
        Ok((admitted, before))
    }

    /// Refuses what cannot work, or would hurt others, where transactions of many clients take turns on one
    /// server process.
    fn require_shared(&self, effect: Effect, is_prepared: bool) -> Result<(), QueryError> {
        match effect {
            // Like a function, a block may do nothing of the kind.
            Effect::Residue("DO") | Effect::None | Effect::Control(_) => {}
            Effect::Residue(what) | Effect::Indelible(what) => {
                let remedy = "it would stay on a server process that serves others; use what ends with \
                    the transaction (SET LOCAL, ON COMMIT DROP, pg_advisory_xact_lock)";
                return Err(QueryError::Pooled { what, remedy });
            }
        }
        // sqlx prepares and executes in two steps, and another client's may come in between.
        if is_prepared && self.scope == Scope::Outside {
            let what = "a prepared statement outside a transaction";
            let remedy = "run it in Session::transaction, or as sqlx::raw_sql without parameters";
            return Err(QueryError::Pooled { what, remedy });
        }
        Ok(())
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
