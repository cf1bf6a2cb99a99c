//! What every subject is configured with.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::{BuildError, SubjectKind};

/// How to connect and how large to be, in SQLAlchemy's words.
#[derive(Clone)]
pub struct SubjectConfig {
    /// Where to connect, through the proxy; `application_name` and `search_path` are set.
    pub options: PgConnectOptions,
    /// Connections that are kept. At least 1.
    pub pool_size: u32,
    /// Connections beyond `pool_size`; -1 for no limit, which only `poolproof` offers.
    pub max_overflow: i32,
    /// How long an acquire may take.
    pub pool_timeout: Duration,
    /// Whether an idle connection is pinged before it is lent.
    pub pre_ping: bool,
}

impl SubjectConfig {
    /// Returns `pool_size + max_overflow`, for a pool that needs a limit.
    pub(crate) fn limit(&self) -> Result<u32, BuildError> {
        limit(self.pool_size, self.max_overflow)
    }
}

impl SubjectKind {
    /// Checks that this subject can have such a pool, before anything is started.
    ///
    /// # Errors
    /// [`BuildError`] as [`build`](crate::build) would give it.
    pub fn check_size(self, pool_size: u32, max_overflow: i32) -> Result<(), BuildError> {
        match self {
            Self::Poolproof if max_overflow == -1 => Ok(()),
            _ => limit(pool_size, max_overflow).map(drop),
        }
    }
}

fn limit(pool_size: u32, max_overflow: i32) -> Result<u32, BuildError> {
    if pool_size == 0 {
        return Err(BuildError::NoConnections);
    }
    let overflow =
        u32::try_from(max_overflow).map_err(|_| BuildError::Unlimited { max_overflow })?;
    pool_size
        .checked_add(overflow)
        .filter(|limit| *limit <= LIMIT_MAX)
        .ok_or(BuildError::TooMany {
            limit_max: LIMIT_MAX,
        })
}

/// Postgres itself takes no more (`MAX_BACKENDS`), and pools allocate a slot for each up front.
const LIMIT_MAX: u32 = 262_143;

/// Shows where the options lead, never the password: their own `Debug` would print it.
impl fmt::Debug for SubjectConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            options,
            pool_size,
            max_overflow,
            pool_timeout,
            pre_ping,
        } = self;
        f.debug_struct("SubjectConfig")
            .field("host", &options.get_host())
            .field("port", &options.get_port())
            .field("user", &options.get_username())
            .field("database", &options.get_database())
            .field("application_name", &options.get_application_name())
            .field("pool_size", pool_size)
            .field("max_overflow", max_overflow)
            .field("pool_timeout", pool_timeout)
            .field("pre_ping", pre_ping)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pool_size: u32, max_overflow: i32) -> SubjectConfig {
        SubjectConfig {
            options: PgConnectOptions::new_without_pgpass()
                .host("127.0.0.1")
                .username("someone")
                .password("hunter2"),
            pool_size,
            max_overflow,
            pool_timeout: Duration::from_secs(1),
            pre_ping: false,
        }
    }

    #[test]
    fn debug_shows_where_it_leads_and_no_password() {
        let text = format!("{:?}", config(5, 10));
        assert!(text.contains("someone"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn the_limit_is_the_sum_and_bad_sums_are_refused() {
        assert_eq!(config(5, 10).limit().unwrap(), 15);
        for (pool_size, max_overflow, text) in [
            (0, 10, "pool_size is 0"),
            (5, -1, "max_overflow = -1"),
            (5, i32::MAX, "at most 262143"),
            (u32::MAX, 1, "at most 262143"),
        ] {
            let error = config(pool_size, max_overflow).limit().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
