//! What was seen of the pool, the server and the tables, besides the history.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FaultEvent, OpRecord};

/// What a subject can tell about itself at one moment, each field only if it can.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PoolView {
    /// Connections that are lent out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<u64>,
    /// Connections ready to be lent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// Connections being opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opening: Option<u64>,
    /// Connections being reset or closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closing: Option<u64>,
    /// All connections that the pool counts against its limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Callers waiting for a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Connections opened since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_total: Option<u64>,
    /// Connections closed or lost since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_total: Option<u64>,
    /// Leases handed out since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases_issued: Option<u64>,
    /// Leases that came back since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases_returned: Option<u64>,
}

/// A look at the run at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Microseconds from the start of the load.
    pub at_us: u64,
    /// What the subject told.
    pub pool: PoolView,
    /// Ops started and not ended.
    pub in_flight: u64,
    /// Links that the fault proxy carried.
    pub links: u64,
}

/// The server's own view of the subject's connections, over a direct connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerView {
    /// One row per backend that carries the subject's `application_name`.
    pub backends: Vec<BackendRow>,
    /// The most such backends that any look showed, also while the run was on. Without one, nobody
    /// knows that the looks see them at all.
    pub backends_peak: u64,
    /// Rows in `pg_prepared_xacts` of this database.
    pub prepared_transactions: u64,
}

/// One backend of the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendRow {
    /// Process id.
    pub pid: i32,
    /// `state` of `pg_stat_activity`.
    pub state: String,
    /// Whether a transaction is open.
    pub in_transaction: bool,
    /// Locks held or awaited on relations, rows and advisory keys.
    pub locks: u64,
}

/// What came of acquiring all connections that the pool promises, at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapacityProbe {
    /// `pool_size` + `max_overflow`.
    pub wanted: u64,
    /// How many could be held at the same time.
    pub acquired: u64,
    /// How long it took, in microseconds.
    pub took_us: u64,
    /// How long it was allowed to take, in microseconds.
    pub within_us: u64,
    /// The first error, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// All accounts, read in one snapshot while the run was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BankSnapshot {
    /// Microseconds from the start of the load.
    pub at_us: u64,
    /// How many accounts there were.
    pub accounts: u64,
    /// The sum over their balances.
    pub total: i64,
}

/// The tables' contents after quiescence, read over a direct connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// Balance by account; empty when the run had no bank.
    pub accounts: BTreeMap<u32, i64>,
    /// How often each op id occurs, for each write-set table; empty when there are none.
    pub write_sets: Vec<BTreeMap<u64, u64>>,
    /// How often each op id occurs in the op log.
    pub op_log: BTreeMap<u64, u64>,
}

/// What the invariants need to know about the run's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long an acquire may wait, in microseconds.
    pub pool_timeout_us: u64,
    /// The most connections that the pool may have, `pool_size` + `max_overflow`; none without a
    /// limit.
    pub pool_max: Option<u64>,
    /// Accounts that the bank began with, numbered from 0; 0 without a bank.
    pub bank_accounts: u32,
    /// Balance that each account began with.
    pub bank_opening_balance: i64,
    /// Tables that a write set goes into; 0 without write sets.
    pub write_set_tables: u32,
    /// How long quiescence was waited for, in microseconds.
    pub quiescence_us: u64,
}

/// A stretch in which the process that drove the run did not get to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// When it should have run, in microseconds from the start of the load.
    pub from_us: u64,
    /// When it did.
    pub until_us: u64,
}

/// Everything that a verdict may rest on. A part whose look failed carries the reason.
#[derive(Debug)]
pub struct Observations<'a> {
    /// The run's settings.
    pub limits: Limits,
    /// One record per op of the schedule that was started.
    pub ops: &'a [OpRecord],
    /// The faults as they happened.
    pub faults: &'a [FaultEvent],
    /// When the process was held up, from the start of the load until the last call had ended.
    pub stalls: &'a [Stall],
    /// The looks that were taken at the subject while the run was on, in the order of time.
    pub samples: &'a [Sample],
    /// The subject's own account of itself at quiescence.
    pub pool: Result<PoolView, String>,
    /// The server's account of the subject at quiescence.
    pub server: Result<ServerView, String>,
    /// The capacity probe after quiescence.
    pub capacity: Result<CapacityProbe, String>,
    /// The tables after quiescence.
    pub store: Result<&'a Store, String>,
    /// The bank as it was seen while the run was on.
    pub bank_snapshots: &'a [BankSnapshot],
    /// Why the bank could no longer be seen while the run was on, where that was so.
    pub bank_unseen: Option<&'a str>,
}
