//! The blocking API on a real server, from threads without a runtime.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use poolproof_ops::{BlockingError, BlockingPool, BlockingTransaction, run_blocking};
use poolproof_pool::{
    Categorized, Config, ErrorKind, PgConnector, QueryError, RetryPolicy, SavepointError,
    SessionConfig, TransactionError, TransactionOptions,
};
use sqlx::{AssertSqlSafe, Row};
use tokio::runtime::Runtime;

use crate::support::{Bench, PATIENCE, connector, one_connection};

type Queried<T> = Result<T, BlockingError<QueryError>>;

/// A server and a look at it, on a runtime that the test's own thread enters only now and then.
struct Plain {
    runtime: Runtime,
    bench: Bench,
    pool: BlockingPool<PgConnector>,
}

impl Plain {
    fn new(name: &'static str, config: Config) -> Self {
        let runtime = Runtime::new().unwrap();
        let bench = runtime.block_on(Bench::with(name, config.clone()));
        let options = bench.server.options().application_name(name);
        let pool = BlockingPool::new(connector(options, SessionConfig::default()), config).unwrap();
        Self {
            runtime,
            bench,
            pool,
        }
    }

    fn stored(&mut self) -> Vec<String> {
        self.runtime.block_on(self.bench.stored())
    }

    /// Waits until the server sees nothing of the pool but idle connections.
    fn until_at_rest(&mut self) {
        let idle = async |bench: &mut Bench| {
            let backends = bench.backends().await;
            backends.iter().all(|(_, state, _)| state == "idle")
        };
        let rest = self.bench.until("the server is at rest", idle);
        self.runtime.block_on(rest);
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // The admin's connection is closed by tasks of its runtime.
        let _entered = self.runtime.enter();
    }
}

#[test]
fn sessions_transactions_and_savepoints_run_on_a_plain_thread() {
    let mut plain = Plain::new("blocking_plain", one_connection());
    let insert = |value: &str| plain.bench.insert(value);
    let mut session = plain.pool.session().unwrap();
    let pid = session.backend().pid;
    let answer = session
        .transaction(|tx| {
            tx.execute(insert("kept"))?;
            let lost: Result<(), _> = tx.savepoint(|tx| {
                tx.execute(insert("lost"))?;
                tx.execute("select no_such_column").map(drop)
            });
            let lost = lost.unwrap_err();
            assert!(
                matches!(lost, BlockingError::Failed(SavepointError::Work(_))),
                "{lost:?}"
            );
            assert_eq!(lost.kind(), ErrorKind::UndefinedObject);
            tx.savepoint(|tx| tx.execute(insert("nested")).map(drop))
                .map_err(|error| panic!("{error:?}"))?;
            let row = tx.fetch_one("select count(*) from blocking_plain")?;
            assert_eq!(tx.fetch_all("select 1 union all select 2")?.len(), 2);
            assert!(tx.fetch_optional("select 1 where false")?.is_none());
            Ok::<i64, BlockingError<QueryError>>(row.get(0))
        })
        .unwrap();
    assert_eq!(answer, 2);
    let rolled_back = session.transaction(|tx| {
        tx.execute(insert("gone"))?;
        tx.execute(insert("gone")).map(drop)?;
        tx.fetch_one("select 1 where false").map(drop)
    });
    assert_eq!(rolled_back.unwrap_err().kind(), ErrorKind::NoRows);
    assert_eq!(
        session
            .fetch_all("select v from blocking_plain")
            .unwrap()
            .len(),
        2
    );
    drop(session);
    assert_eq!(
        plain.pool.session().unwrap().backend().pid,
        pid,
        "the same connection"
    );
    assert_eq!(plain.stored(), ["kept", "nested"]);
    let report = plain.pool.close(PATIENCE).unwrap();
    assert_eq!((report.holders.len(), report.cut_short), (0, 0));
}

#[test]
fn a_panic_in_the_closure_rolls_back_and_goes_on() {
    let mut plain = Plain::new("blocking_panic", one_connection());
    let mut session = plain.pool.session().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        session.transaction(|tx: &mut BlockingTransaction<'_, '_>| -> Queried<()> {
            tx.execute(plain.bench.insert("lost"))?;
            std::panic::resume_unwind(Box::new("planned"))
        })
    }));
    let payload = panicked.map(|ended| format!("{ended:?}")).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"planned"));
    let refused = session.execute("select 1").unwrap_err();
    assert!(
        matches!(refused, BlockingError::Failed(QueryError::Poisoned)),
        "{refused:?}"
    );
    drop(session);
    assert!(
        plain.pool.session().unwrap().execute("select 1").is_ok(),
        "clean again"
    );
    plain.until_at_rest();
    assert_eq!(plain.stored(), [""; 0]);
}

#[test]
fn a_session_that_moves_into_a_runtime_is_refused_there_and_works_again_outside() {
    let mut plain = Plain::new("blocking_moved", one_connection());
    let mut session = plain.pool.session().unwrap();
    plain.runtime.block_on(async {
        let refused = session.execute("select 1").unwrap_err();
        assert!(matches!(refused, BlockingError::InRuntime), "{refused:?}");
        let refused = session
            .transaction(|tx| tx.execute("select 1"))
            .unwrap_err();
        assert!(matches!(refused, BlockingError::InRuntime), "{refused:?}");
    });
    session
        .transaction(|tx| tx.execute(plain.bench.insert("kept")))
        .unwrap();
    // The bridge to the async world: the same session, awaited.
    let mut session = session.into_async();
    let answer = plain
        .runtime
        .block_on(session.fetch_one("select count(*) from blocking_moved"));
    assert_eq!(answer.unwrap().get::<i64, _>(0), 1);
    drop(session);
    assert_eq!(plain.stored(), ["kept"]);
}

