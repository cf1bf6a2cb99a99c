//! The pool's settings.

use std::time::Duration;

use thiserror::Error;

use crate::brief::brief;
use crate::state::{Backoff, Limits, Order};

/// More often is never needed: what is noticed late is only late by a share of its own duration.
const HOUSEKEEPING_MIN: Duration = Duration::from_millis(10);
/// Nobody waits longer for what is due, however long the durations are.
const HOUSEKEEPING_MAX: Duration = Duration::from_secs(30);

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
    /// What tells this pool from others in metrics and logs. Default: `default`.
    pub name: String,
    /// Connections that are kept once they were opened; at least 1. Default: 5.
    pub pool_size: u32,
    /// Connections that may be opened beyond `pool_size` and are closed when they come back; -1 for
    /// no limit. Default: 10.
    pub max_overflow: i32,
    /// How long connections beyond `pool_size` may stay after they came back, so that a steady load
    /// above `pool_size` does not open and close one for each use. What was not needed at any moment
    /// of this time is closed. Default: zero, which closes them at once, like SQLAlchemy.
    pub overflow_linger: Duration,
    /// Idle connections that are kept ready, opened in the background, but never more than make
    /// `pool_size` in all; at most `pool_size`. Default: 0.
    pub min_idle: u32,
    /// How long a connection may be idle before it is closed, as long as `min_idle` remain; none for
    /// as long as it likes. It is noticed up to a quarter later. Default: none.
    pub idle_timeout: Option<Duration>,
    /// Which idle connection is lent. Default: the one that has been idle for longest.
    pub idle_order: IdleOrder,
    /// How old a connection may get before it is replaced; none for as old as it likes. No connection
    /// that is older is lent. Those that were opened together are replaced one after the other, spread
    /// over two thirds of this time, so that most of them go before it has passed; and each up to a
    /// tenth early at random, so that many pools do not act together. The replacement is opened first where the limit has
    /// room. A connection that is lent out is replaced when it comes back. Default: none.
    pub pool_recycle: Option<Duration>,
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
    /// How long a connection may take to be reset before it is closed instead, and how long the slot of an
    /// abandoned statement waits for its backend to end. Default: 2 s.
    pub reset_timeout: Duration,
    /// How long a goodbye may take before the connection is dropped. Default: 1 s.
    pub close_timeout: Duration,
    /// Connections that may be opened at the same time; at least 1. Default: 8.
    pub max_connecting: u32,
    /// Acquires that may wait at the same time; at least 1, none for no limit. Default: none.
    pub waiters_max: Option<u32>,
    /// The pause after the first failure to connect; it doubles with every further one. The actual
    /// pause is drawn between zero and this. Default: 10 ms.
    pub backoff_min: Duration,
    /// What that pause grows to. Default: 5 s.
    pub backoff_max: Duration,
    /// How long the database may be unreachable before acquires fail at once with
    /// [`AcquireError::Down`](crate::AcquireError::Down) instead of waiting; one attempt at a time goes
    /// on finding out when it is back. Zero fails from the first failed attempt on; none always waits.
    /// Default: 30 s. A restart or failover is waited out, as it should be; but when nothing has worked
    /// for as long as the default `pool_timeout`, waiting has failed everyone who tried it, and only
    /// fills the callers' queues.
    pub fail_fast_after: Option<Duration>,
    /// How long a lease may be out before it is reported as a suspected leak, and then as returned
    /// when it comes back after all; see [`Hooks::on_leak`](crate::Hooks::on_leak). It is noticed up
    /// to half as much later. Default: none, which looks for no leaks.
    pub leak_threshold: Option<Duration>,
    /// Whether the durations of queue wait, connect, ping and hold are recorded for
    /// [`Pool::durations`](crate::Pool::durations). Each costs a count and a sum in a shard that the thread
    /// has to itself; threads beyond the first few share one, by atomic additions. Default: yes.
    pub metrics: bool,
}

