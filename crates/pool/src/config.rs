//! The pool's settings.

use std::time::Duration;

use thiserror::Error;

use crate::state::{Backoff, Limits};

/// The pool's settings: plain fields, defaults in [`Config::default`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use poolproof_pool::Config;
///
/// let config = Config { pool_size: 10, pool_timeout: Duration::from_secs(3), ..Config::default() };
/// config.validate()?;
/// # Ok::<(), poolproof_pool::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Connections that are kept once they were opened; at least 1. Default: 5.
    pub pool_size: u32,
    /// Connections that may be opened beyond `pool_size` and are closed when they come back; -1 for
    /// no limit. Default: 10.
    pub max_overflow: i32,
    /// How long an acquire may take in all: queue, connect and ping. Zero takes what is idle and
    /// waits for nothing. Default: 30 s.
    pub pool_timeout: Duration,
    /// How long opening one connection may take. Default: 10 s.
    pub connect_timeout: Duration,
    /// Whether an idle connection is pinged before it is lent. Default: no.
    pub pre_ping: bool,
    /// With `pre_ping`: a connection that was used or pinged within this time is not pinged.
    /// Default: 500 ms.
    pub pre_ping_after: Duration,
    /// How long one ping may take. Default: 1 s.
    pub ping_timeout: Duration,
    /// How long a connection may take to be reset before it is closed instead. Default: 2 s.
    pub reset_timeout: Duration,
    /// How long a goodbye may take before the connection is dropped. Default: 1 s.
    pub close_timeout: Duration,
    /// Connections that may be opened at the same time; at least 1. Default: 8.
    pub max_connecting: u32,
    /// Acquires that may wait at the same time; none for no limit. Default: none.
    pub waiters_max: Option<u32>,
    /// The pause after the first failure to connect; it doubles with every further one. The actual
    /// pause is drawn between zero and this. Default: 10 ms.
    pub backoff_min: Duration,
    /// What that pause grows to. Default: 5 s.
    pub backoff_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pool_size: 5,
            max_overflow: 10,
            pool_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            pre_ping: false,
            pre_ping_after: Duration::from_millis(500),
            ping_timeout: Duration::from_secs(1),
            reset_timeout: Duration::from_secs(2),
            close_timeout: Duration::from_secs(1),
            max_connecting: 8,
            waiters_max: None,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot work, and what to write instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.pool_size == 0 {
            return Err(ConfigError::PoolSizeZero);
        }
        if self.max_overflow < -1 {
            return Err(ConfigError::MaxOverflow {
                value: self.max_overflow,
            });
        }
        if self.max_connecting == 0 {
            return Err(ConfigError::MaxConnectingZero);
        }
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("ping_timeout", self.ping_timeout),
            ("reset_timeout", self.reset_timeout),
            ("close_timeout", self.close_timeout),
            ("backoff_min", self.backoff_min),
        ] {
            if value.is_zero() {
                return Err(ConfigError::ZeroDuration { name });
            }
        }
        if self.backoff_max < self.backoff_min {
            return Err(ConfigError::BackoffBounds);
        }
        Ok(())
    }

    /// Returns how many connections there may be at once; none for no limit.
    #[must_use]
    pub fn max_connections(&self) -> Option<u64> {
        let overflow = u64::try_from(self.max_overflow).ok()?;
        Some(u64::from(self.pool_size) + overflow)
    }

    pub(crate) fn limits(&self) -> Limits {
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Limits {
            pool_size: size(self.pool_size),
            max_open: self
                .max_connections()
                .and_then(|max| usize::try_from(max).ok())
                .unwrap_or(usize::MAX),
            max_connecting: size(self.max_connecting),
            waiters_max: self.waiters_max.map_or(usize::MAX, size),
            backoff: Backoff {
                min: self.backoff_min,
                max: self.backoff_max,
            },
        }
    }
}

/// Why a pool cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `pool_size` is 0.
    #[error(
        "pool_size is 0, which in SQLAlchemy means no limit at all; keep at least 1 connection and \
         write max_overflow = -1 for no limit"
    )]
    PoolSizeZero,
    /// `max_overflow` is below -1.
    #[error("max_overflow is {value}; it must be 0 or more, or -1 for no limit")]
    MaxOverflow {
        /// What it is.
        value: i32,
    },
    /// `max_connecting` is 0.
    #[error("max_connecting is 0; without at least 1 no connection can be opened")]
    MaxConnectingZero,
    /// A duration that must be positive is zero.
    #[error("{name} is zero; it must be positive")]
    ZeroDuration {
        /// The setting.
        name: &'static str,
    },
    /// `backoff_max` is below `backoff_min`.
    #[error("backoff_max is below backoff_min")]
    BackoffBounds,
    /// The pool was built outside a tokio runtime.
    #[error("a pool must be built within a tokio runtime, because its tasks outlive their callers")]
    NoRuntime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_sqlalchemy_and_valid() {
        let config = Config::default();
        assert_eq!(
            (config.pool_size, config.max_overflow, config.pool_timeout),
            (5, 10, Duration::from_secs(30))
        );
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.max_connections(), Some(15));
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_write_instead() {
        let refusal = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err()
        };
        let zero = refusal(|config| config.pool_size = 0);
        assert_eq!(zero, ConfigError::PoolSizeZero);
        assert!(zero.to_string().contains("max_overflow = -1"), "{zero}");
        assert_eq!(
            refusal(|config| config.max_overflow = -2),
            ConfigError::MaxOverflow { value: -2 }
        );
        assert_eq!(
            refusal(|config| config.max_connecting = 0),
            ConfigError::MaxConnectingZero
        );
        assert_eq!(
            refusal(|config| config.reset_timeout = Duration::ZERO),
            ConfigError::ZeroDuration {
                name: "reset_timeout"
            }
        );
        assert_eq!(
            refusal(|config| config.backoff_max = Duration::from_millis(1)),
            ConfigError::BackoffBounds
        );
    }

    #[test]
    fn minus_one_means_no_limit_and_zero_none_beyond_pool_size() {
        let unlimited = Config {
            max_overflow: -1,
            ..Config::default()
        };
        assert_eq!(unlimited.validate(), Ok(()));
        assert_eq!(unlimited.max_connections(), None);
        assert_eq!(unlimited.limits().max_open, usize::MAX);
        let fixed = Config {
            max_overflow: 0,
            ..Config::default()
        };
        assert_eq!(fixed.validate(), Ok(()));
        assert_eq!(fixed.limits().max_open, 5);
    }
}