#[tokio::test]
async fn an_async_pool_is_refused_in_spawn_blocking_and_allowed_through_the_bridge() {
    let mut bench = Bench::single("blocking_bridge").await;
    let blocking = BlockingPool::from(bench.pool.clone());
    let here = blocking.session().map(drop);
    assert!(matches!(here, Err(BlockingError::InRuntime)), "{here:?}");
    let elsewhere = tokio::task::spawn_blocking(move || blocking.session().map(drop)).await;
    assert!(
        matches!(elsewhere.unwrap(), Err(BlockingError::InRuntime)),
        "not bridged"
    );

    let insert = bench.insert("kept");
    let done = run_blocking(
        &bench.pool,
        |pool| -> Result<(), Box<dyn Error + Send + Sync>> {
            pool.session()?.transaction(|tx| tx.execute(insert))?;
            Ok(())
        },
    );
    done.await.unwrap().unwrap();
    let plain = BlockingPool::from(bench.pool.clone());
    let insert = bench.insert("plain");
    // This test's runtime has one thread: it must go on turning while the other thread waits.
    let joined = tokio::task::spawn_blocking(move || {
        let thread = std::thread::spawn(move || {
            let mut session = plain.session().unwrap();
            session.transaction(|tx| tx.execute(insert)).unwrap();
        });
        thread.join().unwrap();
    });
    joined.await.unwrap();
    assert_eq!(bench.stored().await, ["kept", "plain"]);
    bench.until_at_rest().await;
}

#[test]
fn a_deadline_ends_a_statement_and_its_transaction() {
    let mut plain = Plain::new("blocking_deadline", one_connection());
    let options = TransactionOptions {
        deadline: Some(Duration::from_millis(300)),
        ..TransactionOptions::default()
    };
    let mut session = plain.pool.session().unwrap();
    let ended = session.transaction_with(&options, |tx| {
        tx.execute(plain.bench.insert("lost"))?;
        tx.execute("select pg_sleep(600)")
    });
    let ended = ended.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Canceled, "{ended:?}");
    drop(session);
    plain.pool.session().unwrap().execute("select 1").unwrap();
    plain.until_at_rest();
    assert_eq!(plain.stored(), [""; 0]);
}

#[test]
fn a_retry_runs_the_closure_again_on_a_serialization_failure() {
    let mut plain = Plain::new("blocking_retry", one_connection());
    let raise = "do $$ begin raise exception using errcode = '40001'; end $$";
    let mut attempts = Vec::new();
    let done = plain
        .pool
        .retry(&RetryPolicy::default(), |tx, attempt| -> Queried<()> {
            attempts.push(attempt);
            let value = format!("insert into blocking_retry values ('attempt {attempt}')");
            tx.execute(sqlx::raw_sql(AssertSqlSafe(value)))?;
            if attempt < 3 {
                tx.execute(raise)?;
            }
            Ok(())
        });
    done.unwrap();
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!(plain.stored(), ["attempt 3"]);

    let failed = plain
        .pool
        .retry(&RetryPolicy::default(), |tx, _| tx.execute("selec 1"));
    let failed = failed.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Syntax, "{failed:?}");
}

#[test]
fn raw_futures_are_waited_for_and_copy_works() {
    let mut plain = Plain::new("blocking_copy", one_connection());
    let mut session = plain.pool.session().unwrap();
    let copied = plain.pool.wait(async {
        let mut copy = session
            .raw()
            .copy_in_raw("copy blocking_copy from stdin")
            .await?;
        copy.send(&b"one\ntwo\n"[..]).await?;
        copy.finish().await
    });
    assert_eq!(copied.unwrap().unwrap(), 2);
    drop(session);
    assert_eq!(plain.stored(), ["one", "two"]);
}

/// Threads that block on a pool smaller than they are many: each is served, none twice.
#[test]
fn many_threads_share_a_small_pool() {
    let config = Config {
        pool_size: 2,
        max_overflow: 0,
        ..Config::default()
    };
    let mut plain = Plain::new("blocking_many", config);
    std::thread::scope(|threads| {
        for thread in 0..8 {
            let pool = &plain.pool;
            threads.spawn(move || {
                for round in 0..10 {
                    let sql = format!("insert into blocking_many values ('{thread}-{round}')");
                    let statement = sqlx::raw_sql(AssertSqlSafe(sql));
                    let mut session = pool.session().unwrap();
                    session.transaction(|tx| tx.execute(statement)).unwrap();
                }
            });
        }
    });
    assert_eq!(plain.stored().len(), 80);
    let now = plain.pool.snapshot();
    assert_eq!((now.out, now.idle, now.waiting), (0, 2, 0));
    assert_eq!(plain.runtime.block_on(plain.bench.backends()).len(), 2);
}

/// An error keeps its cause and its words on the way through the blocking API.
#[test]
fn errors_say_what_the_async_ones_say() {
    let plain = Plain::new("blocking_errors", one_connection());
    let mut session = plain.pool.session().unwrap();
    let error = session.execute("commit").unwrap_err();
    assert_eq!(
        error.to_string(),
        "COMMIT is refused; use `transaction` and `savepoint` instead"
    );
    let error = session
        .transaction(|tx| {
            let failed = tx.execute("select 1/0").unwrap_err();
            assert_eq!(failed.sqlstate().as_deref(), Some("22012"));
            Ok::<(), BlockingError<QueryError>>(())
        })
        .unwrap_err();
    assert!(
        matches!(
            error,
            BlockingError::Failed(TransactionError::CommitRolledBack)
        ),
        "{error:?}"
    );
    let full = plain
        .pool
        .session_within(Duration::ZERO)
        .map(drop)
        .unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Exhausted);
    assert_eq!(full.pool_state().unwrap().out, 1);
}
