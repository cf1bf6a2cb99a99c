//! What goes wrong on a session, one enum per operation, and its category.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use thiserror::Error;

use super::listing::Reaped;
use super::resolve::InDoubt;
use super::settings::SessionConfigError;
use crate::brief::brief;
use crate::error::{Categorized, ErrorKind};

/// Why a statement failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The statement failed and the connection lives. Within a transaction, everything up to the
    /// enclosing savepoint is lost.
    #[error("the statement failed")]
    Statement(#[source] sqlx::Error),
    /// The connection broke. Whether the statement was executed is unknown; its transaction, if any,
    /// will not commit.
    #[error("the connection broke")]
    Connection(#[source] sqlx::Error),
    /// The statement begins or ends a transaction or savepoint, which is what
    /// [`Session::transaction`](super::Session::transaction) and
    /// [`Transaction::savepoint`](super::Transaction::savepoint) are for.
    #[error("{keyword} is refused; use `transaction` and `savepoint` instead")]
    TransactionControl {
        /// The word that the statement begins with.
        keyword: &'static str,
    },
    /// LISTEN: the connection serves others before a notification comes, and what comes unasked stands where
    /// answers are read. Listen on a connection of your own.
    #[error("LISTEN is refused; listen on a connection of your own, outside the pool")]
    Listen,
    /// COPY with the client as its other end needs [`Session::raw`](super::Session::raw), with sqlx's
    /// `copy_in_raw` and `copy_out_raw`.
    #[error(
        "COPY from STDIN or to STDOUT is refused; use `copy_in_raw` or `copy_out_raw` on `raw`"
    )]
    ClientCopy,
    /// A notification came where the answer to a statement outside any transaction was read, so that the
    /// answer is lost. The statement may have been executed; the session goes on. None come within a
    /// transaction; or listen on a connection of your own.
    #[error(
        "a notification came where the answer was read; the statement may have been executed: run it in a \
         transaction, or listen on a connection of your own"
    )]
    AnswerLost(#[source] sqlx::Error),
    /// A pooler in between pools transactions, and what was asked for needs one server process for longer.
    /// See [`Pooler`](super::Pooler).
    #[error(
        "{what} is refused behind a pooler that pools transactions: {remedy} (should it pool sessions, \
         set SessionConfig::pooler to Pooler::Session)"
    )]
    Pooled {
        /// What was asked for.
        what: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The pooler in between was declared to pool sessions, and gave the connection another server
    /// process. Get another session, and mend the declaration.
    #[error(
        "server process {now} serves the connection and no more {then}: what is in between pools \
         transactions, so set SessionConfig::pooler to Pooler::Transaction"
    )]
    ProcessMoved {
        /// The process id at the connection's start.
        then: i32,
        /// The process id now.
        now: i32,
    },
    /// An earlier statement was abandoned or broke the connection: nothing else runs on it, and its
    /// transaction will not commit.
    #[error(
        "an earlier statement was abandoned or broke the connection; the transaction will not commit"
    )]
    RollbackOnly,
    /// An earlier transaction on this session was abandoned. Get another session.
    #[error("an earlier transaction on this session was abandoned; get another session")]
    Poisoned,
    /// An earlier statement of the transaction failed with a serialization failure or deadlock, which no
    /// savepoint can mend: the whole transaction must run again.
    #[error("an earlier statement failed with {sqlstate}, so the whole transaction must run again")]
    SerializationFailed {
        /// What the earlier statement failed with, of class 40.
        sqlstate: String,
    },
    /// A transaction was left open on the raw connection. End it there, or get another session.
    #[error("a transaction was left open on the raw connection; end it there first")]
    OpenTransaction,
    /// The pool ended this session because it was left alone for too long. Its transaction, if any, was
    /// rolled back. Get another session.
    #[error("the pool ended this session: it was {0}")]
    Reaped(Reaped),
    /// The transaction's options cannot work.
    #[error("the transaction's options cannot work")]
    Options(#[source] SessionConfigError),
}

