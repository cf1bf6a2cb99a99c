//! The clean probe on a real server: what it answers, and what the judge makes of that.

use poolproof_oracle::{
    CLEAN_PROBE_SQL, Effect, Ending, Guarantee, GuaranteeResult, GuaranteeStatus, Limits,
    Observations, OpRecord, Outcome, guarantees,
};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, Row};

const LEFTOVERS: [(&str, &str); 13] = [
    ("begin", "a transaction was open"),
    (
        "begin; create table written (a int)",
        "a transaction that had written was open",
    ),
    (
        "begin isolation level serializable; select 1",
        "a transaction was open",
    ),
    ("set work_mem = '8MB'", "setting work_mem changed"),
    ("set search_path = elsewhere", "setting search_path changed"),
    (
        "set session characteristics as transaction read only",
        "setting default_transaction_read_only changed",
    ),
    ("create temp table lent (a int)", "1 temporary object"),
    (
        "create function pg_temp.lent() returns int language sql as 'select 1'",
        "1 temporary object",
    ),
    ("select pg_advisory_lock(7)", "1 advisory lock"),
    ("select pg_advisory_lock_shared(7)", "1 advisory lock"),
    ("listen news", "1 listened channel"),
    (
        "declare lent cursor with hold for select generate_series(1, 9)",
        "1 open cursor",
    ),
    ("set role other", "role other instead of the usual one"),
];

const NO_LEFTOVERS: [&str; 10] = [
    "select 1",
    "begin; create table kept (a int); commit",
    "begin isolation level serializable read only; select 1; commit",
    "begin; set transaction read only; rollback",
    "set work_mem = '8MB'; reset work_mem",
    "begin; set local work_mem = '8MB'; commit",
    "set time zone 'Europe/Berlin'; set client_encoding = 'UTF8'",
    "create temp table gone (a int); drop table gone",
    "listen news; unlisten *",
    "select pg_advisory_lock(7); select pg_advisory_unlock(7)",
];

async fn connect(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options)
        .await
        .expect("the cluster accepts connections")
}

async fn ask(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let row = sqlx::raw_sql(CLEAN_PROBE_SQL).fetch_one(connection).await?;
    row.try_get(0)
}

/// Judges C over two untouched connections and the one that gave `answer` (op 2).
fn judge_answer(untouched: &str, answer: &str) -> GuaranteeResult {
    let ops: Vec<OpRecord> = (0..)
        .zip([untouched, untouched, answer])
        .map(|(id, answer)| OpRecord {
            id,
            workload: "write-set".into(),
            ending: Ending::Commit,
            effect: Effect::WriteSet { tables: 1 },
            intended_us: 0,
            started_us: 0,
            deadline_us: 1_000_000,
            acquired_us: Some(0),
            commit_sent_us: Some(1),
            ended_us: Some(2),
            outcome: Outcome::Ok,
            error: None,
            backend_pid: None,
            previous_op: None,
            clean_probe: Some(answer.to_owned()),
        })
        .collect();
    let nothing = || "not part of this test".to_owned();
    let results = guarantees(&Observations {
        limits: Limits {
            pool_timeout_us: 0,
            pool_max: None,
            bank_accounts: 0,
            bank_opening_balance: 0,
            write_set_tables: 0,
            quiescence_us: 0,
        },
        ops: &ops,
        faults: &[],
        stalls: &[],
        samples: &[],
        pool: Err(nothing()),
        server: Err(nothing()),
        capacity: Err(nothing()),
        store: Err(nothing()),
        bank_snapshots: &[],
        bank_unseen: None,
    });
    results
        .into_iter()
        .find(|result| result.guarantee == Guarantee::C)
        .expect("every guarantee is judged")
}

async fn check_leftovers(options: &PgConnectOptions) {
    let mut first = connect(options).await;
    sqlx::raw_sql("create role other")
        .execute(&mut first)
        .await
        .expect("the cluster's user may create a role");
    let untouched = ask(&mut first).await.expect("the probe is answered");

    for (leave, found) in LEFTOVERS {
        let mut connection = connect(options).await;
        sqlx::raw_sql(leave)
            .execute(&mut connection)
            .await
            .expect(leave);
        let answer = ask(&mut connection).await.expect(leave);
        let result = judge_answer(&untouched, &answer);
        assert_eq!(
            result.status,
            GuaranteeStatus::Violated,
            "{leave}: {answer}"
        );
        assert!(
            result.evidence[0].contains(found),
            "{leave}: {:?}",
            result.evidence
        );
    }
}

async fn check_no_leftovers(options: &PgConnectOptions) {
    let untouched = ask(&mut connect(options).await)
        .await
        .expect("the probe is answered");
    for leave in NO_LEFTOVERS {
        let mut connection = connect(options).await;
        sqlx::raw_sql(leave)
            .execute(&mut connection)
            .await
            .expect(leave);
        let answer = ask(&mut connection).await.expect(leave);
        let result = judge_answer(&untouched, &answer);
        assert_eq!(result.status, GuaranteeStatus::Held, "{leave}: {answer}");
    }
}

/// A statement that sqlx prepared and cached, and the ROLLBACK that a dropped transaction leaves
/// in sqlx's write buffer, to be sent together with the probe.
async fn check_what_sqlx_leaves(options: &PgConnectOptions) {
    let mut connection = connect(options).await;
    let untouched = ask(&mut connection).await.expect("the probe is answered");
    sqlx::query("select $1::bigint")
        .bind(1_i64)
        .execute(&mut connection)
        .await
        .expect("a prepared select");
    let mut tx = connection.begin().await.expect("a transaction");
    sqlx::raw_sql("create table never (a int)")
        .execute(&mut *tx)
        .await
        .expect("a table");
    drop(tx);
    let answer = ask(&mut connection).await.expect("the probe is answered");
    assert_eq!(answer, untouched);
}

async fn check_an_aborted_transaction(options: &PgConnectOptions) {
    let mut connection = connect(options).await;
    sqlx::raw_sql("begin")
        .execute(&mut connection)
        .await
        .expect("a transaction");
    sqlx::raw_sql("select 1 / 0")
        .execute(&mut connection)
        .await
        .expect_err("a division by zero");
    let refusal = ask(&mut connection)
        .await
        .expect_err("the probe is refused");
    let code = refusal.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("25P02"));
}

#[tokio::test]
async fn the_probe_tells_every_leftover_from_a_clean_connection() {
    let cluster = Cluster::start(LocalConfig::default())
        .await
        .expect("a Postgres to ask");
    let options = cluster.options();
    check_no_leftovers(&options).await;
    check_leftovers(&options).await;
    check_what_sqlx_leaves(&options).await;
    check_an_aborted_transaction(&options).await;
    cluster.stop().await.expect("the cluster stops");
}
