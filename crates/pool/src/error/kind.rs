//! The kinds of errors, their categories, and what an end user is told.

use std::fmt;

/// What kind of error it is, by what the caller would do about it.
///
/// Each kind belongs to one [`Category`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Serialization failure (40001, and the rest of class 40).
    Serialization,
    /// Deadlock (40P01).
    Deadlock,
    /// An established connection broke.
    Connection,
    /// The server lacks memory, disk or connections (class 53).
    Resource,
    /// What the connection remembered of a table or type is out of date (0A000, 26000, …). It is forgotten
    /// by now.
    Stale,
    /// A value exists already (23505).
    Unique,
    /// A row refers to none, or is referred to (23503, 23001).
    ForeignKey,
    /// A value is missing (23502).
    NotNull,
    /// A value breaks a rule of its table (23514).
    Check,
    /// A row excludes another (23P01).
    Exclusion,
    /// Another violation of class 23.
    Integrity,
    /// The statement does not parse (42601).
    Syntax,
    /// A table, column, function or the like does not exist (42P01, 42703, 42883, …).
    UndefinedObject,
    /// A wrong type, or a value that does not fit its type (42804, class 22, decoding).
    Type,
    /// The statement is refused: for lack of a privilege, by another rule of class 42, in a read-only
    /// transaction, for too few or too many values (08P01), or by the session because it controls
    /// transactions, listens, or copies from or to the client.
    Refused,
    /// A row was expected and there is none.
    NoRows,
    /// One row was expected and there are more.
    TooManyRows,
    /// The server stopped the statement: a timeout of its own passed, or somebody cancelled it (57014,
    /// 55P03).
    Canceled,
    /// All connections that there may be were in use for the whole `pool_timeout`.
    Exhausted,
    /// As many acquires waited as may.
    QueueFull,
    /// The server did not answer by the deadline.
    ConnectTimeout,
    /// The server cannot be reached.
    Down,
    /// The server refuses the connection, and trying again cannot help.
    Rejected,
    /// The pool is closed.
    Closed,
    /// The pool is paused.
    Paused,
    /// COMMIT was written and its result is unknown, or the answer to a statement outside any transaction
    /// is lost.
    Ambiguous,
    /// The transaction was rolled back although its caller wanted to commit.
    RolledBack,
    /// Anything else.
    Other,
}