/// Which idle connection is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum IdleOrder {
    /// The one that has been idle for longest: use is spread evenly. SQLAlchemy's default.
    #[default]
    Fifo,
    /// The one that came back last: the server's caches are warm, and with `idle_timeout` a pool that
    /// is less busy gets smaller. SQLAlchemy's `use_lifo`.
    Lifo,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            pool_size: 5,
            max_overflow: 10,
            overflow_linger: Duration::ZERO,
            min_idle: 0,
            idle_timeout: None,
            idle_order: IdleOrder::Fifo,
            pool_recycle: None,
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
            fail_fast_after: Some(Duration::from_secs(30)),
            leak_threshold: None,
            metrics: true,
        }
    }
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that cannot work, and what to write instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_sizes()?;
        self.validate_durations()?;
        self.validate_lifetimes()
    }

    pub(crate) fn validate_sizes(&self) -> Result<(), ConfigError> {
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
        if self.waiters_max == Some(0) {
            return Err(ConfigError::WaitersMaxZero);
        }
        if self.min_idle > self.pool_size {
            return Err(ConfigError::MinIdle {
                min_idle: self.min_idle,
                pool_size: self.pool_size,
            });
        }
        Ok(())
    }

    fn validate_durations(&self) -> Result<(), ConfigError> {
        let optional = |value: Option<Duration>| value.unwrap_or(Duration::MAX);
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("ping_timeout", self.ping_timeout),
            ("reset_timeout", self.reset_timeout),
            ("close_timeout", self.close_timeout),
            ("backoff_min", self.backoff_min),
            ("idle_timeout", optional(self.idle_timeout)),
            ("pool_recycle", optional(self.pool_recycle)),
            ("leak_threshold", optional(self.leak_threshold)),
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

    fn validate_lifetimes(&self) -> Result<(), ConfigError> {
        if let Some(recycle) = self.pool_recycle
            && recycle <= self.connect_timeout
        {
            return Err(ConfigError::RecycleBelowConnect {
                recycle,
                connect: self.connect_timeout,
            });
        }
        let Some(idle) = self.idle_timeout else {
            return Ok(());
        };
        if self.min_idle == self.pool_size {
            return Err(ConfigError::IdleTimeoutWithoutEffect);
        }
        if let Some(recycle) = self.pool_recycle
            && recycle <= idle
        {
            return Err(ConfigError::IdleTimeoutAboveRecycle { idle, recycle });
        }
        if self.overflow_linger > idle {
            return Err(ConfigError::LingerAboveIdleTimeout {
                linger: self.overflow_linger,
                idle,
            });
        }
        Ok(())
    }

    /// Returns how many connections there may be at once; none for no limit.
    #[must_use]
    pub fn max_connections(&self) -> Option<u64> {
        let overflow = u64::try_from(self.max_overflow).ok()?;
        Some(u64::from(self.pool_size) + overflow)
    }

    /// Returns how often somebody must look at what the connections of a pool of this size have come to; none
    /// when nothing changes with time alone.
    pub(crate) fn housekeeping(&self, pool_size: u32) -> Option<Duration> {
        let linger = (!self.overflow_linger.is_zero()).then(|| self.overflow_linger / 4);
        let pauses = [
            self.pool_recycle.map(|life| life / 3 / pool_size),
            self.idle_timeout.map(|timeout| timeout / 4),
            self.leak_threshold.map(|threshold| threshold / 2),
            linger,
        ];
        let pause = pauses.into_iter().flatten().min()?;
        Some(pause.clamp(HOUSEKEEPING_MIN, HOUSEKEEPING_MAX))
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            pool_size: size(self.pool_size),
            max_open: self
                .max_connections()
                .and_then(|max| usize::try_from(max).ok())
                .unwrap_or(usize::MAX),
            max_connecting: size(self.max_connecting),
            waiters_max: self.waiters_max.map_or(usize::MAX, size),
            min_idle: size(self.min_idle),
            order: match self.idle_order {
                IdleOrder::Fifo => Order::Fifo,
                IdleOrder::Lifo => Order::Lifo,
            },
            idle_timeout: self.idle_timeout,
            recycle: self.pool_recycle,
            linger: self.overflow_linger,
            patience: self.fail_fast_after,
            leak: self.leak_threshold,
            backoff: Backoff {
                min: self.backoff_min,
                max: self.backoff_max,
            },
        }
    }
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
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
    /// `waiters_max` is 0.
    #[error(
        "waiters_max is 0; an acquire that finds nothing idle waits for its connection to be opened, \
         so that none could ever be served"
    )]
    WaitersMaxZero,
    /// `min_idle` is above `pool_size`.
    #[error("min_idle is {min_idle}, but no more than pool_size, {pool_size}, are kept")]
    MinIdle {
        /// What it is.
        min_idle: u32,
        /// The setting `pool_size`.
        pool_size: u32,
    },
    /// `idle_timeout` is set and `min_idle` is `pool_size`.
    #[error(
        "idle_timeout has no effect when min_idle is pool_size: all connections are to be kept ready; \
         lower min_idle or leave idle_timeout out"
    )]
    IdleTimeoutWithoutEffect,
    /// `idle_timeout` is not below `pool_recycle`.
    #[error(
        "idle_timeout, {}, is not below pool_recycle, {}: every connection is replaced before it could be \
         idle for that long",
        brief(*idle),
        brief(*recycle)
    )]
    IdleTimeoutAboveRecycle {
        /// The setting `idle_timeout`.
        idle: Duration,
        /// The setting `pool_recycle`.
        recycle: Duration,
    },
    /// `overflow_linger` is above `idle_timeout`.
    #[error(
        "overflow_linger, {}, is above idle_timeout, {}: what is beyond pool_size would be kept for \
         longer than what is within",
        brief(*linger),
        brief(*idle)
    )]
    LingerAboveIdleTimeout {
        /// The setting `overflow_linger`.
        linger: Duration,
        /// The setting `idle_timeout`.
        idle: Duration,
    },
    /// `pool_recycle` is not above `connect_timeout`.
    #[error(
        "pool_recycle, {}, is not above connect_timeout, {}: age counts from the beginning of connecting, \
         so that a connection could be too old when it is there",
        brief(*recycle),
        brief(*connect)
    )]
    RecycleBelowConnect {
        /// The setting `pool_recycle`.
        recycle: Duration,
        /// The setting `connect_timeout`.
        connect: Duration,
    },
    /// The pool was built outside a tokio runtime.
    #[error("a pool must be built within a tokio runtime, because its tasks outlive their callers")]
    NoRuntime,
    /// The current tokio runtime has no time, without which no deadline could pass.
    #[error("the tokio runtime has no time: build it with enable_time() or enable_all()")]
    NoTime,
}

#[cfg(test)]
mod tests;
