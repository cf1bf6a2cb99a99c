//! One operation put to a subject, as data: a pool in any language can execute it.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One operation: a transaction's statements, how long to hold, and how to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Its index in the schedule, and the id that it writes into the tables.
    pub id: u64,
    /// Intended start, in microseconds from the start of the load.
    pub at_us: u64,
    /// How long the whole op may take, in microseconds from its actual start.
    pub deadline_us: u64,
    /// Name of the workload it belongs to (`bank`, `write-set`).
    pub workload: Cow<'static, str>,
    /// The statements, to be executed in this order inside one transaction.
    pub statements: Vec<Statement>,
    /// Pause after the last statement and before the ending, in microseconds.
    pub hold_us: u64,
    /// How the op ends.
    pub ending: Ending,
    /// Whether the subject runs [`crate::CLEAN_PROBE_SQL`] before the transaction begins, even when
    /// nothing is held against the connection.
    pub check_clean: bool,
    /// What the op leaves in the tables when, and only when, it is applied.
    pub effect: Effect,
}

/// One statement with integer parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The text, with `$1`, `$2`, … for the parameters.
    pub sql: Cow<'static, str>,
    /// The parameters, all of type `bigint`.
    pub params: Vec<i64>,
}

/// How an op ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Ending {
    /// The transaction commits.
    Commit,
    /// The transaction rolls back.
    Rollback,
    /// The code that holds the transaction panics after its statements.
    Panic,
    /// The op would commit, but the future that runs it is dropped.
    Cancel {
        /// When it is dropped, in microseconds from its actual start. The op may be done by then.
        after_us: u64,
    },
}

/// What an op leaves in the tables when it is applied, besides its row in the op log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Effect {
    /// Moves money between two accounts.
    Transfer {
        /// The account that pays.
        from: u32,
        /// The account that receives.
        to: u32,
        /// How much.
        amount: i64,
    },
    /// Writes the op's id into each of the `tables` write-set tables.
    WriteSet {
        /// How many tables.
        tables: u32,
    },
}
