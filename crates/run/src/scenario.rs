//! The scenario file: which pool, which load, which faults when, and what is expected.
//!
//! A scenario is TOML. [`Scenario::parse`] finds all problems of a file at once; each one marks
//! the place in the text and, where it can, names the word that was probably meant.
//!
//! Not here: a server, a clock, the network. What a scenario says is checked before anything
//! is started.

mod duration;
mod faults;
mod key;
mod load;
mod outside;
mod problem;
mod quantity;
mod read;
#[cfg(test)]
mod reference;
mod rules;
mod schema;
mod section;
mod settings;
mod syntax;
mod table;
mod values;
mod words;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use poolproof_load::LoadSpec;
use poolproof_testbed::RefusedSetting;
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use duration::{ParseDurationError, parse_duration};
pub use poolproof_load::OPS_MAX as MAX_OPS;
pub use poolproof_oracle::format_duration;
pub use poolproof_testbed::BackendTarget;
pub use problem::{Problem, ScenarioError};
pub use schema::scenario_schema;

/// The scenario that `poolproof demo` runs, as text.
pub const QUICKSTART: &str = include_str!("../scenarios/quickstart.toml");

/// What a schedule may be squeezed into: a round trip, the server's work and a fault's take-off
/// have to be short beside it.
const SCHEDULE_LEAST: Duration = Duration::from_secs(1);

/// The response that counts as well where a scenario sets none.
const RESPONSE: Duration = Duration::from_millis(250);

/// What must be left of the load after a fault, so that its recovery can be seen: one good second.
const RECOVERY_LEAST: Duration = Duration::from_secs(1);

/// What a fault that lasts may be squeezed into. Below, too few operations would meet it.
const WINDOW_LEAST: Duration = Duration::from_millis(100);

/// A scenario, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name, also the folder of its reports: lowercase letters, digits, `-` and `_`.
    pub name: String,
    /// What it is about, in one sentence; the name where the file has none.
    pub title: String,
    /// How the pool is configured.
    pub pool: PoolSection,
    /// What the private server is told.
    pub postgres: PostgresSection,
    /// What is asked of the pool.
    pub load: LoadSpec,
    /// What is expected of it, in figures.
    pub objective: ObjectiveSection,
    /// The faults, in the order of their times.
    pub faults: Vec<FaultPlan>,
    /// What a reader should know about settings that work but may surprise.
    pub remarks: Vec<String>,
    /// The name of the file it came from.
    pub file_name: String,
    /// The file's text.
    pub source: String,
    /// SHA-256 over the file's text, in hexadecimal.
    pub sha256: String,
}

/// A duration into which the faults of a scenario cannot be squeezed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "{} is too short for the faults of the scenario and what is judged of them",
    format_duration(*.duration)
)]
pub struct TooShort {
    /// What was asked for.
    pub duration: Duration,
    /// The shortest that does.
    pub least: Duration,
}

/// How the pool is configured, in SQLAlchemy's words and with its defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSection {
    /// Connections that are kept; at least 1. Default 5.
    pub pool_size: u32,
    /// Connections beyond `pool_size`; -1 for no limit. Default 10.
    pub max_overflow: i32,
    /// How long an acquire may wait. Default 30 s.
    pub pool_timeout: Duration,
    /// Whether an idle connection is pinged before it is lent. Default false.
    pub pre_ping: bool,
}

/// What the private server is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostgresSection {
    /// Server settings by name, as `postgresql.conf` would have them. Only a server that the run
    /// starts itself gets them.
    pub settings: BTreeMap<String, String>,
}

/// What is expected, in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectiveSection {
    /// The 99th percentile of the response outside faults and recoveries. Default: not judged.
    pub response: Option<Duration>,
    /// How long recovery from each fault may take. Default: measured, not judged.
    pub recovery: Option<Duration>,
}

