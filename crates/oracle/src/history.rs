//! The history: one record per op.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Effect, Ending, OpError, Outcome};

/// What happened to one op. All times are microseconds from the start of the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpRecord {
    /// The op's id.
    pub id: u64,
    /// Name of the workload it belongs to.
    pub workload: String,
    /// How it was to end.
    pub ending: Ending,
    /// What it leaves when applied.
    pub effect: Effect,
    /// When it should have started. Response time counts from here.
    pub intended_us: u64,
    /// When the driver started it; the difference is the generator's lag.
    pub started_us: u64,
    /// How long it was allowed to take from `started_us`.
    pub deadline_us: u64,
    /// When it got a connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acquired_us: Option<u64>,
    /// When it was about to write COMMIT.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub commit_sent_us: Option<u64>,
    /// When it ended; none when it had not ended by the end of the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended_us: Option<u64>,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, unless it is [`Outcome::Ok`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<OpError>,
    /// What [`crate::CLEAN_PROBE_SQL`] answered, where the op asked it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clean_probe: Option<String>,
}

/// A commit whose outcome the caller could not know, and what the tables say it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommitInDoubt {
    /// The op's id.
    pub op: u64,
    /// When COMMIT was written, in microseconds from the start of the load.
    pub commit_sent_us: u64,
    /// Whether the op log holds its row; none when the tables could not be read.
    pub applied: Option<bool>,
}
