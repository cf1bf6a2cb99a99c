//! What an error of sqlx means for an op: one reading for every subject.

use poolproof_load::{OpEnd, Trace};
use poolproof_oracle::{ErrorCategory, OpError, Outcome};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

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
    of(error, Outcome::Shed, ErrorCategory::Unavailable)
}

/// An error while COMMIT had not been written: nothing of the op stays.
pub(crate) fn before_commit(error: &sqlx::Error) -> OpEnd {
    of(error, Outcome::Fail, category(error))
}

/// An error instead of the answer to COMMIT.
///
/// Only a server that answers and lives on has refused the commit. FATAL and PANIC are the
/// server's last words: they may have been on their way before it read COMMIT, or come (57P02)
/// when the commit record was already written.
pub(crate) fn at_commit(error: &sqlx::Error) -> OpEnd {
    if is_definite(error) {
        of(error, Outcome::Fail, category(error))
    } else {
        of(error, Outcome::Info, ErrorCategory::Ambiguous)
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
    server_error(error).is_some_and(|e| !is_last_words(e))
}

fn is_last_words(error: &PgDatabaseError) -> bool {
    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

fn server_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

fn category(error: &sqlx::Error) -> ErrorCategory {
    match error {
        sqlx::Error::Database(_) => server_error(error).map_or(ErrorCategory::Other, |e| {
            let known = by_sqlstate(e.code());
            if known == ErrorCategory::Other && is_last_words(e) {
                ErrorCategory::Connection
            } else {
                known
            }
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => ErrorCategory::Connection,
        sqlx::Error::PoolTimedOut => ErrorCategory::Capacity,
        sqlx::Error::PoolClosed => ErrorCategory::Unavailable,
        sqlx::Error::Configuration(_)
        | sqlx::Error::InvalidArgument(_)
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::InvalidSavePointStatement => ErrorCategory::Programming,
        _ => ErrorCategory::Other,
    }
}

/// Reads a SQLSTATE: single codes first, then its class (the first two characters).
fn by_sqlstate(code: &str) -> ErrorCategory {
    match code {
        "57P01" | "57P02" | "57P05" => return ErrorCategory::Connection,
        "57P03" | "57P04" => return ErrorCategory::Unavailable,
        _ => {}
    }
    match code.get(..2) {
        Some("08") => ErrorCategory::Connection,
        Some("23") => ErrorCategory::Integrity,
        Some("40") => ErrorCategory::Serialization,
        Some("22" | "42") => ErrorCategory::Programming,
        Some("53") => ErrorCategory::Resource,
        _ => ErrorCategory::Other,
    }
}

fn of(error: &sqlx::Error, outcome: Outcome, category: ErrorCategory) -> OpEnd {
    OpEnd {
        outcome,
        error: Some(OpError {
            category,
            sqlstate: server_error(error).map(|e| e.code().to_owned()),
            message: error.to_string(),
        }),
    }
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
    fn a_sqlstate_stands_for_the_remedy() {
        for (code, category) in [
            ("08006", ErrorCategory::Connection),
            ("22012", ErrorCategory::Programming),
            ("23505", ErrorCategory::Integrity),
            ("25P02", ErrorCategory::Other),
            ("40001", ErrorCategory::Serialization),
            ("40P01", ErrorCategory::Serialization),
            ("42P01", ErrorCategory::Programming),
            ("53300", ErrorCategory::Resource),
            ("57014", ErrorCategory::Other),
            ("57P01", ErrorCategory::Connection),
            ("57P03", ErrorCategory::Unavailable),
            ("", ErrorCategory::Other),
        ] {
            assert_eq!(by_sqlstate(code), category, "{code}");
        }
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
        trace.acquired();
        assert_eq!(deadline_passed(&trace).outcome, Outcome::Fail);
        trace.commit_sent();
        assert_eq!(deadline_passed(&trace).outcome, Outcome::Info);
    }
}
