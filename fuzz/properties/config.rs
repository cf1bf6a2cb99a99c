//! What holds for every configuration of a pool: one that is valid works, and one that is not is mended
//! by looking at what its error names.
//!
//! The input is text with one setting per line, such as `pool_size 5` or `idle_timeout 60000000000`;
//! durations are in nanoseconds. Lines that are something else are passed over.

use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use poolproof_pool::{Config, ConfigError, Connector, IdleOrder, Pool};
use thiserror::Error;
use tokio::time::Instant;

/// What may pass, on the paused clock, until something must have come out.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much later than `pool_timeout` an acquire may end, as for guarantee T.
const SLACK: Duration = Duration::from_millis(250);

/// More connections than this are not opened here: that is what was asked for, and takes long.
const OPENED_MAX: u32 = 64;

const MESSAGE_MAX: usize = 400;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut config = Config::default();
    let mut plan = Plan::default();
    for line in text.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        if !set(&mut config, name, value) {
            plan.set(name, value);
        }
    }
    match config.validate() {
        Ok(()) => valid(config, plan),
        Err(error) => invalid(config, error),
    }
}

/// Sets one setting; returns whether there is one of this name.
fn set(config: &mut Config, name: &str, value: &str) -> bool {
    let some = |value| if value == "none" { None } else { Some(value) };
    match name {
        "name" => value.clone_into(&mut config.name),
        "pool_size" => put(&mut config.pool_size, number(value)),
        "max_overflow" => put(&mut config.max_overflow, number(value)),
        "overflow_linger" => put(&mut config.overflow_linger, duration(value)),
        "min_idle" => put(&mut config.min_idle, number(value)),
        "idle_timeout" => config.idle_timeout = some(value).and_then(duration),
        "idle_order" if value == "lifo" => config.idle_order = IdleOrder::Lifo,
        "idle_order" => config.idle_order = IdleOrder::Fifo,
        "pool_recycle" => config.pool_recycle = some(value).and_then(duration),
        "pool_timeout" => put(&mut config.pool_timeout, duration(value)),
        "connect_timeout" => put(&mut config.connect_timeout, duration(value)),
        "pre_ping" => config.pre_ping = value != "no",
        "pre_ping_after" => put(&mut config.pre_ping_after, duration(value)),
        "ping_timeout" => put(&mut config.ping_timeout, duration(value)),
        "reset_timeout" => put(&mut config.reset_timeout, duration(value)),
        "close_timeout" => put(&mut config.close_timeout, duration(value)),
        "max_connecting" => put(&mut config.max_connecting, number(value)),
        "waiters_max" => config.waiters_max = some(value).and_then(number),
        "backoff_min" => put(&mut config.backoff_min, duration(value)),
        "backoff_max" => put(&mut config.backoff_max, duration(value)),
        "fail_fast_after" => config.fail_fast_after = some(value).and_then(duration),
        "leak_threshold" => config.leak_threshold = some(value).and_then(duration),
        "metrics" => config.metrics = value != "no",
        _ => return false,
    }
    true
}

fn put<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn number<T: FromStr<Err = ParseIntError>>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// Nanoseconds, or the longest duration of all by its name.
fn duration(text: &str) -> Option<Duration> {
    if text == "max" {
        return Some(Duration::MAX);
    }
    number(text).map(Duration::from_nanos)
}

/// Puts the settings that `message` names back to their defaults.
fn mend(config: &mut Config, message: &str) -> usize {
    let sound = Config::default();
    let mut named = 0;
    macro_rules! mend {
        ($($setting:ident)*) => {$(
            if message.contains(stringify!($setting)) {
                config.$setting = sound.$setting.clone();
                named += 1;
            }
        )*};
    }
    mend!(pool_size max_overflow overflow_linger min_idle idle_timeout pool_recycle);
    mend!(connect_timeout ping_timeout reset_timeout close_timeout max_connecting);
    mend!(waiters_max backoff_min backoff_max leak_threshold);
    named
}

fn invalid(mut config: Config, first: ConfigError) {
    let built = runtime().block_on(async { Pool::new(Fake::default(), config.clone()).err() });
    assert_eq!(built, Some(first), "{config:?}");
    let mut error = first;
    // Each step puts at least one setting to its default, for good.
    for _ in 0..24 {
        let message = error.to_string();
        assert!(message.len() <= MESSAGE_MAX, "{message}");
        assert!(mend(&mut config, &message) > 0, "names nothing: {message}");
        match config.validate() {
            Ok(()) => return,
            Err(next) => {
                assert_ne!(next, error, "still wrong when mended: {config:?}");
                error = next;
            }
        }
    }
    panic!("never valid, whatever is mended: {error}, {config:?}");
}

