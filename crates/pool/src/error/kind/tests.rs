//! What becomes of SQLSTATEs, and what each kind says.

use std::collections::BTreeSet;

use super::*;

#[test]
fn all_kinds_are_listed_once_in_order_and_have_words_of_their_own() {
    for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, index, "{kind}");
    }
    assert_eq!(ErrorKind::Other as usize + 1, ErrorKind::ALL.len());
    let words: BTreeSet<&str> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(words.len(), ErrorKind::ALL.len());
}

#[test]
fn the_codes_of_postgres_have_their_kinds() {
    for (code, kind) in [
        ("40001", ErrorKind::Serialization),
        ("40002", ErrorKind::Serialization),
        ("40003", ErrorKind::Ambiguous),
        ("40P01", ErrorKind::Deadlock),
        ("23505", ErrorKind::Unique),
        ("23503", ErrorKind::ForeignKey),
        ("23502", ErrorKind::NotNull),
        ("23514", ErrorKind::Check),
        ("23P01", ErrorKind::Exclusion),
        ("23000", ErrorKind::Integrity),
        ("42601", ErrorKind::Syntax),
        ("42P01", ErrorKind::UndefinedObject),
        ("42804", ErrorKind::Type),
        ("22P02", ErrorKind::Type),
        ("42501", ErrorKind::Refused),
        ("25006", ErrorKind::Refused),
        ("P0002", ErrorKind::NoRows),
        ("21000", ErrorKind::TooManyRows),
        ("57014", ErrorKind::Canceled),
        ("53300", ErrorKind::Resource),
        ("08006", ErrorKind::Connection),
        ("08P01", ErrorKind::Refused),
        ("57P01", ErrorKind::Connection),
        // Met as the first thing on a session, it is somebody else's failure and no rollback.
        ("25P02", ErrorKind::Other),
        ("XX000", ErrorKind::Other),
        ("", ErrorKind::Other),
        ("é", ErrorKind::Other),
    ] {
        assert_eq!(ErrorKind::of_sqlstate(code), kind, "{code}");
    }
}

/// A message tells a person what to do, and neither names nor words of the machinery.
#[test]
fn messages_for_end_users_say_what_to_do_and_nothing_internal() {
    for kind in ErrorKind::ALL {
        let message = kind.user_message();
        assert!(message.contains("Please "), "{kind}: {message}");
        assert!(message.ends_with('.'), "{kind}: {message}");
        let lower = message.to_lowercase();
        for internal in [
            "sql",
            "postgres",
            "database",
            "pool",
            "connection",
            "transaction",
            "commit",
            "server",
            "deadlock",
            "constraint",
            "column",
            "table",
        ] {
            assert!(!lower.contains(internal), "{kind}: {message}");
        }
    }
}

#[test]
fn only_what_is_safe_and_can_help_is_retryable() {
    let retryable: Vec<ErrorKind> = ErrorKind::ALL
        .into_iter()
        .filter(|kind| kind.is_retryable())
        .collect();
    assert_eq!(
        retryable,
        [
            ErrorKind::Serialization,
            ErrorKind::Deadlock,
            ErrorKind::Connection,
            ErrorKind::Resource,
            ErrorKind::Stale
        ]
    );
}
