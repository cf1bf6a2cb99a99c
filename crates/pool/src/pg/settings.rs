//! What the sessions of a pool are set to: timeouts on the server, how connections are cleaned, and what
//! becomes of sessions and statements that were left alone.

use std::time::Duration;

use thiserror::Error;

/// The longest time that the server's settings can hold.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// How sessions behave: plain fields, defaults in [`SessionConfig::default`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use poolproof_pool::{PgConnector, ServerTimeouts, SessionConfig};
///
/// let config = SessionConfig {
///     timeouts: ServerTimeouts {
///         statement: Some(Duration::from_secs(30)),
///         idle_in_transaction: Some(Duration::from_secs(60)),
///         ..ServerTimeouts::default()
///     },
///     idle_in_transaction_max: Some(Duration::from_secs(20)),
///     ..SessionConfig::default()
/// };
/// let options = "postgresql://app@localhost/shop".parse::<poolproof_url::DatabaseUrl>()?.options();
/// let connector = PgConnector::configured(options, config)?;
/// # drop(connector);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionConfig {
    /// Timeouts that the server enforces on every connection. They are part of the connection's
    /// start, so that they cost no round trip and no reset loses them. Behind a pooler, which does not
    /// pass them on, they are set when a connection was opened, and where it pools transactions at each
    /// BEGIN: statements outside a transaction have none there.
    /// Default: none, which leaves the server's own.
    pub timeouts: ServerTimeouts,
    /// What stands between the pool and the server. Default: [`Pooler::Notice`].
    pub pooler: Pooler,
    /// How a connection is cleaned between two borrowers. Default: [`ResetMode::Fast`].
    pub reset: ResetMode,
    /// What becomes of a statement whose future was dropped. Default: [`Abandoned::Terminate`].
    pub abandoned: Abandoned,
    /// How long a session may be open. An older one is ended at the server, and its holder is told at
    /// its next call. A COMMIT under way is waited for. Default: none, as long as it likes.
    pub session_age_max: Option<Duration>,
    /// How long a transaction may be open without a statement running. Afterwards as for
    /// `session_age_max`. The server's own `idle_in_transaction` also works when this process hangs;
    /// this one says who it was. Default: none, as long as it likes.
    pub idle_in_transaction_max: Option<Duration>,
}