/// One fault of the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultPlan {
    /// Its name, unique within the scenario.
    pub name: String,
    /// What happens.
    pub kind: FaultKind,
    /// When, from the start of the load.
    pub at: Duration,
    /// How long; none for a fault that happens at one moment.
    pub duration: Option<Duration>,
}

/// What happens in a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// What the server sends arrives late.
    Latency {
        /// How late.
        latency: Duration,
        /// By how much more or less. Default none.
        jitter: Duration,
    },
    /// What the server sends arrives slowly.
    Bandwidth {
        /// Kilobytes (1000 bytes) per second; 0, a `stall`, holds everything without losing it.
        rate_kb_s: u32,
    },
    /// Nothing arrives any more, in either direction, and nobody is told.
    Silence,
    /// The address refuses connections; those that exist are closed.
    Down,
    /// Every connection is reset.
    Reset {
        /// Waits, from the fault's time on, until so many commits are in flight. Default 0.
        commits_in_flight: u32,
    },
    /// The server terminates one backend.
    TerminateBackend {
        /// Which. Default: any.
        target: BackendTarget,
    },
}

impl Scenario {
    /// Reads and checks a scenario. `file_name` is what messages call it.
    ///
    /// # Errors
    /// [`ScenarioError`] with every problem found, in the order of the text.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, ScenarioError> {
        read::scenario(file_name, text)
    }

    /// Returns the scenario that `poolproof demo` runs.
    ///
    /// # Panics
    /// Never in a released build: a test parses the embedded text.
    #[must_use]
    pub fn quickstart() -> Self {
        Self::parse("scenarios/quickstart.toml", QUICKSTART)
            .expect("bug: the embedded quickstart scenario has problems")
    }

    /// Says where the settings stand that the server did not accept.
    pub(crate) fn refused(&self, settings: &[RefusedSetting]) -> ScenarioError {
        settings::refused(self, settings)
    }

    /// Returns the moment at which the last fault is over, from the start of the load.
    #[must_use]
    pub fn schedule_end(&self) -> Duration {
        self.faults
            .iter()
            .map(FaultPlan::end)
            .max()
            .unwrap_or_default()
    }

    /// Returns how many ops the load will offer, about.
    #[must_use]
    pub fn expected_ops(&self) -> f64 {
        self.load.rate_per_s * self.load.duration.as_secs_f64()
    }

    /// Returns the scenario as a plain measurement: without its faults, and without the objective on the
    /// recovery from them. Its name says so, so that reports do not mix.
    #[must_use]
    pub fn without_faults(&self) -> Self {
        let mut plain = self.clone();
        plain.name = format!("{}-load", self.name);
        plain.title = format!("The load of {} without faults", self.name);
        plain.faults.clear();
        plain.objective.recovery = None;
        plain
    }

    /// Returns the scenario with its load lasting `duration`, and a remark if that moved faults.
    ///
    /// When the schedule of faults does not fit, the times of all faults shrink in proportion;
    /// otherwise only the load changes. Where recovery is judged, a second after the last fault is part
    /// of the schedule.
    ///
    /// # Errors
    /// [`TooShort`] when faults would shrink so far that nothing of them could be seen: below 1 s
    /// for all, or 100 ms for any one that lasts; or when less than the second is left in which
    /// their recovery could be seen.
    pub fn scaled_to(&self, duration: Duration) -> Result<(Self, Option<String>), TooShort> {
        let mut scaled = self.clone();
        scaled.load.duration = duration;
        let fits = self.schedule_end() + self.recovery_least() <= duration
            && self.faults.iter().all(|f| f.at < duration);
        if fits || self.load.duration.is_zero() {
            return Ok((scaled, None));
        }
        let least = self.least_scaled();
        if duration < least {
            return Err(TooShort { duration, least });
        }
        let factor = duration.as_secs_f64() / self.load.duration.as_secs_f64();
        for fault in &mut scaled.faults {
            let at = whole_millis(fault.at, factor);
            let end = whole_millis(fault.end(), factor);
            fault.duration = fault.duration.map(|_| end.saturating_sub(at));
            fault.at = at;
        }
        let remark = format!(
            "the fault schedule was scaled from the scenario's {} to this run's {}: a recovery that \
             takes longer than what is left of the load is not judged, and that is no pass",
            format_duration(self.load.duration),
            format_duration(duration),
        );
        Ok((scaled, Some(remark)))
    }

    /// What must be left of the load after the last fault.
    fn recovery_least(&self) -> Duration {
        match self.objective.recovery {
            Some(_) if !self.faults.is_empty() => RECOVERY_LEAST,
            _ => Duration::ZERO,
        }
    }

    /// The shortest load that leaves enough of each fault and after all, in whole milliseconds.
    fn least_scaled(&self) -> Duration {
        let windows = self.faults.iter().filter_map(|fault| fault.duration);
        let least = windows
            .filter(|window| !window.is_zero())
            .map(|window| {
                let kept = WINDOW_LEAST.min(window);
                let factor = kept.as_secs_f64() / window.as_secs_f64();
                self.load.duration.mul_f64(factor)
            })
            .fold(SCHEDULE_LEAST, Duration::max);
        let rest = self.load.duration.saturating_sub(self.schedule_end());
        let tail = self.recovery_least().as_secs_f64() / rest.as_secs_f64().max(f64::EPSILON);
        let least = least.max(self.load.duration.mul_f64(tail));
        whole_millis(least + Duration::from_micros(999), 1.0)
    }
}

