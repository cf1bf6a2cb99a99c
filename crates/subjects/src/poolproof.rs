//! poolproof's own pool and session.

use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use poolproof_load::{BackendId, OpEnd, Subject, SubjectInfo, Trace, planned_panic};
use poolproof_oracle::{CLEAN_PROBE_SQL, CapacityProbe, Ending, Op, Outcome, PoolView};
use poolproof_pool::{
    AcquireError, Backend, Categorized, Config, ConnectError, ErrorKind, PgConnector, Pool,
    QueryError, Session, Transaction, TransactionError,
};
use tokio::time::{Instant, timeout_at};

use crate::capacity::micros;
use crate::sqlx_pool::SQLX_VERSION;
use crate::{BuildError, SubjectConfig, SubjectKind, capacity, classify, steps};

/// [`Pool`] as a subject.
#[derive(Debug)]
pub(crate) struct PoolproofSubject {
    pool: Pool<PgConnector>,
}

/// Why the work of a transaction does not end in a commit.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// The op shall roll back.
    #[error("the op rolls back as planned")]
    Planned,
    /// A statement failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl PoolproofSubject {
    pub(crate) async fn connect(config: SubjectConfig) -> Result<Self, BuildError> {
        let SubjectConfig {
            options,
            pool_size,
            max_overflow,
            pool_timeout,
            pre_ping,
        } = config;
        let config = Config {
            pool_size,
            max_overflow,
            pool_timeout,
            pre_ping,
            ..Config::default()
        };
        let pool = Pool::new(PgConnector::new(options), config)
            .map_err(|source| BuildError::Config { source })?;
        drop(pool.session().await.map_err(not_connected)?);
        Ok(Self { pool })
    }

    async fn run(&self, op: &Op, trace: &Trace) -> OpEnd {
        let mut session = match self.pool.session().await {
            Ok(session) => session,
            Err(error) => {
                return classify::told(Outcome::Shed, classify::category(error.category()), &error);
            }
        };
        trace.acquired(Some(backend(&session)));
        if steps::probes(op, trace)
            && let Err(error) = probe(&mut session, trace).await
        {
            return classify::told(Outcome::Fail, classify::category(error.category()), &error);
        }
        let end = session
            .transaction(async |tx: &mut Transaction<'_>| work(tx, op, trace).await)
            .await
            .map_or_else(ended, |()| OpEnd::ok());
        if end.outcome == Outcome::Ok {
            trace.settled();
        }
        end
    }
}

impl Subject for PoolproofSubject {
    fn info(&self) -> SubjectInfo {
        SubjectInfo {
            name: SubjectKind::Poolproof.name().to_owned(),
            version: format!(
                "poolproof-pool {} over sqlx {SQLX_VERSION}",
                env!("CARGO_PKG_VERSION")
            ),
            description: SubjectKind::Poolproof.description().to_owned(),
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

    fn view(&self) -> PoolView {
        let now = self.pool.snapshot();
        PoolView {
            in_use: Some(now.out as u64),
            idle: Some(now.idle as u64),
            opening: Some(now.opening as u64),
            closing: Some(now.closing as u64),
            size: Some(now.size() as u64),
            waiting: Some(now.waiting as u64),
            opened_total: Some(now.opened_total),
            closed_total: Some(now.closed_total),
            leases_issued: Some(now.leases_issued),
            leases_returned: Some(now.leases_returned),
        }
    }

    /// Only the newest 1,024 are kept between two calls.
    fn take_connect_times(&self) -> Vec<u64> {
        self.pool
            .take_connect_times()
            .into_iter()
            .map(micros)
            .collect()
    }

    fn probe_capacity(&self, wanted: u64, within: Duration) -> BoxFuture<'_, CapacityProbe> {
        capacity::probe(wanted, within, || self.pool.acquire()).boxed()
    }

    fn close(&self, deadline: Duration) -> BoxFuture<'_, ()> {
        self.pool.close(deadline).map(drop).boxed()
    }
}

fn backend(session: &Session) -> BackendId {
    let Backend { pid, started, .. } = session.backend();
    let birth = started.duration_since(SystemTime::UNIX_EPOCH);
    BackendId {
        pid,
        birth: micros(birth.unwrap_or_default()),
    }
}

async fn probe(session: &mut Session, trace: &Trace) -> Result<(), QueryError> {
    match session.fetch_simple_text(CLEAN_PROBE_SQL).await {
        Ok(answer) => {
            // No row is no answer, and the oracle shall see that.
            trace.set_clean_probe(answer.unwrap_or_default());
            Ok(())
        }
        Err(error) => {
            if let QueryError::Statement(cause) = &error {
                steps::note_refusal(cause, trace);
            }
            Err(error)
        }
    }
}

async fn work(tx: &mut Transaction<'_>, op: &Op, trace: &Trace) -> Result<(), Stop> {
    for statement in &op.statements {
        tx.execute(steps::query(statement)).await?;
    }
    steps::hold(op).await;
    match op.ending {
        Ending::Commit | Ending::Cancel { .. } => {
            trace.commit_sent();
            Ok(())
        }
        Ending::Rollback => Err(Stop::Planned),
        Ending::Panic => planned_panic(),
    }
}

/// What a transaction that was not committed comes to.
fn ended(error: TransactionError<Stop>) -> OpEnd {
    let (outcome, category) = match &error {
        TransactionError::Work(Stop::Planned) => return OpEnd::ok(),
        TransactionError::CommitUnknown { .. } => (Outcome::Info, error.category()),
        TransactionError::Rollback {
            work: Stop::Planned,
            rollback,
        } => (Outcome::Fail, rollback.category()),
        _ => (Outcome::Fail, error.category()),
    };
    classify::told(outcome, classify::category(category), &error)
}

fn not_connected(error: AcquireError<sqlx::Error>) -> BuildError {
    match error {
        AcquireError::Rejected {
            cause: ConnectError::Failed(source),
        }
        | AcquireError::Down {
            cause: ConnectError::Failed(source),
            ..
        } => BuildError::Connect { source },
        _ => BuildError::ConnectTimedOut,
    }
}

impl Categorized for Stop {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Planned => ErrorKind::RolledBack,
            Self::Query(error) => error.kind(),
        }
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Planned => None,
            Self::Query(error) => error.sqlstate(),
        }
    }
}
