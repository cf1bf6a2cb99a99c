//! Ends backends from outside, or waits for their end: `pg_terminate_backend` over a control connection,
//! until they are gone.
//!
//! A backend is told from a later process with the same id by its start. Nothing ended here is ever lent
//! again, so that no borrower can be hit by it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::conn::Backend;
use super::connect;

/// What the server's statistics show as the name of a control connection, whatever the pool's is.
pub(super) const CONTROL_NAME: &str = "poolproof-control";

/// Ends those that live and are to be ended, and returns all that live, and those of which it cannot be told:
/// whoever may not read everybody's statistics sees of another role's process that it is there, and whose,
/// but not since when. A backend leaves this view after its transaction has ended.
const TERMINATE: &str = "select w.pid, w.started, w.role, a.backend_start is null, \
    case when w.ends and a.backend_start is not null then pg_terminate_backend(w.pid) end \
    from unnest($1::int4[], $2::int8[], $3::int8[], $4::bool[]) as w (pid, started, role, ends), \
    lateral pg_stat_get_activity(w.pid) as a \
    where coalesce((extract(epoch from a.backend_start) * 1000000)::int8, w.started) = w.started \
    and a.usesysid::int8 = w.role";

/// The pause between two looks at whether a backend is gone. It doubles with every look up to the second.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// The pause after a control connection could not be opened or broke. It doubles with every failure up to
/// the second.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Ends backends one batch at a time, over one control connection at a time.
///
/// Whoever wants one ended waits for that or for its turn; whoever has the turn ends all that are wanted.
/// There is no task: a future that is dropped passes the turn on.
#[derive(Debug)]
pub(super) struct Fence {
    options: PgConnectOptions,
    turn: Semaphore,
    wanted: Mutex<Vec<Arc<Wanted>>>,
}

/// How a backend comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// By force.
    Terminate,
    /// By itself, which is waited for.
    Await,
}

#[derive(Debug)]
struct Wanted {
    backend: Backend,
    manner: Manner,
    is_gone: AtomicBool,
    gone: Notify,
}

impl Fence {
    pub(super) fn new(options: &PgConnectOptions) -> Self {
        Self {
            options: control_options(options),
            turn: Semaphore::new(1),
            wanted: Mutex::new(Vec::new()),
        }
    }

    /// Brings a backend to its end and waits until it is gone, however long that takes: bound it.
    pub(super) async fn end(&self, backend: Backend, manner: Manner) {
        let wanted = Enlisted::new(self, backend, manner);
        let mut pause = RECONNECT.0;
        let turn = tokio::select! {
            biased;
            // Whoever has the turn may be at it for long after this one is gone.
            () = wanted.wanted.gone.notified() => return,
            turn = self.turn.acquire() => turn.expect("bug: the turn's semaphore was closed"),
        };
        while !wanted.is_gone() {
            if let Err(error) = self.end_all(&wanted).await {
                tracing::debug!(%error, pid = backend.pid, "a backend could not be ended yet");
                sleep_until(Instant::now() + pause).await;
                pause = (pause * 2).min(RECONNECT.1);
            }
        }
        drop(turn);
    }

    /// Ends all backends that are wanted by now, until `own` is gone.
    async fn end_all(&self, own: &Enlisted<'_>) -> sqlx::Result<()> {
        let mut control = connect::open(&self.options).await?;
        let (mut pause, longest) = LOOK_AGAIN;
        loop {
            let wanted = self.lock().clone();
            let backends: Vec<_> = wanted
                .iter()
                .map(|wanted| (wanted.backend, wanted.manner))
                .collect();
            let Living { mut seen, hidden } = terminate(&mut control, &backends).await?;
            seen.extend(hidden);
            for wanted in wanted {
                if !seen.contains(&wanted.backend) {
                    wanted.is_gone.store(true, Ordering::Release);
                    wanted.gone.notify_one();
                }
            }
            if own.is_gone() {
                // What counts is done; a goodbye that fails changes nothing about it.
                drop(control.close().await);
                return Ok(());
            }
            sleep_until(Instant::now() + pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Wanted>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wanted backend on the fence's list, for as long as somebody waits for its end.
struct Enlisted<'f> {
    fence: &'f Fence,
    wanted: Arc<Wanted>,
}

impl<'f> Enlisted<'f> {
    fn new(fence: &'f Fence, backend: Backend, manner: Manner) -> Self {
        let wanted = Arc::new(Wanted {
            backend,
            manner,
            is_gone: AtomicBool::new(false),
            gone: Notify::new(),
        });
        fence.lock().push(Arc::clone(&wanted));
        Self { fence, wanted }
    }

    fn is_gone(&self) -> bool {
        self.wanted.is_gone.load(Ordering::Acquire)
    }
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        self.fence
            .lock()
            .retain(|wanted| !Arc::ptr_eq(wanted, &self.wanted));
    }
}

/// Returns the options for a connection that does not count as one of the pool's.
pub(super) fn control_options(options: &PgConnectOptions) -> PgConnectOptions {
    // A role that connections begin with may neither see nor end what the role that logs in may.
    let options = options.clone().options([("role", "none")]);
    options.application_name(CONTROL_NAME)
}

/// The backends that have not come to their end.
#[derive(Debug, Default)]
pub(super) struct Living {
    pub(super) seen: Vec<Backend>,
    /// Processes of their roles with their ids, which may be others.
    pub(super) hidden: Vec<Backend>,
}

/// Tells backends to end, in their manner; returns those that were still there.
pub(super) async fn terminate(
    control: &mut PgConnection,
    backends: &[(Backend, Manner)],
) -> sqlx::Result<Living> {
    let mut pids: Vec<i32> = Vec::with_capacity(backends.len());
    let mut starts: Vec<i64> = Vec::with_capacity(backends.len());
    let mut roles: Vec<i64> = Vec::with_capacity(backends.len());
    let mut ends: Vec<bool> = Vec::with_capacity(backends.len());
    for (backend, manner) in backends {
        pids.push(backend.pid);
        starts.push(backend.micros());
        roles.push(backend.role.into());
        ends.push(*manner == Manner::Terminate);
    }
    let query = sqlx::query(TERMINATE).bind(pids).bind(starts);
    let query = query.bind(roles).bind(ends);
    let mut living = Living::default();
    for row in control.fetch_all(query).await? {
        let backend = Backend::read(&row)?;
        if row.try_get(3)? {
            living.hidden.push(backend);
        } else {
            living.seen.push(backend);
        }
    }
    Ok(living)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::SystemTime;

    use futures_util::FutureExt;
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    const BACKEND: Backend = Backend {
        pid: 1,
        started: SystemTime::UNIX_EPOCH,
        role: 10,
    };

    /// On a server that is not there.
    fn fence() -> Fence {
        let nowhere = PgConnectOptions::new_without_pgpass().socket("/nowhere");
        Fence::new(&nowhere)
    }

    /// On a paused clock an hour passes at once, unless there are no pauses in it.
    #[test]
    fn a_server_that_is_not_there_is_tried_again_after_pauses() {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(true).build().unwrap();
            let ended = runtime.block_on(async {
                let fence = fence();
                let hour = Duration::from_secs(3600);
                timeout(hour, fence.end(BACKEND, Manner::Terminate)).await
            });
            tell.send(ended)
        });
        let ended = told.recv_timeout(Duration::from_secs(20));
        ended.expect("it pauses").expect_err("nobody ended it");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_wanted() {
        let fence = fence();
        let ended = fence.end(BACKEND, Manner::Terminate).now_or_never();
        assert_eq!(ended, None);
        assert!(fence.lock().is_empty());
    }
}