/// Why a transaction did not commit. Except for [`TransactionError::CommitUnknown`], nothing of it is
/// stored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransactionError<E> {
    /// It could not begin.
    #[error("the transaction could not begin")]
    Begin(#[source] QueryError),
    /// The closure returned an error, and the transaction was rolled back; when a statement of it was
    /// abandoned or broke the connection, by closing that.
    #[error("the transaction was rolled back because its work failed")]
    Work(#[source] E),
    /// The closure returned an error and ROLLBACK failed, so that the connection is closed, which rolls
    /// back as well.
    #[error(
        "the transaction's work failed, and so did its rollback, so the connection is closed: {rollback}"
    )]
    Rollback {
        /// The closure's error.
        #[source]
        work: E,
        /// ROLLBACK's.
        rollback: QueryError,
    },
    /// A statement failed, the closure returned `Ok` all the same, and the server rolled back.
    #[error("the commit was rolled back because an earlier statement of the transaction failed")]
    CommitRolledBack,
    /// The server was not in a transaction any more when it should have committed.
    #[error("the transaction had already ended on the server")]
    Lost(#[source] sqlx::Error),
    /// An earlier statement was abandoned or broke the connection, so that COMMIT was never sent.
    #[error(
        "the commit was not attempted because an earlier statement was abandoned or broke the connection"
    )]
    RollbackOnly,
    /// A statement failed with a serialization failure or deadlock, the closure returned `Ok` all the
    /// same, and the transaction was rolled back. Running it again can help.
    #[error("the commit was not attempted because an earlier statement failed with {sqlstate}")]
    SerializationFailed {
        /// What the statement failed with, of class 40.
        sqlstate: String,
    },
    /// The pool ended the session because it was left alone for too long, before COMMIT was sent.
    #[error("the pool ended the session before the commit: it was {0}")]
    Reaped(Reaped),
    /// The deadline passed before COMMIT was written, and the transaction was rolled back; or will be at
    /// once, by closing its connection.
    #[error("the transaction had not ended within {}", brief(*within))]
    DeadlinePassed {
        /// The setting.
        within: Duration,
    },
    /// The server refused to commit, such as for a deferred constraint.
    #[error("the server refused to commit")]
    CommitRefused(#[source] sqlx::Error),
    /// COMMIT was written and the answer never came. The transaction may be stored or not; running it
    /// again may apply it twice.
    #[error("the commit's outcome is unknown (backend {})", in_doubt.backend.pid)]
    CommitUnknown {
        /// What is needed to find out.
        in_doubt: InDoubt,
        /// What went wrong.
        #[source]
        cause: sqlx::Error,
    },
}

/// Why a savepoint was not kept. Nothing that was done under it is kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SavepointError<E> {
    /// SAVEPOINT, or RELEASE or ROLLBACK TO at its end, failed.
    #[error("the savepoint could not be set or ended")]
    Control(#[source] QueryError),
    /// The closure returned an error, and the savepoint was rolled back.
    #[error("the savepoint was rolled back because its work failed")]
    Work(#[source] E),
    /// A statement failed, the closure returned `Ok` all the same, and the savepoint was rolled back.
    #[error("the savepoint was rolled back because an earlier statement under it failed")]
    RolledBack,
}

impl Categorized for sqlx::Error {
    fn kind(&self) -> ErrorKind {
        if is_connection_error(self) {
            return ErrorKind::Connection;
        }
        if is_stale(self) {
            return ErrorKind::Stale;
        }
        if is_notification(self) {
            return ErrorKind::Ambiguous;
        }
        match self {
            Self::Database(error) => {
                let code = error.code();
                match code.map_or(ErrorKind::Other, |code| ErrorKind::of_sqlstate(&code)) {
                    // Of another connection, such as a foreign server's: this one lives.
                    ErrorKind::Connection => ErrorKind::Other,
                    kind => kind,
                }
            }
            Self::ColumnNotFound(_) | Self::ColumnIndexOutOfBounds { .. } => {
                ErrorKind::UndefinedObject
            }
            Self::ColumnDecode { .. }
            | Self::TypeNotFound { .. }
            | Self::Encode(_)
            | Self::Decode(_)
            | Self::InvalidArgument(_) => ErrorKind::Type,
            Self::RowNotFound => ErrorKind::NoRows,
            _ => ErrorKind::Other,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Database(error) => error.code().map(Into::into),
            _ => None,
        }
    }

    /// Not for a broken connection: by itself, nobody knows whether it was within a transaction.
    fn is_retryable(&self) -> bool {
        retryable_alone(self.kind())
    }
}

impl Categorized for QueryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Statement(cause) => cause.kind(),
            Self::Connection(_) => ErrorKind::Connection,
            Self::TransactionControl { .. }
            | Self::Listen
            | Self::ClientCopy
            | Self::Pooled { .. }
            | Self::ProcessMoved { .. } => ErrorKind::Refused,
            Self::AnswerLost(_) => ErrorKind::Ambiguous,
            Self::RollbackOnly | Self::Poisoned => ErrorKind::RolledBack,
            Self::SerializationFailed { sqlstate } => ErrorKind::of_sqlstate(sqlstate),
            Self::OpenTransaction | Self::Options(_) => ErrorKind::Refused,
            Self::Reaped(_) => ErrorKind::Canceled,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Statement(cause) | Self::Connection(cause) => cause.sqlstate(),
            Self::SerializationFailed { sqlstate } => Some(sqlstate.clone()),
            Self::TransactionControl { .. }
            | Self::Listen
            | Self::ClientCopy
            | Self::AnswerLost(_)
            | Self::Pooled { .. }
            | Self::ProcessMoved { .. }
            | Self::RollbackOnly
            | Self::Poisoned
            | Self::OpenTransaction
            | Self::Reaped(_)
            | Self::Options(_) => None,
        }
    }

    /// Not for a broken connection: outside a transaction, the statement may have been executed. As
    /// part of a [`TransactionError`] it is.
    fn is_retryable(&self) -> bool {
        retryable_alone(self.kind())
    }
}

