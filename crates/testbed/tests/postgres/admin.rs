//! The direct connection: what it sees of a server, and what it can break.

use std::time::{Duration, SystemTime};

use poolproof_testbed::{
    Admin, AdminError, Backend, BackendTarget, Cluster, InjectError, LocalConfig, ServerFault,
};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

const PLENTY: Duration = Duration::from_secs(20);

async fn subject(options: &PgConnectOptions, name: &str) -> PgConnection {
    let options = options.clone().application_name(name);
    PgConnection::connect_with(&options).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

async fn pid(connection: &mut PgConnection) -> i32 {
    let row = sqlx::query("select pg_backend_pid()")
        .fetch_one(connection)
        .await
        .unwrap();
    row.get(0)
}

fn terminate(target: BackendTarget) -> ServerFault {
    ServerFault::TerminateBackend { target }
}

#[tokio::test]
async fn backends_are_seen_by_name_with_their_transactions_and_locks() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let options = cluster.options();
    let mut admin = Admin::connect(options.clone()).await.unwrap();
    let mut idle = subject(&options, "seen").await;
    let mut busy = subject(&options, "seen").await;
    let _other = subject(&options, "unseen").await;
    run(&mut idle, "create table t (id int)").await;
    run(&mut busy, "begin; insert into t values (1)").await;
    run(&mut busy, "select pg_advisory_lock(7)").await;

    let mut seen = admin.backends("seen").await.unwrap();
    seen.sort_by_key(|backend| backend.in_transaction);
    let (idle_pid, busy_pid) = (pid(&mut idle).await, pid(&mut busy).await);
    assert_eq!(
        seen,
        [
            Backend {
                pid: idle_pid,
                state: "idle".into(),
                in_transaction: false,
                locks: 0
            },
            Backend {
                pid: busy_pid,
                state: "idle in transaction".into(),
                in_transaction: true,
                // The relation, the transaction's id, the advisory key.
                locks: 3
            },
        ]
    );
    assert_eq!(admin.backends("nobody").await.unwrap(), []);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn prepared_transactions_are_counted() {
    let mut config = LocalConfig::default();
    config
        .settings
        .insert("max_prepared_transactions".into(), "5".into());
    let cluster = Cluster::start(config).await.unwrap();
    let mut admin = Admin::connect(cluster.options()).await.unwrap();
    assert_eq!(admin.prepared_transactions(0).await.unwrap(), 0);
    let mut one = subject(&cluster.options(), "one").await;
    run(
        &mut one,
        "begin; create table t (); prepare transaction 'a'",
    )
    .await;
    assert_eq!(admin.prepared_transactions(0).await.unwrap(), 1);
    // What was there before is somebody else's.
    let now = admin.clock_us().await.unwrap();
    assert_eq!(admin.prepared_transactions(now).await.unwrap(), 0);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn server_info_tells_version_room_and_start() {
    let mut config = LocalConfig::default();
    config
        .settings
        .insert("max_connections".into(), "20".into());
    config
        .settings
        .insert("superuser_reserved_connections".into(), "2".into());
    let before = SystemTime::now() - Duration::from_secs(2);
    let cluster = Cluster::start(config).await.unwrap();
    let mut admin = Admin::connect(cluster.options()).await.unwrap();
    let _other = subject(&cluster.options(), "other").await;
    let info = admin.server_info().await.unwrap();
    assert!(info.version_text.starts_with("PostgreSQL "), "{info:?}");
    assert_eq!(
        (
            info.max_connections,
            info.reserved,
            info.in_use,
            info.usable()
        ),
        (20, 2, 2, 16)
    );
    assert!(info.started_at > before && info.started_at < SystemTime::now());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_backend_that_holds_a_transaction_is_terminated_and_no_other() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let options = cluster.options();
    let mut admin = Admin::connect(options.clone()).await.unwrap();
    let mut idle = subject(&options, "target").await;
    let mut busy = subject(&options, "target").await;
    let mut stranger = subject(&options, "stranger").await;
    // The stranger's is the older one, which a target of no name would be.
    run(&mut stranger, "begin").await;
    run(&mut busy, "begin").await;
    let busy_pid = pid(&mut busy).await;

    let effect = admin
        .inject(&terminate(BackendTarget::InTransaction), "target", PLENTY)
        .await
        .unwrap();
    assert_eq!(effect.pids(), [busy_pid]);
    assert!(effect.backends[0].in_transaction);

    let error = sqlx::query("select 1")
        .execute(&mut busy)
        .await
        .unwrap_err();
    let code = error.as_database_error().and_then(|it| it.code());
    assert_eq!(code.as_deref(), Some("57P01"));
    run(&mut idle, "select 1").await;
    run(&mut stranger, "commit").await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_begins_later_is_waited_for() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let options = cluster.options();
    let mut admin = Admin::connect(options.clone()).await.unwrap();
    let mut late = subject(&options, "target").await;
    let late_pid = pid(&mut late).await;
    let fault = terminate(BackendTarget::InTransaction);
    let inject = admin.inject(&fault, "target", PLENTY);
    let begin = async {
        // An autocommitted statement is no transaction to wait for, however long it runs.
        run(&mut late, "select pg_sleep(0.2)").await;
        run(&mut late, "begin").await;
    };
    let (effect, ()) = tokio::join!(inject, begin);
    let effect = effect.unwrap();
    assert_eq!(effect.pids(), [late_pid]);
    assert_eq!(effect.backends[0].state, "idle in transaction");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_fault_without_a_target_is_an_error() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let options = cluster.options();
    let mut admin = Admin::connect(options.clone()).await.unwrap();
    let mut idle = subject(&options, "target").await;
    let error = admin
        .inject(
            &terminate(BackendTarget::InTransaction),
            "target",
            Duration::from_millis(50),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, InjectError::NoTarget { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "find a backend (in-transaction) of target within 50ms"
    );
    run(&mut idle, "select 1").await;

    let idle_pid = pid(&mut idle).await;
    let effect = admin
        .inject(&terminate(BackendTarget::Idle), "target", PLENTY)
        .await
        .unwrap();
    assert_eq!(effect.pids(), [idle_pid]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_is_opened_again() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let options = cluster.options();
    let mut admin = Admin::connect(options.clone()).await.unwrap();
    let mut second = Admin::connect(options.clone()).await.unwrap();
    for _loss in 0..2 {
        let effect = second
            .inject(
                &terminate(BackendTarget::Any),
                poolproof_testbed::ADMIN_APPLICATION_NAME,
                PLENTY,
            )
            .await
            .unwrap();
        assert_eq!(effect.pids().len(), 1);
        assert_eq!(admin.server_info().await.unwrap().max_connections, 100);
    }
    let effect = second
        .inject(
            &terminate(BackendTarget::Any),
            poolproof_testbed::ADMIN_APPLICATION_NAME,
            PLENTY,
        )
        .await
        .unwrap();
    assert_eq!(effect.pids().len(), 1);
    let connection = admin.connection().await.unwrap();
    run(connection, "select 1").await;
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_is_named_without_its_password() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let options = cluster.options().password("hunter2hunter2");
    let mut admin = Admin::connect(cluster.options()).await.unwrap();
    let wrong = Admin::connect(options).await.unwrap_err();
    assert!(
        !format!("{wrong:?} {wrong}").contains("hunter2"),
        "{wrong:?}"
    );

    let port = cluster.port();
    cluster.stop().await.unwrap();
    let error = admin.server_info().await.unwrap_err();
    assert!(matches!(error, AdminError::Connect { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("connect to 127.0.0.1:{port}"));
}

#[test]
fn faults_are_written_as_scenarios_write_them() {
    let fault = terminate(BackendTarget::InTransaction);
    let text = serde_json::to_string(&fault).unwrap();
    assert_eq!(
        text,
        r#"{"kind":"terminate-backend","target":"in-transaction"}"#
    );
    assert_eq!(serde_json::from_str::<ServerFault>(&text).unwrap(), fault);
    for target in [
        BackendTarget::InTransaction,
        BackendTarget::Idle,
        BackendTarget::Any,
    ] {
        assert_eq!(
            serde_json::to_value(target).unwrap(),
            serde_json::Value::from(target.as_str())
        );
    }
}

#[tokio::test]
async fn timeouts_that_a_role_has_do_not_end_what_looks_at_its_pool() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let mut boss = PgConnection::connect_with(&cluster.options())
        .await
        .unwrap();
    let names = [
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
        "statement_timeout",
        "lock_timeout",
    ];
    run(&mut boss, "create role hasty login password 'x'").await;
    for name in names {
        let sql = format!("alter role hasty set {name} = '1min'");
        boss.execute(AssertSqlSafe(sql)).await.unwrap();
    }
    let options = cluster.options().username("hasty").password("x");
    let mut admin = Admin::connect(options).await.unwrap();
    for name in names {
        let sql = "select current_setting($1)";
        let rows = admin.ask("a setting", sql, &[name]).await.unwrap();
        assert_eq!(rows[0].get::<String, _>(0), "0", "{name}");
    }
    assert_eq!(admin.reconnects(), 0);
    cluster.stop().await.unwrap();
}
