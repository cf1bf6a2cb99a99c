//! What an error means for an op: one reading for every subject, over the pool crate's categories.

use std::error::Error;
use std::sync::Arc;

use poolproof_load::{OpEnd, Trace};
use poolproof_oracle::{ErrorCategory, OpError, Outcome};
use poolproof_pool::{Categorized, Category};

/// The op never got a connection.
pub(crate) fn shed(category: ErrorCategory, message: impl Into<String>) -> OpEnd {
    end(Outcome::Shed, category, message.into())
}

/// The op surely left nothing behind, and no server said why.
pub(crate) fn fail(category: ErrorCategory, message: impl Into<String>) -> OpEnd {
    end(Outcome::Fail, category, message.into())
}

/// A connection could not be opened.
pub(crate) fn connect_failed(error: &sqlx::Error) -> OpEnd {
    told(Outcome::Shed, ErrorCategory::Unavailable, error)
}

/// An error while COMMIT had not been written: nothing of the op stays.
pub(crate) fn before_commit(error: &sqlx::Error) -> OpEnd {
    told(Outcome::Fail, category(error.category()), error)
}

/// An error instead of the answer to COMMIT.
///
/// Only a server that answers and lives on has refused the commit. FATAL and PANIC are the
/// server's last words: they may have been on their way before it read COMMIT, or come (57P02)
/// when the commit record was already written.
pub(crate) fn at_commit(error: &sqlx::Error) -> OpEnd {
    if is_definite(error) {
        told(Outcome::Fail, category(error.category()), error)
    } else {
        told(Outcome::Info, ErrorCategory::Ambiguous, error)
    }
}

/// What an error is said to have come to, with its causes as the message.
pub(crate) fn told(
    outcome: Outcome,
    category: ErrorCategory,
    error: &(dyn Error + 'static),
) -> OpEnd {
    OpEnd {
        outcome,
        error: Some(OpError {
            category,
            sqlstate: sqlstate(error),
            message: chain(error),
        }),
    }
}

/// The op's own deadline passed; what that means depends on how far it got.
pub(crate) fn deadline_passed(trace: &Trace) -> OpEnd {
    if trace.commit_sent_us().is_some() {
        end(
            Outcome::Info,
            ErrorCategory::Ambiguous,
            "the op's deadline passed before COMMIT was answered".to_owned(),
        )
    } else if trace.acquired_us().is_some() {
        fail(
            ErrorCategory::Deadline,
            "the op's deadline passed inside its transaction",
        )
    } else {
        shed(
            ErrorCategory::Deadline,
            "the op's deadline passed before it got a connection",
        )
    }
}

/// Whether the server answered with an error and keeps the connection.
pub(crate) fn is_definite(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some() && error.category() != Category::Connection
}

/// The oracle's word for a category of the pool crate.
pub(crate) fn category(category: Category) -> ErrorCategory {
    match category {
        Category::Capacity => ErrorCategory::Capacity,
        Category::Unavailable => ErrorCategory::Unavailable,
        Category::Connection => ErrorCategory::Connection,
        Category::Serialization => ErrorCategory::Serialization,
        Category::Integrity => ErrorCategory::Integrity,
        Category::Programming => ErrorCategory::Programming,
        Category::Resource => ErrorCategory::Resource,
        Category::Ambiguous => ErrorCategory::Ambiguous,
        Category::RolledBack => ErrorCategory::RolledBack,
        _ => ErrorCategory::Other,
    }
}

/// The SQLSTATE of the first error in the chain that has one.
fn sqlstate(error: &(dyn Error + 'static)) -> Option<String> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| {
        let direct = error.downcast_ref::<sqlx::Error>();
        let shared = || error.downcast_ref::<Arc<sqlx::Error>>().map(Arc::as_ref);
        direct.or_else(shared)?.sqlstate()
    })
}

/// An error and its causes in one line. Errors of sqlx repeat their cause; here it comes once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |&error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn end(outcome: Outcome, category: ErrorCategory, message: String) -> OpEnd {
    OpEnd {
        outcome,
        error: Some(OpError {
            category,
            sqlstate: None,
            message,
        }),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_chain_of_errors_is_one_line_without_repetition() {
        let io = std::io::Error::other("reset by peer");
        let error = poolproof_pool::QueryError::Connection(sqlx::Error::Io(io));
        assert_eq!(
            chain(&error),
            "the connection broke: error communicating with database: reset by peer"
        );
    }

    #[test]
    fn an_io_error_is_a_failure_before_commit_and_doubt_after_it() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let of = |end: OpEnd| (end.outcome, end.error.map(|e| e.category));
        assert_eq!(
            of(before_commit(&broken())),
            (Outcome::Fail, Some(ErrorCategory::Connection))
        );
        assert_eq!(
            of(at_commit(&broken())),
            (Outcome::Info, Some(ErrorCategory::Ambiguous))
        );
        assert_eq!(
            of(connect_failed(&broken())),
            (Outcome::Shed, Some(ErrorCategory::Unavailable))
        );
    }

    #[test]
    fn a_deadline_means_what_the_op_had_reached() {
        let trace = Trace::new(Instant::now());
        assert_eq!(deadline_passed(&trace).outcome, Outcome::Shed);
        trace.acquired(None);
        assert_eq!(deadline_passed(&trace).outcome, Outcome::Fail);
        trace.commit_sent();
        assert_eq!(deadline_passed(&trace).outcome, Outcome::Info);
    }
}
