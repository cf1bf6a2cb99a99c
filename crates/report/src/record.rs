//! The record of one run. Durations and times are integer microseconds; times count from the
//! start of the load unless they say otherwise.

use std::collections::BTreeMap;

use poolproof_oracle::{
    CommitInDoubt, CutShort, FaultEvent, GuaranteeResult, ObjectiveResult, OpCounts, Sample,
    Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of [`Record::schema`].
pub const SCHEMA_ID: &str = "poolproof.result/v1";

/// Everything that is known about one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Always [`SCHEMA_ID`].
    #[schemars(extend("const" = SCHEMA_ID))]
    pub schema: String,
    /// What produced it.
    pub tool: Tool,
    /// Which run.
    pub run: RunInfo,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, one line each, most important first; empty for a plain pass.
    pub verdict_reasons: Vec<String>,
    /// The pool under test.
    pub subject: SubjectRecord,
    /// Where it ran.
    pub environment: Environment,
    /// What was asked of it.
    pub load: LoadInfo,
    /// What the run did when.
    pub phases: Vec<PhaseSpan>,
    /// The guarantees, in the order of [`poolproof_oracle::Guarantee::ALL`].
    pub guarantees: Vec<GuaranteeResult>,
    /// The numeric targets of the scenario.
    pub objectives: Vec<ObjectiveResult>,
    /// Whether the generator kept up: `latencies.lag.p99_us` is at most `lag_limit_us`. If not,
    /// latencies and rates do not count, nor does an objective that was missed; one that was met
    /// does, since lag only makes times longer.
    pub performance_valid: bool,
    /// The most that the generator may lag at p99: 5 % of the response objective, and 1 ms at
    /// least. 0 in a file from before this was told.
    #[serde(default)]
    pub lag_limit_us: u64,
    /// The faults, with what was seen of each and how long recovery took.
    pub faults: Vec<FaultReport>,
    /// How many ops came to what.
    pub outcomes: OpCounts,
    /// Errors by category, most frequent first.
    pub errors: Vec<ErrorCount>,
    /// Commits whose outcome the caller could not know.
    pub commits_in_doubt: Vec<CommitInDoubt>,
    /// How many connections the pool used.
    #[serde(default)]
    pub connections: Connections,
    /// Latency histograms.
    pub latencies: Latencies,
    /// The run over time, in buckets of equal width.
    pub timeline: Vec<Bucket>,
}

/// What produced a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Always `poolproof`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Which run a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    /// The run's id, also the middle part of its `application_name`.
    pub id: String,
    /// The scenario's name.
    pub scenario: String,
    /// What the scenario is about, in one sentence.
    pub title: String,
    /// The only source of randomness.
    pub seed: u64,
    /// When the load began, RFC 3339 in UTC.
    pub started_at: String,
    /// How long the load was offered.
    pub duration_us: u64,
    /// How long quiescence took after the load ended; none when it was not reached.
    pub quiescence_us: Option<u64>,
    /// Set when the run ended early: the record covers what happened until then.
    pub partial: Option<String>,
    /// What ended it early, where that is known.
    #[serde(default)]
    pub cut_short: Option<CutShort>,
    /// What the program that made the record exits with for this run; none where nobody said.
    #[serde(default)]
    pub exit_code: Option<u8>,
    /// The one command that replays the run.
    pub replay: String,
    /// SHA-256 over the list of operations (arrival, content, ending), in hexadecimal.
    pub schedule_sha256: String,
    /// SHA-256 over the scenario file, in hexadecimal.
    pub scenario_sha256: String,
    /// Remarks that a reader needs, such as a scaled fault schedule.
    pub notes: Vec<String>,
}

/// The pool under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectRecord {
    /// Its name on the command line.
    pub name: String,
    /// The library and its version.
    pub version: String,
    /// What it is, in one sentence.
    pub description: String,
    /// How it was configured.
    pub settings: PoolSettings,
}

/// How the pool was configured, in SQLAlchemy's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PoolSettings {
    /// Connections that are kept.
    pub pool_size: u32,
    /// Connections beyond `pool_size`; -1 for no limit.
    pub max_overflow: i32,
    /// How long an acquire may wait.
    pub pool_timeout_us: u64,
    /// Whether an idle connection is pinged before it is lent.
    pub pre_ping: bool,
}

/// Where a run ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// Operating system and architecture, such as `linux x86_64`.
    pub os: String,
    /// Logical processors.
    pub cores: u32,
    /// The server's own version text.
    pub postgres: String,
    /// Where the server came from, free of passwords.
    pub postgres_source: String,
    /// Server settings that the scenario asked for.
    pub postgres_settings: BTreeMap<String, String>,
}

