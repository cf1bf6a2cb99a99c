//! Small worlds for the tests of this crate.

use crate::{
    BackendRow, BankSnapshot, CapacityProbe, Effect, Ending, ErrorCategory, Limits, Observations,
    OpError, OpRecord, Outcome, PoolView, Sample, ServerView, Stall, Store,
};

/// What a clean connection answers.
pub(crate) const CLEAN_ANSWER: &str = r#"{"in_transaction" : false, "xid_assigned" : false, "advisory_locks" : 0, "temp_objects" : 0, "listens" : 0, "cursors" : 0, "settings" : [], "role" : "app"}"#;

/// Owned observations; the default is a run that ended well and did nothing.
pub(crate) struct World {
    pub(crate) limits: Limits,
    pub(crate) ops: Vec<OpRecord>,
    pub(crate) stalls: Vec<Stall>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) pool: PoolView,
    pub(crate) server: ServerView,
    pub(crate) capacity: CapacityProbe,
    pub(crate) store: Store,
    pub(crate) bank_snapshots: Vec<BankSnapshot>,
    pub(crate) bank_unseen: Option<String>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            limits: Limits {
                pool_timeout_us: 1_000_000,
                pool_max: Some(15),
                bank_accounts: 4,
                bank_opening_balance: 1_000,
                write_set_tables: 3,
                quiescence_us: 10_000_000,
            },
            ops: Vec::new(),
            stalls: Vec::new(),
            samples: Vec::new(),
            pool: PoolView {
                in_use: Some(0),
                idle: Some(5),
                opening: Some(0),
                closing: Some(0),
                size: Some(5),
                waiting: Some(0),
                opened_total: Some(28),
                closed_total: Some(23),
                leases_issued: Some(900),
                leases_returned: Some(900),
            },
            server: ServerView {
                backends: (100..105)
                    .map(|pid| BackendRow {
                        pid,
                        state: "idle".into(),
                        in_transaction: false,
                        locks: 0,
                    })
                    .collect(),
                backends_peak: 15,
                prepared_transactions: 0,
            },
            capacity: CapacityProbe {
                wanted: 15,
                acquired: 15,
                took_us: 80_000,
                within_us: 5_000_000,
                error: None,
            },
            store: Store::default(),
            bank_snapshots: Vec::new(),
            bank_unseen: None,
        }
    }
}

impl World {
    pub(crate) fn with_ops(ops: impl IntoIterator<Item = OpRecord>) -> Self {
        Self {
            ops: ops.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn observations(&self) -> Observations<'_> {
        Observations {
            limits: self.limits,
            ops: &self.ops,
            faults: &[],
            stalls: &self.stalls,
            samples: &self.samples,
            pool: Ok(self.pool),
            server: Ok(self.server.clone()),
            capacity: Ok(self.capacity.clone()),
            store: Ok(&self.store),
            bank_snapshots: &self.bank_snapshots,
            bank_unseen: self.bank_unseen.as_deref(),
        }
    }
}

/// A transfer of 10 from account 0 to account 1 that committed within 20 ms.
/// Starts at `id` · 100 ms.
pub(crate) fn committed(id: u64) -> OpRecord {
    let started_us = id * 100_000;
    OpRecord {
        id,
        workload: "bank".into(),
        ending: Ending::Commit,
        effect: Effect::Transfer {
            from: 0,
            to: 1,
            amount: 10,
        },
        intended_us: started_us,
        started_us,
        deadline_us: 5_000_000,
        acquired_us: Some(started_us + 1_000),
        commit_sent_us: Some(started_us + 15_000),
        ended_us: Some(started_us + 20_000),
        outcome: Outcome::Ok,
        error: None,
        backend_pid: None,
        previous_op: None,
        clean_probe: None,
    }
}

/// A write set over `tables` tables that committed.
pub(crate) fn write_set(id: u64, tables: u32) -> OpRecord {
    OpRecord {
        workload: "write-set".into(),
        effect: Effect::WriteSet { tables },
        ..committed(id)
    }
}

/// An op that rolled back, as intended.
pub(crate) fn rolled_back(id: u64) -> OpRecord {
    OpRecord {
        ending: Ending::Rollback,
        commit_sent_us: None,
        ..committed(id)
    }
}

/// An op whose connection broke before COMMIT.
pub(crate) fn failed(id: u64) -> OpRecord {
    OpRecord {
        commit_sent_us: None,
        outcome: Outcome::Fail,
        error: Some(error(ErrorCategory::Connection)),
        ..committed(id)
    }
}

/// An op whose connection broke after COMMIT was written.
pub(crate) fn in_doubt(id: u64) -> OpRecord {
    OpRecord {
        outcome: Outcome::Info,
        error: Some(error(ErrorCategory::Ambiguous)),
        ..committed(id)
    }
}

/// An op that was cancelled after COMMIT was written, as planned.
pub(crate) fn cancelled_in_doubt(id: u64) -> OpRecord {
    OpRecord {
        ending: Ending::Cancel { after_us: 20_000 },
        error: Some(error(ErrorCategory::Cancelled)),
        ..in_doubt(id)
    }
}

/// An op that gave up in the queue after `waited_us`.
pub(crate) fn shed(id: u64, waited_us: u64) -> OpRecord {
    OpRecord {
        acquired_us: None,
        commit_sent_us: None,
        ended_us: Some(id * 100_000 + waited_us),
        outcome: Outcome::Shed,
        error: Some(error(ErrorCategory::Capacity)),
        ..committed(id)
    }
}

/// An op that panicked, as planned.
pub(crate) fn panicked(id: u64) -> OpRecord {
    OpRecord {
        ending: Ending::Panic,
        error: Some(error(ErrorCategory::Panicked)),
        ..failed(id)
    }
}

/// An op that was cancelled before COMMIT, as planned.
pub(crate) fn cancelled(id: u64) -> OpRecord {
    OpRecord {
        ending: Ending::Cancel { after_us: 20_000 },
        error: Some(error(ErrorCategory::Cancelled)),
        ..failed(id)
    }
}

/// An op that the end of the run cut short before COMMIT.
pub(crate) fn cut_short(id: u64) -> OpRecord {
    OpRecord {
        ended_us: None,
        error: Some(error(ErrorCategory::CutShort)),
        ..failed(id)
    }
}

pub(crate) fn error(category: ErrorCategory) -> OpError {
    OpError {
        category,
        sqlstate: None,
        message: category.as_str().into(),
    }
}