impl SessionConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SessionConfigError`] names the first setting that cannot work.
    pub fn validate(&self) -> Result<(), SessionConfigError> {
        self.timeouts.validate()?;
        for (name, limit) in [
            ("session_age_max", self.session_age_max),
            ("idle_in_transaction_max", self.idle_in_transaction_max),
        ] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                return Err(SessionConfigError::Zero { name });
            }
        }
        Ok(())
    }
}

/// Timeouts that the server enforces. None leaves what is in force already; fractions of a millisecond
/// are rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ServerTimeouts {
    /// `statement_timeout`: how long one statement may run. It then fails with SQLSTATE 57014.
    /// Default: none.
    pub statement: Option<Duration>,
    /// `lock_timeout`: how long one statement may wait for one lock. It then fails with 55P03.
    /// Default: none.
    pub lock: Option<Duration>,
    /// `idle_in_transaction_session_timeout`: how long a transaction may be open without a statement
    /// running. The server then ends the connection. Default: none.
    pub idle_in_transaction: Option<Duration>,
    /// `client_connection_check_interval`: how often the server looks during a statement whether its
    /// client is still there. Needs Postgres 14 or later, on Linux or another system that can tell.
    /// Default: none.
    pub client_check: Option<Duration>,
}

impl ServerTimeouts {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`SessionConfigError`] names the first one that cannot work.
    pub fn validate(&self) -> Result<(), SessionConfigError> {
        for (name, value) in self.each() {
            if value.is_zero() {
                return Err(SessionConfigError::Zero { name });
            }
            if value > LONGEST {
                return Err(SessionConfigError::TooLong { name });
            }
        }
        Ok(())
    }

    /// Returns those that are set, by the server's names, in milliseconds.
    pub(super) fn in_millis(&self) -> impl Iterator<Item = (&'static str, u128)> + use<> {
        self.each()
            .map(|(name, value)| (name, value.as_nanos().div_ceil(1_000_000)))
    }

    /// Returns these, and for those that are not set `others`.
    pub(super) fn or(self, others: Self) -> Self {
        Self {
            statement: self.statement.or(others.statement),
            lock: self.lock.or(others.lock),
            idle_in_transaction: self.idle_in_transaction.or(others.idle_in_transaction),
            client_check: self.client_check.or(others.client_check),
        }
    }

    fn each(&self) -> impl Iterator<Item = (&'static str, Duration)> + use<> {
        let Self {
            statement,
            lock,
            idle_in_transaction,
            client_check,
        } = *self;
        [
            ("statement_timeout", statement),
            ("lock_timeout", lock),
            ("idle_in_transaction_session_timeout", idle_in_transaction),
            ("client_connection_check_interval", client_check),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// What stands between the pool and the server, and for how long it gives a connection a server process of
/// its own. What is promised behind each is in the crate's README.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pooler {
    /// A pooler is noticed at each connection's start, because it cannot pass on the start-up parameters
    /// that sqlx sends, and is taken for one that pools transactions. Proxies that pass on what they
    /// receive are none. A connection without `extra_float_digits` looks like one through a pooler.
    #[default]
    Notice,
    /// There is none, or one that pools sessions. Where one is noticed, each BEGIN checks that the
    /// connection's server process is still the same:
    /// [`QueryError::ProcessMoved`](super::QueryError::ProcessMoved).
    Session,
    /// There is one that pools transactions, noticed or not.
    Transaction,
}

/// How a connection is cleaned between two borrowers.
///
/// Cleaning resets settings, role, cursors, advisory locks, LISTEN, temporary tables and sequence
/// values, in one round trip (two after [`Session::raw`](super::Session::raw)) in a task of the pool. It
/// keeps prepared statements, because sqlx's cache believes in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResetMode {
    /// Trusts what was tracked: a session whose transactions were seen to end and whose statements, by
    /// their text, left nothing behind goes back without I/O. A function that sets something by itself
    /// is not seen.
    #[default]
    Fast,
    /// Cleans after every session that executed anything.
    Clean,
}

/// What becomes of a statement whose future was dropped while it ran. Its connection is closed in any
/// case.
///
/// The server notices a closed connection only when it has something to say, or checks by itself
/// (`client_check` in [`ServerTimeouts`]); until then the statement runs on and holds its locks. So the
/// connection stays open, and its slot taken, until the statement has ended or
/// [`Config::reset_timeout`](crate::Config::reset_timeout) has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Abandoned {
    /// Ends the backend with `pg_terminate_backend`, which the server logs, and waits until it is gone,
    /// so that the server never has more backends of the pool than its limit. A COMMIT is not ended but
    /// waited for: ending one that waits for a synchronous standby would make it visible without that.
    /// Behind a pooler that pools transactions, neither is a statement outside a transaction, because
    /// which backend works on it is not known.
    ///
    /// Takes a control connection beside the pool's, one at a time and for that time only, with the
    /// `application_name` `poolproof-control`. Where the server or the role has none to spare,
    /// statements run on: leave it one, or use another of these.
    #[default]
    Terminate,
    /// Waits until the statement has ended by itself.
    Await,
    /// Closes the connection and frees the slot at once. The server may have more backends of the pool
    /// than its limit.
    Drop,
}

/// Why session settings cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionConfigError {
    /// A duration is zero.
    #[error("{name} is zero; leave it out for no limit")]
    Zero {
        /// The setting.
        name: &'static str,
    },
    /// A duration is longer than the server can hold.
    #[error("{name} is longer than {LONGEST:?}, which is the longest that the server can hold")]
    TooLong {
        /// The setting.
        name: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_cannot_hold_is_refused_by_name() {
        assert_eq!(SessionConfig::default().validate(), Ok(()));
        let refusal = |timeouts| {
            SessionConfig {
                timeouts,
                ..SessionConfig::default()
            }
            .validate()
        };
        let none = ServerTimeouts::default();
        let zero = ServerTimeouts {
            lock: Some(Duration::ZERO),
            ..none
        };
        let name = "lock_timeout";
        assert_eq!(refusal(zero), Err(SessionConfigError::Zero { name }));
        let long = ServerTimeouts {
            lock: Some(LONGEST + Duration::from_nanos(1)),
            ..none
        };
        assert_eq!(refusal(long), Err(SessionConfigError::TooLong { name }));
        let longest = ServerTimeouts {
            lock: Some(LONGEST),
            ..none
        };
        assert_eq!(refusal(longest), Ok(()));
        let config = SessionConfig {
            idle_in_transaction_max: Some(Duration::ZERO),
            ..SessionConfig::default()
        };
        let name = "idle_in_transaction_max";
        assert_eq!(config.validate(), Err(SessionConfigError::Zero { name }));
    }

    /// Zero would switch the server's timeout off.
    #[test]
    fn fractions_of_a_millisecond_are_rounded_up() {
        let timeouts = ServerTimeouts {
            statement: Some(Duration::from_micros(1)),
            client_check: Some(Duration::from_micros(2001)),
            ..ServerTimeouts::default()
        };
        let millis: Vec<(&str, u128)> = timeouts.in_millis().collect();
        assert_eq!(
            millis,
            [
                ("statement_timeout", 1),
                ("client_connection_check_interval", 3)
            ]
        );
    }
}
