//! What the pool, the server and the tables show once nothing is in flight.

use std::time::Duration;

use poolproof_load::Workload;
use poolproof_oracle::{
    BackendRow, CapacityProbe, GuaranteeResult, GuaranteeStatus, Limits, Observations, PoolView,
    ServerView, Store,
};
use poolproof_report::CutShort;
use poolproof_testbed::{Admin, AdminError};
use tokio::time::Instant;

use crate::claim::ClaimError;
use crate::drive::{Loaded, QUIESCENCE};
use crate::execute::Run;
use crate::namespace::Namespace;
use crate::stage::{PROXY, Stage};
use crate::time::micros;

/// How long a pool and its server may take to come to rest after the last op.
const REST: Duration = QUIESCENCE;
/// How often they are looked at until then.
const LOOK: Duration = Duration::from_millis(50);

/// What was seen, and what follows from it.
pub(crate) struct Observed {
    pub(crate) guarantees: Vec<GuaranteeResult>,
    pub(crate) store: Result<Store, String>,
    /// Whether the server did not answer any more.
    pub(crate) server_lost: bool,
    /// Whether the fault proxy let everything through again; else what is the matter with it.
    pub(crate) proxy: Result<(), String>,
    /// What the reader should know about the run's own connections.
    pub(crate) notes: Vec<String>,
}

impl Observed {
    /// Returns how the guarantees came out, in one phrase.
    pub(crate) fn describe(&self) -> String {
        let count = |wanted: fn(&GuaranteeStatus) -> bool| {
            self.guarantees
                .iter()
                .filter(|result| wanted(&result.status))
                .count()
        };
        let held = count(|status| *status == GuaranteeStatus::Held);
        let violated = count(|status| *status == GuaranteeStatus::Violated);
        let nothing = count(|status| matches!(status, GuaranteeStatus::NothingToCheck(_)));
        let others = self.guarantees.len() - held - violated - nothing;
        let mut text = format!("{held} guarantees held, {violated} violated");
        for (n, what) in [(others, "not judged"), (nothing, "with nothing to check")] {
            if n > 0 {
                text = format!("{text}, {n} {what}");
            }
        }
        text
    }
}

/// Why a look showed nothing.
#[derive(Debug)]
enum LookError {
    /// The server gave no answer.
    Unreachable(String),
    /// The server let nobody in.
    Refused(String),
    /// Something else stood in the way.
    Failed(String),
}

impl LookError {
    fn text(self) -> String {
        match self {
            Self::Unreachable(text) | Self::Refused(text) | Self::Failed(text) => text,
        }
    }
}

impl From<AdminError> for LookError {
    fn from(error: AdminError) -> Self {
        let text = crate::error::chain(&error);
        match error {
            _ if error.is_unreachable() => Self::Unreachable(text),
            AdminError::Connect { .. } => Self::Refused(text),
            _ => Self::Failed(text),
        }
    }
}

/// Waits until the pool is at rest, looks at everything, and judges.
pub(crate) async fn observe(run: &Run, stage: &mut Stage, loaded: &Loaded) -> Observed {
    let lost =
        matches!(loaded.cut_short, Some((CutShort::ServerLost, _))) || stage.server_is_gone();
    let until = Instant::now() + REST;
    let pool = pool_at_rest(stage, until).await;
    let server = if lost {
        Err(gone())
    } else {
        server_at_rest(stage, &pool, until).await
    };
    let store = if lost {
        Err(gone())
    } else {
        read_tables(run, stage).await
    };
    let unreachable = |error: Option<&LookError>| matches!(error, Some(LookError::Unreachable(_)));
    let server_lost =
        lost || (unreachable(server.as_ref().err()) && unreachable(store.as_ref().err()));
    let proxy = proxy_stands(stage).await;
    // A pool is not to blame for a server that gives nobody a connection, nor for a proxy that is gone.
    let capacity = match (&server, &proxy) {
        _ if server_lost => Err(gone().text()),
        (Err(LookError::Refused(reason) | LookError::Unreachable(reason)), _)
        | (_, Err(reason)) => Err(reason.clone()),
        (_, Ok(())) => Ok(probe_capacity(run, stage).await),
    };
    let store = store.map_err(LookError::text);
    let guarantees = poolproof_oracle::judge(&Observations {
        limits: limits(run),
        ops: &loaded.records,
        faults: &loaded.faults,
        stalls: &loaded.stalls,
        samples: &loaded.seen.samples,
        pool: Ok(pool),
        server: server.map_err(LookError::text),
        capacity,
        store: store.as_ref().map_err(Clone::clone),
        bank_snapshots: &loaded.seen.bank,
        bank_unseen: loaded.seen.bank_unseen.as_deref(),
    });
    Observed {
        guarantees,
        store,
        server_lost,
        proxy,
        notes: stage.notes(),
    }
}

