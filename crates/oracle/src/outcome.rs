//! What a subject says an op came to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an op came to, as far as its caller can know.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did what it should: a commit was confirmed, or an intended rollback was.
    Ok,
    /// It surely left nothing behind.
    Fail,
    /// Unknown: an I/O error, a deadline or a cancellation once COMMIT was written.
    Info,
    /// It never started: timed out or refused in the queue.
    Shed,
}

/// Why an op did not end in [`Outcome::Ok`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpError {
    /// What kind of error.
    pub category: ErrorCategory,
    /// SQLSTATE, where the server sent one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sqlstate: Option<String>,
    /// The error's text, free of passwords.
    pub message: String,
}

/// The kinds of errors that a report counts apart, because their remedies differ.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCategory {
    /// The pool had no connection to give within `pool_timeout`, or its queue was full.
    Capacity,
    /// The database could not be reached, or the pool is closed.
    Unavailable,
    /// An established connection broke.
    Connection,
    /// Serialization failure or deadlock (class 40).
    Serialization,
    /// A constraint was violated (class 23).
    Integrity,
    /// Syntax, an undefined object, a wrong type.
    Programming,
    /// The server lacks something: memory, disk, connections (class 53).
    Resource,
    /// COMMIT was written and its result is unknown.
    Ambiguous,
    /// COMMIT was answered by ROLLBACK.
    RolledBack,
    /// The op's own deadline passed.
    Deadline,
    /// The run ended before the op did, and before the op had to.
    CutShort,
    /// The op was cancelled, as planned.
    Cancelled,
    /// The op panicked, as planned or not (the message says which).
    Panicked,
    /// Anything else; the message says what.
    Other,
}

impl ErrorCategory {
    /// Returns the word for it that reports and histories use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Unavailable => "unavailable",
            Self::Connection => "connection",
            Self::Serialization => "serialization",
            Self::Integrity => "integrity",
            Self::Programming => "programming",
            Self::Resource => "resource",
            Self::Ambiguous => "ambiguous",
            Self::RolledBack => "rolled-back",
            Self::Deadline => "deadline",
            Self::CutShort => "cut-short",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
            Self::Other => "other",
        }
    }
}
