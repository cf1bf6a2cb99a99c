//! One trial: what is asked, and what follows from it before anything is started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use poolproof_load::{Schedule, Workload};
use poolproof_oracle::{Limits, Objectives};
use poolproof_subjects::SubjectKind;

use crate::RunError;
use crate::drive::QUIESCENCE;
use crate::scenario::Scenario;
use crate::time::micros;

/// One measurement that is asked for: values only.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Load, faults, pool and objectives.
    pub scenario: Scenario,
    /// The pool under test.
    pub subject: SubjectKind,
    /// The only source of randomness.
    pub seed: u64,
}

/// A trial whose ops are known, and the name under which it leaves its marks on a server.
#[derive(Debug, Clone)]
pub struct Planned {
    pub(crate) trial: Trial,
    /// No other trial on this server has it.
    pub(crate) id: String,
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) schedule_sha256: String,
}

impl Trial {
    /// Generates the schedule, and refuses what cannot be run.
    ///
    /// # Errors
    /// [`RunError::Unfit`] when the subject cannot have such a pool, [`RunError::Schedule`] when the
    /// load cannot be generated.
    pub fn plan(self) -> Result<Planned, RunError> {
        let pool = &self.scenario.pool;
        let fit = self.subject.check_size(pool.pool_size, pool.max_overflow);
        fit.map_err(|source| RunError::Unfit {
            subject: self.subject.to_string(),
            source,
        })?;
        let schedule = Schedule::generate(&self.scenario.load, self.seed)?;
        Ok(Planned {
            id: fresh_id(),
            schedule_sha256: schedule.sha256(),
            schedule: Arc::new(schedule),
            trial: self,
        })
    }
}

impl Planned {
    /// Returns the id by which the trial's schema and connections are known.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let weighted = self.trial.scenario.load.workloads.iter();
        weighted.map(|weighted| weighted.workload).collect()
    }

    pub(crate) fn objectives(&self) -> Objectives {
        let objective = &self.trial.scenario.objective;
        Objectives {
            response_us: objective.response.map(micros),
            recovery_us: objective.recovery.map(micros),
        }
    }

    /// Returns what the guarantees need to know of the settings.
    pub(crate) fn limits(&self) -> Limits {
        let bank = |workload| match workload {
            Workload::Bank {
                accounts,
                opening_balance,
            } => Some((accounts, opening_balance)),
            Workload::WriteSet { .. } => None,
        };
        let tables = |workload: &Workload| match workload {
            Workload::WriteSet { tables } => *tables,
            Workload::Bank { .. } => 0,
        };
        let workloads = self.workloads();
        let (bank_accounts, bank_opening_balance) =
            workloads.iter().copied().find_map(bank).unwrap_or_default();
        let pool = &self.trial.scenario.pool;
        Limits {
            pool_timeout_us: micros(pool.pool_timeout),
            pool_max: u32::try_from(pool.max_overflow)
                .ok()
                .map(|overflow| u64::from(pool.pool_size) + u64::from(overflow)),
            bank_accounts,
            bank_opening_balance,
            write_set_tables: workloads.iter().map(tables).max().unwrap_or(0),
            quiescence_us: micros(QUIESCENCE),
        }
    }
}

/// Returns an id that no other trial on this server shares: time, process and place among those of this
/// process, in hexadecimal.
fn fresh_id() -> String {
    static PLANNED: AtomicU64 = AtomicU64::new(0);
    let micros = Timestamp::now().as_microsecond().unsigned_abs() & 0xff_ffff_ffff;
    let process = std::process::id() & 0xff_ffff;
    let nth = PLANNED.fetch_add(1, Ordering::Relaxed) & 0xff;
    format!("{micros:010x}{process:06x}{nth:02x}")
}
