//! Server faults: chosen, injected, and seen to have taken effect.

use std::time::Duration;

use sqlx::Row;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::{ADMIN_DEADLINE, Admin, AdminError, backend};
use crate::{Backend, BackendTarget, ServerFault, ServerFaultEffect};

/// How often the server is asked whether there is a backend to hit, and whether it is gone. A
/// transaction of a small pool lives for some milliseconds.
const EVERY: Duration = Duration::from_millis(2);

/// Chooses and terminates in one statement: between two the transaction would often be over.
/// The inner `limit` keeps the planner from calling the function for any other row.
macro_rules! terminate_sql {
    ($condition:literal) => {
        concat!(
            "select pid, state, in_transaction, locks, backend_start::text, \
                pg_terminate_backend(pid) as signalled \
             from (select pid, coalesce(state, '') as state, \
                xact_start is not null as in_transaction, backend_start, \
                (select count(*) from pg_locks l where l.pid = a.pid \
                    and not (l.locktype = 'virtualxid' and l.virtualxid = l.virtualtransaction)) \
                    as locks \
             from pg_stat_activity a \
             where application_name = $1 and pid <> pg_backend_pid() and ",
            $condition,
            " order by xact_start nulls last, pid limit 1) chosen"
        )
    };
}

/// A running statement is in a transaction of its own anyway; `xact_start < query_start` tells
/// that an earlier one opened it.
const TERMINATE_IN_TRANSACTION: &str = terminate_sql!(
    "(state like 'idle in transaction%' or (state = 'active' \
        and (backend_xid is not null or xact_start < query_start)))"
);
const TERMINATE_IDLE: &str = terminate_sql!("state = 'idle'");
const TERMINATE_ANY: &str = terminate_sql!("true");

const IS_THERE_SQL: &str =
    "select 1 from pg_stat_activity where pid::text || ' ' || backend_start::text = $1";

/// Why a fault had no effect that could be seen.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// No backend was in the state that the fault needs.
    #[error(
        "find a backend ({}) of {application_name} within {within:?}",
        target.as_str()
    )]
    NoTarget {
        /// What was looked for.
        target: BackendTarget,
        /// Whose backends.
        application_name: String,
        /// How long it was looked for.
        within: Duration,
    },
    /// The backend was told to end, and it did not.
    #[error("see backend {pid} end within {within:?}")]
    StillThere {
        /// The backend.
        pid: i32,
        /// How long it was given.
        within: Duration,
    },
    /// The server could not be asked.
    #[error("inject a fault into the server")]
    Admin(#[source] AdminError),
}

/// A backend that has been told to end.
struct Doomed {
    backend: Backend,
    /// Process ids are used again; together with the start they are not.
    identity: String,
}

impl Admin {
    /// Injects a fault into the backends that carry `application_name`, and sees its effect.
    ///
    /// Looks for a fitting backend `within` at most, then waits up to [`ADMIN_DEADLINE`] until
    /// the server does not list it any more.
    ///
    /// # Errors
    /// [`InjectError::NoTarget`] when there was nothing to hit, [`InjectError::StillThere`] when
    /// the backend survived, [`InjectError::Admin`] when the server gave no answer or forbade it.
    /// # Cancel safety
    /// Safe for this value. The fault may have been injected all the same.
    pub async fn inject(
        &mut self,
        fault: &ServerFault,
        application_name: &str,
        within: Duration,
    ) -> Result<ServerFaultEffect, InjectError> {
        match *fault {
            ServerFault::TerminateBackend { target } => {
                let doomed = self.terminate_one(target, application_name, within).await?;
                self.see_it_gone(&doomed).await?;
                Ok(ServerFaultEffect {
                    backends: vec![doomed.backend],
                })
            }
        }
    }

    async fn terminate_one(
        &mut self,
        target: BackendTarget,
        application_name: &str,
        within: Duration,
    ) -> Result<Doomed, InjectError> {
        let sql = match target {
            BackendTarget::InTransaction => TERMINATE_IN_TRANSACTION,
            BackendTarget::Idle => TERMINATE_IDLE,
            BackendTarget::Any => TERMINATE_ANY,
        };
        let what = "a backend to terminate";
        let deadline = Instant::now() + within;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let rows = self
                .ask(what, sql, &[application_name])
                .await
                .map_err(InjectError::Admin)?;
            let doomed = rows
                .first()
                .map(|row| -> Result<_, sqlx::Error> {
                    let backend = backend(row)?;
                    let start: String = row.try_get(4)?;
                    let identity = format!("{} {start}", backend.pid);
                    let signalled: bool = row.try_get(5)?;
                    Ok(signalled.then_some(Doomed { backend, identity }))
                })
                .transpose()
                .map_err(|source| InjectError::Admin(AdminError::Ask { what, source }))?
                .flatten();
            if let Some(doomed) = doomed {
                return Ok(doomed);
            }
            if Instant::now() >= deadline {
                return Err(InjectError::NoTarget {
                    target,
                    application_name: application_name.to_owned(),
                    within,
                });
            }
        }
    }

    async fn see_it_gone(&mut self, doomed: &Doomed) -> Result<(), InjectError> {
        let deadline = Instant::now() + ADMIN_DEADLINE;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while timeout_at(deadline, ticks.tick()).await.is_ok() {
            let rows = self
                .ask("a backend", IS_THERE_SQL, &[&doomed.identity])
                .await
                .map_err(InjectError::Admin)?;
            if rows.is_empty() {
                return Ok(());
            }
        }
        Err(InjectError::StillThere {
            pid: doomed.backend.pid,
            within: ADMIN_DEADLINE,
        })
    }
}