/// What was asked of the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadInfo {
    /// Arrival process, such as `open loop, Poisson`.
    pub arrivals: String,
    /// Operations per second.
    pub rate_per_s: f64,
    /// How long an op may take from its start.
    pub deadline_us: u64,
    /// Ops by workload.
    pub workloads: BTreeMap<String, u64>,
    /// Ops by intended ending.
    pub endings: BTreeMap<String, u64>,
}

/// One phase of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseSpan {
    /// Its name, such as `steady` or `heal`.
    pub name: String,
    /// When it began; negative before the load started.
    pub start_us: i64,
    /// When it ended.
    pub end_us: i64,
}

/// A fault and its consequences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultReport {
    /// What happened.
    #[serde(flatten)]
    pub event: FaultEvent,
    /// From the fault's end to the start of the first second in which every op under way met
    /// `recovery_target_us` and the rate of answers was back; none when that never came.
    pub recovery_us: Option<u64>,
    /// The response time that every op of a recovered second meets.
    pub recovery_target_us: u64,
}

/// How often one category of error occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorCount {
    /// The category.
    pub category: String,
    /// How often.
    pub count: u64,
    /// Whether the scenario planned it (`cancelled`, `panicked`).
    pub planned: bool,
    /// The text of the first one.
    pub example: String,
}

/// How many connections the pool used over the whole run, each figure where the subject can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Connections {
    /// The most that a sample saw at once, those being opened included.
    pub peak: Option<u64>,
    /// Opened since the start of the subject.
    pub opened: Option<u64>,
    /// Closed or lost since the start of the subject.
    pub closed: Option<u64>,
}

impl Connections {
    /// Reads the figures from what the subject told of itself during the run.
    #[must_use]
    pub fn from_samples(samples: &[Sample]) -> Self {
        let open = |sample: &Sample| {
            let pool = &sample.pool;
            let counted = [pool.in_use, pool.idle, pool.opening];
            pool.size.or_else(|| {
                let known: Vec<u64> = counted.into_iter().flatten().collect();
                (!known.is_empty()).then(|| known.iter().sum())
            })
        };
        Self {
            peak: samples.iter().filter_map(open).max(),
            opened: samples.iter().filter_map(|s| s.pool.opened_total).max(),
            closed: samples.iter().filter_map(|s| s.pool.closed_total).max(),
        }
    }
}

/// All latency histograms of a run, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latencies {
    /// From the actual start to the connection, of ops that got one.
    pub acquire: HistogramRecord,
    /// From the actual start to the connection or to giving up: every op.
    pub queue_wait: HistogramRecord,
    /// From the connection to the end.
    pub hold: HistogramRecord,
    /// From the intended start to the end, of ops that came to `ok`.
    pub response: HistogramRecord,
    /// Opening a connection, where the subject can tell.
    pub connect: HistogramRecord,
    /// The generator's own lag: actual minus intended start.
    pub lag: HistogramRecord,
}

/// One histogram: its summary, and the whole of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistogramRecord {
    /// How many values.
    pub count: u64,
    /// The smallest.
    pub min_us: u64,
    /// The mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: u64,
    /// 90 of 100 are at most this.
    pub p90_us: u64,
    /// 99 of 100 are at most this.
    pub p99_us: u64,
    /// 999 of 1000 are at most this.
    pub p999_us: u64,
    /// The largest.
    pub max_us: u64,
    /// The histogram in HdrHistogram's V2 encoding, base64.
    pub hdr: String,
}

/// What happened in one stretch of the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// When it begins.
    pub start_us: u64,
    /// How long it is.
    pub width_us: u64,
    /// Ops whose intended start lies in it.
    pub offered: u64,
    /// Ops that ended in it with `ok`.
    pub ok: u64,
    /// Ops that ended in it otherwise and not as planned, by category of error.
    pub errors: BTreeMap<String, u64>,
    /// Ops that ended in it by a planned panic or cancellation, by category.
    #[serde(default)]
    pub planned: BTreeMap<String, u64>,
    /// Median acquire of the ops that acquired in it.
    pub acquire_p50_us: Option<u64>,
    /// 99th percentile of the same.
    pub acquire_p99_us: Option<u64>,
    /// Median response of the `ok` ops that ended in it.
    pub response_p50_us: Option<u64>,
    /// 99th percentile of the same.
    pub response_p99_us: Option<u64>,
    /// Leases, from the last sample in it.
    pub in_use: Option<u64>,
    /// Idle connections, from the last sample in it.
    pub idle: Option<u64>,
    /// Waiters, from the last sample in it.
    pub waiting: Option<u64>,
    /// Connections being opened, from the last sample in it.
    pub opening: Option<u64>,
    /// Connections opened within it.
    pub opened: Option<u64>,
}
