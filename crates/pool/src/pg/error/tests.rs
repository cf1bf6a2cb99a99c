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
    let invalid = sqlx::Error::InvalidArgument("a lock's name".to_owned());
    let type_name = "mood".to_owned();
    let unknown_type = sqlx::Error::TypeNotFound { type_name };
    let (index, source) = ("0".to_owned(), "no number".into());
    let undecodable = sqlx::Error::ColumnDecode { index, source };
    let tls = sqlx::Error::Tls("server does not support TLS".into());
    let config = sqlx::Error::Configuration("no such certificate".into());
    let any = sqlx::Error::AnyDriverError("no such driver".into());
    let protocol = sqlx::Error::Protocol("no such message".to_owned());
    let text = "execute: unexpected message: NotificationResponse".to_owned();
    let notification = sqlx::Error::Protocol(text);
    let cases = [
        (missing, ErrorKind::UndefinedObject, true),
        (beyond, ErrorKind::UndefinedObject, true),
        (encode, ErrorKind::Type, true),
        (decode, ErrorKind::Type, true),
        (invalid, ErrorKind::Type, true),
        (unknown_type, ErrorKind::Type, true),
        (undecodable, ErrorKind::Type, true),
        (sqlx::Error::RowNotFound, ErrorKind::NoRows, true),
        (sqlx::Error::PoolClosed, ErrorKind::Other, false),
        (sqlx::Error::PoolTimedOut, ErrorKind::Other, false),
        (sqlx::Error::BeginFailed, ErrorKind::Other, false),
        (
            sqlx::Error::InvalidSavePointStatement,
            ErrorKind::Other,
            false,
        ),
        (config, ErrorKind::Other, false),
        (any, ErrorKind::Other, false),
        (notification, ErrorKind::Ambiguous, true),
        (tls, ErrorKind::Connection, false),
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

/// What a server's error of each code and severity comes to is in `tests/postgres/mistakes.rs`.
#[test]
fn no_code_says_by_itself_that_the_connection_is_gone() {
    for code in [
        "08006", "08P01", "57P01", "57P02", "57P03", "40001", "57014", "25P02",
    ] {
        assert!(!is_connection_error(&answer(code)), "{code}");
        assert!(leaves_connection_known(&answer(code)), "{code}");
        assert_ne!(answer(code).kind(), ErrorKind::Connection, "{code}");
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