impl<E: Categorized> Categorized for TransactionError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Begin(cause) => cause.kind(),
            Self::Work(cause) | Self::Rollback { work: cause, .. } => cause.kind(),
            Self::CommitRolledBack | Self::Lost(_) | Self::RollbackOnly => ErrorKind::RolledBack,
            Self::SerializationFailed { sqlstate } => ErrorKind::of_sqlstate(sqlstate),
            Self::Reaped(_) | Self::DeadlinePassed { .. } => ErrorKind::Canceled,
            Self::CommitRefused(cause) => cause.kind(),
            Self::CommitUnknown { .. } => ErrorKind::Ambiguous,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Begin(cause) => cause.sqlstate(),
            Self::Work(cause) | Self::Rollback { work: cause, .. } => cause.sqlstate(),
            Self::SerializationFailed { sqlstate } => Some(sqlstate.clone()),
            Self::CommitRolledBack
            | Self::RollbackOnly
            | Self::Reaped(_)
            | Self::DeadlinePassed { .. } => None,
            Self::Lost(cause) | Self::CommitRefused(cause) | Self::CommitUnknown { cause, .. } => {
                cause.sqlstate()
            }
        }
    }

    /// Also where COMMIT never left because an earlier statement was abandoned or broke the connection.
    fn is_retryable(&self) -> bool {
        matches!(self, Self::RollbackOnly) || self.kind().is_retryable()
    }
}

impl<E: Categorized> Categorized for SavepointError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Control(cause) => cause.kind(),
            Self::Work(cause) => cause.kind(),
            Self::RolledBack => ErrorKind::RolledBack,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Control(cause) => cause.sqlstate(),
            Self::Work(cause) => cause.sqlstate(),
            Self::RolledBack => None,
        }
    }
}

fn retryable_alone(kind: ErrorKind) -> bool {
    kind != ErrorKind::Connection && kind.is_retryable()
}

/// Returns whether the connection is gone or cannot be trusted any more. An error of the server says so by
/// its severity: the code may be of another connection, such as a foreign server's, or of a mistake, such
/// as a value too few (08P01).
pub(crate) fn is_connection_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Protocol(_) => !is_notification(error),
        sqlx::Error::Database(error) => {
            let error = error.try_downcast_ref::<PgDatabaseError>();
            let severity = error.map(PgDatabaseError::severity);
            matches!(severity, Some(PgSeverity::Fatal | PgSeverity::Panic))
        }
        _ => false,
    }
}

/// Returns whether the connection is where sqlx believes it to be: the server refused the statement, sqlx
/// did before it was sent, its answer was read to the end and does not fit, or sqlx reads on to that end
/// before the next statement.
pub(crate) fn leaves_connection_known(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::InvalidArgument(_)
        | sqlx::Error::RowNotFound
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. } => !is_connection_error(error),
        _ => false,
    }
}

/// Returns whether the statement failed because of what sqlx remembers of the database for this connection,
/// and the database has changed: prepared statements and the oids of types. The codes alone also tell of
/// other errors.
pub(crate) fn is_stale(error: &sqlx::Error) -> bool {
    let Some(error) = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
    else {
        return false;
    };
    match error.code() {
        // "Cached plan must not change result type", in any language.
        "0A000" => error.routine() == Some("RevalidateCachedQuery"),
        // One of sqlx's own names, which no translation changes.
        "26000" | "42P05" => error.message().contains("\"sqlx_s_"),
        // A type by its oid, which only a driver remembers. The server does not translate the first.
        "XX000" => error.message().starts_with("cache lookup failed for type "),
        "42704" => error.routine() == Some("lookup_type_cache"),
        _ => false,
    }
}

/// Returns whether the error is of a class about connections. It may be a pooler's that has lost the server,
/// whatever severity it gives it: only an answer shows that the connection lives.
pub(crate) fn is_about_connections(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|code| {
        code.starts_with("08") || ErrorKind::of_sqlstate(&code) == ErrorKind::Connection
    })
}

/// Returns whether sqlx met a notification where it looked for an answer.
pub(crate) fn is_notification(error: &sqlx::Error) -> bool {
    // sqlx tells so by nothing but its text.
    matches!(error, sqlx::Error::Protocol(text) if text.contains("NotificationResponse"))
}

pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}

#[cfg(test)]
mod tests;
