//! Runs a program on the server and the model at the same time, statement by statement.

mod scope;
mod task;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use poolproof_pool::{Config, PgConnector, Pool, QueryError, Transaction};
use poolproof_testbed::Cluster;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection, Row};

use super::model::Rows;
use super::program::Program;
use task::Task;

/// Of a whole program. Generous: it is the test's failure and not a measurement.
const PATIENCE: Duration = Duration::from_secs(20);

/// The row that all tasks count in.
const SHARED: &str = "shared";

/// Fewer than the tasks at times, so that they also wait for each other.
const SIZE: u32 = 1;
const OVERFLOW: i32 = 1;

/// How often what happened, over all programs: a test that never met a case has not tested it.
#[derive(Debug, Default)]
pub(super) struct Tally(RefCell<BTreeMap<&'static str, u64>>);

impl Tally {
    fn note(&self, what: &'static str) {
        *self.0.borrow_mut().entry(what).or_default() += 1;
    }

    pub(super) fn assert_everything_happened(&self) {
        let seen = self.0.borrow();
        for what in [
            "abandoned begin",
            "abandoned insert",
            "abandoned savepoint",
            "abandoned statement",
            "commit aborted",
            "commit doomed",
            "commit in doubt",
            "commit refused",
            "committed",
            "control refused",
            "rolled back",
            "savepoint aborted",
            "savepoint dropped",
            "savepoint dropped in release",
            "savepoint kept",
            "savepoint not set",
            "savepoint panicked",
            "savepoint undone",
            "transaction dropped",
            "transaction panicked",
        ] {
            assert!(seen.contains_key(what), "never: {what}; seen: {seen:?}");
        }
    }
}

/// Why a program does not do what the model says.
type Complaint = String;

pub(super) async fn program(
    cluster: &Cluster,
    program: &Program,
    number: i64,
    tally: &Tally,
) -> Result<(), Complaint> {
    let running = run(cluster, program, number, tally);
    match tokio::time::timeout(PATIENCE, running).await {
        Ok(result) => result,
        Err(_) => Err(format!("it does not end within {PATIENCE:?}")),
    }
}

async fn run(
    cluster: &Cluster,
    program: &Program,
    number: i64,
    tally: &Tally,
) -> Result<(), Complaint> {
    let name = format!("r3_{number}");
    let mut admin = cluster.options().connect().await.unwrap();
    let shared = "insert into r3 (program, k, v) values ($1, $2, 0)";
    admin
        .execute(sqlx::query(shared).bind(number).bind(SHARED))
        .await
        .unwrap();
    let config = Config {
        pool_size: SIZE,
        max_overflow: OVERFLOW,
        ..Config::default()
    };
    let connector = PgConnector::new(cluster.options().application_name(&name));
    let pool = Pool::new(connector, config).unwrap();
    let tasks = program.tasks.iter().enumerate().map(|(index, acts)| {
        let task = Task::new(cluster, &pool, tally, (number, index));
        task.run(acts)
    });
    let mut expected = Rows::from([(SHARED.to_owned(), 0)]);
    for outcome in join_all(tasks).await {
        for (key, value) in outcome? {
            *expected.entry(key).or_default() += value;
        }
    }
    at_rest(&pool, &mut admin, &name).await;
    whole(&pool).await?;
    let stored = stored(&mut admin, number).await;
    if stored != expected {
        return Err(format!("stored: {stored:?}\nexpected: {expected:?}"));
    }
    let report = pool.close(PATIENCE).await;
    if report.holders.is_empty() && report.cut_short == 0 {
        Ok(())
    } else {
        Err(format!("the pool does not close: {report:?}"))
    }
}

/// Waits until nothing of the pool is under way, here and on the server.
async fn at_rest(pool: &Pool<PgConnector>, admin: &mut PgConnection, name: &str) {
    let mut pause = tokio::time::interval(Duration::from_millis(2));
    loop {
        let now = pool.snapshot();
        let query = sqlx::query(
            "select count(*), count(*) filter (where state = 'idle' and xact_start is null) \
             from pg_stat_activity where application_name = $1",
        );
        let row = admin.fetch_one(query.bind(name)).await.unwrap();
        let counts: (i64, i64) = (row.get(0), row.get(1));
        let idle = i64::try_from(now.idle).unwrap();
        if now.out + now.opening + now.closing == 0 && counts == (idle, idle) {
            return;
        }
        pause.tick().await;
    }
}

/// All the connections that there may be can be had, and each is fit for a transaction.
async fn whole(pool: &Pool<PgConnector>) -> Result<(), Complaint> {
    let size = usize::try_from(i64::from(SIZE) + i64::from(OVERFLOW)).unwrap();
    let sessions = join_all((0..size).map(|_| pool.session())).await;
    for session in sessions {
        let mut session = session.map_err(|error| format!("a slot is lost: {error}"))?;
        let empty = async |tx: &mut Transaction<'_>| tx.execute("select 1").await;
        if let Err(error) = session.transaction(empty).await {
            return Err(format!("the next borrower is not clean: {error:?}"));
        }
    }
    Ok(())
}

async fn stored(admin: &mut PgConnection, number: i64) -> Rows {
    let query = sqlx::query("select k, v from r3 where program = $1").bind(number);
    let rows = admin.fetch_all(query).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The error of work that wants to be rolled back.
#[derive(Debug)]
struct Stop;

/// The payload of a panic that the program wants.
struct Planned;

/// What the scope that runs tells the one that drives it.
#[derive(Debug, Default)]
struct Watch {
    /// Drop the future when it is pending next.
    drop_it: Cell<bool>,
    /// The work returned `Ok`.
    well: Cell<bool>,
}

/// How a scope's future ended.
enum How<T> {
    Ended(T),
    Panicked,
    Dropped,
}

async fn drive<F: Future>(future: F, watch: &Watch) -> How<F::Output> {
    let mut future = Box::pin(AssertUnwindSafe(future).catch_unwind());
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(Ok(value)) => Poll::Ready(How::Ended(value)),
        Poll::Ready(Err(payload)) if payload.is::<Planned>() => Poll::Ready(How::Panicked),
        Poll::Ready(Err(payload)) => resume_unwind(payload),
        Poll::Pending if watch.drop_it.get() => Poll::Ready(How::Dropped),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Polls once, then drops.
async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    std::future::poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

fn insert(program: i64, key: &str) -> sqlx::RawSql {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "insert into r3 (program, k, v) values ({program}, '{key}', 1)"
    )))
}

fn is_aborted(error: &QueryError) -> bool {
    match error {
        QueryError::Statement(sqlx::Error::Database(error)) => {
            error.code().as_deref() == Some("25P02")
        }
        _ => false,
    }
}