/// A group of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Category {
    /// The pool had no connection to give in time, or its queue was full.
    Capacity,
    /// The database cannot be reached, or the pool is closed or paused.
    Unavailable,
    /// An established connection broke.
    Connection,
    /// Serialization failure or deadlock (class 40): running the whole transaction again can help.
    Serialization,
    /// A constraint was violated (class 23).
    Integrity,
    /// Syntax, an undefined object, a wrong type, or a statement that is refused.
    Programming,
    /// No row, or too many.
    Query,
    /// The server lacks something: memory, disk, connections (class 53).
    Resource,
    /// COMMIT was written and its result is unknown.
    Ambiguous,
    /// The transaction was rolled back although its caller wanted to commit.
    RolledBack,
    /// Anything else, such as a statement that was cancelled.
    Other,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 28] = [
        Self::Serialization,
        Self::Deadlock,
        Self::Connection,
        Self::Resource,
        Self::Stale,
        Self::Unique,
        Self::ForeignKey,
        Self::NotNull,
        Self::Check,
        Self::Exclusion,
        Self::Integrity,
        Self::Syntax,
        Self::UndefinedObject,
        Self::Type,
        Self::Refused,
        Self::NoRows,
        Self::TooManyRows,
        Self::Canceled,
        Self::Exhausted,
        Self::QueueFull,
        Self::ConnectTimeout,
        Self::Down,
        Self::Rejected,
        Self::Closed,
        Self::Paused,
        Self::Ambiguous,
        Self::RolledBack,
        Self::Other,
    ];

    /// Returns the kind of error that Postgres reports by this code. A connection that the server ends
    /// carries many codes; that it ended says more, and the code does not tell.
    #[must_use]
    pub fn of_sqlstate(code: &str) -> Self {
        match code {
            "40P01" => Self::Deadlock,
            // "Statement completion unknown": running it again may apply it twice.
            "40003" => Self::Ambiguous,
            "23505" => Self::Unique,
            "23503" | "23001" => Self::ForeignKey,
            "23502" => Self::NotNull,
            "23514" => Self::Check,
            "23P01" => Self::Exclusion,
            "42601" => Self::Syntax,
            "42P01" | "42703" | "42883" | "42704" | "42P02" | "3F000" | "3D000" | "26000"
            | "34000" => Self::UndefinedObject,
            "42804" | "42846" | "42P18" => Self::Type,
            // A protocol violation is mostly a value too few or too many.
            "25006" | "08P01" => Self::Refused,
            "P0002" => Self::NoRows,
            "P0003" | "21000" => Self::TooManyRows,
            "57014" | "55P03" => Self::Canceled,
            "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => Self::Connection,
            _ => Self::of_class(code.get(..2).unwrap_or_default()),
        }
    }

    fn of_class(class: &str) -> Self {
        match class {
            "08" => Self::Connection,
            "22" => Self::Type,
            "23" => Self::Integrity,
            "40" => Self::Serialization,
            "42" => Self::Refused,
            "53" => Self::Resource,
            _ => Self::Other,
        }
    }

    /// Returns the group that it belongs to.
    #[must_use]
    pub fn category(self) -> Category {
        match self {
            Self::Serialization | Self::Deadlock => Category::Serialization,
            Self::Connection => Category::Connection,
            Self::Resource => Category::Resource,
            Self::Unique
            | Self::ForeignKey
            | Self::NotNull
            | Self::Check
            | Self::Exclusion
            | Self::Integrity => Category::Integrity,
            Self::Syntax | Self::UndefinedObject | Self::Type | Self::Refused => {
                Category::Programming
            }
            Self::NoRows | Self::TooManyRows => Category::Query,
            Self::Exhausted | Self::QueueFull => Category::Capacity,
            Self::ConnectTimeout | Self::Down | Self::Rejected | Self::Closed | Self::Paused => {
                Category::Unavailable
            }
            Self::Ambiguous => Category::Ambiguous,
            Self::RolledBack => Category::RolledBack,
            Self::Stale | Self::Canceled | Self::Other => Category::Other,
        }
    }

    /// Returns whether running the whole transaction again, on a clean session, can help and applies
    /// nothing twice. What the pool refuses is not among them: its waiting was the retry.
    ///
    /// For [`ErrorKind::Connection`] that holds within a transaction only;
    /// [`Categorized::is_retryable`](crate::Categorized::is_retryable) knows where the error came from.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Serialization | Self::Deadlock | Self::Connection | Self::Resource | Self::Stale
        )
    }

    /// Returns what to tell an end user: what they can do, and nothing of how the system works.
    #[must_use]
    pub fn user_message(self) -> &'static str {
        match self {
            Self::Serialization | Self::Deadlock => {
                "Somebody else changed the same data at the same moment. Please try again."
            }
            Self::Connection => "We were interrupted. Please check what was saved, and try again.",
            Self::Resource | Self::Stale | Self::RolledBack => {
                "Your change was not saved. Please try again in a moment."
            }
            Self::Unique => "This exists already. Please choose another value.",
            Self::ForeignKey => {
                "Something that this needs does not exist, or something else still needs this. \
                 Please check what it is connected with."
            }
            Self::NotNull => "Something that is required is missing. Please fill it in.",
            Self::Check | Self::Integrity => "A value is not allowed here. Please correct it.",
            Self::Exclusion => "This overlaps with something that exists. Please choose another.",
            Self::Type => "A value has the wrong form or is too large. Please correct it.",
            Self::NoRows => "This does not exist, or not any more. Please look for it again.",
            Self::Syntax
            | Self::UndefinedObject
            | Self::Refused
            | Self::TooManyRows
            | Self::Rejected
            | Self::Other => {
                "Something went wrong on our side. Please tell us if it happens again."
            }
            Self::Canceled => "This took too long and was stopped. Please try again later.",
            Self::Exhausted | Self::QueueFull => {
                "We are very busy at the moment. Please try again in a moment."
            }
            Self::ConnectTimeout | Self::Down | Self::Closed | Self::Paused => {
                "The service is not available at the moment. Please try again in a few minutes."
            }
            Self::Ambiguous => {
                "We could not confirm whether your change was saved. Please check before you try \
                 again."
            }
        }
    }

    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serialization => "serialization",
            Self::Deadlock => "deadlock",
            Self::Connection => "connection",
            Self::Resource => "resource",
            Self::Stale => "stale",
            Self::Unique => "unique",
            Self::ForeignKey => "foreign-key",
            Self::NotNull => "not-null",
            Self::Check => "check",
            Self::Exclusion => "exclusion",
            Self::Integrity => "integrity",
            Self::Syntax => "syntax",
            Self::UndefinedObject => "undefined-object",
            Self::Type => "type",
            Self::Refused => "refused",
            Self::NoRows => "no-rows",
            Self::TooManyRows => "too-many-rows",
            Self::Canceled => "canceled",
            Self::Exhausted => "exhausted",
            Self::QueueFull => "queue-full",
            Self::ConnectTimeout => "connect-timeout",
            Self::Down => "down",
            Self::Rejected => "rejected",
            Self::Closed => "closed",
            Self::Paused => "paused",
            Self::Ambiguous => "ambiguous",
            Self::RolledBack => "rolled-back",
            Self::Other => "other",
        }
    }
}

impl Category {
    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Unavailable => "unavailable",
            Self::Connection => "connection",
            Self::Serialization => "serialization",
            Self::Integrity => "integrity",
            Self::Programming => "programming",
            Self::Query => "query",
            Self::Resource => "resource",
            Self::Ambiguous => "ambiguous",
            Self::RolledBack => "rolled-back",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
