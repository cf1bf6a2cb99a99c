//! A commit whose answer was never seen, and how to find out.

use std::num::NonZeroU64;
use std::time::Duration;

use poolproof_faults::Toxic;
use poolproof_pool::{
    Config, InDoubt, QueryError, Resolution, ResolveError, Transaction, TransactionError,
    TransactionOptions,
};
use poolproof_testbed::LocalConfig;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

use crate::roles::server_of;
use crate::support::{Bench, Server, insert, one_connection, pool_on};

/// Long enough for anything but a hang.
const WITHIN: Duration = Duration::from_secs(30);

const WITH_XID: TransactionOptions = TransactionOptions {
    isolation: None,
    read_only: false,
    deferrable: false,
    timeouts: poolproof_pool::ServerTimeouts {
        statement: None,
        lock: None,
        idle_in_transaction: None,
        client_check: None,
    },
    deadline: None,
    with_xid: true,
};

/// Commits one row with all answers lost, and cuts the link when `when` says so.
async fn lose_the_answer(bench: &mut Bench, when: impl AsyncFnOnce(&mut Bench)) -> InDoubt {
    let name = bench.name;
    let mut session = bench.pool.session().await.unwrap();
    let silence = Toxic::Timeout { timeout_ms: 0 };
    let written = tokio::sync::Notify::new();
    let silenced = tokio::sync::Notify::new();
    let (outcome, ()) = tokio::join!(
        session.transaction_with(&WITH_XID, async |tx: &mut Transaction<'_>| {
            tx.execute(insert(name, "maybe")).await?;
            written.notify_one();
            silenced.notified().await;
            Ok::<(), QueryError>(())
        }),
        async {
            written.notified().await;
            bench.inflict("silence", silence).await;
            silenced.notify_one();
            when(bench).await;
            bench.cut();
        }
    );
    let Err(TransactionError::CommitUnknown { in_doubt, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_ne!(in_doubt.xid, None);
    bench.heal("silence").await;
    in_doubt
}

direct! { "behind a pooler no backend of a commit in doubt is ended";
/// The backend still works on COMMIT. An answer given now would not be final, so that it is ended first.
#[tokio::test]
async fn a_commit_under_way_is_ended_first_and_resolves_to_rolled_back() {
    let mut bench = Bench::distant("resolve_running", one_connection()).await;
    bench.slow_commits(600).await;
    let in_doubt = lose_the_answer(&mut bench, async |bench: &mut Bench| {
        bench.until_active("COMMIT").await;
    })
    .await;
    let pid = in_doubt.backend.pid;
    let query = "select pg_xact_status($1::text::xid8)";
    let query = sqlx::query(query).bind(in_doubt.xid.unwrap().to_string());
    let before: String = bench.admin.fetch_one(query).await.unwrap().get(0);
    assert_eq!(before, "in progress");
    let resolution = in_doubt.resolve(&bench.pool, WITHIN).await.unwrap();
    assert_eq!(resolution, Resolution::RolledBack);
    let backends = bench.backends().await;
    assert!(backends.iter().all(|(other, ..)| *other != pid));
    assert_eq!(bench.stored().await, [""; 0]);
    let again = in_doubt.resolve(&bench.pool, WITHIN).await.unwrap();
    assert_eq!(again, Resolution::RolledBack);
    bench.until_at_rest().await;
}
}

#[tokio::test]
async fn a_commit_that_was_stored_resolves_to_committed() {
    let mut bench = Bench::distant("resolve_stored", one_connection()).await;
    let in_doubt = lose_the_answer(&mut bench, async |bench: &mut Bench| {
        let stored = async |bench: &mut Bench| bench.stored().await == ["maybe"];
        bench.until("the row is stored", stored).await;
    })
    .await;
    let resolution = in_doubt.resolve(&bench.pool, WITHIN).await.unwrap();
    assert_eq!(resolution, Resolution::Committed);
    bench.until_at_rest().await;
}

#[tokio::test]
async fn a_commit_that_was_aborted_resolves_to_rolled_back() {
    let mut bench = Bench::distant("resolve_aborted", one_connection()).await;
    bench.slow_commits(600).await;
    let in_doubt = lose_the_answer(&mut bench, async |bench: &mut Bench| {
        bench.until_active("COMMIT").await;
        let [(pid, ..)] = bench.backends().await[..] else {
            panic!("more than one backend")
        };
        bench.terminate(pid).await;
    })
    .await;
    let resolution = in_doubt.resolve(&bench.pool, WITHIN).await.unwrap();
    assert_eq!(resolution, Resolution::RolledBack);
    assert_eq!(bench.stored().await, [""; 0]);
}

/// Only the backend with that very start is ended, and never a later one with its id.
#[tokio::test]
async fn a_backend_with_the_same_id_and_another_start_is_left_alone() {
    let bench = Bench::single("resolve_pid").await;
    let mut session = bench.pool.session().await.unwrap();
    let (backend, server) = {
        let connection = session.backend();
        (connection, server_of(&bench.server).await)
    };
    let mut namesake = backend;
    namesake.started -= Duration::from_micros(1);
    let in_doubt = InDoubt {
        backend: namesake,
        xid: None,
        server,
        is_pooled: false,
    };
    in_doubt.fence(&bench.pool, WITHIN).await.unwrap();
    session.execute("select 1").await.unwrap();
    assert_eq!(session.backend(), backend);
}

#[tokio::test]
async fn a_fence_ends_the_backend_that_was_to_commit() {
    let mut bench = Bench::single("resolve_fence").await;
    let server = server_of(&bench.server).await;
    let mut session = bench.pool.session().await.unwrap();
    let backend = session.backend();
    let in_doubt = InDoubt {
        backend,
        xid: None,
        server,
        is_pooled: false,
    };
    in_doubt.fence(&bench.pool, WITHIN).await.unwrap();
    let backends = bench.backends().await;
    assert!(
        backends.iter().all(|(pid, ..)| *pid != backend.pid),
        "{backends:?}"
    );
    let error = session.execute("select 1").await.unwrap_err();
    assert!(matches!(error, QueryError::Connection(_)), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_told_has_a_name() {
    let bench = Bench::single("resolve_names").await;
    let server = server_of(&bench.server).await.unwrap();
    let known = InDoubt {
        backend: poolproof_pool::Backend {
            pid: 1,
            started: std::time::SystemTime::UNIX_EPOCH,
            role: 10,
        },
        xid: NonZeroU64::new(3),
        server: Some(server),
        is_pooled: false,
    };
    let resolve = async |in_doubt: InDoubt| in_doubt.resolve(&bench.pool, WITHIN).await;
    // The first ids belong to the making of the database, and are forgotten at once.
    let error = resolve(known).await.unwrap_err();
    assert!(
        matches!(error, ResolveError::TooOld { xid: 3 }),
        "{error:?}"
    );
    let error = resolve(InDoubt { xid: None, ..known }).await.unwrap_err();
    assert!(matches!(error, ResolveError::NoXid), "{error:?}");
    let unknown = InDoubt {
        server: None,
        ..known
    };
    let error = resolve(unknown).await.unwrap_err();
    assert!(matches!(error, ResolveError::Unidentified), "{error:?}");
    let other = poolproof_pool::ServerIdentity {
        system: server.system ^ 1,
        ..server
    };
    let error = resolve(InDoubt {
        server: Some(other),
        ..known
    })
    .await
    .unwrap_err();
    assert!(
        matches!(error, ResolveError::OtherServer { now, .. } if now == server.system),
        "{error:?}"
    );
    let promoted = poolproof_pool::ServerIdentity {
        timeline: server.timeline.map(|timeline| timeline + 1),
        ..server
    };
    let error = resolve(InDoubt {
        server: Some(promoted),
        ..known
    })
    .await
    .unwrap_err();
    assert!(
        matches!(error, ResolveError::OtherTimeline { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_with_the_cause() {
    let bench = Bench::single("resolve_nobody").await;
    let server = server_of(&bench.server).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let gone = pool_on(bench.server.options().port(port), one_connection());
    let in_doubt = InDoubt {
        backend: bench.pool.session().await.unwrap().backend(),
        xid: NonZeroU64::new(3),
        server,
        is_pooled: false,
    };
    let within = Duration::from_millis(200);
    let error = in_doubt.resolve(&gone, within).await.unwrap_err();
    assert!(
        matches!(error, ResolveError::Unreachable { cause: Some(_), .. }),
        "{error:?}"
    );
}

/// A crash loses the ids of transactions of which nothing reached the disk, and the server hands them out
/// again. Goal: the fate of such a namesake is never taken for ours.
#[tokio::test]
async fn after_a_crash_a_committed_namesake_is_not_believed() {
    let server = Server::start(LocalConfig::default()).await;
    let pool = pool_on(server.options(), Config::default());
    let mut session = pool.session().await.unwrap();
    session.execute("create table t (v int)").await.unwrap();
    session.execute("checkpoint").await.unwrap();
    let pid = session.backend().pid;
    let outcome = session
        .transaction_with(&WITH_XID, async |_: &mut Transaction<'_>| {
            crash(&server, pid).await;
            Ok::<(), QueryError>(())
        })
        .await;
    let Err(TransactionError::CommitUnknown { in_doubt, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    drop(session);
    let resolution = in_doubt.resolve(&pool, WITHIN).await.unwrap();
    assert_eq!(resolution, Resolution::RolledBack);
    let xid = in_doubt.xid.unwrap().get();
    let mut admin = server.direct().connect().await.unwrap();
    let namesake = loop {
        let query = "insert into t values (1) returning xmin::text::int8";
        let row = admin.fetch_one(query).await.unwrap();
        let id = row.get::<i64, _>(0).unsigned_abs();
        if id >= xid {
            break id;
        }
    };
    assert_eq!(namesake, xid, "the crash did not lose the id");
    let error = in_doubt.resolve(&pool, WITHIN).await.unwrap_err();
    assert!(
        matches!(error, ResolveError::Recovered { xid: lost } if lost == xid),
        "{error:?}"
    );
}

/// Kills a backend, upon which the server ends all others and recovers.
async fn crash(server: &Server, pid: i32) {
    let mut admin = server.direct().connect().await.unwrap();
    let kill = format!("copy (select 1) to program 'kill -9 {pid}'");
    // The server may end this connection before it answers.
    drop(admin.execute(AssertSqlSafe(kill)).await);
    let recovered = tokio::time::timeout(WITHIN, async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        let query = "select 1 from pg_stat_activity where pid = $1";
        loop {
            pause.tick().await;
            let Ok(mut admin) = server.direct().connect().await else {
                continue;
            };
            if let Ok(None) = admin.fetch_optional(sqlx::query(query).bind(pid)).await {
                return;
            }
        }
    });
    recovered.await.unwrap();
}
