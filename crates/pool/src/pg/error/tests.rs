//! Errors that sqlx finds out by itself, and answers of a server by their code.

use std::error::Error as StdError;
use std::{fmt, io};

use sqlx::error::{DatabaseError, ErrorKind as Constraint};

use super::*;

/// A server's answer, by its code.
#[derive(Debug)]
struct Answer(&'static str);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Answer {}

impl DatabaseError for Answer {
    fn message(&self) -> &str {
        self.0
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> Constraint {
        Constraint::Other
    }
}

fn answer(code: &'static str) -> sqlx::Error {
    sqlx::Error::Database(Box::new(Answer(code)))
}

fn broken() -> sqlx::Error {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

#[test]
fn what_sqlx_finds_out_by_itself_has_its_kind_and_leaves_the_connection_known_or_not() {
    let missing = sqlx::Error::ColumnNotFound("price".to_owned());
    let beyond = sqlx::Error::ColumnIndexOutOfBounds { index: 3, len: 2 };
    let encode = sqlx::Error::Encode("too long".into());
    let decode = sqlx::Error::Decode("a word where a number should be".into());
    let protocol = sqlx::Error::Protocol("no such message".to_owned());
    let cases = [
        (missing, ErrorKind::UndefinedObject, true),
        (beyond, ErrorKind::UndefinedObject, true),
        (encode, ErrorKind::Type, true),
        (decode, ErrorKind::Type, false),
        (sqlx::Error::RowNotFound, ErrorKind::NoRows, true),
        (sqlx::Error::PoolClosed, ErrorKind::Other, false),
        (broken(), ErrorKind::Connection, false),
        (protocol, ErrorKind::Connection, false),
        (sqlx::Error::WorkerCrashed, ErrorKind::Connection, false),
    ];
    for (error, kind, known) in cases {
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(Categorized::sqlstate(&error), None, "{error}");
        assert_eq!(leaves_connection_known(&error), known, "{error}");
    }
}

#[test]
fn some_codes_say_that_the_connection_is_gone() {
    for code in ["08006", "57P01", "57P02", "57P03"] {
        assert!(is_connection_error(&answer(code)), "{code}");
        assert!(!leaves_connection_known(&answer(code)), "{code}");
    }
    for code in ["40001", "57014", "25P02"] {
        assert!(!is_connection_error(&answer(code)), "{code}");
        assert!(leaves_connection_known(&answer(code)), "{code}");
    }
}

#[test]
fn an_error_of_sqlx_by_itself_is_retryable_unless_the_connection_broke() {
    let retryable = |error: sqlx::Error| error.is_retryable();
    assert!(retryable(answer("40001")));
    assert!(!retryable(answer("23505")));
    assert!(!retryable(answer("57P01")));
    assert!(!retryable(broken()));
}

#[test]
fn a_savepoint_that_was_not_kept_tells_the_code_of_what_failed() {
    let control = SavepointError::<QueryError>::Control(QueryError::Statement(answer("57014")));
    let work = SavepointError::Work(QueryError::Statement(answer("23505")));
    let rolled_back = SavepointError::<QueryError>::RolledBack;
    let codes = [control, work, rolled_back].map(|error| error.sqlstate());
    assert_eq!(codes, [Some("57014".into()), Some("23505".into()), None]);
}
