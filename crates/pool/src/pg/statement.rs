//! How a session sends anything: what is refused before, and what is known after.
//!
//! The lease's fate is set to the worst before every await and to what is known afterwards, so that a
//! future that is dropped at any point, or a panic, leaves the connection to the right end.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow, PgStatement};
use sqlx::{Arguments, Connection, Execute, Executor, Postgres, RawSql, SqlStr};

use super::ABORTED;
use super::control::{self, Effect};
use super::error::{
    QueryError, is_about_connections, is_connection_error, is_notification, is_stale,
    leaves_connection_known, sqlstate,
};
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
        let result = self.settle(result).await;
        self.arrive(before, result)
    }

    pub(super) async fn run_fetch_all<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Vec<PgRow>, QueryError> {
        let (statement, before) = self.depart_with(statement)?;
        let connection = self.lease.tracked().tracked();
        let result = connection.fetch_all(statement).await;
        let result = self.settle(result).await;
        self.arrive(before, result)
    }

    pub(super) async fn run_fetch_optional<'q>(
        &mut self,
        statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Option<PgRow>, QueryError> {
        let (statement, before) = self.depart_with(statement)?;
        let connection = self.lease.tracked().tracked();
        let result = connection.fetch_optional(statement).await;
        let result = self.settle(result).await;
        self.arrive(before, result)
    }

    /// Executes a statement that begins or ends a transaction or savepoint.
    pub(super) async fn control(
        &mut self,
        errand: Errand<'_>,
        sql: RawSql,
    ) -> Result<(), QueryError> {
        self.control_rows(errand, sql).await.map(drop)
    }

    /// Does the same, and returns the rows of the answer. There are none where a notification came.
    pub(super) async fn control_rows(
        &mut self,
        errand: Errand<'_>,
        sql: RawSql,
    ) -> Result<Vec<PgRow>, QueryError> {
        let before = self.depart(errand)?;
        let result = self.lease.tracked().control(sql).await;
        let listens = matches!(result, Ok(None));
        let rows = self.arrive(before, result.map(Option::unwrap_or_default));
        if listens {
            self.unlisten_at_return();
        }
        rows
    }

    /// Learns what an error leaves open, and forgets what made it.
    async fn settle<T>(&mut self, mut result: sqlx::Result<T>) -> sqlx::Result<T> {
        let connection = self.lease.tracked().tracked();
        // The statement's own error may be behind a notification; and a pooler's may be followed by nothing.
        if result
            .as_ref()
            .is_err_and(|cause| is_notification(cause) || is_about_connections(cause))
        {
            result = connection.ping().await.and(result);
        }
        if std::mem::take(&mut self.outdated) || result.as_ref().is_err_and(is_stale) {
            connection.clear_cached_statements().await?;
        }
        result
    }

    /// Something listens although LISTEN is refused: a function, or what was done on the raw connection.
    fn unlisten_at_return(&mut self) {
        self.base = self.base.max(Fate::Reset);
        self.lease.condemn(Fate::Reset);
    }

    /// Looks at a statement's text, and then lets it go.
    fn depart_with<'q>(
        &mut self,
        mut statement: impl Execute<'q, Postgres> + 'q,
    ) -> Result<(Admitted, Fate), QueryError> {
        let persistent = statement.persistent();
        let arguments = statement
            .take_arguments()
            .and_then(refuse_too_many)
            .map_err(|cause| QueryError::Statement(sqlx::Error::Encode(cause)))?;
        let sql = statement.sql();
        let effect = control::effect(sql.as_str());
        let is_pooled = self.lease.get().is_pooled();
        if is_pooled {
            self.require_shared(effect, arguments.is_some())?;
        }
        match effect {
            Effect::Control(keyword) => return Err(QueryError::TransactionControl { keyword }),
            Effect::Listen => return Err(QueryError::Listen),
            Effect::ClientCopy => return Err(QueryError::ClientCopy),
            Effect::Residue(_) => {
                self.base = Fate::Reset;
                self.lease.condemn(Fate::Reset);
            }
            Effect::Indelible(keyword) => {
                self.is_spent = true;
                self.outdated = keyword != "LOAD";
            }
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
            Effect::Residue("DO")
            | Effect::None
            | Effect::Control(_)
            | Effect::Listen
            | Effect::ClientCopy => {}
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
                if is_notification(&cause) {
                    self.unlisten_at_return();
                    return Err(QueryError::AnswerLost(cause));
                }
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

/// Refuses more values than the protocol can count. sqlx would report that as a broken protocol.
fn refuse_too_many(arguments: Option<PgArguments>) -> Result<Option<PgArguments>, BoxDynError> {
    let count = arguments.as_ref().map_or(0, Arguments::len);
    if count > usize::from(u16::MAX) {
        return Err(format!("{count} values are bound; the protocol allows 65535").into());
    }
    Ok(arguments)
}

/// Returns whether the server only says again that the transaction has failed or ended before.
fn is_consequence(error: &sqlx::Error) -> bool {
    matches!(sqlstate(error).as_deref(), Some(ABORTED | "25P01"))
}
