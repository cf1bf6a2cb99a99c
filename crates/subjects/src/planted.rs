//! The naive pool as a subject, and the bugs that can be planted in it.
//!
//! Each bug sits in one place, is chosen by the op's id (no chance in it), and breaks as little
//! else as possible: an oracle that stays silent on one of these does not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use poolproof_load::{OpEnd, Subject, SubjectInfo, Trace, planned_panic};
use poolproof_oracle::{CapacityProbe, Ending, ErrorCategory, Op, PoolView};
use sqlx::{Executor, PgConnection};
use tokio::time::{Instant, timeout_at};

use crate::naive::{AcquireError, Lease, NaivePool, Unused};
use crate::sqlx_pool::SQLX_VERSION;
use crate::{Bug, BuildError, SubjectConfig, SubjectKind, capacity, classify, steps};

/// Leases that [`Bug::Leak`] forgets in one run: enough to be seen, and the rest of the pool goes
/// on, so that the run has more to say than "empty".
const LEAKS_MAX: u32 = 3;
/// Every how many ops [`Bug::Leak`] would forget a lease.
const LEAK_EVERY: u64 = 32;
/// Every how many ops [`Bug::Lies`] rolls back what it reports as committed.
const LIE_EVERY: u64 = 32;
/// Rollbacks that [`Bug::Dirty`] forgets in one run. A sampled probe meets some of them, and a
/// normal run forgets the last one long before its end: at quiescence all is clean again.
const FORGOTTEN_ROLLBACKS_MAX: u32 = 200;
/// How often [`Bug::Twice`] executes an op at most.
const EXECUTIONS_MAX: u32 = 3;

/// The naive pool, with a bug or without.
#[derive(Debug)]
pub(crate) struct NaiveSubject {
    pool: NaivePool,
    bug: Option<Bug>,
    /// How often the bug may still happen, for those that are rationed.
    ration: AtomicU32,
}

/// What became of one execution of an op.
enum Execution {
    Ended(OpEnd),
    /// COMMIT was written and the connection broke.
    InDoubt(Lease, sqlx::Error),
}

impl NaiveSubject {
    pub(crate) async fn connect(
        config: SubjectConfig,
        bug: Option<Bug>,
    ) -> Result<Self, BuildError> {
        let deadline = Instant::now() + config.pool_timeout;
        let pool = NaivePool::new(config)?;
        match pool.acquire(deadline).await {
            Ok(lease) => lease.give_back(),
            Err(AcquireError::Connect(source)) => {
                return Err(BuildError::Connect {
                    source: Arc::new(source),
                });
            }
            Err(
                AcquireError::ConnectTimedOut
                | AcquireError::Exhausted { .. }
                | AcquireError::Closed,
            ) => return Err(BuildError::ConnectTimedOut),
        }
        Ok(Self {
            pool,
            bug,
            ration: AtomicU32::new(match bug {
                Some(Bug::Leak) => LEAKS_MAX,
                Some(Bug::Dirty) => FORGOTTEN_ROLLBACKS_MAX,
                _ => 0,
            }),
        })
    }

    fn kind(&self) -> SubjectKind {
        self.bug.map_or(SubjectKind::Naive, SubjectKind::Planted)
    }

    async fn run(&self, op: &Op, trace: &Trace, deadline: Instant) -> OpEnd {
        let acquired = if self.bug == Some(Bug::Stuck) {
            self.pool.acquire_whenever().await
        } else {
            self.pool.acquire(deadline).await
        };
        let lease = match acquired {
            Ok(lease) => lease,
            Err(error) => return not_acquired(&error),
        };
        trace.acquired(Some(lease.backend()));
        if Instant::now() >= deadline {
            // Only a wait without a deadline gets here; what it got is untouched.
            lease.give_back();
            return classify::deadline_passed(trace);
        }
        timeout_at(deadline, self.execute_on(lease, op, trace))
            .await
            .unwrap_or_else(|_| classify::deadline_passed(trace))
    }

    async fn execute_on(&self, mut lease: Lease, op: &Op, trace: &Trace) -> OpEnd {
        let mut executions = 1;
        loop {
            let (broken, error) = match self.execute_once(lease, op, trace).await {
                Execution::Ended(end) => return end,
                Execution::InDoubt(broken, error) => (broken, error),
            };
            if self.bug == Some(Bug::Optimist) {
                return OpEnd::ok();
            }
            if self.bug != Some(Bug::Twice) || executions == EXECUTIONS_MAX {
                return classify::at_commit(&error);
            }
            // In the same slot, not at the end of the queue: the retry shall not be shed.
            lease = match self.pool.reconnect(broken).await {
                Ok(lease) => lease,
                Err(_) => return classify::at_commit(&error),
            };
            trace.acquired(Some(lease.backend()));
            executions += 1;
        }
    }