fn limits(run: &Run) -> Limits {
    let bank = |workload| match workload {
        Workload::Bank {
            accounts,
            opening_balance,
        } => Some((accounts, opening_balance)),
        Workload::WriteSet { .. } => None,
    };
    let workloads = run.workloads();
    let (bank_accounts, bank_opening_balance) =
        workloads.iter().copied().find_map(bank).unwrap_or_default();
    let tables = |workload: &Workload| match workload {
        Workload::WriteSet { tables } => *tables,
        Workload::Bank { .. } => 0,
    };
    let pool = &run.options.scenario.pool;
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

/// Returns the pool's view once it is at rest, or its last one.
async fn pool_at_rest(stage: &Stage, until: Instant) -> PoolView {
    loop {
        let view = stage.subject.view();
        let zero = |count: Option<u64>| count.is_none_or(|count| count == 0);
        let at_rest = [view.in_use, view.opening, view.closing, view.waiting]
            .into_iter()
            .all(zero);
        if at_rest || Instant::now() >= until {
            return view;
        }
        pause().await;
    }
}

/// Returns the server's view once it agrees with the pool's, or its last one.
///
/// A backend whose client vanished ends only when it notices, so it may outlive its connection.
async fn server_at_rest(
    stage: &Stage,
    pool: &PoolView,
    until: Instant,
) -> Result<ServerView, LookError> {
    let mut admin = Admin::connect(stage.direct.clone()).await?;
    loop {
        let view = look_at_server(&mut admin, stage).await?;
        let agrees = pool
            .size
            .is_none_or(|size| size >= view.backends.len() as u64);
        let busy = view
            .backends
            .iter()
            .any(|row| row.in_transaction || row.locks > 0);
        if (agrees && !busy) || Instant::now() >= until {
            return told(view);
        }
        pause().await;
    }
}

async fn look_at_server(admin: &mut Admin, stage: &Stage) -> Result<ServerView, AdminError> {
    let backends = admin.backends(&stage.application_name).await?;
    let prepared_transactions = admin.prepared_transactions().await?;
    let seen_before = stage.namespace.as_ref().map_or(0, Namespace::backends_peak);
    let backends: Vec<_> = backends
        .into_iter()
        .map(|backend| BackendRow {
            pid: backend.pid,
            state: backend.state,
            in_transaction: backend.in_transaction,
            locks: backend.locks,
        })
        .collect();
    Ok(ServerView {
        backends_peak: seen_before.max(backends.len() as u64),
        backends,
        prepared_transactions,
    })
}

/// Refuses a view in which the server keeps to itself what its backends do: an open transaction would
/// not be seen in it.
fn told(view: ServerView) -> Result<ServerView, LookError> {
    let untold = |state: &str| match state {
        "disabled" => {
            Some("the server does not track what its backends do (track_activities is off)")
        }
        "" => Some("the role may not see what the subject's backends do"),
        _ => None,
    };
    match view.backends.iter().find_map(|row| untold(&row.state)) {
        Some(reason) => Err(LookError::Failed(reason.to_owned())),
        None => Ok(view),
    }
}

/// Makes sure that the fault proxy is there and lets everything through.
async fn proxy_stands(stage: &Stage) -> Result<(), String> {
    let toxics = match stage.proxies.get(PROXY).await {
        Ok(view) if view.enabled => stage.proxies.toxics(PROXY).await,
        Ok(_) => return Err("the fault proxy is still switched off".to_owned()),
        Err(error) => return Err(format!("the fault proxy is gone: {error}")),
    };
    match toxics {
        Ok(toxics) if toxics.is_empty() => Ok(()),
        Ok(toxics) => Err(format!(
            "the fault proxy still has the toxic {}",
            toxics[0].name
        )),
        Err(error) => Err(format!("the fault proxy is gone: {error}")),
    }
}

async fn probe_capacity(run: &Run, stage: &Stage) -> CapacityProbe {
    let pool = &run.options.scenario.pool;
    // Without a limit there is no whole capacity; twice the size shows that more can be had.
    let overflow = u32::try_from(pool.max_overflow).unwrap_or(pool.pool_size);
    let wanted = u64::from(pool.pool_size) + u64::from(overflow);
    // Opening that many connections takes a while on a busy machine, whatever the pool's timeout.
    let within = pool.pool_timeout.max(Duration::from_secs(5));
    stage.subject.probe_capacity(wanted, within).await
}

/// Reads the tables, and makes sure afterwards that they were the run's own until then.
async fn read_tables(run: &Run, stage: &mut Stage) -> Result<Store, LookError> {
    if let Some(reason) = &stage.claim_lost {
        return Err(LookError::Failed(reason.clone()));
    }
    let workloads = run.workloads();
    let Some(namespace) = &mut stage.namespace else {
        return Err(gone());
    };
    let store = namespace.read(&workloads).await;
    match namespace.prove().await {
        Err(error) if !error.may_pass() => Err(LookError::Failed(error.text())),
        Err(ClaimError::Ask(error)) => Err(error.into()),
        Ok(()) | Err(_) => Ok(store?),
    }
}

fn gone() -> LookError {
    LookError::Unreachable("the server is gone".to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the gap between two looks at the pool or server"
)]
async fn pause() {
    tokio::time::sleep(LOOK).await;
}

#[cfg(test)]
mod tests;