fn valid(config: Config, plan: Plan) {
    let beyond = i64::from(config.max_overflow);
    let most = (beyond >= 0).then(|| u64::try_from(i64::from(config.pool_size) + beyond).ok());
    assert_eq!(config.max_connections(), most.flatten(), "{config:?}");
    if config.min_idle > OPENED_MAX {
        return;
    }
    let runtime = runtime();
    // Panics of the pool's tasks do not reach anybody; those that are awaited do.
    runtime.block_on(async { live(config, plan).await });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"))
}

/// Lends, gives back, waits, lends again, and closes.
async fn live(config: Config, plan: Plan) {
    let (budget, context) = (config.pool_timeout, format!("{config:?} {plan:?}"));
    let fake = Fake {
        plan,
        ..Fake::default()
    };
    let pool = Pool::new(fake, config).unwrap_or_else(|error| panic!("{error}: {context}"));
    let mut leases = Vec::new();
    for turn in 0..4 {
        let begun = Instant::now();
        match tokio::time::timeout(PATIENCE, pool.acquire()).await {
            Ok(Ok(lease)) => leases.push(lease),
            Ok(Err(error)) => assert!(!error.to_string().is_empty(), "{context}"),
            Err(_) => {}
        }
        let took = begun.elapsed();
        let bound = budget.min(PATIENCE) + SLACK;
        assert!(took <= bound, "{took:?} to acquire: {context}");
        if turn % 2 == 1 {
            leases.clear();
            tokio::time::advance(plan.idle.min(PATIENCE)).await;
        }
    }
    let most = pool.config().max_connections();
    let open = pool.connector().peak.load(Ordering::Relaxed);
    assert!(
        most.is_none_or(|most| u64::from(open) <= most),
        "{open} at once: {context}"
    );
    drop(leases);
    let report = pool.close(PATIENCE).await;
    assert!(report.holders.is_empty(), "{report:?}: {context}");
    assert!(report.took <= PATIENCE + SLACK, "{report:?}: {context}");
    if report.cut_short > 0 {
        // What is cut short ends with the next turn of its task.
        tokio::time::sleep_until(Instant::now() + SLACK).await;
    }
    assert_eq!(pool.snapshot().size(), 0, "{context}");
}

/// How the database behaves.
#[derive(Debug, Default, Clone, Copy)]
struct Plan {
    /// How many attempts to connect fail before one works.
    failures: u32,
    /// How long an answer takes.
    answer: Duration,
    /// How long connections lie idle between two uses.
    idle: Duration,
}

impl Plan {
    fn set(&mut self, name: &str, value: &str) {
        match name {
            "failures" => put(&mut self.failures, number(value)),
            "answer" => put(&mut self.answer, duration(value)),
            "idle" => put(&mut self.idle, duration(value)),
            _ => {}
        }
    }
}

#[derive(Debug, Default)]
struct Fake {
    plan: Plan,
    attempts: AtomicU32,
    open: std::sync::Arc<AtomicU32>,
    peak: AtomicU32,
}

#[derive(Debug, Error)]
#[error("refused as planned")]
struct Refused;

/// A connection that counts how many of its kind exist.
#[derive(Debug)]
struct Conn(std::sync::Arc<AtomicU32>);

impl Drop for Conn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Fake {
    async fn answer(&self) -> Result<(), Refused> {
        if !self.plan.answer.is_zero() {
            tokio::time::sleep_until(Instant::now() + self.plan.answer.min(PATIENCE)).await;
        }
        Ok(())
    }
}

impl Connector for Fake {
    type Connection = Conn;
    type Error = Refused;

    async fn connect(&self) -> Result<Conn, Refused> {
        self.answer().await?;
        if self.attempts.fetch_add(1, Ordering::Relaxed) < self.plan.failures {
            return Err(Refused);
        }
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
        Ok(Conn(std::sync::Arc::clone(&self.open)))
    }

    async fn ping(&self, _: &mut Conn) -> Result<(), Refused> {
        self.answer().await
    }

    async fn reset(&self, _: &mut Conn) -> Result<(), Refused> {
        self.answer().await
    }

    async fn close(&self, _: Conn) -> Result<(), Refused> {
        self.answer().await
    }

    fn is_permanent(&self, _: &Refused) -> bool {
        false
    }
}
