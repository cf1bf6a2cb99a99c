//! Stock `sqlx::Pool`, used as its documentation says.
//!
//! `acquire`, then `begin` on what was acquired: that is what `Pool::begin` does, and it tells the
//! wait for a connection apart from the transaction. A transaction ends by `commit`, `rollback`, or
//! by being dropped. Each new connection is asked for its process id, in `after_connect`. The op's deadline is a timeout around the whole, as applications do it. There
//! is no protection here that a user of sqlx would not have, and no sabotage.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use poolproof_load::{OpEnd, Subject, SubjectInfo, Trace, planned_panic};
use poolproof_oracle::{CapacityProbe, Ending, ErrorCategory, Op, Outcome, PoolView};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, timeout, timeout_at};

use crate::backends::Backends;
use crate::{BuildError, SubjectConfig, SubjectKind, capacity, classify, steps};

/// The version of sqlx that the workspace is locked to; a test compares.
pub(crate) const SQLX_VERSION: &str = "0.9.0";

/// [`PgPool`] as a subject.
#[derive(Debug)]
pub(crate) struct SqlxSubject {
    pool: PgPool,
    backends: Arc<Backends>,
}

impl SqlxSubject {
    pub(crate) async fn connect(config: SubjectConfig) -> Result<Self, BuildError> {
        let backends = Arc::new(Backends::default());
        let learns = Arc::clone(&backends);
        let pool = PgPoolOptions::new()
            .after_connect(move |connection, _| {
                let backends = Arc::clone(&learns);
                async move { backends.learn(connection).await }.boxed()
            })
            .max_connections(config.limit()?)
            .acquire_timeout(config.pool_timeout)
            .test_before_acquire(config.pre_ping)
            .connect_with(config.options)
            .await
            .map_err(|source| match source {
                sqlx::Error::PoolTimedOut => BuildError::ConnectTimedOut,
                source => BuildError::Connect {
                    source: Arc::new(source),
                },
            })?;
        Ok(Self { pool, backends })
    }

    async fn run(&self, op: &Op, trace: &Trace) -> OpEnd {
        let mut connection = match self.pool.acquire().await {
            Ok(connection) => connection,
            Err(error) => return not_acquired(&error),
        };
        match self.backends.of(&mut connection).await {
            Ok(backend) => trace.acquired(backend),
            Err(error) => {
                trace.acquired(None);
                return classify::before_commit(&error);
            }
        }
        let end = transact(&mut connection, op, trace).await;
        if end.outcome == Outcome::Ok {
            trace.settled();
        }
        end
    }
}

impl Subject for SqlxSubject {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: SubjectKind::Sqlx.name().to_owned(),
            version: format!("sqlx {SQLX_VERSION}"),
            description: SubjectKind::Sqlx.description().to_owned(),
        }
    }

    fn execute<'a>(&'a self, op: &'a Op, trace: &'a Trace) -> BoxFuture<'a, OpEnd> {
        let deadline = Instant::now() + Duration::from_micros(op.deadline_us);
        async move {
            timeout_at(deadline, self.run(op, trace))
                .await
                .unwrap_or_else(|_| classify::deadline_passed(trace))
        }
        .boxed()
    }

    /// Tells what `sqlx::Pool` tells: `size` and `num_idle`.
    ///
    /// The two are separate atomics, read one after the other, and the idle count is raised only
    /// after the connection can be taken again: a moment's view may be off by a few.
    fn view(&self) -> PoolView {
        let size = u64::from(self.pool.size());
        let idle = u64::try_from(self.pool.num_idle()).unwrap_or(u64::MAX);
        PoolView {
            size: Some(size),
            idle: Some(idle),
            in_use: Some(size.saturating_sub(idle)),
            ..PoolView::default()
        }
    }

    fn probe_capacity(&self, wanted: u64, within: Duration) -> BoxFuture<'_, CapacityProbe> {
        capacity::probe(wanted, within, || self.pool.acquire()).boxed()
    }

    fn close(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        async move {
            // sqlx waits here for every lease, for ever if one is lost; past the deadline the
            // sockets are left to the end of the process.
            let _: Result<(), _> = timeout(deadline, self.pool.close()).await;
        }
        .boxed()
    }
}

fn not_acquired(error: &sqlx::Error) -> OpEnd {
    match error {
        // The same error for "all are lent out" and "the database is down": sqlx does not say.
        sqlx::Error::PoolTimedOut => classify::shed(ErrorCategory::Capacity, error.to_string()),
        error => classify::connect_failed(error),
    }
}

async fn transact(connection: &mut PgConnection, op: &Op, trace: &Trace) -> OpEnd {
    if steps::probes(op, trace)
        && let Err(error) = steps::probe(connection, trace).await
    {
        return classify::before_commit(&error);
    }
    let mut tx = match connection.begin().await {
        Ok(tx) => tx,
        Err(error) => return classify::before_commit(&error),
    };
    if let Err(error) = steps::work(&mut tx, op).await {
        return classify::before_commit(&error);
    }
    match op.ending {
        Ending::Commit | Ending::Cancel { .. } => {
            trace.commit_sent();
            tx.commit()
                .await
                .map_or_else(|error| classify::at_commit(&error), |()| OpEnd::ok())
        }
        Ending::Rollback => tx
            .rollback()
            .await
            .map_or_else(|error| classify::before_commit(&error), |()| OpEnd::ok()),
        Ending::Panic => planned_panic(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(
            lock.contains(&format!("name = \"sqlx\"\nversion = \"{SQLX_VERSION}\"")),
            "SQLX_VERSION says {SQLX_VERSION}, the lock file something else"
        );
    }
}