impl Default for PoolSection {
    fn default() -> Self {
        read::default_pool()
    }
}

impl ObjectiveSection {
    /// Returns the response that every op of a recovered second meets, and by which the lag of the
    /// generator is judged: `response`, or 250 ms where it is not set.
    #[must_use]
    pub fn target(&self) -> Duration {
        self.response.unwrap_or(RESPONSE)
    }
}

impl FaultPlan {
    /// Returns when it is over, from the start of the load.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.at + self.duration.unwrap_or_default()
    }
}

impl FaultKind {
    /// Returns the scenario's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Bandwidth { rate_kb_s: 0 } => "stall",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Silence => "silence",
            Self::Down => "down",
            Self::Reset { .. } => "reset",
            Self::TerminateBackend { .. } => "terminate-backend",
        }
    }

    /// Returns one phrase with its parameters, for people.
    #[must_use]
    pub fn title(self) -> String {
        match self {
            Self::Latency { latency, jitter } if jitter.is_zero() => {
                format!("latency {}", format_duration(latency))
            }
            Self::Latency { latency, jitter } => format!(
                "latency {} ± {}",
                format_duration(latency),
                format_duration(jitter)
            ),
            Self::Bandwidth { rate_kb_s: 0 } => "stall, nothing lost".to_owned(),
            Self::Bandwidth { rate_kb_s } => format!("bandwidth {rate_kb_s} KB/s"),
            Self::Silence => "silence, both directions".to_owned(),
            Self::Down => "down, connections refused".to_owned(),
            Self::Reset {
                commits_in_flight: 0,
            } => "reset of every connection".to_owned(),
            Self::Reset { commits_in_flight } => format!(
                "reset of every connection with at least {commits_in_flight} commits in flight"
            ),
            Self::TerminateBackend { target } => {
                format!("server terminates {}", target_title(target))
            }
        }
    }
}

/// Returns a target in a few words.
fn target_title(target: BackendTarget) -> &'static str {
    match target {
        BackendTarget::InTransaction => "a backend in a transaction",
        BackendTarget::Idle => "an idle backend",
        BackendTarget::Any => "a backend",
    }
}

/// Scales a time and rounds it down to whole milliseconds, so that what was in order stays so.
fn whole_millis(time: Duration, factor: f64) -> Duration {
    let scaled = time.mul_f64(factor);
    scaled - Duration::from_nanos(u64::from(scaled.subsec_nanos() % 1_000_000))
}

fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
