//! The subjects by name.

use std::fmt;
use std::str::FromStr;

/// Which pool to put under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// poolproof's own pool and session.
    Poolproof,
    /// Stock `sqlx::Pool`.
    Sqlx,
    /// The naive pool that carries the planted bugs, without any: their control.
    Naive,
    /// The naive pool with one bug.
    Planted(Bug),
}

/// A bug that is planted to see whether an oracle catches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// A lease is forgotten now and then.
    Leak,
    /// An intended rollback is forgotten: the connection is returned inside its transaction.
    Dirty,
    /// A commit is rolled back now and then and reported as done.
    Lies,
    /// A commit whose outcome is unknown is executed again.
    Twice,
    /// A connection is waited for without a deadline.
    Stuck,
    /// A commit whose outcome is unknown is reported as done.
    Optimist,
}

/// A name that is none of [`SubjectKind::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown subject \"{name}\": expected one of {}", SubjectKind::names())]
pub struct UnknownSubject {
    /// The name as it was given.
    pub name: String,
}

impl SubjectKind {
    /// All subjects, in the order in which help texts list them.
    pub const ALL: [Self; 9] = [
        Self::Poolproof,
        Self::Sqlx,
        Self::Naive,
        Self::Planted(Bug::Leak),
        Self::Planted(Bug::Dirty),
        Self::Planted(Bug::Lies),
        Self::Planted(Bug::Twice),
        Self::Planted(Bug::Stuck),
        Self::Planted(Bug::Optimist),
    ];

    /// Returns its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Poolproof => "poolproof",
            Self::Sqlx => "sqlx",
            Self::Naive => "naive",
            Self::Planted(Bug::Leak) => "planted:leak",
            Self::Planted(Bug::Dirty) => "planted:dirty",
            Self::Planted(Bug::Lies) => "planted:lies",
            Self::Planted(Bug::Twice) => "planted:twice",
            Self::Planted(Bug::Stuck) => "planted:stuck",
            Self::Planted(Bug::Optimist) => "planted:optimist",
        }
    }

    /// Returns what it is, in one sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Poolproof => "poolproof's own pool and session over sqlx's PgConnection",
            Self::Sqlx => "stock sqlx::Pool with pool_size + max_overflow as its max_connections",
            Self::Naive => "a semaphore and a list without a bug: the control of the planted ones",
            Self::Planted(Bug::Leak) => "the naive pool, forgetting a lease now and then",
            Self::Planted(Bug::Dirty) => {
                "the naive pool, returning connections inside a transaction"
            }
            Self::Planted(Bug::Lies) => "the naive pool, reporting ok after a rollback",
            Self::Planted(Bug::Twice) => {
                "the naive pool, executing a commit again when its outcome is unknown"
            }
            Self::Planted(Bug::Stuck) => {
                "the naive pool, waiting for a connection without a deadline"
            }
            Self::Planted(Bug::Optimist) => {
                "the naive pool, reporting ok when a commit's outcome is unknown"
            }
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SubjectKind {
    type Err = UnknownSubject;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownSubject {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_found_by_its_name() {
        for kind in SubjectKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_all_names() {
        let error = "planted:leek".parse::<SubjectKind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown subject \"planted:leek\": expected one of poolproof, sqlx, naive, \
             planted:leak, planted:dirty, planted:lies, planted:twice, planted:stuck, planted:optimist"
        );
    }
}
