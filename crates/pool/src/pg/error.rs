//! What goes wrong on a session, one enum per operation, and its category.

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use thiserror::Error;

use super::session::InDoubt;
use crate::error::{Categorized, Category};

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
    /// An earlier statement was abandoned or broke the connection: nothing else runs on it, and its
    /// transaction will not commit.
    #[error(
        "an earlier statement was abandoned or broke the connection; the transaction will not commit"
    )]
    RollbackOnly,
    /// An earlier transaction on this session was abandoned. Get another session.
    #[error("an earlier transaction on this session was abandoned; get another session")]
    Poisoned,
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
    fn category(&self) -> Category {
        if is_connection_error(self) {
            return Category::Connection;
        }
        match self {
            Self::Database(error) => error
                .code()
                .map_or(Category::Other, |code| category_of(&code)),
            Self::ColumnNotFound(_)
            | Self::ColumnIndexOutOfBounds { .. }
            | Self::ColumnDecode { .. }
            | Self::TypeNotFound { .. }
            | Self::Encode(_)
            | Self::Decode(_)
            | Self::InvalidArgument(_) => Category::Programming,
            _ => Category::Other,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Database(error) => error.code().map(Into::into),
            _ => None,
        }
    }
}

impl Categorized for QueryError {
    fn category(&self) -> Category {
        match self {
            Self::Statement(cause) => cause.category(),
            Self::Connection(_) => Category::Connection,
            Self::TransactionControl { .. } => Category::Programming,
            Self::RollbackOnly | Self::Poisoned => Category::RolledBack,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Statement(cause) | Self::Connection(cause) => cause.sqlstate(),
            Self::TransactionControl { .. } | Self::RollbackOnly | Self::Poisoned => None,
        }
    }
}

impl<E: Categorized> Categorized for TransactionError<E> {
    fn category(&self) -> Category {
        match self {
            Self::Begin(cause) => cause.category(),
            Self::Work(cause) | Self::Rollback { work: cause, .. } => cause.category(),
            Self::CommitRolledBack | Self::Lost(_) | Self::RollbackOnly => Category::RolledBack,
            Self::CommitRefused(cause) => cause.category(),
            Self::CommitUnknown { .. } => Category::Ambiguous,
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Begin(cause) => cause.sqlstate(),
            Self::Work(cause) | Self::Rollback { work: cause, .. } => cause.sqlstate(),
            Self::CommitRolledBack | Self::RollbackOnly => None,
            Self::Lost(cause) | Self::CommitRefused(cause) | Self::CommitUnknown { cause, .. } => {
                cause.sqlstate()
            }
        }
    }
}

impl<E: Categorized> Categorized for SavepointError<E> {
    fn category(&self) -> Category {
        match self {
            Self::Control(cause) => cause.category(),
            Self::Work(cause) => cause.category(),
            Self::RolledBack => Category::RolledBack,
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

fn category_of(sqlstate: &str) -> Category {
    match sqlstate.get(..2) {
        Some("08") => Category::Connection,
        Some("23") => Category::Integrity,
        Some("40") => Category::Serialization,
        Some("42" | "22") => Category::Programming,
        Some("53") => Category::Resource,
        _ => Category::Other,
    }
}

/// Returns whether the connection is gone or cannot be trusted any more.
pub(crate) fn is_connection_error(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            let fatal = error
                .try_downcast_ref::<PgDatabaseError>()
                .is_some_and(|error| {
                    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
                });
            fatal
                || error.code().is_some_and(|code| {
                    code.starts_with("08") || matches!(&*code, "57P01" | "57P02" | "57P03")
                })
        }
        _ => false,
    }
}

/// Returns whether the statement ran to its end or was never sent, so that the connection is where
/// sqlx believes it to be.
pub(crate) fn leaves_connection_known(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(_)
        | sqlx::Error::RowNotFound
        | sqlx::Error::Encode(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. } => !is_connection_error(error),
        _ => false,
    }
}
