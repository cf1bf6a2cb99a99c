//! What the pool, the server and the tables show once nothing is in flight.

use std::time::Duration;

use poolproof_oracle::{BackendRow, CapacityProbe, CutShort, PoolView, ServerView, Store};
use poolproof_testbed::{Admin, AdminError, ServerInfo};
use tokio::time::Instant;

use crate::claim::ClaimError;
use crate::drive::{Loaded, QUIESCENCE};
use crate::namespace::Namespace;
use crate::stage::{PROXY, Stage};
use crate::trial::Planned;

/// How long a pool and its server may take to come to rest after the last op.
const REST: Duration = QUIESCENCE;
/// How often they are looked at until then.
const LOOK: Duration = Duration::from_millis(50);

/// What was seen. A part whose look failed carries the reason.
pub(crate) struct Observed {
    pub(crate) pool: PoolView,
    pub(crate) server: Result<ServerView, String>,
    pub(crate) capacity: Result<CapacityProbe, String>,
    pub(crate) store: Result<Store, String>,
    /// Whether the server did not answer any more.
    pub(crate) server_lost: bool,
    /// Whether the fault proxy let everything through again; else what is the matter with it.
    pub(crate) proxy: Result<(), String>,
    /// What the reader should know about the trial's own connections.
    pub(crate) notes: Vec<String>,
}

impl Observed {
    /// Says in one phrase what could not be seen.
    pub(crate) fn describe(&self) -> String {
        let unseen = [
            ("the server", self.server.is_err()),
            ("the capacity", self.capacity.is_err()),
            ("the tables", self.store.is_err()),
            ("the fault proxy", self.proxy.is_err()),
        ];
        let unseen: Vec<_> = unseen.into_iter().filter(|(_, failed)| *failed).collect();
        if unseen.is_empty() {
            return "all seen".to_owned();
        }
        let names: Vec<_> = unseen.into_iter().map(|(name, _)| name).collect();
        format!("not seen: {}", names.join(", "))
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

/// Waits until the pool is at rest, and looks at everything.
pub(crate) async fn observe(trial: &Planned, stage: &mut Stage<'_>, loaded: &Loaded) -> Observed {
    let lost = matches!(loaded.cut_short, Some((CutShort::ServerLost, _))) || stage.bench.is_gone();
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
        read_tables(trial, stage).await
    };
    let mut notes = stage.notes();
    let store = match restart(stage).await {
        Some(Restart { text, durable }) if store.is_ok() => {
            notes.push(text.clone());
            // Lost by a server that promised nothing: no pool can keep that.
            if durable {
                store
            } else {
                Err(LookError::Failed(text))
            }
        }
        _ => store,
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
        (_, Ok(())) => Ok(probe_capacity(trial, stage).await),
    };
    Observed {
        pool,
        server: server.map_err(LookError::text),
        capacity,
        store: store.map_err(LookError::text),
        server_lost,
        proxy,
        notes,
    }
}

/// Returns the pool's view once it is at rest, or its last one.
async fn pool_at_rest(stage: &Stage<'_>, until: Instant) -> PoolView {
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
    stage: &Stage<'_>,
    pool: &PoolView,
    until: Instant,
) -> Result<ServerView, LookError> {
    let mut admin = Admin::connect(stage.bench.direct.clone()).await?;
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

async fn look_at_server(admin: &mut Admin, stage: &Stage<'_>) -> Result<ServerView, AdminError> {
    let backends = admin.backends(&stage.application_name).await?;
    let since_us = stage.namespace.as_ref().map_or(0, Namespace::since_us);
    let prepared_transactions = admin.prepared_transactions(since_us).await?;
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

/// A restart of the server since the bench was brought up.
struct Restart {
    text: String,
    /// Whether it may have lost no commit.
    durable: bool,
}

/// Returns whether the server restarted; none also when nobody can tell.
async fn restart(stage: &Stage<'_>) -> Option<Restart> {
    let before = &stage.bench.info;
    let mut admin = Admin::connect(stage.bench.direct.clone()).await.ok()?;
    let now = admin.server_info().await.ok()?;
    restart_between(before, &now)
}

fn restart_between(before: &ServerInfo, now: &ServerInfo) -> Option<Restart> {
    if now.started_at == before.started_at {
        return None;
    }
    let durable = before.durable && now.durable;
    let mut text = "the server was restarted while the run was on".to_owned();
    if !durable {
        text +=
            ", and acknowledges commits that are not on disk (fsync or synchronous_commit is off)";
    }
    Some(Restart { text, durable })
}

/// Makes sure that the fault proxy is there and lets everything through.
async fn proxy_stands(stage: &Stage<'_>) -> Result<(), String> {
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

async fn probe_capacity(trial: &Planned, stage: &Stage<'_>) -> CapacityProbe {
    let pool = &trial.trial.scenario.pool;
    // Without a limit there is no whole capacity; twice the size shows that more can be had.
    let overflow = u32::try_from(pool.max_overflow).unwrap_or(pool.pool_size);
    let wanted = u64::from(pool.pool_size) + u64::from(overflow);
    // Opening that many connections takes a while on a busy machine, whatever the pool's timeout.
    let within = pool.pool_timeout.max(Duration::from_secs(5));
    stage.subject.probe_capacity(wanted, within).await
}

/// Reads the tables, and makes sure afterwards that they were the run's own until then.
async fn read_tables(trial: &Planned, stage: &mut Stage<'_>) -> Result<Store, LookError> {
    if let Some(reason) = &stage.claim_lost {
        return Err(LookError::Failed(reason.clone()));
    }
    let workloads = trial.workloads();
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
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_restarted_server_is_blamed_for_lost_commits_only_where_it_promised_nothing() {
        let started = |after: u64, durable| ServerInfo {
            version_text: String::new(),
            version_num: 150_000,
            max_connections: 100,
            reserved: 3,
            in_use: 1,
            started_at: SystemTime::UNIX_EPOCH + Duration::from_secs(after),
            durable,
        };
        let between = |before, now| {
            restart_between(&before, &now).map(|Restart { text, durable }| (text, durable))
        };
        assert_eq!(between(started(1, false), started(1, false)), None);
        let restarted = "the server was restarted while the run was on".to_owned();
        assert_eq!(
            between(started(1, true), started(2, true)),
            Some((restarted.clone(), true))
        );
        for (before, now) in [(true, false), (false, true), (false, false)] {
            let (text, durable) = between(started(1, before), started(2, now)).unwrap();
            assert!(!durable && text.starts_with(&restarted), "{text}");
        }
    }

    #[test]
    fn a_server_that_does_not_tell_what_its_backends_do_is_not_believed() {
        for (state, reason) in [
            ("disabled", "track_activities"),
            ("", "the role may not see"),
        ] {
            let view = ServerView {
                backends: vec![BackendRow {
                    pid: 7,
                    state: state.to_owned(),
                    in_transaction: false,
                    locks: 0,
                }],
                backends_peak: 1,
                prepared_transactions: 0,
            };
            let Err(LookError::Failed(text)) = told(view) else {
                panic!("{state:?} was believed");
            };
            assert!(text.contains(reason), "{text}");
        }
    }
}
