//! What the pool, the server and the tables show once nothing is in flight.

use std::time::Duration;

use poolproof_load::Workload;
use poolproof_oracle::{
    BackendRow, CapacityProbe, GuaranteeResult, GuaranteeStatus, Limits, Observations, PoolView,
    ServerView, Store,
};
use poolproof_testbed::Admin;
use tokio::time::Instant;

use crate::drive::{CutShort, Loaded, QUIESCENCE};
use crate::execute::Run;
use crate::stage::Stage;
use crate::time::micros;

/// How long a pool and its server may take to come to rest after the last op.
const REST: Duration = QUIESCENCE;
/// How often they are looked at until then.
const LOOK: Duration = Duration::from_millis(50);
/// How long reading the tables may take.
const READ: Duration = Duration::from_secs(30);

/// What was seen, and what follows from it.
pub(crate) struct Observed {
    pub(crate) guarantees: Vec<GuaranteeResult>,
    pub(crate) store: Result<Store, String>,
    /// Whether the server did not answer any more.
    pub(crate) server_lost: bool,
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
        let others = self.guarantees.len() - held - violated;
        let text = format!("{held} guarantees held, {violated} violated");
        if others == 0 {
            return text;
        }
        format!("{text}, {others} not judged")
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
    let server_lost = lost || (server.is_err() && store.is_err());
    // A pool is not to blame for a server that gives it no connection.
    let capacity = if server_lost {
        Err(gone())
    } else {
        Ok(probe_capacity(run, stage).await)
    };
    let guarantees = poolproof_oracle::judge(&Observations {
        limits: limits(run),
        ops: &loaded.records,
        faults: &loaded.faults,
        stalls: &loaded.stalls,
        samples: &loaded.seen.samples,
        pool: Ok(pool),
        server,
        capacity,
        store: store.as_ref().map_err(Clone::clone),
        bank_snapshots: &loaded.seen.bank,
    });
    Observed {
        guarantees,
        store,
        server_lost,
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
    let (bank_accounts, bank_opening_balance) = run
        .workloads()
        .into_iter()
        .find_map(bank)
        .unwrap_or_default();
    let pool = &run.options.scenario.pool;
    Limits {
        pool_timeout_us: micros(pool.pool_timeout),
        pool_max: u32::try_from(pool.max_overflow)
            .ok()
            .map(|overflow| u64::from(pool.pool_size) + u64::from(overflow)),
        bank_accounts,
        bank_opening_balance,
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
) -> Result<ServerView, String> {
    let connecting = tokio::time::timeout(READ, Admin::connect(stage.direct.clone())).await;
    let mut admin = connecting.map_err(|_| no_answer())?.map_err(text)?;
    loop {
        let looking = tokio::time::timeout(READ, look_at_server(&mut admin, stage)).await;
        let view = looking.map_err(|_| no_answer())??;
        let agrees = pool
            .size
            .is_none_or(|size| size >= view.backends.len() as u64);
        let busy = view
            .backends
            .iter()
            .any(|row| row.in_transaction || row.locks > 0);
        if (agrees && !busy) || Instant::now() >= until {
            return Ok(view);
        }
        pause().await;
    }
}

async fn look_at_server(admin: &mut Admin, stage: &Stage) -> Result<ServerView, String> {
    let backends = admin
        .backends(&stage.application_name)
        .await
        .map_err(text)?;
    let prepared_transactions = admin.prepared_transactions().await.map_err(text)?;
    let backends = backends
        .into_iter()
        .map(|backend| BackendRow {
            pid: backend.pid,
            state: backend.state,
            in_transaction: backend.in_transaction,
            locks: backend.locks,
        })
        .collect();
    Ok(ServerView {
        backends,
        prepared_transactions,
    })
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

async fn read_tables(run: &Run, stage: &mut Stage) -> Result<Store, String> {
    let workloads = run.workloads();
    let Some(namespace) = &mut stage.namespace else {
        return Err(gone());
    };
    match tokio::time::timeout(READ, namespace.read(&workloads)).await {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(error)) => Err(format!("the tables could not be read: {}", text(error))),
        Err(_) => Err(no_answer()),
    }
}

fn gone() -> String {
    "the server is gone".to_owned()
}

fn no_answer() -> String {
    format!("the server did not answer within {} s", READ.as_secs())
}

fn text(error: impl std::error::Error) -> String {
    crate::error::chain(&error)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the gap between two looks at the pool or server"
)]
async fn pause() {
    tokio::time::sleep(LOOK).await;
}
