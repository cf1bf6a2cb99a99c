//! The history: one record per op.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Effect, Ending, ErrorCategory, OpError, Outcome};

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
    /// The process id of the backend that served it, where the subject knows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend_pid: Option<i32>,
    /// The id of the op that had the connection before; none when it was new or nobody knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_op: Option<u64>,
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
    /// Why the caller could not know; none in a file from before this was told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<DoubtCause>,
}

/// Why the caller of a commit could not know its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DoubtCause {
    /// The answer was lost: the connection broke, the deadline passed, or it never came.
    Fault,
    /// The op was cancelled, as planned, once COMMIT was written.
    Cancelled,
    /// The run ended once COMMIT was written, before the op had to end.
    CutShort,
}

impl DoubtCause {
    /// Returns why the outcome of `op` is unknown, given that it is.
    ///
    /// An op that was to be cancelled and lost its answer before that counts for the fault.
    pub(crate) fn of(op: &OpRecord) -> Self {
        let category = op.error.as_ref().map(|error| error.category);
        match (op.ending, category) {
            _ if op.was_cut_short() => Self::CutShort,
            (Ending::Cancel { .. }, Some(ErrorCategory::Cancelled)) if op.ended_us.is_some() => {
                Self::Cancelled
            }
            _ => Self::Fault,
        }
    }
}
