//! Ends backends from outside: `pg_terminate_backend` over a control connection, until they are gone.
//!
//! A backend is told from a later process with the same id by its start, and one that serves a single
//! transaction of ours by that transaction's. Whoever wants one ended keeps the connection that it serves
//! open meanwhile: a pooler would give it to somebody else. Nothing ended here is ever lent again, so that
//! no borrower can be hit by it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, raw_sql};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::conn::Target;
use super::connect;
use super::error::sqlstate;

/// What the server's statistics show as the name of a control connection, whatever the pool's is.
pub(super) const CONTROL_NAME: &str = "poolproof-control";

/// Ends those that are still there, and returns all that were, by their index, and whether it cannot be
/// told: whoever may not read everybody's statistics sees of another role's process that it is there, and
/// whose, but not since when. A backend leaves this view after its transaction has ended.
///
/// One simple query, by the role that logged in: it works through a pooler, and leaves nothing there.
const TERMINATE: &str = "select w.index, a.backend_start is null, \
    case when a.backend_start is not null then pg_terminate_backend(w.pid) end \
    from wanted as w, lateral pg_stat_get_activity(w.pid) as a where a.usesysid::int8 = w.role and \
    case when a.backend_start is null then true \
    when w.began is null then (extract(epoch from a.backend_start) * 1000000)::int8 = w.started \
    else (extract(epoch from a.xact_start) * 1000000)::int8 = w.began end";

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
    /// Whether it was told that there is no control connection to be had.
    told_barred: AtomicBool,
}

#[derive(Debug)]
struct Wanted {
    target: Target,
    is_gone: AtomicBool,
    gone: Notify,
}

impl Fence {
    pub(super) fn new(options: &PgConnectOptions) -> Self {
        Self {
            options: control_options(options),
            turn: Semaphore::new(1),
            wanted: Mutex::new(Vec::new()),
            told_barred: AtomicBool::new(false),
        }
    }

    /// Ends a backend and waits until it is gone, however long that takes: bound it.
    pub(super) async fn end(&self, target: Target) {
        let wanted = Enlisted::new(self, target);
        let mut pause = RECONNECT.0;
        let turn = tokio::select! {
            biased;
            // Whoever has the turn may be at it for long after this one is gone.
            () = wanted.wanted.gone.notified() => return,
            turn = self.turn.acquire() => turn.expect("bug: the turn's semaphore was closed"),
        };
        while !wanted.is_gone() {
            if let Err(error) = self.end_all(&wanted).await {
                let pid = target.backend.pid;
                tracing::debug!(%error, pid, "a backend could not be ended yet");
                sleep_until(Instant::now() + pause).await;
                pause = (pause * 2).min(RECONNECT.1);
            }
        }
        drop(turn);
    }

    /// Ends all backends that are wanted by now, until `own` is gone.
    async fn end_all(&self, own: &Enlisted<'_>) -> sqlx::Result<()> {
        let mut control = match connect::open(&self.options).await {
            Ok(control) => control,
            Err(error) => {
                self.tell_barred(&error);
                return Err(error);
            }
        };
        self.told_barred.store(false, Ordering::Relaxed);
        let (mut pause, longest) = LOOK_AGAIN;
        loop {
            let wanted = self.lock().clone();
            let targets: Vec<_> = wanted.iter().map(|wanted| wanted.target).collect();
            let living = terminate(&mut control, &targets).await?;
            for (wanted, living) in wanted.iter().zip(living) {
                if living == Living::Gone {
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

    /// Says that there is no control connection to be had, once until there is.
    fn tell_barred(&self, error: &sqlx::Error) {
        if self.told_barred.swap(true, Ordering::Relaxed) {
            return;
        }
        let is_full = sqlstate(error).is_some_and(|code| code.starts_with("53"));
        let remedy = match is_full {
            true => {
                "leave the role and the server one connection beside pool_size + max_overflow, or set \
                 SessionConfig::abandoned to Await or Drop"
            }
            false => "it is tried again until reset_timeout",
        };
        tracing::warn!(
            %error,
            "no control connection can be opened, so that abandoned statements run on and keep their \
             slots until reset_timeout: {remedy}"
        );
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
    fn new(fence: &'f Fence, target: Target) -> Self {
        let wanted = Arc::new(Wanted {
            target,
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
    options.clone().application_name(CONTROL_NAME)
}

/// Whether a backend has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Living {
    Gone,
    Seen,
    /// A process of its role with its id is there, which may be another.
    Hidden,
}

/// Tells backends to end; returns whether each was still there.
pub(super) async fn terminate(
    control: &mut PgConnection,
    targets: &[Target],
) -> sqlx::Result<Vec<Living>> {
    let mut sql = String::from(
        "set local role none; with wanted (index, pid, started, role, began) as (values (null::int4, \
         null::int4, null::int8, null::int8, null::int8)",
    );
    for (index, Target { backend, began }) in targets.iter().enumerate() {
        let (pid, started, role) = (backend.pid, backend.micros(), backend.role);
        write!(sql, ", ({index}, {pid}, {started}, {role}, ").expect(UNFAILING);
        match began {
            Some(began) => write!(sql, "{began})").expect(UNFAILING),
            None => sql.push_str("null)"),
        }
    }
    sql.push_str(") ");
    sql.push_str(TERMINATE);
    let mut living = vec![Living::Gone; targets.len()];
    for row in control.fetch_all(raw_sql(AssertSqlSafe(sql))).await? {
        let index = usize::try_from(row.try_get::<i32, _>(0)?);
        let index = index.map_err(|error| sqlx::Error::Decode(error.into()))?;
        living[index] = match row.try_get(1)? {
            true => Living::Hidden,
            false => Living::Seen,
        };
    }
    Ok(living)
}

const UNFAILING: &str = "bug: writing to a String failed";

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::SystemTime;

    use futures_util::FutureExt;
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;
    use crate::pg::conn::Backend;

    const TARGET: Target = Target {
        backend: Backend {
            pid: 1,
            started: SystemTime::UNIX_EPOCH,
            role: 10,
        },
        began: None,
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
                timeout(hour, fence.end(TARGET)).await
            });
            tell.send(ended)
        });
        let ended = told.recv_timeout(Duration::from_secs(20));
        ended.expect("it pauses").expect_err("nobody ended it");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_wanted() {
        let fence = fence();
        let ended = fence.end(TARGET).now_or_never();
        assert_eq!(ended, None);
        assert!(fence.lock().is_empty());
    }
}