    /// Executes the op on a lease, which goes back when the connection's state is known to be
    /// clean, and is dropped, which closes it, in every other case.
    async fn execute_once(&self, mut lease: Lease, op: &Op, trace: &Trace) -> Execution {
        let connection = lease.connection();
        if let Err(error) = open(connection, op, trace).await {
            return Execution::Ended(classify::before_commit(&error));
        }
        if let Err(error) = steps::work(connection, op).await {
            if classify::is_definite(&error) && connection.execute("ROLLBACK").await.is_ok() {
                lease.give_back();
            }
            return Execution::Ended(classify::before_commit(&error));
        }
        match op.ending {
            Ending::Commit | Ending::Cancel { .. } => self.commit(lease, op, trace).await,
            Ending::Rollback => Execution::Ended(self.roll_back(lease, trace).await),
            Ending::Panic => planned_panic(),
        }
    }

    async fn commit(&self, mut lease: Lease, op: &Op, trace: &Trace) -> Execution {
        let lies = self.bug == Some(Bug::Lies) && op.id % LIE_EVERY == LIE_EVERY / 2;
        let leaks = self.bug == Some(Bug::Leak) && op.id % LEAK_EVERY == LEAK_EVERY / 2;
        trace.commit_sent();
        let ending = if lies { "ROLLBACK" } else { "COMMIT" };
        match lease.connection().execute(ending).await {
            Ok(_) if leaks && self.take_ration() => std::mem::forget(lease),
            Ok(_) => give_back(lease, trace),
            Err(error) if classify::is_definite(&error) => {
                return Execution::Ended(classify::at_commit(&error));
            }
            Err(error) => return Execution::InDoubt(lease, error),
        }
        Execution::Ended(OpEnd::ok())
    }

    async fn roll_back(&self, mut lease: Lease, trace: &Trace) -> OpEnd {
        if self.bug == Some(Bug::Dirty) && self.take_ration() {
            give_back(lease, trace);
            return OpEnd::ok();
        }
        match lease.connection().execute("ROLLBACK").await {
            Ok(_) => {
                give_back(lease, trace);
                OpEnd::ok()
            }
            Err(error) => classify::before_commit(&error),
        }
    }

    fn take_ration(&self) -> bool {
        self.ration
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}

impl Subject for NaiveSubject {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: self.kind().name().to_owned(),
            version: format!(
                "poolproof-subjects {} over sqlx {SQLX_VERSION}",
                env!("CARGO_PKG_VERSION")
            ),
            description: self.kind().description().to_owned(),
        }
    }

    fn execute<'a>(&'a self, op: &'a Op, trace: &'a Trace) -> BoxFuture<'a, OpEnd> {
        let deadline = Instant::now() + Duration::from_micros(op.deadline_us);
        self.run(op, trace, deadline).boxed()
    }

    fn view(&self) -> PoolView {
        self.pool.view()
    }

    fn take_connect_times(&self) -> Vec<u64> {
        self.pool.take_connect_times()
    }

    fn probe_capacity(&self, wanted: u64, within: Duration) -> BoxFuture<'_, CapacityProbe> {
        async move {
            let deadline = Instant::now() + within;
            capacity::probe(wanted, within, || async move {
                self.pool.acquire(deadline).await.map(Unused::from)
            })
            .await
        }
        .boxed()
    }

    fn close(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        self.pool.close(deadline).boxed()
    }
}

fn not_acquired(error: &AcquireError) -> OpEnd {
    match error {
        AcquireError::Exhausted { .. } => {
            classify::shed(ErrorCategory::Capacity, error.to_string())
        }
        AcquireError::ConnectTimedOut | AcquireError::Closed => {
            classify::shed(ErrorCategory::Unavailable, error.to_string())
        }
        AcquireError::Connect(error) => classify::connect_failed(error),
    }
}

/// Gives a lease back after a transaction that the pool says has ended as planned.
fn give_back(lease: Lease, trace: &Trace) {
    trace.settled();
    lease.give_back();
}

async fn open(connection: &mut PgConnection, op: &Op, trace: &Trace) -> Result<(), sqlx::Error> {
    if steps::probes(op, trace) {
        steps::probe(connection, trace).await?;
    }
    connection.execute("BEGIN").await?;
    Ok(())
}
